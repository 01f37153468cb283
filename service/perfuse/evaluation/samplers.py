"""Compares samplers and their constants on validation tasks, which the published figures do not use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perfuse.diffusion.samplers import Rule
from perfuse.evaluation.code import TASKS, attempt_all, in_process, rate
from perfuse.models.text import load_text
from perfuse.requests import TextRequest
from perfuse.training.corpus.tasks import validation_tasks


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to sample: the rule, the masked tokens a step sees, and the nats of its bound."""

    rule: Rule
    window: int
    bound: float


CANDIDATES = (
    Candidate("verified", 8, 3.0),
    Candidate("verified", 16, 1.0),
    Candidate("verified", 16, 3.0),
    Candidate("verified", 16, 9.0),
    Candidate("verified", 24, 3.0),
    Candidate("verified", 32, 3.0),
    Candidate("entropy", 8, 0.1),
    Candidate("entropy", 16, 0.01),
    Candidate("entropy", 16, 0.1),
    Candidate("entropy", 16, 0.5),
    Candidate("threshold", 16, 0.1),
)


def compare(model: Path, tasks: int, candidates: Sequence[Candidate] = CANDIDATES) -> list[dict[str, object]]:
    """`perfuse eval samplers`: one row per candidate, on `tasks` held-out tasks that `perfuse eval code` leaves out.

    Raises:
        CheckpointError: the model folder is missing or damaged.
        SandboxUnavailable: this kernel cannot confine generated code.
    """
    loaded, chosen = load_text(model), validation_tasks(tasks, TASKS)
    rows: list[dict[str, object]] = []
    for one in candidates:
        fill = in_process(loaded, window=one.window, bound=one.bound, draft_bound=one.bound)
        attempts = attempt_all(fill, chosen, TextRequest(sampler=one.rule))
        rows.append({"rule": one.rule, "window": one.window, "bound": one.bound, **rate(attempts).as_json()})
    return rows
