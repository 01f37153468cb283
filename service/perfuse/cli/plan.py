"""`perfuse plan`: a trajectory from a state to a goal, here or on a server."""

from __future__ import annotations

from typing import Annotated

import typer

from perfuse.cli.options import Json, Key, ModelFolders, ModelName, Url
from perfuse.cli.remote import ask
from perfuse.cli.terminal import emit, emit_json, say
from perfuse.errors import InvalidRequest


def command(
    environment: Annotated[str, typer.Argument(help="for example maze2d-umaze")],
    *,
    state: Annotated[str, typer.Option(help="x,y,vx,vy")],
    goal: Annotated[str, typer.Option(help="x,y")],
    tolerance: Annotated[float, typer.Option(help="metres")] = 0.5,
    candidates: Annotated[int, typer.Option(help="plans drawn")] = 16,
    steps: Annotated[int, typer.Option(help="denoising steps")] = 8,
    seed: Annotated[int, typer.Option(help="of everything random")] = 0,
    model: ModelName = None,
    models: ModelFolders = None,
    url: Url = None,
    key: Key = None,
    json: Json = False,
) -> None:
    """Plan: the states go to stdout as lines of x y vx vy, the verdict to stderr."""
    begin, end = _numbers(state, 4, "--state"), _numbers(goal, 2, "--goal")
    if url:
        body: dict[str, object] = {
            "domain": "trajectory",
            "environment": environment,
            "state": begin,
            "goal": {"position": end, "tolerance": tolerance},
            "candidates": candidates,
            "steps": steps,
            "seed": seed,
            "model": model,
        }
        answer = ask(url, key, "plan", body, lambda _: None)
    else:
        import msgspec

        from perfuse.arrow_engine import ArrowEngine

        result = ArrowEngine(models or []).plan(
            environment=environment,
            state=begin,
            goal=end,
            tolerance=tolerance,
            candidates=candidates,
            steps=steps,
            seed=seed,
            model=model,
        )
        answer = msgspec.to_builtins(result)
    if json:
        emit_json(answer)
        return
    trajectory = answer["trajectory"]
    if isinstance(trajectory, dict):
        emit("\n".join(" ".join(f"{value:.4f}" for value in row) for row in trajectory["states"]))
    say(f"{answer['status']}, confidence {answer['confidence']:.2f}, {answer['candidates']}")


def _numbers(text: str, count: int, flag: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise InvalidRequest(f"{flag}: expected {count} numbers with commas between, got {text!r}")
    return numbers
