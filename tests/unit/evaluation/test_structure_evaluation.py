"""The measure of structures: its schemas, what they ask for, and the figures of a small model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random

import jsonschema
import pytest
import torch

from perfuse._native import Structure, Vocabulary
from perfuse.errors import NotInstalled, UnsupportedConstraint
from perfuse.evaluation import structures
from perfuse.evaluation.structures import evaluate_structures, instance
from perfuse.evaluation.tool_schemas import TOOLS, drawn
from perfuse.models.text import TextConfig, save_text
from perfuse.models.tokenizer import NULL, TextTokenizer
from perfuse.models.unified import DiffusionConfig, UnifiedScoreNetwork

TOKENIZER = TextTokenizer.train([json.dumps(schema) for schema in drawn(5, 40)], 400)


def small(folder: Path) -> Path:
    shape = DiffusionConfig(TOKENIZER.size, width=32, layers=1, heads=2, condition=8)
    torch.manual_seed(0)
    save_text(folder, TextConfig("m", 1, shape, 512, 64, "", {}), UnifiedScoreNetwork(shape).state_dict(), TOKENIZER)
    return folder


@pytest.mark.parametrize("seed", range(3))
def test_what_is_wanted_is_valid_and_can_be_written(seed: int) -> None:
    vocabulary = Vocabulary(TOKENIZER.pieces(), NULL)
    for schema in [*TOOLS, *drawn(seed, 60)]:
        jsonschema.Draft202012Validator.check_schema(schema)
        wanted = instance(schema, schema, Random(seed))
        try:
            structure = Structure.of_schema(json.dumps(schema), vocabulary)
        except UnsupportedConstraint:
            continue
        jsonschema.validate(wanted, schema)
        assert structure.accepts(json.dumps(wanted, ensure_ascii=False).encode()), (wanted, schema)


def test_every_answer_is_judged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(structures, "large_vocabulary", lambda: Vocabulary(TOKENIZER.pieces(), NULL))
    monkeypatch.setattr(structures, "TOOLS", [TOOLS[0], TOOLS[25], {"not": {}}, {"type": "string", "maxLength": 9000}])
    monkeypatch.setattr(structures, "FREE", 3)
    found = evaluate_structures(small(tmp_path), schemas=6)
    assert json.loads(json.dumps(found)) == found
    assert (found["n"], found["accepted"], found["answers"], found["valid"]) == (6, 4, 12, 12)
    assert found["refused_keywords"] == {"not": 1, "constraint_too_large": 1}
    assert found["valid_without_schema"] == "0 of 3"
    assert isinstance(found["by_kind"], dict)
    assert found["by_kind"]["$ref"] == {"n": 3, "valid": 3}


def test_without_the_judge_nothing_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(NotInstalled, match=r"^the package jsonschema is not installed$"):
        evaluate_structures(tmp_path)
