"""Suites in files: formats are told by their fields, and their own programs pass their own tests."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from perfuse import sandbox
from perfuse.errors import InvalidRequest
from perfuse.evaluation import suites
from perfuse.evaluation.items import Item
from perfuse.evaluation.suites import END, START, drawn, evaluate_suites, read_lines, read_suite, rewritten
from perfuse.models.text import TextConfig, save_text
from perfuse.models.tokenizer import TextTokenizer
from perfuse.models.unified import DiffusionConfig, UnifiedScoreNetwork

needs_jail = pytest.mark.skipif(sandbox.availability().tier == "none", reason="this kernel cannot confine")

COMPLETION = {
    "task_id": "HumanEval/900",
    "prompt": 'def twice(x):\n    """Twice x."""\n',
    "entry_point": "twice",
    "canonical_solution": "    return 2 * x\n",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n",
}
GAP = {
    "task_id": "SingleLineInfilling/HumanEval/900/L0",
    "entry_point": "twice",
    "prompt": "def twice(x):\n",
    "suffix": "    return y\n",
    "canonical_solution": "    y = 2 * x\n",
    "humaneval_id": "HumanEval/900",
}
SENTENCE = {
    "task_id": 901,
    "text": "Write a function to double a number.",
    "code": "import re\r\ndef half(x): return x / 2\ndef twice(x, times=2):\n  if x:\n    return times * x\n  return 0",
    "test_setup_code": "TWO = 2",
    "test_list": ["assert twice(2) == 4", "assert twice(TWO,\n  3) == 6"],
}


def written(path: Path, lines: Sequence[Mapping[str, object]]) -> Path:
    """A file of JSON lines, packed as its name says."""
    data = "\n".join(map(json.dumps, lines)).encode()
    if path.suffix == ".gz":
        data = gzip.compress(data)
    elif path.suffix == ".zst":
        data = pa.compress(data, codec="zstd", asbytes=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_a_file_may_be_packed(tmp_path: Path, name: str) -> None:
    assert read_lines(written(tmp_path / name, [COMPLETION, GAP])) == [COMPLETION, GAP]


def test_each_format_becomes_items(tmp_path: Path) -> None:
    tests = written(tmp_path / "tests.jsonl", [COMPLETION])
    (completion,) = read_suite(tests)
    assert (completion.kind, completion.prompt, completion.suffix) == ("completion", "", "")
    assert completion.prefix == COMPLETION["prompt"]
    (gap,) = read_suite(written(tmp_path / "gaps.jsonl", [GAP]), tests)
    assert (gap.kind, gap.suffix, gap.middle) == ("SingleLineInfilling", "    return y\n", "    y = 2 * x\n")
    assert gap.tests == completion.tests == f"{COMPLETION['test']}\n\ncheck(twice)\n"
    (sentence,) = read_suite(written(tmp_path / "sentences.jsonl", [SENTENCE]))
    assert (sentence.kind, sentence.prompt) == ("sentence", "Write a function to double a number.")
    assert sentence.prefix == "def twice(x, times=2):"
    assert sentence.middle == "\n    if x:\n        return times * x\n    return 0\n"
    assert sentence.tests == "TWO = 2\nassert twice(2) == 4\nassert twice(TWO,\n  3) == 6"


@needs_jail
def test_the_suites_own_programs_pass(tmp_path: Path) -> None:
    tests = written(tmp_path / "tests.jsonl", [COMPLETION])
    for line in (COMPLETION, GAP, SENTENCE):
        items = read_suite(written(tmp_path / "suite.jsonl", [line]), tests)
        assert suites.references_pass(items) == {"value": 1.0, "low": 0.2065, "high": 1.0}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{**COMPLETION, "language": "go"}], "expected programs in Python; suite.jsonl holds none"),
        ([7], "expected an object on each line of suite.jsonl"),
        (
            [{**GAP, "task_id": "Gap/1"}],
            "suite.jsonl: expected an item of HumanEval, HumanEval-Infilling or MBPP; 'Gap/1' lacks 'HumanEval/900'",
        ),
        (
            [{**SENTENCE, "test_list": ["assert thrice(2) == 6"]}],
            "suite.jsonl: expected an item of HumanEval, HumanEval-Infilling or MBPP; 901 lacks a function",
        ),
    ],
)
def test_what_is_no_suite_is_refused(tmp_path: Path, lines: list[object], message: str) -> None:
    path = tmp_path / "suite.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(InvalidRequest) as refused:
        read_suite(path)
    assert str(refused.value) == message


def test_a_file_that_is_not_there_or_not_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"^expected JSON lines in a\.jsonl, plain, \.gz or \.zst; got: "):
        read_lines(tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").write_text("{")
    with pytest.raises(InvalidRequest, match=r"^expected JSON lines in b\.jsonl, plain, \.gz or \.zst; got: "):
        read_lines(tmp_path / "b.jsonl")


def test_as_many_of_each_kind_are_drawn_always_the_same() -> None:
    items = [Item(kind, "", str(i), "", "", "f") for i in range(9) for kind in ("a", "b")]
    found = drawn(items, 3)
    assert [sum(item.kind == kind for item in found) for kind in ("a", "b")] == [3, 3]
    assert found == drawn(items, 3) == [item for item in items if item in found]
    assert drawn(items, 100) == items
    assert [[item.kind for item in group] for group in suites.by_kind(found)] == [["a"] * 3, ["b"] * 3]


@needs_jail
def test_the_report_has_an_entry_per_suite_and_kind(tmp_path: Path) -> None:
    tokenizer = TextTokenizer.train([COMPLETION["prompt"], SENTENCE["text"]] * 3, 300)
    for name, causal in (("model", False), ("twin", True)):
        shape = DiffusionConfig(tokenizer.size, width=32, layers=1, heads=2, condition=8, max_length=64, causal=causal)
        torch.manual_seed(0)
        weights = UnifiedScoreNetwork(shape).state_dict()
        save_text(tmp_path / name, TextConfig(name, 1, shape, 64, 6, "", {}), weights, tokenizer)
    tests = written(tmp_path / "tests.jsonl.zst", [COMPLETION])
    mixed = written(tmp_path / "mixed.jsonl", [SENTENCE, GAP])
    found = evaluate_suites(tmp_path / "model", tmp_path / "twin", [tests, mixed], tests=tests)
    assert json.loads(json.dumps(found)) == found
    entries = found["suites"]
    assert isinstance(entries, list)
    assert [(each["suite"], each["kind"], each["n"]) for each in entries] == [
        ("tests", "completion", 1), ("mixed", "sentence", 1), ("mixed", "SingleLineInfilling", 1),
    ]  # fmt: skip
    assert all(each["references_pass"]["value"] == 1.0 for each in entries)
    page = rewritten(f"{START}\nthe one before\n{END}\n", found)
    assert page.startswith(f"{START}\n\n`model@1` and its twin `twin@1` on a canvas of 64 tokens, ")
    assert "0 of 1 in tests completion, 0 of 1 in mixed sentence, 0 of 1 in mixed SingleLineInfilling" in page
    assert page.count("| twin |") == 3
