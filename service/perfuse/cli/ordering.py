"""Orders of the command line: to the worker of the running server, or, where none runs, carried out here."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from perfuse.cli.queue import with_inbox
from perfuse.errors import ConfigError, Unavailable
from perfuse.queue.inbox import SQLITE_FILE

if TYPE_CHECKING:
    from perfuse.orders import AnyOrder, Body

_CONNECT_SECONDS = 1.0
NOT_RUNNING = "no server is running"
"""The stage of learning where nobody learns."""


def carried_out(order: AnyOrder, data_dir: Path, model: Sequence[Path] = ()) -> Body:
    """The answer to an order about what a server in `data_dir` has learned.

    Args:
        order: what to do.
        data_dir: the server's.
        model: its model folders, if they are not the shipped ones; asked for only where no server runs.

    Raises:
        Unavailable: the server runs, its worker does not.
        ConfigError: there is no store, or the models have no learning kit.
        StoreLocked: another process owns the store.
        PerfuseError: refused or failed.
    """
    path = _socket_of(data_dir)
    return _alone(order, data_dir, model) if path is None else asyncio.run(_asked(order, path))


def _socket_of(data_dir: Path) -> Path | None:
    """Where the worker of a running server takes orders; None if no server runs or it does not learn.

    The supervisor holds this socket as long as it lives, so whoever gets through must not open the store.
    """
    from perfuse.engine.supervisor import ORDERS

    try:
        path = Path(json.loads((data_dir / "server.lock").read_text())["run"]) / ORDERS
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
            trial.settimeout(_CONNECT_SECONDS)
            trial.connect(str(path))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return path


async def _asked(order: AnyOrder, path: Path) -> Body:
    from perfuse.dispatch.evolution import EvolutionLink

    link = EvolutionLink(str(path))
    try:
        return await link.ask(order)
    finally:
        link.close()


def _alone(order: AnyOrder, data_dir: Path, model: Sequence[Path]) -> Body:
    from perfuse.engine.housing import STORE
    from perfuse.evolution.desk import Desk
    from perfuse.evolution.learned import Learned
    from perfuse.evolution.status import report
    from perfuse.queue.forgetting import forget
    from perfuse.store.kit import find_kit

    if not (data_dir / STORE).is_dir():
        raise ConfigError(f"there is no store at {data_dir / STORE}", hint="give the --data-dir of a server")
    if (kit := find_kit(model)) is None:
        raise ConfigError("none of the models has a learning kit", hint="give the server's --model")
    inbox = with_inbox(data_dir, "sqlite", lambda inbox: inbox.stats()) if (data_dir / SQLITE_FILE).is_file() else None
    counts: Body = {} if inbox is None else {"waiting": inbox.waiting, "leased": inbox.leased, "dead": inbox.dead}
    with Learned.open(data_dir / STORE, kit.embedder) as learned:
        desk = Desk(
            learned,
            kit,
            forget=partial(forget, "sqlite", data_dir),
            embed=_no_engine,
            status=lambda tenant: {**report(learned, tenant), "inbox": counts, "stage": NOT_RUNNING},
            wake=lambda: None,
        )
        return asyncio.run(desk.carry_out(order))


async def _no_engine(prompts: Sequence[str]) -> list[bytes]:
    raise Unavailable(f"{len(prompts)} prompts cannot be embedded: {NOT_RUNNING}", hint="start it with `perfuse serve`")
