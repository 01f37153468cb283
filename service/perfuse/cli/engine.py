"""`perfuse engine`: an engine for servers on other hosts."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from perfuse.config import Device, DType, LogLevel


def command(
    *,
    token: Annotated[
        Path,
        typer.Option("--engine-token", help="file of the token that servers must know", envvar="PERFUSE_ENGINE_TOKEN"),
    ],
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="TCP port", min=1, max=65535)] = 8100,
    model: Annotated[list[Path] | None, typer.Option(help="model folders instead of the shipped ones")] = None,
    device: Annotated[Device, typer.Option(help="where to compute")] = "auto",
    dtype: Annotated[DType, typer.Option(help="what text models compute in")] = "auto",
    threads: Annotated[int, typer.Option(help="compute threads; 0: all cores", min=0, max=256)] = 0,
    max_backlog_seconds: Annotated[
        float, typer.Option(help="of admitted work beyond which it refuses", min=0.001)
    ] = 10.0,
    drain_seconds: Annotated[float, typer.Option(help="how long a stop waits for running requests", min=0.0)] = 20.0,
    wedge_seconds: Annotated[float, typer.Option(help="it ends when a step takes longer", min=0.1)] = 30.0,
    log_level: Annotated[LogLevel, typer.Option(help="least severe event logged")] = "info",
    log_json: Annotated[bool, typer.Option("--log-json", help="log JSON lines")] = False,
) -> None:
    """Compute for servers that name this address with --engine, until SIGTERM; then finish what runs and end.

    It answers with base models; what a server learns stays there. The token travels unencrypted: use a private
    network. Run it under something that starts it again, such as the files in deploy/.
    """
    from perfuse.engine import launch
    from perfuse.engine.supervisor import bind

    flight = os.memfd_create("flight", 0)  # nobody on this host reads it
    record = launch.EngineLaunch(
        parent=0,
        listen_fd=(listener := bind(host, port)).fileno(),
        index=0,
        flight=f"/proc/self/fd/{flight}",
        token=launch.load_token(token),
        models=[str(folder.resolve()) for folder in model or ()],
        device=device,
        dtype=dtype,
        threads=threads or os.cpu_count() or 1,
        backlog_limit=max_backlog_seconds,
        wedge_seconds=wedge_seconds,
        drain_seconds=drain_seconds,
        log_level=log_level,
        log_json=log_json,
    )
    listener.set_inheritable(True)
    program = [sys.executable, "-m", "perfuse.engine.worker"]
    os.execve(program[0], program, launch.environment(record))  # noqa: S606 (no shell is meant)
