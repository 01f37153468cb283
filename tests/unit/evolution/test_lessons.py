"""What a trainer reads, and what it never sees."""

from __future__ import annotations

import json

from perfuse.evolution.curate import Example
from perfuse.evolution.lessons import Lessons, lessons_of
from unit.evolution.learning import feedback


def example(number: int, **changes: object) -> Example:
    fields: dict[str, object] = {
        "tenant": "t", "prompt": f"p{number}", "prefix": "def ", "suffix": "\n", "text": f"def f{number}\n",
        "good": True, "weight": 1.0, "by": "verifier", "feedback": (f"fb{number}",), "sources": (f"s{number % 2}",),
    }  # fmt: skip
    return Example(**(fields | changes))  # type: ignore[arg-type]


def made(examples: list[Example]) -> Lessons:
    rows = {i: feedback(i, "a") for each in examples for i in each.feedback}
    return lessons_of(examples, rows)


def test_a_part_of_the_requests_is_kept_back_whole() -> None:
    lessons = made([example(n) for n in range(100)])
    taught = {json.loads(line)["prompt"] for line in lessons.lines}
    kept = {f"p{task.row.id.removeprefix('fb')}" for task in lessons.held_back}
    assert taught | kept == {f"p{n}" for n in range(100)}
    assert not taught & kept
    assert 15 <= len(kept) <= 35
    assert lessons.feedback == tuple(sorted(f"fb{p[1:]}" for p in taught))
    assert lessons.sources == ("s0", "s1")


def test_a_lesson_is_what_fills_the_gap() -> None:
    lessons = made([example(n) for n in range(8)])
    first = json.loads(lessons.lines[0])
    number = first["prompt"][1:]
    assert first == {
        "prompt": f"p{number}", "prefix": "def ", "middle": f"f{number}", "suffix": "\n", "weight": 1.0
    }  # fmt: skip


def test_a_correction_that_changes_what_was_given_teaches_nothing() -> None:
    lessons = made([example(n, text="something else") for n in range(8)])
    assert lessons.lines == ()


def test_wrong_texts_are_not_taught() -> None:
    wrong = [example(n, good=False, text=f"def bad{n}\n", feedback=(f"w{n}",)) for n in range(20)]
    lessons = made([*wrong, *(example(n) for n in range(10))])
    assert lessons == made([example(n) for n in range(10)])


def test_the_dataset_hash_follows_the_lines() -> None:
    one, other = made([example(n) for n in range(8)]), made([example(n) for n in range(1, 9)])
    assert one.dataset == made([example(n) for n in range(8)]).dataset != other.dataset


def test_a_row_with_a_verifier_stands_for_a_kept_back_request() -> None:
    examples = [example(n, feedback=(f"a{n}", f"b{n}")) for n in range(12)]
    rows = {f"a{n}": feedback(f"a{n}", "a", verifier="") for n in range(12)}
    rows |= {f"b{n}": feedback(f"b{n}", "b") for n in range(12)}
    tasks = lessons_of(examples, rows).held_back
    assert {task.row.source for task in tasks} == {"b"}
    assert tasks[0].asked.prompt == f"p-b{tasks[0].text.removeprefix('def f').strip()}"
