"""The sink of those who drive an engine themselves, on a real engine."""

from __future__ import annotations

import threading

import pytest

from perfuse.engine.loop import Engine
from perfuse.engine.run import Answers, Job
from perfuse.errors import GenerationFailed
from perfuse.requests import TextRequest, TextResult
from scripted import FakeClock, ScriptedNetwork, ScriptedPipeline


def test_answers_and_their_times_are_kept_by_job() -> None:
    network = ScriptedNetwork(seconds=lambda _rows: 1.0)
    engine = Engine({"text": ScriptedPipeline(network)}, clock=network.clock)
    answers = Answers(network.clock)
    for job, steps in ((3, 1), (4, 2)):
        request = TextRequest(prompt=f"job {job}", steps=steps)
        engine.submit(Job(id=job, modality="text", request=request, previews=True), answers)
    engine.run_until_idle()
    answers.wait(2)
    assert {job: result.outputs[0].text for job, result in texts(answers).items()} == {3: "job 3", 4: "job 4"}
    assert answers.ended == {3: 1.0, 4: 2.0}
    assert answers.errors == {}
    end(engine)


def test_waiting_ends_when_another_thread_has_computed_the_last_job() -> None:
    engine = Engine({"text": ScriptedPipeline(ScriptedNetwork())})
    compute = threading.Thread(target=engine.run_forever)
    compute.start()
    answers = Answers()
    for job in range(5):
        engine.submit(Job(id=job, modality="text", request=TextRequest(steps=3)), answers)
    answers.wait(5)
    assert set(answers.results) == set(answers.ended) == set(range(5))
    engine.stop()
    compute.join()


def test_a_failed_job_is_raised_without_waiting_for_the_others() -> None:
    engine = Engine({"text": ScriptedPipeline(ScriptedNetwork(FakeClock(), fault=breaking))})
    answers = Answers()
    engine.submit(Job(id=0, modality="text", request=TextRequest(steps=1)), answers)
    engine.run_until_idle()
    with pytest.raises(GenerationFailed) as failed:
        answers.wait(2)
    assert failed.value is answers.errors[0]
    assert answers.results == {}
    end(engine)


def breaking(_call: object) -> None:
    raise ValueError("the network is broken")


def texts(answers: Answers) -> dict[int, TextResult]:
    return {job: result for job, result in answers.results.items() if isinstance(result, TextResult)}


def end(engine: Engine) -> None:
    engine.stop()
    engine.run_forever()
