"""Wrong programs fail with the message that the jail would give, and become right by the lines between."""

from __future__ import annotations

import sys
from itertools import islice
from random import Random

import pytest

from perfuse import sandbox
from perfuse.training.corpus.repairs import WRONG, Repair, damaged, failure, repairs
from perfuse.training.corpus.tasks import Case, build, split

RIGHT = "def total(values):\n    result = 0\n    for value in values:\n        result += value\n    return result\n"
CASES = [Case(([1, 2],), 3), Case(([4],), 4)]


def some(count: int) -> list[Repair]:
    return list(islice(repairs(Random(5)), count))


def test_both_programs_have_the_lines_around_in_common() -> None:
    for repair in some(200):
        prefix, middle, suffix = repair.around()
        assert prefix + middle + suffix == repair.code
        assert middle
        assert repair.broken.startswith(prefix)
        assert repair.broken.endswith(suffix)
        assert repair.broken != repair.code


def test_the_same_seed_gives_the_same_repairs() -> None:
    assert some(30) == some(30)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (RIGHT, None),
        (RIGHT.replace("+=", "-="), WRONG),
        (RIGHT.replace("return result", "return float(result)"), WRONG),
        (RIGHT.replace("in values", "in valus"), "NameError: name 'valus' is not defined (line 3)"),
        (RIGHT.replace("in values:", "in values"), "SyntaxError: expected ':' (<candidate>, line 3)"),
        (RIGHT.replace("total", "other"), "the code defines no function 'total'"),
        ("def total(values):\n    while True:\n        pass\n", "timeout"),
    ],
    ids=["right", "value", "type", "name", "syntax", "missing", "endless"],
)
def test_a_failure_is_told_as_the_jail_tells_it(code: str, said: str | None) -> None:
    assert failure(code, "total", CASES) == said
    if said is None or said in (WRONG, "timeout"):
        return
    cases = [sandbox.Case(args=case.arguments, expected=case.expected) for case in CASES]
    assert sandbox.run_tests(code, "total", cases).detail == said


def test_an_exception_that_is_expected_is_no_failure() -> None:
    code = "def half(n):\n    if n % 2:\n        raise ValueError(n)\n    return n // 2\n"
    assert failure(code, "half", [Case((3,), None, raises=True), Case((4,), 2)]) is None
    assert failure(code, "half", [Case((3,), 1)]) == "ValueError: 3 (line 3)"
    assert failure(code, "half", [Case((4,), None, raises=True)]) == WRONG


def test_damage_changes_one_line() -> None:
    rng = Random(1)
    for _ in range(300):
        spoilt = damaged(RIGHT, rng)
        if spoilt is not None:
            before, after = RIGHT.splitlines(), spoilt.splitlines()
            changed = sum(a != b for a, b in zip(before, after, strict=False))
            assert changed == 1 if len(before) == len(after) else len(after) == len(before) - 1


def test_sentences_are_of_training_combinations() -> None:
    combination = split().train["comprehend"][0]
    assert build(combination, Random(0), tests=False).combination not in split().held_out
    assert all(repair.prompt and repair.error for repair in some(50))


def test_who_watches_this_process_goes_on_watching() -> None:
    before = sys.gettrace()

    def watch(frame: object, event: str, argument: object) -> None:
        return None

    sys.settrace(watch)
    try:
        assert failure("def f(x):\n    return x\n", "f", [Case((1,), 1)]) is None
        assert sys.gettrace() is watch
    finally:
        sys.settrace(before)
