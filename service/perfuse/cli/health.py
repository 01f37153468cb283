"""`perfuse health`: whether a server lives, or is ready. What containers ask every few seconds is `perfuse.health`."""

from __future__ import annotations

from typing import Annotated

import typer

from perfuse import health
from perfuse.cli.terminal import emit


def command(
    url: Annotated[
        str | None, typer.Argument(metavar="[URL]", help="of the server; without: the one on this machine")
    ] = None,
    *,
    ready: Annotated[bool, typer.Option("--ready", help="ask whether requests can be served")] = False,
    seconds: Annotated[float, typer.Option(help="how long to wait for an answer", min=0.01)] = 3.0,
) -> None:
    """Say "alive" or "ready" and exit with 0, or say why not and exit with 1."""
    emit(health.status(url or health.default_url(), ready=ready, seconds=seconds))
