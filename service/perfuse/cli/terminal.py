"""How commands speak: data to stdout, words for people to stderr, colours and bars only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import msgspec
from rich.console import Console
from rich.markup import escape

errors = Console(stderr=True, highlight=False, soft_wrap=True)
"""For people. rich honours NO_COLOR and drops colours when stderr is not a terminal."""

_LONG_LINE = 10_000


def emit(text: str) -> None:
    """One piece of data to stdout, with a line end."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def emit_json(value: object) -> None:
    """A value as one JSON document to stdout."""
    emit(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode())


def emit_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows under their headings to stdout, one line each where no terminal limits its length."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else _LONG_LINE).print(table)


def say(text: str) -> None:
    """A line for people."""
    errors.print(text, markup=False)


def interactive() -> bool:
    """Whether a person watches: bars and animations are worth drawing."""
    return errors.is_terminal and not errors.is_dumb_terminal
