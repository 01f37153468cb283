"""What the engine itself costs per row and step: the real engine over a network that takes no time."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence

import torch

from perfuse.engine.cost import CostModel
from perfuse.engine.loop import Engine
from perfuse.engine.run import Answers, Job
from perfuse.models.call import Call, Output
from perfuse.pipelines.contract import Demand, Run
from perfuse.requests import TextRequest, TextResult

_LOGITS = torch.zeros(1)


class _NoDevice:
    """A network that takes no time."""

    name = "none@1"
    reproducible_rows = 4

    def __init__(self) -> None:
        self.seconds = 0.0

    def key(self, call: Call) -> Hashable:
        return len(call.inputs)

    def forward(self, calls: Sequence[Call]) -> Sequence[Output]:
        started = time.perf_counter()
        outputs: list[Output] = [{"logits": _LOGITS} for _ in calls]
        self.seconds += time.perf_counter() - started
        return outputs


class _Steps:
    """A pipeline of `steps` forwards and nothing else."""

    def __init__(self, network: _NoDevice) -> None:
        self._network = network

    def estimate(self, request: TextRequest) -> Sequence[Demand]:
        return [Demand(self._network, 1, request.steps or 1, "bench")]

    async def run(self, request: TextRequest, run: Run) -> TextResult:
        call = Call(self._network, {"tokens": _LOGITS})
        for step in range(request.steps or 1):
            await run.forward(call)
            run.report(step + 1, request.steps or 1)
        return TextResult(model="none@1", outputs=())


def bookkeeping_seconds_per_row_step(*, jobs: int = 256, steps: int = 16) -> float:
    """Seconds of engine per row and step: scheduling, resuming, finite check, accounting; no forward, no sampler."""
    network = _NoDevice()
    engine = Engine({"text": _Steps(network)}, cost=CostModel(max_rows=16), backlog_limit=1e9)
    answers = Answers()
    for job in range(jobs):
        engine.submit(Job(id=job, modality="text", request=TextRequest(steps=steps)), answers)
    started = time.perf_counter()
    engine.run_until_idle()
    elapsed = time.perf_counter() - started - network.seconds
    engine.stop()
    engine.run_forever()
    answers.wait(jobs)
    return elapsed / engine.counters.rows
