"""A model's own answers: right ones only, in every language, and drawn once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from perfuse.pipelines.shipped import SHIPPED
from perfuse.training import answers
from perfuse.training.answers import Answer, collect, kept

CODE = SHIPPED / "code-small"


@pytest.fixture(scope="module")
def collected() -> Sequence[Answer]:
    return list(collect(CODE, 40, seed=3))


def test_most_answers_are_right_and_parse(collected: Sequence[Answer]) -> None:
    assert 24 <= len(collected) <= 40
    python = [answer for answer in collected if answer.code.startswith("def ")]
    assert 8 <= len(python) < len(collected)
    for answer in python:
        compile(answer.code, "answer", "exec")


def test_prompts_are_as_the_model_reads_them(collected: Sequence[Answer]) -> None:
    others = [answer.prompt for answer in collected if not answer.code.startswith("def ")]
    assert {prompt.partition(": ")[0] for prompt in others} == {"javascript", "rust", "c", "shell"}


def test_what_fails_its_tests_or_does_not_parse_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "passes", lambda tasks, texts: [False] * len(tasks))
    monkeypatch.setattr(answers, "parser_of", lambda language: lambda code: ["a fault"])
    assert list(collect(CODE, 8, seed=3)) == []


def test_a_file_of_answers_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    first = kept(path, CODE, 4, seed=1)
    assert 0 < len(first) <= 4
    assert kept(path, tmp_path / "no model", 4, seed=1) == first
