"""The table of constraints: every kind is judged by what came out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from perfuse.evaluation import satisfaction
from perfuse.evaluation.satisfaction import END, START, evaluate_constraints, lint, rewritten
from perfuse.models.text import TextConfig, save_text
from perfuse.models.tokenizer import TextTokenizer
from perfuse.models.unified import DiffusionConfig, UnifiedScoreNetwork
from perfuse.training.corpus.tasks import held_out_tasks


def test_a_model_that_knows_nothing_keeps_every_form_but_syntax(tmp_path: Path) -> None:
    tokenizer = TextTokenizer.train([task.code for task in held_out_tasks(8)], 400)
    shape = DiffusionConfig(tokenizer.size, width=32, layers=1, heads=2, condition=8)
    torch.manual_seed(0)
    save_text(tmp_path, TextConfig("m", 1, shape, 512, 48, "", {}), UnifiedScoreNetwork(shape).state_dict(), tokenizer)
    found = evaluate_constraints(tmp_path, tasks=3, languages=["python", "c"])
    assert json.loads(json.dumps(found)) == found
    rows = {row["kind"]: row for row in found["rows"]}  # type: ignore[attr-defined]
    assert list(rows) == ["prefix and suffix", "template", "schema", "regex", "length", "syntax, python", "syntax, c"]
    for kind in ("prefix and suffix", "template", "schema", "regex", "length"):
        assert rows[kind]["kept"] == rows[kind]["n"] == 3 - rows[kind]["refused"]
    assert rows["syntax, python"]["n"] == rows["syntax, c"]["n"] == 3


def test_ruff_judges_each_module() -> None:
    found = lint(["x = 1\n", "import os\nimport sys\n", "def f(:\n"])
    assert (found["kept"], found["n"], found["reason"]) == (1, 3, None)
    assert found["rules"] == {"F401": 2, "invalid-syntax": 2}


def test_without_ruff_the_reason_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(satisfaction.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert lint(["x = 1\n"]) == {"passed": None, "n": 1, "reason": "ruff is not installed"}


ROW = {"kind": "regex", "refused": 1, "kept": 3, "n": 4, "rate": 0.75, "low": 0.3, "high": 0.95}
FOUND: dict[str, object] = {
    "model": "m@1",
    "torch": "2",
    "threads": 1,
    "cpu_flags": ["avx2"],
    "rows": [ROW],
    "lint": {"passed": None, "n": 4, "reason": "ruff is not installed"},
}


def test_the_table_takes_the_place_of_the_one_before() -> None:
    page = f"# Text\n\n{START}\nthe one before\n{END}\n\nmore\n"
    once = rewritten(page, FOUND)
    assert "| regex | 3 | 4 | 0.750 | 0.300 to 0.950 | 1 |\n" in once
    assert "| `ruff check` of the Python | ruff is not installed | 4 | | | |\n" in once
    assert once.endswith(f"{END}\n\nmore\n")
    linted = {**FOUND, "lint": {**ROW, "reason": None}}
    assert "| `ruff check` of the Python | 3 | 4 | 0.750 | 0.300 to 0.950 | 0 |\n" in rewritten(once, linted)
