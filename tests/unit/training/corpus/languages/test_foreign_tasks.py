"""Foreign tasks: deterministic, divided by combination in every language at once, short enough for the model."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from random import Random

import pytest

from perfuse.evaluation.code import PRETRAINED
from perfuse.models.tokenizer import TextTokenizer
from perfuse.training.corpus.languages import FOREIGN, Foreign, ForeignTask, foreign_tasks, held_out_foreign
from perfuse.training.corpus.languages.tasks import TEMPLATES, build, split
from perfuse.wording import worded

DRAWN = 2000


@pytest.fixture(scope="module")
def drawn() -> list[ForeignTask]:
    return list(islice(foreign_tasks(Random(1)), DRAWN))


def test_the_languages_have_equal_shares(drawn: list[ForeignTask]) -> None:
    assert Counter(task.language for task in drawn) == dict.fromkeys(FOREIGN, DRAWN // 4)


def test_each_language_has_at_least_fifteen_templates_with_unique_names() -> None:
    assert len({template.name for template in TEMPLATES}) == len(TEMPLATES)
    shares = {language: sum(language in template.languages for template in TEMPLATES) for language in FOREIGN}
    assert min(shares.values()) >= 15, shares


def test_the_same_seed_draws_the_same_tasks(drawn: list[ForeignTask]) -> None:
    assert list(islice(foreign_tasks(Random(1)), 40)) == drawn[:40]
    assert held_out_foreign("rust", 5) == held_out_foreign("rust", 9)[:5]


def test_held_out_combinations_never_occur_in_training_in_any_language(drawn: list[ForeignTask]) -> None:
    parts = split()
    held_out = set(parts.held_out)
    assert not held_out & {combination for group in parts.train.values() for combination in group}
    assert not held_out & {task.combination for task in drawn}
    assert 0.08 < len(held_out) / (len(held_out) + sum(map(len, parts.train.values()))) < 0.12
    assert len(parts.digest) == 64


def test_every_option_of_a_held_out_combination_is_trained_elsewhere() -> None:
    parts = split()
    trained = {name: [set(slot) for slot in zip(*group, strict=True)] for name, group in parts.train.items()}
    for combination in parts.held_out:
        assert all(key in slot for key, slot in zip(combination, trained[combination[0]], strict=True))


@pytest.mark.parametrize("language", FOREIGN)
def test_held_out_tasks_are_of_distinct_combinations_and_their_cases_differ(language: Foreign) -> None:
    tasks = held_out_foreign(language, 100)
    assert len({task.combination for task in tasks}) == len(tasks) == 100
    assert {task.language for task in tasks} == {language}
    assert {task.combination for task in tasks} <= set(split().held_out)
    assert all(len({repr(case.expected) for case in task.cases}) > 1 for task in tasks)


def test_sentence_and_code_fit_into_two_hundred_tokens(drawn: list[ForeignTask]) -> None:
    tokenizer = TextTokenizer.load(PRETRAINED / "code-small" / "tokenizer.json")
    codes = tokenizer.encode_batch([task.code for task in drawn])
    prompts = tokenizer.encode_batch([worded(task.prompt, task.language) for task in drawn])
    assert max(len(code) + len(prompt) for code, prompt in zip(codes, prompts, strict=True)) <= 200
    assert sum(len(code) <= 90 for code in codes) >= 0.95 * DRAWN


@pytest.mark.parametrize("language", FOREIGN)
def test_the_code_names_the_entry_point_and_ends_with_a_newline(language: Foreign, drawn: list[ForeignTask]) -> None:
    for task in drawn:
        if task.language == language:
            assert f"{task.entry_point}(" in task.code.splitlines()[0]
            assert task.code.endswith("}\n")


def test_one_combination_expects_the_same_in_every_language() -> None:
    combination = next(c for c in split().held_out if c[0] == "comprehend")
    tasks = [build(language, combination, Random(4), tests=True) for language in FOREIGN]
    assert len({task.prompt for task in tasks}) == 1
    assert len({task.code for task in tasks}) == len(FOREIGN)
    assert all(task.cases == tasks[0].cases for task in tasks)
