"""Measures a candidate beside what is served, on tasks its trainer never saw, through the engines themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from perfuse.adaptation.isotonic import Falling, fit_falling
from perfuse.evolution.answers import Answer, Answerer, Asked, each
from perfuse.evolution.gate import Measured, Pairs
from perfuse.evolution.intake import verify
from perfuse.evolution.lessons import Task
from perfuse.evolution.reference import Reference
from perfuse.sandbox import Case, run_many
from perfuse.sandbox import Task as JailTask
from perfuse.store.kit import Anchor
from perfuse.store.learning import Adaptation

ANCHORS = "base"
"""Name of the one domain of anchors there is."""
TIMED = 5
"""Tasks on which forwards are timed,"""
ROUNDS = 3
"""and how often each."""
CALIBRATED = 50
"""Answers of a candidate from which on its chance to be right is told by doubt; fewer say little but the rate."""
_JAIL_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Trial:
    """Answers to the same requests by two: `before` is what is served now, `after` the candidate.

    `doubts` are those of the candidate's, in nats.
    """

    before: tuple[bool, ...]
    after: tuple[bool, ...]
    doubts: tuple[float, ...] = ()

    @property
    def pairs(self) -> Pairs:
        """The outcomes."""
        return Pairs.of(self.before, self.after)

    @property
    def chance(self) -> Falling | None:
        """That an answer of the candidate is right, by its doubt; None with fewer than `CALIBRATED` answers."""
        return fit_falling(self.doubts, self.after) if len(self.doubts) >= CALIBRATED else None


async def compare(tasks: Sequence[Task], answerer: Answerer, before: str, after: str, tenant: str) -> Trial:
    """Both answers to each task, and whether they are right.

    Args:
        tasks: kept back from training, or new.
        answerer: asks the engines.
        before: adaptation id, or "none" for the base model.
        after: id of the candidate.
        tenant: whose adaptations they are.

    Raises:
        SandboxUnavailable: this machine cannot run verifiers.
    """

    async def both(task: Task) -> tuple[Answer, Answer]:
        return (
            await answerer.fill(task.asked, before, tenant),
            await answerer.fill(task.asked, after, tenant),
        )

    answers = await each(tasks, both)
    right = await asyncio.to_thread(_judged, tasks, answers)
    return Trial(
        before=tuple(pair[0] for pair in right),
        after=tuple(pair[1] for pair in right),
        doubts=tuple(pair[1].doubt for pair in answers),
    )


async def latency_ratio(tasks: Sequence[Task], answerer: Answerer, before: str, after: str, tenant: str) -> float:
    """Engine time per forward after over before: the median over a few tasks; 1.0 without tasks.

    One request at a time and in turns, and of each side the fastest answer: what else runs can only add to a time, and
    rows of other requests in a batch do. With many at once a busy machine showed 2.4 where a quiet one shows 1.1.
    """
    ratios = []
    for task in tasks[:TIMED]:
        seconds: tuple[list[float], list[float]] = [], []
        for _ in range(ROUNDS):
            for side, adaptation in zip(seconds, (before, after), strict=True):
                answer = await answerer.fill(task.asked, adaptation, tenant)
                side.append(answer.seconds / max(answer.forwards, 1))
        if min(seconds[0]) > 0:
            ratios.append(min(seconds[1]) / min(seconds[0]))
    return median(ratios) if ratios else 1.0


def _judged(tasks: Sequence[Task], answers: Sequence[tuple[Answer, Answer]]) -> list[tuple[bool, bool]]:
    """A verifier judges where there is one; else the answer must be the one agreed on."""
    rows = [
        replace(task.row, id=f"{index}/{side}", output=answer.text, correction=None)
        for index, (task, pair) in enumerate(zip(tasks, answers, strict=True))
        for side, answer in enumerate(pair)
    ]
    passed = {row.id: row.output_passed for row in verify(rows)}

    def right(index: int, side: int) -> bool:
        said = passed[f"{index}/{side}"]
        return answers[index][side].text == tasks[index].text if said is None else said

    return [(right(index, 0), right(index, 1)) for index in range(len(tasks))]


async def measure(
    candidate: Adaptation,
    tasks: Sequence[Task],
    reference: Reference,
    answerer: Answerer,
    champion: str | None,
    resident_bytes: int,
    size: int,
) -> Measured:
    """What the gate decides on.

    Anchors are measured with routing as in service: one that the candidate's radius does not reach is answered by the
    base model before and after, byte for byte, so it is counted without being computed.

    Args:
        candidate: admitted, so that the engines find it.
        tasks: kept back from its training.
        reference: anchors of the base model.
        answerer: asks the engines.
        champion: what serves the cluster now; None is the base model.
        resident_bytes: of an engine without the candidate; 0 where nobody knows.
        size: bytes of the candidate.
    """
    before = "none" if champion is None else champion
    trial = await compare(tasks, answerer, before, candidate.id, candidate.tenant)
    reached = _reached(candidate, reference)
    anchors = await _anchors([reference.measured[i] for i in reached], answerer, candidate, len(reference.measured))
    more = await _more_bits([reference.measured[i] for i in reached], answerer, candidate)
    return Measured(
        gain=trial.pairs,
        anchors={ANCHORS: anchors},
        nll_bits=more / (reference.tokens * len(reference.measured)),
        latency_ratio=await latency_ratio(tasks, answerer, before, candidate.id, candidate.tenant),
        memory_ratio=1 + size / resident_bytes if resident_bytes else 1.0,
        chance=trial.chance,
    )


def _reached(candidate: Adaptation, reference: Reference) -> list[int]:
    """Anchors within the candidate's radius."""
    distances = 1 - reference.vectors @ np.asarray(candidate.centroid, np.float32)
    return [int(i) for i in np.flatnonzero(distances <= candidate.radius)]


async def _anchors(reached: Sequence[Anchor], answerer: Answerer, candidate: Adaptation, n: int) -> Pairs:
    async def both(anchor: Anchor) -> tuple[Answer, Answer]:
        asked = Asked(anchor.prompt)
        return (
            await answerer.fill(asked, "none", candidate.tenant),
            await answerer.fill(asked, candidate.id, candidate.tenant),
        )

    answers = await each(reached, both)
    tasks = [
        JailTask(answer.text, anchor.entry_point, _cases(anchor), seconds=_JAIL_SECONDS)
        for anchor, pair in zip(reached, answers, strict=True)
        for answer in pair
    ]
    passed = [verdict.passed for verdict in await asyncio.to_thread(run_many, tasks)]
    found = Pairs.of(passed[0::2], passed[1::2])
    return Pairs(n, found.gained, found.lost)


def _cases(anchor: Anchor) -> list[Case]:
    return [
        Case(_list(case["args"]), case.get("expected"), None if (name := case.get("raises")) is None else str(name))
        for case in anchor.cases
    ]


def _list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value


async def _more_bits(reached: Sequence[Anchor], answerer: Answerer, candidate: Adaptation) -> float:
    """How many bits more the reached anchors' answers cost; all others cost what they did."""

    async def more(anchor: Anchor) -> float:
        asked = Asked(anchor.prompt)
        before, _ = await answerer.bits(asked, anchor.code, "none", candidate.tenant)
        after, _ = await answerer.bits(asked, anchor.code, candidate.id, candidate.tenant)
        return after - before

    return sum(await each(reached, more))
