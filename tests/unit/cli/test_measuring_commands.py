"""`perfuse eval` and `perfuse bench` hand their options to what measures learning, and print what comes back."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from perfuse.cli import doctor
from perfuse.cli.app import app
from perfuse.evaluation import poison

RUN = CliRunner()


@pytest.mark.parametrize(
    ("command", "module", "name", "families", "options"),
    [
        (
            "poison --family gaps --items 8 --tasks 4 --anchors 2 --arms verified --wrong 0,.5",
            "poison",
            "poison",
            ["gaps"],
            {"items": 8, "evaluated": 4, "anchors": 2, "arms": ("verified",), "shares": (0.0, 0.5)},
        ),
        (
            "drift --generations 2 --items 8 --tasks 4",
            "drift",
            "drift",
            [],
            {"generations": 2, "items": 8, "evaluated": 4},
        ),
        ("revocation --items 8", "revocation", "revocation", ["triangular"], {"items": 8, "evaluated": 200}),
        (
            "isolation --family gaps,trees --requests 5",
            "isolation",
            "isolation",
            ["gaps", "trees"],
            {"items": 96, "requests": 5},
        ),
    ],
)
def test_an_evaluation_gets_a_folder_its_families_and_its_options(
    monkeypatch, command: str, module: str, name: str, families: list[str], options: dict[str, object]
) -> None:
    folders: list[Path] = []

    async def evaluate(folder: Path, *positional: object, **given: object) -> dict[str, object]:
        assert folder.is_dir()
        folders.append(folder)
        flat = positional[0] if positional and isinstance(positional[0], tuple) else positional
        return {"families": [family.name for family in flat], "options": given}

    scripted = SimpleNamespace(arms_of=poison.arms_of, shares_of=poison.shares_of, **{name: evaluate})
    monkeypatch.setitem(sys.modules, f"perfuse.evaluation.{module}", scripted)
    monkeypatch.setattr(f"perfuse.evaluation.{module}", scripted, raising=False)
    done = RUN.invoke(app, ["eval", *command.split(), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads(json.dumps({"families": families, "options": options}))
    assert not folders[0].exists()


def test_the_training_bench_prints_its_figures_with_the_flags_of_the_cpu(monkeypatch) -> None:
    async def run(**given: float) -> SimpleNamespace:
        return SimpleNamespace(as_dict=lambda: given)

    monkeypatch.setitem(sys.modules, "perfuse.evaluation.bench_training", SimpleNamespace(run=run))
    done = RUN.invoke(app, ["bench", "training", "--rate", "2", "--seconds", "0.5", "--rounds", "1", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"rate": 2.0, "seconds": 0.5, "rounds": 1, "cpu_flags": list(doctor.cpu_flags())}
