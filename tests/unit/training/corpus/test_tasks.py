"""The generator: every template runs, tests tell tasks apart, the split holds out combinations and nothing else."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from random import Random

import pytest

from perfuse.training.corpus.tasks import (
    CASES,
    TEMPLATES,
    Task,
    build,
    combinations,
    held_out_tasks,
    split,
    training_tasks,
    validation_tasks,
)


def test_there_are_more_than_forty_templates_with_unique_names() -> None:
    names = [template.name for template in TEMPLATES]
    assert len(names) > 40
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.name)
def test_every_template_gives_running_functions_whose_tests_differ(template: object) -> None:
    rng = Random(5)
    every = combinations(template)  # type: ignore[arg-type]
    telling = 0
    for combination in rng.sample(every, min(12, len(every))):
        task = build(combination, rng, tests=True)
        assert task.code.startswith(task.signature + "\n")
        assert 1 <= len(task.cases) <= CASES
        telling += len({repr(case.expected) for case in task.cases}) > 1
    assert telling >= 6


def test_held_out_combinations_never_occur_in_training() -> None:
    parts = split()
    held_out = set(parts.held_out)
    assert not held_out & {c for group in parts.train.values() for c in group}
    seen = {task.combination for task in islice(training_tasks(Random(1)), 2000)}
    assert not held_out & seen


def test_every_option_of_a_held_out_combination_is_trained_elsewhere() -> None:
    parts = split()
    trained = {name: [set(slot) for slot in zip(*group, strict=True)] for name, group in parts.train.items()}
    for combination in parts.held_out:
        assert all(key in slot for key, slot in zip(combination, trained[combination[0]], strict=True))


def test_about_a_tenth_is_held_out() -> None:
    parts = split()
    total = len(parts.held_out) + sum(map(len, parts.train.values()))
    assert 0.08 < len(parts.held_out) / total < 0.12
    assert len(parts.digest) == 64


def test_the_evaluation_has_over_five_hundred_tasks_of_all_templates_each_from_another_combination() -> None:
    tasks = held_out_tasks(550)
    assert len(tasks) == 550
    assert len({task.combination for task in tasks}) == 550
    shares = Counter(task.template for task in tasks)
    assert len(shares) == len(TEMPLATES)
    assert held_out_tasks(5) == list(tasks[:5])
    assert all(len({repr(case.expected) for case in task.cases}) > 1 for task in tasks)


def test_a_task_is_a_function_of_its_combination_and_the_random_source() -> None:
    combination = split().held_out[0]
    assert build(combination, Random(3), tests=True) == build(combination, Random(3), tests=True)


def test_some_sentences_ask_for_a_docstring_and_then_the_code_has_one() -> None:
    tasks = list(islice(training_tasks(Random(2)), 400))

    def documented(task: Task) -> bool:
        return '"""' in task.code

    assert 5 < sum(map(documented, tasks)) < 60
    assert all(documented(task) == task.prompt.endswith("Add a docstring.") for task in tasks)


def test_refusals_are_tested_by_the_error_they_raise() -> None:
    combination = next(c for c in split().held_out if c[0] == "guard")
    task = build(combination, Random(0), tests=True)
    assert any(case.raises for case in task.cases)
    assert any(not case.raises for case in task.cases)


def test_validation_tasks_are_held_out_and_apart_from_the_evaluated_ones() -> None:
    evaluated = {task.combination for task in held_out_tasks(550)}
    chosen = validation_tasks(100, 550)
    assert len(chosen) == 100
    assert {task.combination for task in chosen} <= set(split().held_out) - evaluated
