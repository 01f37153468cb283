"""Engines that answer by rule, so that the learning side is tested without a network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from perfuse.dispatch.pool import Completed, Event
from perfuse.errors import PerfuseError
from perfuse.requests import (
    EmbedRequest,
    EmbedResult,
    Request,
    ScoreRequest,
    ScoreResult,
    TextOutput,
    TextRequest,
    TextResult,
)
from perfuse.wire import Modality, ModelInfo

WIDTH = 8


def vector_of(prompt: str) -> bytes:
    """Prompts with the same first word lie close together, others far apart."""
    topic = np.random.default_rng(int(hashlib.sha256(prompt.split(maxsplit=1)[0].encode()).hexdigest()[:8], 16))
    own = np.random.default_rng(int(hashlib.sha256(prompt.encode()).hexdigest()[:8], 16))
    vector = topic.normal(size=WIDTH) + 0.02 * own.normal(size=WIDTH)
    return bytes((vector / np.linalg.norm(vector)).astype("<f4").tobytes())


@dataclass
class ScriptedPool:
    """Answers `say(request)`; embeds by the first word; a text costs `bits` per character."""

    say: Callable[[TextRequest], str] = lambda request: f"{request.prefix}?{request.suffix}"
    bits: float = 1.0
    refusals: list[PerfuseError] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)
    ready: bool = True
    models: Sequence[ModelInfo] = ()

    def counters(self) -> Mapping[str, float]:
        return {}

    async def admit(self) -> None:
        return

    async def run(
        self,
        modality: Modality,
        request: Request,
        *,
        priority: int = 0,
        deadline_seconds: float | None = None,
        on_event: Callable[[Event], None] | None = None,
        tenant: str = "",
    ) -> Completed:
        del modality, deadline_seconds, on_event, tenant
        assert priority == -20
        if self.refusals:
            raise self.refusals.pop()
        self.asked.append(request)
        match request:
            case EmbedRequest():
                result = EmbedResult(model="m@1", embedder="e", vectors=tuple(map(vector_of, request.prompts)))
            case ScoreRequest():
                result = ScoreResult(model="m@1", bits=self.bits * len(request.text), tokens=len(request.text))
            case TextRequest():
                text = self.say(request)
                output = TextOutput(
                    text=text, fill=text, finish_reason="complete", confidence=1.0, steps_done=2, forwards=2
                )
                result = TextResult(model="m@1", outputs=(output,))
            case _:
                raise AssertionError(request)
        return Completed(result=result, queue_seconds=0.0, compute_seconds=0.1, lsn=0)
