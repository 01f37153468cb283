"""Gaps of three kinds in held-out functions, and the table of who fills them."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perfuse import sandbox
from perfuse.evaluation.infilling import END, KINDS, START, evaluate_kinds, gap_of, gaps, rewritten
from perfuse.models.text import TextConfig, save_text
from perfuse.models.tokenizer import TextTokenizer
from perfuse.models.unified import DiffusionConfig, UnifiedScoreNetwork
from perfuse.training.corpus.tasks import held_out_tasks

CODE = "def f(x):\n    y = x\n    z = y\n    return z\n"


@given(seed=st.integers(0, 10_000))
def test_a_gap_of_lines_is_whole_lines_behind_the_first(seed: int) -> None:
    for kind, least, most in (("single-line", 1, 1), ("multi-line", 2, 3)):
        found = gap_of(kind, CODE, Random(seed))
        assert found is not None
        prefix, middle, suffix = found
        assert prefix + middle + suffix == CODE
        assert prefix.startswith("def f(x):\n")
        assert prefix.endswith("\n")
        assert middle.endswith("\n")
        assert least <= middle.count("\n") <= most


@given(seed=st.integers(0, 10_000))
def test_a_span_is_anything_but_empty(seed: int) -> None:
    found = gap_of("random-span", CODE, Random(seed))
    assert found is not None
    assert "".join(found) == CODE
    assert found[1]


def test_a_function_of_one_line_has_no_gap_of_several_and_an_unknown_kind_is_refused() -> None:
    assert gap_of("multi-line", "def f(x):\n    return x\n", Random(0)) is None
    with pytest.raises(ValueError, match=r"^expected one of single-line, multi-line, random-span; got 'word'$"):
        gap_of("word", CODE, Random(0))


def test_gaps_are_the_same_each_time_and_show_the_sentence() -> None:
    tasks = held_out_tasks(20)
    for kind in KINDS:
        items = gaps(kind, tasks)
        assert items == gaps(kind, tasks)
        codes = {task.prompt: task.code for task in tasks}
        assert all(item.prefix + item.middle + item.suffix == codes[item.prompt] for item in items)
    assert len(gaps("single-line", tasks)) == 20


@pytest.mark.skipif(sandbox.availability().tier == "none", reason="this kernel cannot confine")
def test_the_report_has_each_kind_with_the_sentence_and_without(tmp_path: Path) -> None:
    tokenizer = TextTokenizer.train([task.code for task in held_out_tasks(8)], 400)
    for name, causal in (("model", False), ("twin", True)):
        shape = DiffusionConfig(tokenizer.size, width=32, layers=1, heads=2, condition=8, max_length=256, causal=causal)
        torch.manual_seed(0)
        weights = UnifiedScoreNetwork(shape).state_dict()
        save_text(tmp_path / name, TextConfig(name, 1, shape, 256, 4, "", {}), weights, tokenizer)
    found = evaluate_kinds(tmp_path / "model", tmp_path / "twin", 3)
    assert json.loads(json.dumps(found)) == found
    rows = found["kinds"]
    assert isinstance(rows, list)
    assert [(row["gap"], row["sentence"]) for row in rows] == [
        (kind, sentence) for kind in KINDS for sentence in ("shown", "withheld")
    ]
    page = rewritten(f"{START}\nthe one before\n{END}\n", found)
    assert page.startswith(f"{START}\n\n`model@1` and its twin `twin@1`, which is shown the suffix before the prefix")
    assert page.count("| diffusion |") == page.count("| twin |") == 6
