"""Verifiers and samplers of other packages, found by their entry points: the examples', and broken ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from perfuse import plugins
from perfuse.diffusion.samplers import Guess
from perfuse.errors import ConfigError, NotFound
from plugged import importable, installed


def broken(folder: Path, target: str) -> Path:
    """A package whose entry point leads to `target`."""
    metadata = folder / "broken-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[perfuse.verifiers]\nbroken = {target}\n")
    return folder


def test_the_example_verifier_is_found_and_judges(tmp_path: Path) -> None:
    with importable(installed(tmp_path, "perfuse-balanced")):
        assert (plugins.verifiers(), plugins.samplers()) == (["balanced"], [])
        balanced = plugins.verifier("balanced")
        assert balanced("f(x)[{1: 2}]", {})
        assert not balanced("f(x]", {})
        assert not balanced("f(", {})
        assert not balanced("f(x)", {"longest": 3})


def test_the_example_sampler_is_found_and_chooses(tmp_path: Path) -> None:
    confidence = torch.tensor([0.95, 0.9, 0.5, 0.99])
    with importable(installed(tmp_path, "perfuse-frontier")):
        assert (plugins.samplers(), plugins.verifiers()) == (["frontier"], [])
        chosen = plugins.sampler("frontier")(Guess(torch.zeros(4, dtype=torch.long), confidence, confidence), 4)
    assert isinstance(chosen, torch.Tensor)
    assert chosen.tolist() == [True, True, False, False]


def test_a_name_that_nobody_brings() -> None:
    with pytest.raises(NotFound) as raised:
        plugins.verifier("nobody")
    assert (raised.value.detail, raised.value.hint) == ("no verifier is named 'nobody'", "installed are none")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere:f", r"the verifier 'broken' \(nowhere:f\) cannot be loaded: No module named 'nowhere'"),
        ("json:nothing", r"the verifier 'broken' \(json:nothing\) cannot be loaded: .* has no attribute 'nothing'"),
        ("math:pi", r"the verifier 'broken' \(math:pi\) is no function"),
    ],
)
def test_an_entry_point_that_leads_nowhere(tmp_path: Path, target: str, message: str) -> None:
    with importable(broken(tmp_path, target)), pytest.raises(ConfigError, match=f"^{message}$"):
        plugins.verifier("broken")
