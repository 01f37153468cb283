"""The table of samplers measures each candidate on validation tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from perfuse import sandbox
from perfuse.evaluation.samplers import END, START, Candidate, compare, rewritten
from perfuse.models.text import TextConfig, save_text
from perfuse.models.tokenizer import TextTokenizer
from perfuse.models.unified import DiffusionConfig, UnifiedScoreNetwork
from perfuse.requests import SamplerOptions
from perfuse.training.corpus.tasks import held_out_tasks


@pytest.mark.skipif(sandbox.availability().tier == "none", reason="this kernel cannot confine")
def test_each_candidate_has_a_row(tmp_path: Path) -> None:
    tokenizer = TextTokenizer.train([task.code for task in held_out_tasks(8)], 400)
    shape = DiffusionConfig(tokenizer.size, width=32, layers=1, heads=2, condition=8)
    torch.manual_seed(0)
    save_text(tmp_path, TextConfig("m", 1, shape, 256, 6, "", {}), UnifiedScoreNetwork(shape).state_dict(), tokenizer)
    options = SamplerOptions(window=4, bound=0.0)
    found = compare(tmp_path, 2, [Candidate("auto"), Candidate("entropy", options), Candidate("random", steps=3)])
    assert json.loads(json.dumps(found)) == found
    rows = found["rows"]
    assert isinstance(rows, list)
    assert [(row["sampler"], row["setting"], row["n"]) for row in rows] == [
        ("auto", "", 2),
        ("entropy", "window 4, bound 0.0", 2),
        ("random", "steps 3", 2),
    ]
    assert rows[1]["mean_forwards"] == 6.0
    assert all((row["won"], row["lost"], row["pass_at_1"]) == (0, 0, 0.0) for row in rows)
    assert [row["pareto"] for row in rows] == [
        row["mean_forwards"] == min(r["mean_forwards"] for r in rows) for row in rows
    ]


FOUND: dict[str, object] = {
    "model": "m@1",
    "tasks": 4,
    "torch": "2",
    "threads": 1,
    "machine": "x86_64",
    "cpu_flags": ["avx2"],
    "rows": [
        {
            "sampler": "auto", "setting": "", "n": 4, "pass_at_1": 0.75, "low": 0.3, "high": 0.95, "won": 0, "lost": 0,
            "mean_forwards": 5.25, "median_ms": 40.4, "pareto": True,
        }
    ],
}  # fmt: skip


def test_the_table_takes_the_place_of_the_one_before() -> None:
    page = f"# Text\n\n{START}\nthe one before\n{END}\n\nmore\n"
    once = rewritten(page, FOUND)
    assert once.startswith(f"# Text\n\n{START}\n\n`m@1`, 4 tasks per row")
    assert "| **`auto`** |  | 0.750 | 0.300 to 0.950 | 0 | 0 | 5.2 | 40 |\n\n" in once
    assert "the one before" not in once
    assert once.endswith(f"{END}\n\nmore\n")
    assert "*A short run: with fewer than 200 tasks, rows whose intervals overlap are not ordered.*" in once
    assert "short run" not in rewritten(once, {**FOUND, "tasks": 200})
    assert rewritten(once, FOUND) == once


def test_a_page_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^the page has no place for the table; expected '<!-- samplers"):
        rewritten("# Text\n", FOUND)
