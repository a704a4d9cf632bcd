"""Types of command-line arguments that several commands share."""

from __future__ import annotations

import argparse
import datetime
import json
from typing import Any


def add_shared(group: argparse._ActionsContainer, flag: str, **about: Any) -> None:
    """Add a flag, or to the help of one that is there what it means here: tasks on one command line share names."""
    there = group._option_string_actions.get(flag)
    if there is None:
        group.add_argument(flag, **about)
    else:
        there.help = (
            f"{there.help}; {group.title if isinstance(group, argparse._ArgumentGroup) else ''}: {about['help']}"
        )


def positive(text: str) -> int:
    """Parse a whole number from 1 on, for argparse's `type`."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def at_least_two(text: str) -> int:
    """Parse a whole number from 2 on, for argparse's `type`."""
    value = int(text)
    if value < 2:
        raise argparse.ArgumentTypeError(f"{value} is less than 2")
    return value


def positive_number(text: str) -> float:
    """Parse a finite number above 0, for argparse's `type`."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def not_negative_number(text: str) -> float:
    """Parse a finite number from 0 on, for argparse's `type`."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 on")
    return value


def share_or_one(text: str) -> float:
    """Parse a number above 0 and at most 1, for argparse's `type`."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1")
    return value


def share(text: str) -> float:
    """Parse a number between 0 and 1, both excluded, for argparse's `type`."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def share_or_zero(text: str) -> float:
    """Parse a number from 0 to below 1, for argparse's `type`."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to below 1")
    return value


def not_negative(text: str) -> int:
    """Parse a whole number from 0 on, for argparse's `type`."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is negative")
    return value


def template_option(text: str) -> tuple[str, object]:
    """Parse NAME=VALUE for argparse's `type`; a value that is JSON is decoded, any other is kept as text."""
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def iso_date(text: str) -> str:
    """Parse a day as YYYY-MM-DD, for argparse's `type`."""
    return datetime.date.fromisoformat(text).isoformat()
