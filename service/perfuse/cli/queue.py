"""`perfuse queue`: what waits to be learned from, and what was put aside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TypeAlias, TypeVar

import typer

from perfuse.cli.options import Json
from perfuse.cli.store import DataDir
from perfuse.cli.terminal import emit, emit_json, say
from perfuse.errors import ConfigError
from perfuse.queue.inbox import SQLITE_FILE, Inbox, connect

app = typer.Typer(help="Look into the queue of feedback, also while a server uses it.", no_args_is_help=True)
dead = typer.Typer(help="Items that were put aside after failed attempts.", no_args_is_help=True)
app.add_typer(dead, name="dead")

Queue: TypeAlias = Annotated[
    str, typer.Option(help='the server\'s --queue: "sqlite" or redis://…', envvar="PERFUSE_QUEUE")
]
Identity: TypeAlias = Annotated[str, typer.Argument(metavar="ID", help="as `dead ls` shows it")]

AnyT = TypeVar("AnyT")


@app.command()
def stats(*, data_dir: DataDir = Path("perfuse-data"), queue: Queue = "sqlite", json: Json = False) -> None:
    """Count the items: one line of name and number for each state."""
    found = asdict(with_inbox(data_dir, queue, lambda inbox: inbox.stats()))
    if json:
        emit_json(found)
    else:
        for name, value in found.items():
            emit(f"{name} {'-' if value is None else round(value, 1)}")


@dead.command("ls")
def list_dead(*, data_dir: DataDir = Path("perfuse-data"), queue: Queue = "sqlite", json: Json = False) -> None:
    """List what was put aside, the oldest first: id, attempts, bytes, when, why."""
    found = with_inbox(data_dir, queue, lambda inbox: inbox.dead_items())
    if json:
        emit_json([asdict(item) for item in found])
        return
    for item in found:
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(item.died))
        emit(f"{item.id}\t{item.attempts}\t{item.size}\t{when}\t{item.reason}")
    say(f"{len(found)} dead; `perfuse queue dead retry ID` tries one again, `dead drop ID` forgets it")


@dead.command()
def retry(
    identity: Identity, *, data_dir: DataDir = Path("perfuse-data"), queue: Queue = "sqlite", json: Json = False
) -> None:
    """Let an item be tried again, its attempts forgotten."""
    with_inbox(data_dir, queue, lambda inbox: inbox.retry(identity))
    _done("retried", identity, json)


@dead.command()
def drop(
    identity: Identity, *, data_dir: DataDir = Path("perfuse-data"), queue: Queue = "sqlite", json: Json = False
) -> None:
    """Forget an item for good."""
    with_inbox(data_dir, queue, lambda inbox: inbox.drop(identity))
    _done("dropped", identity, json)


def _done(what: str, identity: str, as_json: bool) -> None:
    if as_json:
        emit_json({what: identity})
    else:
        say(f"{what} {identity}")


def with_inbox(data_dir: Path, queue: str, work: Callable[[Inbox], Awaitable[AnyT]]) -> AnyT:
    """Do one thing with the inbox of a server.

    Raises:
        ConfigError: there is no queue in `data_dir`.
    """
    if queue == "sqlite" and not (data_dir / SQLITE_FILE).is_file():
        raise ConfigError(f"there is no queue in {data_dir}", hint="give the server's --data-dir or --queue")

    async def opened() -> AnyT:
        inbox = connect(queue, data_dir)
        try:
            await inbox.open()
            return await work(inbox)
        finally:
            await inbox.close()

    return asyncio.run(opened())
