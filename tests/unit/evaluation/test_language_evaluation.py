"""The evaluation of functions in JavaScript, Rust, C and shell: what is asked, judged and counted."""

from __future__ import annotations

import pytest

from perfuse import sandbox
from perfuse.errors import InvalidRequest
from perfuse.evaluation import languages
from perfuse.requests import TextOutput, TextRequest
from perfuse.training.corpus.languages import FOREIGN, Foreign, held_out_foreign

TASKS = 6


@pytest.fixture(params=FOREIGN)
def language(request: pytest.FixtureRequest) -> Foreign:
    chosen: Foreign = request.param
    if (reason := sandbox.lacking(chosen)) is not None:
        pytest.skip(f"{chosen} cannot be judged here: {reason}")
    return chosen


def test_a_model_that_knows_the_answers_passes_all(language: Foreign) -> None:
    known = {task.prompt: task.code for task in held_out_foreign(language, TASKS)}

    def fill(request: TextRequest) -> TextOutput:
        assert request.language == language  # as Python it would be repaired
        code = known[request.prompt]
        return TextOutput(
            text=code, fill=code, finish_reason="complete", confidence=1.0, steps_done=3, forwards=3, tokens=9
        )

    found = languages.evaluate_language(language, tasks=TASKS, baselines=False, fill=fill)
    assert found == {
        "language": language,
        "pass_at_1": 1.0,
        "low": 0.6097,
        "high": 1.0,
        "n": TASKS,
        "mean_forwards": 3.0,
        "compiles": 1.0,
        "baselines": {},
    }


def test_what_does_not_compile_is_counted_apart_from_what_is_wrong() -> None:
    if (reason := sandbox.lacking("c")) is not None:
        pytest.skip(f"C cannot be judged here: {reason}")
    tasks = held_out_foreign("c", 3)
    texts = ("int f( {", "int f(void) { return 1; }\n", tasks[2].code)
    attempts = [languages.Written(task, text, 1) for task, text in zip(tasks, texts, strict=True)]
    found = languages.rated("c", attempts)
    assert (found["pass_at_1"], found["compiles"], found["n"]) == (0.3333, 0.6667, 3)


def test_the_nearest_sentence_answers_under_the_name_that_was_asked_for(language: Foreign) -> None:
    tasks = held_out_foreign(language, TASKS)
    for attempt in languages.nearest(language, tasks, training=400):
        assert f"{attempt.task.entry_point}(" in attempt.text.splitlines()[0]
        assert attempt.forwards == 0


def test_without_a_toolchain_the_rate_is_null_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "lacking", lambda language: f"{language}c is not on PATH")
    found = languages.evaluate_language("rust", tasks=TASKS)
    assert found == {"language": "rust", "pass_at_1": None, "reason": "rustc is not on PATH"}


def test_languages_are_named_as_requests_name_them() -> None:
    assert languages.named_language("python") is None
    assert [languages.named_language(name) for name in FOREIGN] == list(FOREIGN)
    with pytest.raises(InvalidRequest) as refusal:
        languages.named_language("cobol")
    assert refusal.value.detail == "expected a language of python, javascript, rust, c, shell; got 'cobol'"
