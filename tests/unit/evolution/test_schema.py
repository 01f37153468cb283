"""JSON Schema's admitted keywords, by examples of the specification, and no torch anywhere in the learning side."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from perfuse.evolution.schema import conforms


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({}, [1, None, "x", [], {}], []),
        ({"type": "integer"}, [3, 3.0, -1], [3.5, "3", True, None]),
        ({"type": "number"}, [3, 3.5], [True, "3"]),
        ({"type": ["string", "null"]}, ["x", None], [1, []]),
        ({"type": "boolean"}, [True], [1, 0]),
        ({"type": "array"}, [[]], [{}]),
        ({"enum": [1, "x", [True]]}, [1, 1.0, "x", [True]], [True, "y", [1]]),
        ({"const": {"a": 1}}, [{"a": 1.0}], [{"a": True}, {}, {"a": 1, "b": 2}]),
        ({"items": {"type": "string"}}, [[], ["x"], "no array", 5], [["x", 1]]),
        ({"minItems": 1, "maxItems": 2}, [[1], [1, 2], "xyz"], [[], [1, 2, 3]]),
        ({"minLength": 1, "maxLength": 2}, ["é", "ab", [1, 2, 3]], ["", "abc"]),
        ({"minimum": 1, "maximum": 2}, [1, 1.5, 2, "0", True], [0.9, 3]),
        ({"exclusiveMinimum": 1, "exclusiveMaximum": 2}, [1.5], [1, 2]),
        ({"required": ["a"]}, [{"a": None}, []], [{}]),
        ({"properties": {"a": {"type": "string"}}}, [{}, {"a": "x", "b": 1}, 7], [{"a": 1}]),
        ({"properties": {"a": {}}, "additionalProperties": False}, [{}, {"a": 1}], [{"b": 1}]),
        ({"title": "T", "description": "D"}, [1], []),
    ],
)
def test_a_keyword_admits_and_refuses(schema: dict[str, object], good: list[object], bad: list[object]) -> None:
    assert [conforms(json.dumps(value), schema) for value in good] == [True] * len(good)
    assert [conforms(json.dumps(value), schema) for value in bad] == [False] * len(bad)


@pytest.mark.parametrize("text", ["", "{", "NaN", "[Infinity]", "1 2", "[" * 100_000, "9" * 5000])
def test_what_is_no_json_conforms_to_nothing(text: str) -> None:
    assert not conforms(text, {})


def test_the_learning_side_loads_no_torch() -> None:
    modules = ["canary", "cluster", "curate", "gate", "intake", "learned", "promote", "revoke", "schema"]
    code = f"import sys\nfrom perfuse.evolution import {', '.join(modules)}\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
