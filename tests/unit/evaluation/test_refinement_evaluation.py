"""Refinement against drawing anew: a model that learns from messages, and one that does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from perfuse import sandbox
from perfuse.evaluation import refinement
from perfuse.evaluation.refinement import STRATEGIES, WRONG, compared, evaluate_refinement, failures, judge, redrawn
from perfuse.models.text import TextConfig, save_text
from perfuse.models.tokenizer import TextTokenizer
from perfuse.models.unified import DiffusionConfig, UnifiedScoreNetwork
from perfuse.requests import TextOutput, TextRequest
from perfuse.training.corpus.tasks import held_out_tasks

pytestmark = pytest.mark.skipif(sandbox.availability().tier == "none", reason="this kernel cannot confine")
TASKS = held_out_tasks(6)
RIGHT = {task.prompt: task.code for task in TASKS}


def said(text: str) -> TextOutput:
    return TextOutput(text=text, fill=text, finish_reason="complete", confidence=1.0, steps_done=3, forwards=3)


def learner(request: TextRequest) -> TextOutput:
    """Wrong at first and whenever it is asked anew; right once it sees an error."""
    if request.refine is not None:
        assert request.temperature == 0.0
        return said(RIGHT[request.prompt])
    return said(RIGHT[request.prompt].replace("return", "return None and"))


def test_failures_tell_what_running_them_said_and_no_value_of_the_tests() -> None:
    task = TASKS[0]
    codes = [
        task.code,
        f"def {task.entry_point}(*given):\n    return 'nothing that was asked for'\n",
        f"def {task.entry_point}(*given):\n    raise KeyError('lost')\n",
        "def f(:\n",
        "x = 1\n",
        "while True:\n    pass\n",
    ]
    assert [words for _, words in judge([(task, code) for code in codes])] == [
        "",
        WRONG,
        "KeyError: 'lost' (line 2)",
        "SyntaxError: invalid syntax (<candidate>, line 1)",
        f"the code defines no function {task.entry_point!r}",
        "timeout",
    ]


def test_what_should_raise_and_raises_something_else_does_not_tell_what_it_should(monkeypatch) -> None:
    task = next(task for task in held_out_tasks(200) if any(case.raises for case in task.cases))
    code = f"def {task.entry_point}(*given):\n    raise KeyError('lost')\n"
    assert {words for _, words in judge([(task, code)])} == {"KeyError: 'lost' (line 2)"}


def test_a_model_that_reads_messages_beats_drawing_anew() -> None:
    found = failures(learner, TASKS, 1.0)
    assert len(found) == len(TASKS)
    row = compared("whole", STRATEGIES["whole"], learner, found, 1.0)
    assert (row["won"], row["lost"], row["points"]) == (len(TASKS), 0, 100.0)
    assert row["repaired"] == {"passed": 6, "n": 6, "rate": 1.0, "low": 0.6097, "high": 1.0, "mean_forwards": 3.0}


def test_the_rival_spends_at_least_as_many_forwards() -> None:
    found = failures(learner, TASKS, 1.0)
    assert [trial.forwards for trial in redrawn(learner, found, [0, 1, 3, 4, 6, 7], 1.0)] == [3, 3, 3, 6, 6, 9]


def test_the_command_measures_a_model(tmp_path: Path, monkeypatch) -> None:
    tokenizer = TextTokenizer.train([task.code for task in TASKS], 400)
    shape = DiffusionConfig(tokenizer.size, width=32, layers=1, heads=2, condition=8)
    torch.manual_seed(0)
    save_text(tmp_path, TextConfig("m", 1, shape, 256, 12, "", {}), UnifiedScoreNetwork(shape).state_dict(), tokenizer)
    monkeypatch.setattr(refinement, "STRATEGIES", {"line, then whole": ("line", "whole")})
    found = evaluate_refinement(tmp_path, tasks=2)
    assert json.loads(json.dumps(found)) == found
    assert (found["model"], found["tasks"], found["failed"], found["rounds"]) == ("m@1", 2, 2, 2)
