"""Flags that shape prompts, the same for extraction and for answering."""

from __future__ import annotations

import argparse

from halp_probe.commands.arguments import iso_date, positive, template_option
from halp_probe.settings import options_json


def add_prompt_arguments(parser: argparse.ArgumentParser, *, largest: str) -> None:
    """Add the flags for image area, date, template variables and system message.

    `largest` says in the help which area applies where no flag gives one.
    """
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
    """Return the template variables as a JSON object, or None if there are none."""
    return options_json(dict(args.template_option or ()))
