"""`perfuse eval`: the scripts behind every published figure."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec
import typer

from perfuse import logging
from perfuse.cli.options import AlwaysJson, counts
from perfuse.cli.terminal import emit_json, emit_table, say
from perfuse.errors import InvalidRequest

if TYPE_CHECKING:
    from perfuse.training.corpus.families import Family as TaskFamily

app = typer.Typer(help="Measure the models.", no_args_is_help=True)

Model = Annotated[Path | None, typer.Option(help="model folder; the shipped one if not given")]
Twin = Annotated[Path | None, typer.Option(help="folder of the autoregressive twin")]
Tasks = Annotated[int, typer.Option(help="held-out tasks")]
Suite = Annotated[list[Path] | None, typer.Option(help="file of HumanEval's or MBPP's format; may be repeated")]
Page = Annotated[Path | None, typer.Option(help="write the table into this page, between its marks")]
Family: TypeAlias = Annotated[str, typer.Option(help="what is taught")]
Items: TypeAlias = Annotated[int, typer.Option(help="corrections")]
Unseen: TypeAlias = Annotated[int, typer.Option(help="tasks that nobody corrected")]


@app.command()
def code(
    *,
    model: Model = None,
    twin: Twin = None,
    tasks: Tasks = 500,
    language: Annotated[str, typer.Option(help="python, javascript, rust, c or shell")] = "python",
    baselines: Annotated[bool, typer.Option(help="measure the rows beside it too")] = True,
    suite: Suite = None,
    page: Annotated[Path | None, typer.Option(help="write the suites' table into this page, between its marks")] = None,
    json: AlwaysJson = False,
) -> None:
    """pass@1 on held-out combinations, beside baselines: five for Python, one for others; or on suites in files."""
    from perfuse.evaluation import code as evaluation
    from perfuse.evaluation.languages import evaluate_language, named_language

    chosen = named_language(language)
    _begin(json=json)
    if chosen is not None:
        folder = model or evaluation.PRETRAINED / "code-small"
        emit_json(evaluate_language(chosen, folder, tasks=tasks, baselines=baselines))
        return
    folder, other = model or evaluation.PRETRAINED / "code-small", twin or evaluation.PRETRAINED / "code-small-ar"
    if suite:
        _suites(folder, other, suite, None, tasks, page)
    else:
        emit_json(evaluation.evaluate_code(folder, other, tasks=tasks, baselines=baselines))


@app.command()
def samplers(
    *,
    model: Model = None,
    tasks: Tasks = 200,
    page: Page = None,
    json: AlwaysJson = False,
) -> None:
    """pass@1, forwards and milliseconds of every sampler, on tasks that the other figures do not use."""
    from perfuse.evaluation.code import PRETRAINED
    from perfuse.evaluation.samplers import compare, rewritten

    _begin(json=json)
    _publish(compare(model or PRETRAINED / "code-small", tasks), page, rewritten)


@app.command()
def uncertainty(
    *,
    model: Model = None,
    tasks: Annotated[int, typer.Option(help="requests per stream")] = 500,
    human: Annotated[
        Path | None, typer.Option(help="Parquet or JSON lines with `prompt` and `human` (higher: less sure)")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="write the tables into this page, between their marks")] = None,
    json: AlwaysJson = False,
) -> None:
    """Whether the model knows when it is wrong: signals, false triggers, calibration, on a frozen mixed stream."""
    from perfuse.cli.doctor import cpu_flags
    from perfuse.evaluation.code import PRETRAINED
    from perfuse.evaluation.uncertainty import NO_HUMANS, evaluate_uncertainty
    from perfuse.evaluation.uncertainty_page import rewritten

    _begin(json=json)
    if human is None:
        say(f"{NO_HUMANS}; --human takes a file of them")
    measured = evaluate_uncertainty(model or PRETRAINED / "code-small", tasks=tasks, human=human)
    found = {"cpu_flags": cpu_flags(), **measured}
    if page is not None:
        page.write_text(rewritten(page.read_text(encoding="utf-8"), found), encoding="utf-8")
    emit_json(found)


@app.command()
def infill(
    *,
    model: Model = None,
    twin: Twin = None,
    tasks: Tasks = 500,
    kinds: Annotated[bool, typer.Option("--kinds", help="single lines, several lines, spans; beside the twin")] = False,
    suite: Annotated[list[Path] | None, typer.Option(help="file of HumanEval-Infilling; may be repeated")] = None,
    tests: Annotated[Path | None, typer.Option(help="HumanEval's file, where the suite has no tests")] = None,
    page: Annotated[Path | None, typer.Option(help="write the table of the kinds or suites into this page")] = None,
    json: AlwaysJson = False,
) -> None:
    """Pass rate of filled gaps, with the suffix shown and withheld; prefix and suffix must come back unchanged."""
    from perfuse.evaluation import code as evaluation

    _begin(json=json)
    folder, other = model or evaluation.PRETRAINED / "code-small", twin or evaluation.PRETRAINED / "code-small-ar"
    if suite:
        _suites(folder, other, suite, tests, tasks, page)
    elif kinds:
        from perfuse.evaluation.infilling import evaluate_kinds, rewritten

        _publish(evaluate_kinds(folder, other, tasks), page, rewritten)
    else:
        emit_json(evaluation.evaluate_infill(folder, tasks=tasks))


@app.command()
def likelihood(
    *,
    model: Model = None,
    twin: Twin = None,
    tasks: Tasks = 500,
    windows: Annotated[int, typer.Option(help="windows of raw Python, of each kind")] = 200,
    samples: Annotated[int, typer.Option(help="noised copies of each text")] = 4,
    speed: Annotated[int, typer.Option(help="tasks that are filled for the tokens per forward")] = 100,
    page: Page = None,
    json: AlwaysJson = False,
) -> None:
    """Bits per byte and perplexity of held-out text, token by token and block by block, beside the twin."""
    from perfuse.evaluation.code import PRETRAINED
    from perfuse.evaluation.likelihood import evaluate_likelihood, rewritten

    _begin(json=json)
    found = evaluate_likelihood(
        model or PRETRAINED / "code-small",
        twin or PRETRAINED / "code-small-ar",
        tasks=tasks,
        windows=windows,
        samples=samples,
        speed=speed,
    )
    _publish(found, page, rewritten)


@app.command("json")
def structures(
    *,
    model: Model = None,
    schemas: Annotated[int, typer.Option(help="schemas, each with three prompts")] = 330,
    seed: Annotated[int, typer.Option(help="of the drawn schemas")] = 0,
    json: AlwaysJson = False,
) -> None:
    """Whether text is guaranteed to be JSON of a schema, what is refused, and what each step costs."""
    from perfuse.cli.doctor import cpu_flags
    from perfuse.evaluation.code import PRETRAINED
    from perfuse.evaluation.structures import evaluate_structures

    _begin(json=json)
    found = evaluate_structures(model or PRETRAINED / "code-small", schemas=schemas, seed=seed)
    emit_json({**found, "cpu_flags": cpu_flags()})


@app.command()
def refine(
    *,
    model: Model = None,
    tasks: Tasks = 500,
    temperature: Annotated[float, typer.Option(help="of the first attempts; higher: more of them fail")] = 1.5,
    json: AlwaysJson = False,
) -> None:
    """Whether code that failed is put right from its own error message, against drawing it anew."""
    from perfuse.cli.doctor import cpu_flags
    from perfuse.evaluation.code import PRETRAINED
    from perfuse.evaluation.refinement import evaluate_refinement

    _begin(json=json)
    found = evaluate_refinement(model or PRETRAINED / "code-small", tasks=tasks, temperature=temperature)
    emit_json({**found, "cpu_flags": cpu_flags()})


@app.command()
def constraints(
    *,
    model: Model = None,
    tasks: Annotated[int, typer.Option(help="requests per kind of constraint")] = 500,
    languages: Annotated[str, typer.Option(help="whose syntax is measured, separated by commas")] = "python",
    page: Annotated[Path | None, typer.Option(help="write the table into this page, between its marks")] = None,
    json: AlwaysJson = False,
) -> None:
    """How often each kind of constraint is kept, and how many Python outputs pass ruff."""
    from perfuse.cli.doctor import cpu_flags
    from perfuse.evaluation.code import PRETRAINED
    from perfuse.evaluation.satisfaction import evaluate_constraints, rewritten

    _begin(json=json)
    folder, said = model or PRETRAINED / "code-small", [name.strip() for name in languages.split(",") if name.strip()]
    found = {**evaluate_constraints(folder, tasks=tasks, languages=said), "cpu_flags": cpu_flags()}
    if page is not None:
        page.write_text(rewritten(page.read_text(encoding="utf-8"), found), encoding="utf-8")
    emit_json(found)


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
    tasks: Annotated[int, typer.Option(help="unseen tasks per family")] = 150,
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

    numbers = counts(curve)
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
                curve=numbers,
                how=Teaching(wrong=wrong, verified=verified, sources=sources),
            )
        )
    if out is None:
        emit_json(found)
    else:
        out.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2))
        emit_table(demo.COLUMNS, demo.table(found))


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


def _suites(model: Path, twin: Path, suites: Sequence[Path], tests: Path | None, most: int, page: Path | None) -> None:
    from perfuse.evaluation.suites import evaluate_suites, rewritten

    _publish(evaluate_suites(model, twin, suites, tests=tests, most=most), page, rewritten)


def _publish(
    measured: Mapping[str, object], page: Path | None, rewritten: Callable[[str, Mapping[str, object]], str]
) -> None:
    """Print what was measured with the CPU's flags, and write its table into the page, if there is one."""
    from perfuse.cli.doctor import cpu_flags

    found = {"cpu_flags": cpu_flags(), **measured}
    if page is not None:
        page.write_text(rewritten(page.read_text(encoding="utf-8"), found), encoding="utf-8")
    emit_json(found)


def _begin(*, json: bool) -> None:
    # An exit, so that servers are stopped on the way out.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    logging.configure("eval", level="warning" if json else "info")
    if not json:
        say("measuring; the result goes to stdout as JSON")
