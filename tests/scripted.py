"""A scripted device for scheduler and engine tests: real engine code, a clock that only the network moves."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import torch

from perfuse.errors import InvalidRequest, PerfuseError
from perfuse.models.call import Call, Output
from perfuse.pipelines.contract import Demand, Run
from perfuse.requests import Preview, Result, TextOutput, TextRequest, TextResult


@dataclass
class FakeClock:
    """Seconds that pass only when somebody says so."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(eq=False)
class ScriptedNetwork:
    """One forward of n rows takes `seconds(n)` on the clock. `fault` may raise, or return the output of a row."""

    clock: FakeClock = field(default_factory=FakeClock)
    seconds: Callable[[int], float] = lambda rows: 0.004 + 0.0005 * rows
    fault: Callable[[Call], Output | None] = lambda _call: None
    name: str = "scripted@1"
    reproducible_rows: int = 4
    batches: list[list[Call]] = field(default_factory=list)

    def key(self, call: Call) -> Hashable:
        return call.inputs["tokens"].shape

    def forward(self, calls: Sequence[Call]) -> Sequence[Output]:
        self.batches.append(list(calls))
        self.clock.now += self.seconds(len(calls))
        return [self.fault(call) or {"logits": call.inputs["tokens"] * 2.0} for call in calls]

    @property
    def rows(self) -> int:
        return sum(len(batch) for batch in self.batches)


@dataclass(eq=False)
class ScriptedPipeline:
    """`steps` forwards, one after the other; with guidance two calls each. The prompt travels in the call."""

    network: ScriptedNetwork

    def estimate(self, request: TextRequest) -> Sequence[Demand]:
        if request.steps is None or request.steps < 1:
            raise InvalidRequest(f"steps must be at least 1, got {request.steps}", field="/steps")
        rows = request.steps * (2 if request.guidance != 1.0 else 1)
        return [Demand(self.network, self.network.key(self.call(request)), rows, "scripted")]

    def call(self, request: TextRequest) -> Call:
        length = request.length or 8
        return Call(self.network, {"tokens": torch.full((length,), float(sum(request.prompt.encode())))})

    async def run(self, request: TextRequest, run: Run) -> TextResult:
        assert request.steps is not None
        done = 0
        rows = 2 if request.guidance != 1.0 else 1
        while done < request.steps:
            outputs = await run.forward(*[self.call(request)] * rows)
            assert outputs[0]["logits"].shape == (request.length or 8,)
            done += 1
            if not run.report(done, request.steps, canvas=lambda done=done: "x" * done):
                break
        output = TextOutput(
            text=request.prompt,
            fill="",
            finish_reason="complete" if done == request.steps else "deadline",
            confidence=1.0,
            steps_done=done,
            forwards=done * rows,
        )
        return TextResult(model=self.network.name, outputs=(output,))


@dataclass
class Recorder:
    """A sink that keeps everything, with the clock's time of each event."""

    clock: Callable[[], float] = lambda: 0.0
    results: dict[int, Result] = field(default_factory=dict)
    errors: dict[int, PerfuseError] = field(default_factory=dict)
    previews: list[tuple[int, Preview]] = field(default_factory=list)
    ended: dict[int, float] = field(default_factory=dict)

    def preview(self, job: int, preview: Preview) -> None:
        self.previews.append((job, preview))

    def finished(self, job: int, result: Result, queue_seconds: float, compute_seconds: float) -> None:
        self.results[job] = result
        self.ended[job] = self.clock()
        assert queue_seconds >= 0
        assert compute_seconds >= 0

    def failed(self, job: int, error: PerfuseError) -> None:
        self.errors[job] = error
        self.ended[job] = self.clock()
