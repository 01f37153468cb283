"""Flags that mean the same to several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

ModelName: TypeAlias = Annotated[str | None, typer.Option(help="name of a loaded model")]
ModelFolders: TypeAlias = Annotated[list[Path] | None, typer.Option(help="model folders instead of the shipped ones")]
Url: TypeAlias = Annotated[str | None, typer.Option(help="ask this server", envvar="PERFUSE_URL")]
Key: TypeAlias = Annotated[str | None, typer.Option(help="API key for --url", envvar="PERFUSE_KEY", show_default=False)]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="everything, as JSON to stdout")]
AlwaysJson: TypeAlias = Annotated[
    bool, typer.Option("--json", help="JSON to stdout (always so; for symmetry)", hidden=True)
]
