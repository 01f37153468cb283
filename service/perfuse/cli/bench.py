"""`perfuse bench`: what the server costs, measured on this machine."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfuse import logging
from perfuse.cli.doctor import cpu_flags
from perfuse.cli.options import Json, counts
from perfuse.cli.terminal import emit, emit_json, emit_table, interactive, say

if TYPE_CHECKING:
    from perfuse.evaluation.bench_peers import PeerBench

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
def text(
    *,
    model: Annotated[Path | None, typer.Option(help="model folder; the shipped one if not given")] = None,
    canvases: Annotated[str, typer.Option(help="tokens, separated by commas")] = "32,64,128,256",
    batches: Annotated[str, typer.Option(help="clients at once, and rows of a forward")] = "1,16",
    dtypes: Annotated[str, typer.Option(help="what is computed in, separated by commas")] = "bf16,f32,int8",
    threads: Annotated[str, typer.Option(help="compute threads, separated by commas")] = "1,2",
    requests: Annotated[int, typer.Option(help="requests per row, through HTTP")] = 100,
    repeats: Annotated[int, typer.Option(help="forwards per row and way, in process")] = 40,
    http: Annotated[bool, typer.Option(help="measure through HTTP too")] = True,
    page: Annotated[Path | None, typer.Option(help="write the tables into this page, between its marks")] = None,
    json: Json = False,
) -> None:
    """A masked canvas through HTTP and in process, beside the same layers written plainly in torch."""
    from perfuse.evaluation.bench_text import Grid, rewritten, run
    from perfuse.pipelines.shipped import SHIPPED

    # An exit, so that servers are stopped on the way out.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    logging.configure("bench", level="warning" if json else "info")
    grid = Grid(counts(canvases), counts(batches), dtypes.split(","), counts(threads))
    found = run(model or SHIPPED / "code-small", grid, requests=requests, repeats=repeats, http=http)
    found["cpu_flags"] = cpu_flags()
    if page is not None:
        page.write_text(rewritten(page.read_text(encoding="utf-8"), found), encoding="utf-8")
    if json:
        emit_json(found)
        return
    for part in ("http", "forwards"):
        rows = found[part]
        assert isinstance(rows, list)
        if rows:
            emit_table(list(rows[0]), [[_short(value) for value in row.values()] for row in rows])


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@app.command()
def peers(
    *,
    servers: Annotated[Path, typer.Option(help="folder of their scripts")] = Path("benchmarks/peers"),
    python: Annotated[Path, typer.Option(help="interpreter that has them installed")] = Path(".venv-peers/bin/python"),
    only: Annotated[list[str] | None, typer.Option(help="one of them; may be repeated")] = None,
    requests: Annotated[int, typer.Option(help="requests of one client")] = 200,
    json: Json = False,
) -> None:
    """The same model function behind this server and behind others (`make peers` installs them)."""
    from perfuse.evaluation.bench_peers import run

    logging.configure("bench", level="warning")
    _servers(run(servers.resolve(), python.absolute(), only or (), requests=requests), json=json)


@app.command()
def engines(
    *,
    servers: Annotated[Path, typer.Option(help="folder of the model function")] = Path("benchmarks/peers"),
    requests: Annotated[int, typer.Option(help="requests of one client")] = 200,
    json: Json = False,
) -> None:
    """This server with one engine, with one of two threads, and with two engines."""
    from perfuse.evaluation.bench_peers import run_engines

    logging.configure("bench", level="warning")
    _servers(run_engines(servers.resolve(), Path(sys.executable), requests=requests), json=json)


@app.command()
def ray(
    *,
    queue: Annotated[str, typer.Option(help="address of a Redis")],
    application: Annotated[Path, typer.Option(help="our application on Ray Serve")] = Path("deploy/ray/app.py"),
    servers: Annotated[Path, typer.Option(help="folder of the model function")] = Path("benchmarks/peers"),
    python: Annotated[Path, typer.Option(help="interpreter that has ray[serve]")] = Path(".venv/bin/python"),
    requests: Annotated[int, typer.Option(help="requests of one client")] = 200,
    json: Json = False,
) -> None:
    """This server with two engines beside the same application on Ray Serve with two replicas."""
    from perfuse.evaluation.bench_peers import run_on_ray

    logging.configure("bench", level="warning")
    found = run_on_ray(application.resolve(), queue, servers.resolve(), python.absolute(), requests=requests)
    _servers(found, json=json)


def _servers(measured: Sequence[PeerBench], *, json: bool) -> None:
    found = [each.as_dict() for each in measured]
    if json:
        emit_json({"servers": found, "cpu_flags": cpu_flags()})
        return
    emit_table(list(found[0]), [[str(value) for value in each.values()] for each in found])


@app.command()
def native(
    *,
    only: Annotated[list[str] | None, typer.Option(help="part of a measure's name; may be repeated")] = None,
    scale: Annotated[float, typer.Option(help="of the numbers of rows")] = 1.0,
    json: Json = False,
) -> None:
    """Store and vector search beside SQLite, numpy and torch."""
    import os

    from perfuse.evaluation.bench_native import run

    found = run(only or (), scale=scale)
    if json:
        emit_json({"measures": [asdict(each) for each in found], "cpu_flags": cpu_flags(), "load": os.getloadavg()[0]})
        return
    emit_table(
        ("measure", "threads", "ours", "rivals", "unit", "ratio", "must"),
        [
            (
                each.name,
                str(each.threads),
                f"{each.ours:.3g}",
                ", ".join(f"{name} {value:.3g}" for name, value in each.rivals.items()) or "-",
                each.unit,
                "-" if each.ratio is None else f"{each.ratio:.2f}",
                f"{'<' if each.ratio is None else '>='} {each.must:g}",
            )
            for each in found
        ],
    )


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
