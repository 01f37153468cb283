"""Every pipeline against the contract of `perfuse.pipelines.contract`."""

from __future__ import annotations

import pytest

from conformance import CHECKS, Case
from perfuse.requests import TextRequest
from scripted import ScriptedNetwork, ScriptedPipeline

CASES = [
    Case(
        "scripted",
        lambda wrap: ScriptedPipeline(wrap(ScriptedNetwork())),  # type: ignore[arg-type]
        [
            TextRequest(prompt="a", steps=6),
            TextRequest(prompt="b", steps=3, guidance=2.0),
            TextRequest(prompt="c", steps=4, length=16),
        ],
    ),
]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_pipeline(case: Case, check: str) -> None:
    CHECKS[check](case)
