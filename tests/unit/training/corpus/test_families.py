"""Families that training never saw: they run, their sides are apart, wrong corrections fail, none is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from random import Random

import pytest

from perfuse import sandbox
from perfuse.errors import InvalidRequest
from perfuse.training.corpus.families import (
    FAMILIES,
    FAR,
    MID,
    NEAR,
    POOL,
    Family,
    FamilyTask,
    demonstrated,
    drawn_family,
    tasks,
    wrong_correction,
)
from perfuse.training.corpus.options import NUMBER_MAPS, WORD_MAPS
from perfuse.training.corpus.tasks import TEMPLATES, training_tasks

JUDGED = 5
EVERY = pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)


def judge(codes: Sequence[str], drawn: Sequence[FamilyTask]) -> list[bool]:
    verdicts = sandbox.run_many(
        sandbox.Task(code, d.task.entry_point, [sandbox.Case(c.arguments, c.expected) for c in d.task.cases], seconds=5)
        for code, d in zip(codes, drawn, strict=True)
    )
    return [verdict.passed for verdict in verdicts]


def test_there_is_one_family_of_each_distance_and_a_pool_of_near_and_mid_ones() -> None:
    assert [family.distance for family in (NEAR, MID, FAR)] == ["near", "mid", "far"]
    assert len(POOL) >= 4
    assert {family.distance for family in POOL} == {"near", "mid"}
    assert len(FAMILIES) == 3 + len(POOL)


def test_the_seed_draws_one_of_the_pool() -> None:
    assert demonstrated(3) == (NEAR, MID, FAR, drawn_family(3))
    assert {drawn_family(seed).name for seed in range(64)} == {family.name for family in POOL}


@EVERY
def test_a_family_has_four_hundred_distinct_tasks_and_its_sides_share_none(family: Family) -> None:
    shown, evaluated = tasks(family, "feedback", 200), tasks(family, "evaluation", 200)
    every = [*shown, *evaluated]
    assert len({(d.task.prompt, d.task.code) for d in every}) == 400
    assert not {d.task.prompt for d in shown} & {d.task.prompt for d in evaluated}
    assert not {d.task.code for d in shown} & {d.task.code for d in evaluated}
    assert not {d.task.combination for d in shown} & {d.task.combination for d in evaluated}
    assert all(len({repr(case.expected) for case in d.task.cases}) > 1 for d in every)


@EVERY
def test_right_functions_pass_their_tests_in_the_jail_and_wrong_corrections_fail(family: Family) -> None:
    drawn = tasks(family, "evaluation", JUDGED)
    rng = Random(7)
    wrong = [wrong_correction(d, rng) for d in drawn]
    assert judge([d.task.code for d in drawn], drawn) == [True] * JUDGED
    assert judge(wrong, drawn) == [False] * JUDGED
    assert all(code.startswith(d.task.signature + "\n") for code, d in zip(wrong, drawn, strict=True))


@EVERY
def test_a_wrong_correction_can_be_made_of_every_task(family: Family) -> None:
    rng = Random(1)
    assert all(wrong_correction(d, rng) != d.task.code for d in tasks(family, "feedback", 120))


def test_tasks_are_a_function_of_side_and_seed() -> None:
    assert tasks(NEAR, "feedback", 5, seed=1) == tasks(NEAR, "feedback", 5, seed=1)
    assert tasks(NEAR, "feedback", 5, seed=1) != tasks(NEAR, "feedback", 5, seed=2)
    assert tasks(NEAR, "feedback", 5) == tasks(NEAR, "feedback", 9)[:5]


def test_a_family_does_not_invent_tasks_beyond_its_own() -> None:
    small = Family("small", "mid", MID.templates[:1])
    with pytest.raises(InvalidRequest, match=r"^family 'small' has \d+ tasks for feedback; 100000 were asked for$"):
        tasks(small, "feedback", 100_000)


def test_no_correction_is_wrong_where_nothing_can_be_replaced() -> None:
    drawn = tasks(NEAR, "feedback", 1)[0]
    fixed = replace(drawn, template=replace(drawn.template, slots={}))
    with pytest.raises(InvalidRequest) as refused:
        wrong_correction(fixed, Random(0))
    assert refused.value.detail == f"no wrong correction of {drawn.task.entry_point!r} fails its tests"


def test_nothing_of_the_families_is_in_training() -> None:
    trained = list(islice(training_tasks(Random(3)), 3000))
    prompts, codes = {task.prompt for task in trained}, {task.code for task in trained}
    drawn = [d for family in FAMILIES.values() for d in tasks(family, "feedback", 100)]
    assert not prompts & {d.task.prompt for d in drawn}
    assert not codes & {d.task.code for d in drawn}


def test_new_operations_structures_and_types_are_new() -> None:
    known = {option.code for template in TEMPLATES for options in template.slots.values() for option in options}
    for family in FAMILIES.values():
        if family.distance == "near":
            assert family.confusions in {NUMBER_MAPS, WORD_MAPS}
            new = {options[0].code for t in family.templates for options in t.slots.values() if len(options) == 1}
            assert len(new) == 1
            assert not new & known
        else:
            assert not {t.name for t in family.templates} & {t.name for t in TEMPLATES}
            assert not {t.types for t in family.templates} & {t.types for t in TEMPLATES}
