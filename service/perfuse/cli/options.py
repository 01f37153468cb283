"""Flags that mean the same to several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from perfuse.errors import InvalidRequest

ModelName: TypeAlias = Annotated[str | None, typer.Option(help="name of a loaded model")]
ModelFolders: TypeAlias = Annotated[list[Path] | None, typer.Option(help="model folders instead of the shipped ones")]
Url: TypeAlias = Annotated[str | None, typer.Option(help="ask this server", envvar="PERFUSE_URL")]
Key: TypeAlias = Annotated[str | None, typer.Option(help="API key for --url", envvar="PERFUSE_KEY", show_default=False)]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="everything, as JSON to stdout")]
AlwaysJson: TypeAlias = Annotated[
    bool, typer.Option("--json", help="JSON to stdout (always so; for symmetry)", hidden=True)
]


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers above 0, separated by commas. Raises InvalidRequest."""
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(part.isdigit() and int(part) for part in parts):
        raise InvalidRequest(f"expected whole numbers above 0, separated by commas; got {text!r}")
    return tuple(map(int, parts))
