"""Runs that share their forwards give what each gives alone, in the order of their requests."""

from __future__ import annotations

import pytest
import torch

from perfuse.errors import InvalidRequest, NonFiniteOutput
from perfuse.models.call import Call, Output
from perfuse.pipelines.alone import AloneRun, run_alone
from perfuse.pipelines.together import run_together
from perfuse.requests import TextRequest
from scripted import ScriptedNetwork, ScriptedPipeline

REQUESTS = [TextRequest(prompt=str(i), steps=1 + i % 4, length=8 + 8 * (i % 2)) for i in range(9)]


def test_results_are_those_of_lone_runs_in_order() -> None:
    pipeline = ScriptedPipeline(ScriptedNetwork())
    alone = [run_alone(pipeline, request, run=AloneRun(0)) for request in REQUESTS]
    assert run_together(pipeline, REQUESTS, rows=4) == alone


def test_forwards_of_equal_keys_are_one_batch_and_no_more_run_than_asked() -> None:
    network = ScriptedNetwork()
    run_together(ScriptedPipeline(network), [TextRequest(prompt=str(i), steps=2) for i in range(6)], rows=3)
    assert [len(batch) for batch in network.batches] == [3, 3, 3, 3]
    assert run_together(ScriptedPipeline(network), []) == []


def test_noise_is_that_of_the_seed_and_place_of_a_request() -> None:
    class Drawing(ScriptedPipeline):
        async def run(self, request, run):  # type: ignore[no-untyped-def]
            await run.forward(self.call(request))
            return float(run.uniform("token", 0, torch.arange(1)))

    pipeline = Drawing(ScriptedNetwork())
    first = run_together(pipeline, REQUESTS[:4], seed=7)
    assert first == [run_alone(pipeline, request, run=AloneRun(7 + i)) for i, request in enumerate(REQUESTS[:4])]
    assert len(set(first)) == 4  # type: ignore[arg-type]


def test_a_request_that_is_not_valid_and_numbers_that_are_none_end_all() -> None:
    with pytest.raises(InvalidRequest, match=r"^steps must be at least 1, got 0$"):
        run_together(ScriptedPipeline(ScriptedNetwork()), [*REQUESTS, TextRequest(steps=0)])

    def spoilt(call: Call) -> Output | None:
        return {"logits": torch.full((8,), torch.nan)} if float(call.inputs["tokens"][0]) == ord("2") else None

    with pytest.raises(NonFiniteOutput, match=r"^the forward of scripted@1 gave NaN or infinity$"):
        run_together(ScriptedPipeline(ScriptedNetwork(fault=spoilt)), REQUESTS)
