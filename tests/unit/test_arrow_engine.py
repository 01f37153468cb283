"""The library's front door."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import perfuse
from perfuse import ArrowEngine
from perfuse.errors import InvalidRequest
from perfuse.pipelines.shipped import SHIPPED
from perfuse.requests import Preview


@pytest.fixture(scope="module")
def engine() -> ArrowEngine:
    return ArrowEngine(device="cpu")


def test_it_fills_text_between_prefix_and_suffix(engine: ArrowEngine) -> None:
    shown: list[Preview] = []
    result = engine.diffuse(
        modality="text",
        prefix="def double(values):\n    return [",
        suffix=" for value in values]\n",
        length=12,
        on_preview=shown.append,
    )
    (output,) = result.outputs
    assert output.text.startswith("def double(values):\n    return [")
    assert output.text.endswith(" for value in values]\n")
    assert len(shown) == output.steps_done


def test_it_writes_json_of_a_schema(engine: ArrowEngine) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    (output,) = engine.diffuse(prompt="Is it so?", schema=schema, length=24).outputs
    assert output.fill in ('{"ok": true}', '{"ok": false}')
    (matched,) = engine.diffuse(prompt="Double it.", regex="[a-c]{3}", length=24).outputs
    assert re.fullmatch("[a-c]{3}", matched.fill)


def test_it_plans_a_verified_trajectory(engine: ArrowEngine) -> None:
    result = engine.plan(environment="maze2d-umaze", state=(3.0, 1.0, 0.0, 0.0), goal=(1.0, 1.0))
    assert result.status == "verified"
    assert result.verification.collision_free


def test_an_unknown_modality_is_named(engine: ArrowEngine) -> None:
    with pytest.raises(InvalidRequest, match=r"^modality 'smell' is not served; expected one of text$"):
        engine.diffuse(modality="smell")


def test_a_modality_without_a_model_is_named() -> None:
    planner = ArrowEngine([SHIPPED / "maze2d-umaze"])
    assert planner.models == ["maze2d-umaze@1"]
    with pytest.raises(InvalidRequest) as caught:
        planner.diffuse(prompt="a")
    assert caught.value.detail == "no model of modality 'text' is loaded; loaded are maze2d-umaze@1"


def test_public_names_are_found_and_others_are_named() -> None:
    assert "ArrowEngine" in dir(perfuse)
    for name in perfuse.__all__:
        assert getattr(perfuse, name) is not None
    with pytest.raises(AttributeError, match=r"^module 'perfuse' has no attribute 'ArowEngine'; it has ArrowEngine, "):
        perfuse.ArowEngine  # noqa: B018


def test_importing_perfuse_costs_no_torch() -> None:
    code = "import sys, perfuse; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
