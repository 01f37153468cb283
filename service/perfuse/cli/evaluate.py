"""`perfuse eval`: the scripts behind every published figure."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec
import typer

from perfuse import logging
from perfuse.cli.options import AlwaysJson
from perfuse.cli.terminal import emit_json, emit_table, say
from perfuse.errors import InvalidRequest

if TYPE_CHECKING:
    from perfuse.training.corpus.families import Family as TaskFamily

app = typer.Typer(help="Measure the models.", no_args_is_help=True)

Model = Annotated[Path | None, typer.Option(help="model folder; the shipped one if not given")]
Tasks = Annotated[int, typer.Option(help="held-out tasks")]
Family: TypeAlias = Annotated[str, typer.Option(help="what is taught")]
Items: TypeAlias = Annotated[int, typer.Option(help="corrections")]
Unseen: TypeAlias = Annotated[int, typer.Option(help="tasks that nobody corrected")]


@app.command()
def code(
    *,
    model: Model = None,
    twin: Annotated[Path | None, typer.Option(help="folder of the autoregressive twin")] = None,
    tasks: Tasks = 500,
    baselines: Annotated[bool, typer.Option(help="measure the rows beside it too")] = True,
    json: AlwaysJson = False,
) -> None:
    """pass@1 on held-out combinations of operation and type, beside five baselines."""
    from perfuse.evaluation import code as evaluation

    _begin(json=json)
    folder, other = model or evaluation.PRETRAINED / "code-small", twin or evaluation.PRETRAINED / "code-small-ar"
    emit_json(evaluation.evaluate_code(folder, other, tasks=tasks, baselines=baselines))


@app.command()
def samplers(*, model: Model = None, tasks: Tasks = 200, json: AlwaysJson = False) -> None:
    """pass@1 and forwards of samplers and their constants, on tasks that the other figures do not use."""
    from perfuse.evaluation.code import PRETRAINED
    from perfuse.evaluation.samplers import compare

    _begin(json=json)
    emit_json(compare(model or PRETRAINED / "code-small", tasks))


@app.command()
def infill(*, model: Model = None, tasks: Tasks = 500, json: AlwaysJson = False) -> None:
    """Pass rate of filled gaps, with the suffix shown and withheld; prefix and suffix must come back unchanged."""
    from perfuse.evaluation import code as evaluation

    _begin(json=json)
    folder = model or evaluation.PRETRAINED / "code-small"
    emit_json(evaluation.evaluate_infill(folder, tasks=tasks))


@app.command()
def maze2d(
    *,
    model: Model = None,
    maze: Annotated[str, typer.Option(help="umaze, medium or large")] = "umaze",
    episodes: Annotated[int, typer.Option(help="executed plans")] = 200,
    candidates: Annotated[int, typer.Option(help="plans drawn per episode")] = 16,
    steps: Annotated[int, typer.Option(help="denoising steps")] = 8,
    references: Annotated[bool, typer.Option("--references", help="reproduce D4RL's two reference scores")] = False,
    json: AlwaysJson = False,
) -> None:
    """D4RL's score of executed plans, beside baselines."""
    from perfuse.evaluation import maze2d as evaluation

    _begin(json=json)
    if references:
        emit_json(evaluation.references(maze))
        return
    from perfuse.pipelines.shipped import SHIPPED

    folder = model or SHIPPED / f"maze2d-{maze}"
    emit_json(evaluation.evaluate(folder, maze, episodes, candidates=candidates, steps=steps))


@app.command()
def reproducible(
    *,
    cases: Annotated[int, typer.Option(help="random requests")] = 100,
    seed: Annotated[int, typer.Option(help="of the cases")] = 0,
    json: AlwaysJson = False,
) -> None:
    """Whether reproducible requests give the same bytes alone and in company, and what that costs."""
    from perfuse.evaluation.reproducibility import measure

    _begin(json=json)
    emit_json(measure(cases=cases, seed=seed).as_dict())


@app.command()
def learning(
    *,
    families: Annotated[str, typer.Option(help="names, separated by commas; four by default")] = "",
    items: Annotated[int, typer.Option(help="corrections per family")] = 96,
    tasks: Annotated[int, typer.Option(help="unseen tasks per family")] = 200,
    anchors: Annotated[int, typer.Option(help="tasks of the base model")] = 1000,
    curve: Annotated[str, typer.Option(help="also with these numbers of corrections, each on a fresh server")] = "",
    seed: Annotated[int, typer.Option(help="draws the fourth family")] = 0,
    wrong: Annotated[float, typer.Option(help="share of the corrections that are plausible and wrong")] = 0.0,
    sources: Annotated[int, typer.Option(help="how many sources say the same")] = 1,
    verified: Annotated[bool, typer.Option(help="send tests with the corrections")] = True,
    out: Annotated[Path | None, typer.Option(help="write the JSON there, and a table to stdout")] = None,
    json: AlwaysJson = False,
) -> None:
    """Whether a server learns new kinds of request from corrections, and keeps the old ones (simulated feedback)."""
    import asyncio
    import tempfile

    from perfuse.evaluation import demo
    from perfuse.evaluation.learning import Teaching, named

    counts = _counts(curve)
    if out is not None and not out.absolute().parent.is_dir():
        raise InvalidRequest(f"expected --out in a folder that exists; got {str(out)!r}")
    _begin(json=json)
    with tempfile.TemporaryDirectory(prefix="perfuse-learning-") as folder:
        found = asyncio.run(
            demo.demonstration(
                Path(folder),
                named(families, seed),
                items=items,
                evaluated=tasks,
                anchors=anchors,
                curve=counts,
                how=Teaching(wrong=wrong, verified=verified, sources=sources),
            )
        )
    if out is None:
        emit_json(found)
    else:
        out.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2))
        emit_table(demo.COLUMNS, demo.table(found))


