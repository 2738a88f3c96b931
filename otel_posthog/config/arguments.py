"""Types of command-line arguments that several commands share."""

from __future__ import annotations

import argparse

__all__ = ["port"]


def port(text: str) -> int:
    """Return a port to listen on; 0 stands for a free one.

    Raises:
        argparse.ArgumentTypeError: `text` is no such number.
    """
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 0 to 65535 is expected")
    return int(text)
