"""`perfuse eval` and `perfuse bench` hand their options to what measures learning, and print what comes back."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from perfuse.cli import doctor
from perfuse.cli.app import app
from perfuse.evaluation import bench_text, poison

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


def test_the_measure_of_structures_prints_its_figures_with_the_flags_of_the_cpu(monkeypatch) -> None:
    def evaluate(model: Path, **given: int) -> dict[str, object]:
        return {"model": model.name, **given}

    monkeypatch.setitem(sys.modules, "perfuse.evaluation.structures", SimpleNamespace(evaluate_structures=evaluate))
    done = RUN.invoke(app, ["eval", "json", "--schemas", "3", "--seed", "2", "--json"])
    assert done.exit_code == 0, done.output
    flags = list(doctor.cpu_flags())
    assert json.loads(done.stdout) == {"model": "code-small", "schemas": 3, "seed": 2, "cpu_flags": flags}


def test_the_measure_of_likelihood_writes_its_page_and_prints_its_figures(monkeypatch, tmp_path: Path) -> None:
    def evaluate(model: Path, twin: Path, **given: int) -> dict[str, object]:
        return {"models": [model.name, twin.name], **given}

    def rewritten(page: str, found: Mapping[str, object]) -> str:
        return f"{page}{found['models']}"

    scripted = SimpleNamespace(evaluate_likelihood=evaluate, rewritten=rewritten)
    monkeypatch.setitem(sys.modules, "perfuse.evaluation.likelihood", scripted)
    (page := tmp_path / "page.md").write_text("# Text ")
    options = "--tasks 3 --windows 2 --samples 1 --speed 1 --page"
    done = RUN.invoke(app, ["eval", "likelihood", *options.split(), str(page), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {
        "cpu_flags": list(doctor.cpu_flags()),
        "models": ["code-small", "code-small-ar"],
        "tasks": 3,
        "windows": 2,
        "samples": 1,
        "speed": 1,
    }
    assert page.read_text() == "# Text ['code-small', 'code-small-ar']"


@pytest.mark.parametrize(
    ("command", "module", "given"),
    [
        (
            "code --suite a.jsonl --suite b.jsonl --tasks 3",
            "suites",
            {"suites": ["a.jsonl", "b.jsonl"], "tests": None, "most": 3},
        ),
        (
            "infill --suite a.jsonl --tests b.jsonl --tasks 4",
            "suites",
            {"suites": ["a.jsonl"], "tests": "b.jsonl", "most": 4},
        ),
        ("infill --kinds --tasks 5", "infilling", {"tasks": 5}),
    ],
)
def test_suites_and_kinds_of_gaps_get_both_models(
    monkeypatch, tmp_path: Path, command: str, module: str, given: dict[str, object]
) -> None:
    def of_suites(
        model: Path, twin: Path, files: Sequence[Path], *, tests: Path | None, most: int
    ) -> dict[str, object]:
        names = {"suites": [str(file) for file in files], "tests": tests and str(tests), "most": most}
        return {"models": [model.name, twin.name], **names}

    def of_kinds(model: Path, twin: Path, tasks: int) -> dict[str, object]:
        return {"models": [model.name, twin.name], "tasks": tasks}

    scripted = SimpleNamespace(
        evaluate_suites=of_suites, evaluate_kinds=of_kinds, rewritten=lambda page, found: f"{page}{found['models']}"
    )
    monkeypatch.setitem(sys.modules, f"perfuse.evaluation.{module}", scripted)
    (page := tmp_path / "page.md").write_text("# Text ")
    done = RUN.invoke(app, ["eval", *command.split(), "--page", str(page), "--json"])
    assert done.exit_code == 0, done.output
    models = ["code-small", "code-small-ar"]
    assert json.loads(done.stdout) == {"cpu_flags": list(doctor.cpu_flags()), "models": models, **given}
    assert page.read_text() == f"# Text {models}"


@pytest.mark.parametrize("json_wanted", [True, False])
def test_the_bench_of_text_gets_its_settings_and_writes_its_page(
    monkeypatch, tmp_path: Path, json_wanted: bool
) -> None:
    def run(model: Path, grid: bench_text.Grid, **given: int) -> dict[str, object]:
        row = {"model": model.name, "grid": [list(each) for each in astuple(grid)], "ms": 1.23456, **given}
        return {"http": [], "forwards": [row]}

    scripted = SimpleNamespace(Grid=bench_text.Grid, run=run, rewritten=lambda page, found: f"{page}{len(found)}")
    monkeypatch.setitem(sys.modules, "perfuse.evaluation.bench_text", scripted)
    (page := tmp_path / "page.md").write_text("# Text ")
    options = "--canvases 32,64 --batches 1 --dtypes f32 --threads 1,2 --requests 4 --repeats 3 --no-http --page"
    flags = ["--json"] if json_wanted else []
    done = RUN.invoke(app, ["bench", "text", *options.split(), str(page), *flags])
    assert done.exit_code == 0, done.output
    grid = [[32, 64], [1], ["f32"], [1, 2]]
    row = {"model": "code-small", "grid": grid, "ms": 1.23456, "requests": 4, "repeats": 3, "http": False}
    if json_wanted:
        assert json.loads(done.stdout) == {"http": [], "forwards": [row], "cpu_flags": list(doctor.cpu_flags())}
    else:
        assert [line.split() for line in done.stdout.splitlines()] == [
            ["model", "grid", "ms", "requests", "repeats", "http"],
            ["code-small", *str(grid).split(), "1.235", "4", "3", "False"],
        ]
    assert page.read_text() == "# Text 3"


def test_the_training_bench_prints_its_figures_with_the_flags_of_the_cpu(monkeypatch) -> None:
    async def run(**given: float) -> SimpleNamespace:
        return SimpleNamespace(as_dict=lambda: given)

    monkeypatch.setitem(sys.modules, "perfuse.evaluation.bench_training", SimpleNamespace(run=run))
    done = RUN.invoke(app, ["bench", "training", "--rate", "2", "--seconds", "0.5", "--rounds", "1", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"rate": 2.0, "seconds": 0.5, "rounds": 1, "cpu_flags": list(doctor.cpu_flags())}


@pytest.mark.parametrize("language", ["javascript", "rust", "c", "shell"])
def test_code_is_measured_in_the_language_that_is_named(monkeypatch, language: str) -> None:
    def evaluate(chosen: str, model: Path, **given: object) -> dict[str, object]:
        return {"language": chosen, "model": model.name, **given}

    monkeypatch.setattr("perfuse.evaluation.languages.evaluate_language", evaluate)
    done = RUN.invoke(app, ["eval", "code", "--language", language, "--tasks", "7", "--no-baselines", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"language": language, "model": "code-small", "tasks": 7, "baselines": False}