def _counts(text: str) -> tuple[int, ...]:
    """Whole numbers above 0, separated by commas. Raises InvalidRequest."""
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(part.isdigit() and int(part) for part in parts):
        raise InvalidRequest(f"expected whole numbers above 0, separated by commas; got {text!r}")
    return tuple(map(int, parts))


@app.command()
def routing(
    *,
    model: Model = None,
    families: Annotated[str, typer.Option(help="names, separated by commas; four by default")] = "",
    items: Annotated[int, typer.Option(help="items of feedback per family")] = 96,
    tasks: Annotated[int, typer.Option(help="unseen requests per family")] = 200,
    seed: Annotated[int, typer.Option(help="draws the fourth family and the feedback")] = 0,
    json: AlwaysJson = False,
) -> None:
    """How many requests reach what would be learned for their kind, and how many of the base model's own do too."""
    from perfuse.evaluation.code import PRETRAINED
    from perfuse.evaluation.learning import named
    from perfuse.evaluation.routing import evaluate_routing

    _begin(json=json)
    folder = model or PRETRAINED / "code-small"
    emit_json(evaluate_routing(folder, named(families, seed), items=items, unseen=tasks, seed=seed))


@app.command()
def poison(
    *,
    family: Family = "triangular",
    items: Items = 96,
    tasks: Unseen = 200,
    anchors: Annotated[int, typer.Option(help="tasks of the base model")] = 1000,
    arms: Annotated[str, typer.Option(help="verified, one-source, many-sources; all by default")] = "",
    wrong: Annotated[str, typer.Option(help="shares of the corrections that are wrong")] = "0,.1,.3,1",
    json: AlwaysJson = False,
) -> None:
    """Whether wrong corrections harm: with verifiers, from one source, from many; each on a fresh server."""
    from perfuse.evaluation import poison as evaluation

    chosen, shares = evaluation.arms_of(arms), evaluation.shares_of(wrong)
    _taught(
        lambda folder, families: evaluation.poison(
            folder, families[0], items=items, evaluated=tasks, anchors=anchors, arms=chosen, shares=shares
        ),
        family,
        json=json,
    )


@app.command()
def drift(
    *,
    generations: Annotated[int, typer.Option(help="how often feedback comes")] = 10,
    items: Items = 96,
    tasks: Unseen = 100,
    json: AlwaysJson = False,
) -> None:
    """Generations of feedback on one server; then a bad canary, and rollbacks under load."""
    from perfuse.evaluation.drift import drift as evaluate

    _taught(
        lambda folder, _: evaluate(folder, generations=generations, items=items, evaluated=tasks),
        json=json,
    )


@app.command()
def revocation(
    *, family: Family = "triangular", items: Items = 96, tasks: Unseen = 200, json: AlwaysJson = False
) -> None:
    """Take back one of two sources while the server serves; say what is left of it, in answers and on disk."""
    from perfuse.evaluation.revocation import revocation as evaluate

    _taught(
        lambda folder, families: evaluate(folder, families[0], items=items, evaluated=tasks),
        family,
        json=json,
    )


@app.command()
def isolation(
    *,
    family: Family = "triangular",
    items: Items = 96,
    requests: Annotated[int, typer.Option(help="base tasks asked of both servers")] = 1000,
    json: AlwaysJson = False,
) -> None:
    """Whether requests that nothing learned is for are answered as by a server that never learned, byte for byte."""
    from perfuse.evaluation.isolation import isolation as evaluate

    _taught(
        lambda folder, families: evaluate(folder, families, items=items, requests=requests),
        family,
        json=json,
    )


def _taught(
    evaluate: Callable[[Path, Sequence[TaskFamily]], Coroutine[None, None, dict[str, object]]],
    names: str = "",
    *,
    json: bool,
) -> None:
    """Run an evaluation that teaches servers of its own, with these families, in a folder that is removed behind it."""
    import asyncio
    import tempfile

    from perfuse.evaluation.learning import named

    _begin(json=json)
    with tempfile.TemporaryDirectory(prefix="perfuse-learning-") as folder:
        emit_json(asyncio.run(evaluate(Path(folder), named(names))))


def _begin(*, json: bool) -> None:
    # An exit, so that servers are stopped on the way out.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    logging.configure("eval", level="warning" if json else "info")
    if not json:
        say("measuring; the result goes to stdout as JSON")
