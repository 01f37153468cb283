"""A real engine process with scripted pipelines: `python tests/scripted_engine.py`, launched like the real one;
`python tests/scripted_engine.py nursery` forks such engines.

What a request does is written in its prompt: "kill" dies in the forward, "kill-host" in host code before any forward,
"raise", "nan", "wedge" (the forward never returns). Everything else is answered with the prompt, each step taking 5 ms.
With the model "corrupt" it refuses to start; with "poisoned" its warm-up answer is NaN.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from perfuse import wire
from perfuse.engine import nursery, worker
from perfuse.engine.loop import AnyPipeline
from perfuse.errors import CheckpointError
from perfuse.models.call import Call, Output
from perfuse.pipelines.contract import Demand, Run
from perfuse.requests import Request, TextOutput, TextRequest, TextResult

BEHAVIOURS = ("", "kill", "raise", "nan", "wedge")


class Device:
    name = "scripted@1"
    reproducible_rows = 4

    def __init__(self, *, poisoned: bool) -> None:
        self._poisoned = poisoned

    def key(self, call: Call) -> Hashable:
        return 1

    def forward(self, calls: Sequence[Call]) -> Sequence[Output]:
        time.sleep(0.005)
        return [self._row(BEHAVIOURS[int(call.inputs["behaviour"])]) for call in calls]

    def _row(self, behaviour: str) -> Output:
        match behaviour:
            case "kill":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "raise":
                raise RuntimeError("scripted")
            case "wedge":
                time.sleep(3600)
            case _:
                pass
        return {"x": torch.tensor(torch.nan if behaviour == "nan" or self._poisoned else 1.0)}


@dataclass(eq=False)
class Pipeline:
    device: Device

    def estimate(self, request: TextRequest) -> Sequence[Demand]:
        return [Demand(self.device, 1, request.steps or 1, "scripted")]

    async def run(self, request: TextRequest, run: Run) -> TextResult:
        if request.prompt == "kill-host":
            os.kill(os.getpid(), signal.SIGSEGV)
        behaviour = request.prompt if request.prompt in BEHAVIOURS else ""
        for step in range(request.steps or 1):
            await run.forward(Call(self.device, {"behaviour": torch.tensor(BEHAVIOURS.index(behaviour))}))
            if not run.report(step, request.steps or 1, canvas="x"):
                break
        output = TextOutput(
            text=request.prompt,
            fill=str(os.getpid()),
            finish_reason="complete",
            confidence=1.0,
            steps_done=request.steps or 1,
            forwards=request.steps or 1,
        )
        return TextResult(model="scripted@1", outputs=(output,))


@dataclass(frozen=True)
class Loaded:
    pipelines: dict[str, AnyPipeline]
    models: list[wire.ModelInfo]
    warm_ups: dict[str, Request]


def load(
    folders: Sequence[Path] = (), *, device: str = "auto", dtype: str = "auto", store: Path | None = None
) -> Loaded:
    names = {folder.name for folder in folders}
    if "corrupt" in names:
        raise CheckpointError("the model file is cut short: expected 10 bytes, got 9", hint="download it again")
    info = wire.ModelInfo(name="scripted@1", modality="text", parameters=1, dtype="float32", limit=64)
    return Loaded(
        {"text": Pipeline(Device(poisoned="poisoned" in names))}, [info], {"text": TextRequest(prompt="warm")}
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["nursery"]:
        sys.exit(nursery.main(lambda: worker.main(load)))
    sys.exit(worker.main(load))
