"""`perfuse validate`: whether a deployed server does its work."""

from __future__ import annotations

from typing import Annotated

import typer

from perfuse.cli.options import Json, Key
from perfuse.cli.terminal import emit_json, emit_table, say


def command(
    url: Annotated[str, typer.Argument(metavar="URL", help="of the server, for example http://127.0.0.1:8000")],
    *,
    key: Key = None,
    wait: Annotated[float, typer.Option(help="seconds it may take to become ready", min=0)] = 60.0,
    generation: Annotated[
        str | None, typer.Option(help="id of an earlier answer that must be known, as `--json` printed it")
    ] = None,
    json: Json = False,
) -> None:
    """Check over HTTP that it is ready, answers, streams, plans, takes feedback and keeps it. Exits with 1 if not."""
    from perfuse.evaluation.deployment import validate

    report = validate(url, key, wait_seconds=wait, generation=generation)
    if json:
        emit_json(report)
    else:
        emit_table(
            ("check", "outcome", "seconds", "detail"),
            [(check.name, check.outcome, f"{check.seconds:.2f}", check.detail) for check in report.checks],
        )
        failed = sum(check.outcome == "failed" for check in report.checks)
        say(f"{url}, perfuse {report.version}: {f'{failed} failed' if failed else 'all is well'}")
    if not report.passed:
        raise typer.Exit(1)
