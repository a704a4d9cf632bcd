"""The flags that shape prompts, alike for extraction and for answering."""

from __future__ import annotations

import argparse
import json

from halp_probe.commands.arguments import iso_date, positive, template_option


def add_prompt_arguments(parser: argparse.ArgumentParser, *, largest: str) -> None:
    """Image area, date, variables and system message; `largest` says whose area holds where no flag gives one."""
    add = parser.add_argument
    add("--min-pixels", type=positive, help="smallest image area after resizing (the processor's)")
    add("--max-pixels", type=positive, help=f"largest image area after resizing ({largest})")
    add("--prompt-date", type=iso_date, help="YYYY-MM-DD that a dated chat template writes (today; the run's own)")
    add(
        "--template-option",
        action="append",
        type=template_option,
        metavar="NAME=VALUE",
        help="variable of the chat template, such as enable_thinking=false",
    )
    add("--system-prompt", metavar="TEXT", help="system message (the task's own; none for vqa)")


def template_options(args: argparse.Namespace) -> str | None:
    """The variables as a JSON object; None without any."""
    return json.dumps(dict(args.template_option), sort_keys=True) if args.template_option else None


def largest_area(max_pixels: int | None, usual: int | None, *, adjustable: bool) -> int | None:
    """The bound of an image's area: as told, or the task's usual one where the family takes a bound."""
    return max_pixels or (usual if adjustable else None)
