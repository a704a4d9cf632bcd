"""Types of command-line arguments that several commands share."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """A whole number from 1 on, for argparse's `type`."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def not_negative(text: str) -> int:
    """A whole number from 0 on, for argparse's `type`."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is negative")
    return value
