"""The table of samplers measures each candidate on validation tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from perfuse import sandbox
from perfuse.evaluation.samplers import Candidate, compare
from perfuse.models.text import TextConfig, save_text
from perfuse.models.tokenizer import TextTokenizer
from perfuse.models.unified import DiffusionConfig, UnifiedScoreNetwork
from perfuse.training.corpus.tasks import held_out_tasks


@pytest.mark.skipif(sandbox.availability().tier == "none", reason="this kernel cannot confine")
def test_each_candidate_has_a_row(tmp_path: Path) -> None:
    tokenizer = TextTokenizer.train([task.code for task in held_out_tasks(8)], 400)
    shape = DiffusionConfig(tokenizer.size, width=32, layers=1, heads=2, condition=8)
    torch.manual_seed(0)
    save_text(tmp_path, TextConfig("m", 1, shape, 256, 6, "", {}), UnifiedScoreNetwork(shape).state_dict(), tokenizer)
    rows = compare(tmp_path, 2, [Candidate("verified", 4, 3.0), Candidate("entropy", 4, 0.0)])
    assert json.loads(json.dumps(rows)) == rows
    assert [(row["rule"], row["window"], row["bound"], row["n"]) for row in rows] == [
        ("verified", 4, 3.0, 2),
        ("entropy", 4, 0.0, 2),
    ]
    assert rows[1]["mean_forwards"] == 6.0
