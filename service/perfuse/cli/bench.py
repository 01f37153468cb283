"""`perfuse bench`: what the server costs, measured on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

import typer

from perfuse import logging
from perfuse.cli.doctor import cpu_flags
from perfuse.cli.options import Json
from perfuse.cli.terminal import emit, emit_json, interactive, say

app = typer.Typer(help="Measure the server.", no_args_is_help=True)


@app.command()
def serve(*, requests: Annotated[int, typer.Option(help="requests per measurement")] = 300, json: Json = False) -> None:
    """What front and engine add to a direct call of the same pipeline; starts a server of its own."""
    from perfuse.evaluation.bench_serve import run

    logging.configure("bench", level="warning")
    if interactive():
        say("measuring, about a minute")
    _show(run(requests=requests).as_dict(), json=json)


@app.command()
def latency(
    *,
    load: Annotated[float, typer.Option(help="share of the measured capacity")] = 0.7,
    seconds: Annotated[float, typer.Option(help="length of the mix")] = 30.0,
    threads: Annotated[int, typer.Option(help="compute threads")] = 1,
    json: Json = False,
) -> None:
    """Short requests beside 64-step ones, against short requests alone."""
    from perfuse.evaluation.bench_latency import run

    logging.configure("bench", level="warning")
    if interactive():
        say(f"measuring, about {2 * seconds:.0f} s")
    _show(run(load_share=load, seconds=seconds, threads=threads).as_dict(), json=json)


@app.command()
def routing(
    *, domains: Annotated[int, typer.Option(help="how many there are to search")] = 10_000, json: Json = False
) -> None:
    """How long it takes to find what was learned for a request."""
    from perfuse.evaluation.bench_adaptations import routing as measure

    logging.configure("bench", level="warning")
    _show(measure(count=domains).as_dict(), json=json)


@app.command()
def adaptations(
    *,
    count: Annotated[int, typer.Option(help="adaptations in one batch")] = 4,
    rows: Annotated[int, typer.Option(help="rows of the batch")] = 16,
    json: Json = False,
) -> None:
    """What a batch with rows of several adaptations costs beside one of the base model."""
    from perfuse.evaluation.bench_adaptations import adaptations as measure

    logging.configure("bench", level="warning")
    _show(measure(count=count, rows=rows).as_dict(), json=json)


@app.command()
def training(
    *,
    rate: Annotated[float, typer.Option(help="requests per second")] = 5.0,
    seconds: Annotated[float, typer.Option(help="length of a window")] = 20.0,
    rounds: Annotated[int, typer.Option(help="windows of each kind")] = 6,
    json: Json = False,
) -> None:
    """Short requests while an adaptation is trained, against the same ones while none is."""
    import asyncio

    from perfuse.evaluation.bench_training import run

    logging.configure("bench", level="warning")
    if interactive():
        say(f"measuring, about {2 * rounds * seconds + 30:.0f} s")
    _show(asyncio.run(run(rate=rate, seconds=seconds, rounds=rounds)).as_dict(), json=json)


def _show(figures: Mapping[str, object], *, json: bool) -> None:
    if json:
        emit_json({**figures, "cpu_flags": cpu_flags()})
        return
    rows = list(_rows(figures))
    width = max(len(name) for name, _ in rows)
    emit("\n".join(f"{name:<{width}}  {value:.4g}" for name, value in rows))


def _rows(figures: Mapping[str, object], inside: str = "") -> Iterator[tuple[str, float]]:
    """Names and values; a group's name stands before those of its figures."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _rows(value, f"{inside}{name}.")
        else:
            assert isinstance(value, (float, int))
            yield inside + name, value
