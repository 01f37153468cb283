"""`perfuse train`: make the shipped models anew, from data that is at hand on every machine."""

from __future__ import annotations

import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from perfuse import logging as perfuse_logging
from perfuse.cli.terminal import emit

app = typer.Typer(help="Train the starter models.", no_args_is_help=True)

Out = Annotated[Path, typer.Option(help="folder for the state and, at the end, the model")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]
Seed = Annotated[int, typer.Option(help="of everything random")]
Resume = Annotated[bool, typer.Option("--resume", help="continue from the state in --out")]
Minutes = Annotated[float, typer.Option(help="wall-clock budget")]


class Twin(StrEnum):
    """Baselines of the same size."""

    AR = "ar"


@app.command()
def code(
    *,
    out: Out = Path("runs/code"),
    minutes: Minutes = 70.0,
    twin: Annotated[Twin | None, typer.Option(help="train this baseline instead")] = None,
    device: Device = "auto",
    seed: Seed = 0,
    resume: Resume = False,
    vocabulary: Annotated[int, typer.Option(help="entries of the tokenizer")] = 2048,
    layers: Annotated[int, typer.Option(help="transformer blocks")] = 6,
    rate: Annotated[float, typer.Option(help="peak learning rate")] = 2e-3,
    compiled: Annotated[bool, typer.Option("--compiled", help="compile the network (needs a C++ compiler)")] = False,
    grown_from: Annotated[
        Path | None, typer.Option(help="begin with this model's weights; more --layers are added, more kinds of rows")
    ] = None,
    answers: Annotated[
        int, typer.Option(help="teach it its own answers to this many sentences, for fewer steps; needs --grown-from")
    ] = 0,
) -> None:
    """Train code-small: sentences to functions, infilling, repairs and JSON. Prints the model's folder."""
    from perfuse.training.recipes.code import CodeConfig, main

    _log()
    config = CodeConfig(
        out=out,
        minutes=minutes,
        twin=None if twin is None else "ar",
        device=device,
        seed=seed,
        resume=resume,
        vocabulary=vocabulary,
        layers=layers,
        rate=rate,
        compiled=compiled,
        grown_from=grown_from,
        answers=answers,
    )
    emit(str(main(config)))


@app.command()
def maze2d(
    *,
    out: Out = Path("runs/maze2d"),
    maze: Annotated[str, typer.Option(help="umaze, medium or large")] = "umaze",
    minutes: Minutes = 4.0,
    device: Device = "auto",
    seed: Seed = 0,
    resume: Resume = False,
    samples: Annotated[int, typer.Option(help="simulator steps of data")] = 1_000_000,
) -> None:
    """Train a maze2d planner from simulated controller data. Prints the model's folder."""
    from perfuse.training.recipes.maze2d import MazeConfig, main

    _log()
    config = MazeConfig(out=out, maze=maze, minutes=minutes, device=device, seed=seed, resume=resume, samples=samples)
    emit(str(main(config)))


@app.command()
def kit(
    *,
    model: Annotated[Path, typer.Option(help="model folder; the kit is written into it")],
    prompts: Annotated[int, typer.Option(help="sentences to estimate the whitening from")] = 700,
    anchors: Annotated[int, typer.Option(help="tasks with tests")] = 1000,
    seed: Seed = 0,
) -> None:
    """Make what a server needs to learn with a text model: an embedder and anchor tasks. Prints the model's folder."""
    from perfuse.training.kit import make_kit

    _log()
    emit(str(make_kit(model, prompts=prompts, anchors=anchors, seed=seed).folder))


@app.command()
def marks(
    *,
    suite: Annotated[list[Path], typer.Option(help="file of an evaluation suite; may be repeated")],
    out: Annotated[Path | None, typer.Option(help="file to write; the package's own if not given")] = None,
) -> None:
    """Write what keeps evaluation suites out of training: hashes of runs of their words. Prints how many."""
    from perfuse.evaluation.suites import read_lines
    from perfuse.training.corpus import contamination

    _log()
    texts = [text for path in suite for line in read_lines(path) for text in map(line.get, contamination.FIELDS)]
    emit(str(contamination.write_marks((text for text in texts if isinstance(text, str)), out or contamination.MARKS)))


@app.command()
def calibration(
    *,
    model: Annotated[Path, typer.Option(help="model folder with a kit; the calibration is written into it")],
    items: Annotated[int, typer.Option(help="validation tasks to answer")] = 1200,
) -> None:
    """Calibrate how sure a text model says it is: outputs then carry p_correct and uncertainty. Prints the folder."""
    from perfuse.training.calibration import make_calibration

    _log()
    make_calibration(model, items=items)
    emit(str(model))


def _log() -> None:
    perfuse_logging.configure("train")
    logging.captureWarnings(capture=True)
