"""How commands speak: data to stdout, words for people to stderr, colours and bars only on a terminal."""

from __future__ import annotations

import sys

import msgspec
from rich.console import Console

errors = Console(stderr=True, highlight=False, soft_wrap=True)
"""For people. rich honours NO_COLOR and drops colours when stderr is not a terminal."""


def emit(text: str) -> None:
    """One piece of data to stdout, with a line end."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def emit_json(value: object) -> None:
    """A value as one JSON document to stdout."""
    emit(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode())


def say(text: str) -> None:
    """A line for people."""
    errors.print(text, markup=False)


def interactive() -> bool:
    """Whether a person watches: bars and animations are worth drawing."""
    return errors.is_terminal and not errors.is_dumb_terminal
