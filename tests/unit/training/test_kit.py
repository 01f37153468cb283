"""The kit that is made for a model: its vectors are comparable, its anchors right, its bytes the same every time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from perfuse import sandbox
from perfuse.adaptation.embedding import read_whitening
from perfuse.cli.app import app
from perfuse.errors import CheckpointError, InvalidRequest
from perfuse.evaluation import learning
from perfuse.evaluation.code import TASKS
from perfuse.models.text import TextConfig, load_text, save_text
from perfuse.models.tokenizer import TextTokenizer
from perfuse.models.unified import DiffusionConfig, UnifiedScoreNetwork
from perfuse.store.kit import ANCHORS_FILE, EMBEDDER_FILE, read_kit
from perfuse.training.corpus.tasks import held_out_tasks, validation_tasks
from perfuse.training.kit import EVALUATED, draw_anchors, embed, make_kit, reference_prompts

SHIPPED = Path(__file__).parents[3] / "service" / "perfuse" / "pretrained" / "code-small"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tokenizer = TextTokenizer.train(reference_prompts(50), 300)
    shape = DiffusionConfig(tokenizer.size, width=16, layers=1, heads=2, condition=8)
    torch.manual_seed(0)
    network = UnifiedScoreNetwork(shape)
    save_text(tmp_path / "tiny", TextConfig("tiny", 1, shape, 256, 32, "", {}), network.state_dict(), tokenizer)
    return tmp_path / "tiny"


def test_a_kit_is_made_and_read(model: Path) -> None:
    kit = make_kit(model, prompts=60, anchors=12)
    assert kit == read_kit(model)
    assert kit.embedder.width == 16
    assert kit.anchors() == [*map(as_read, draw_anchors(12))]
    vectors = read_whitening(model).unit(embed(load_text(model), reference_prompts(60)))
    distances = (1 - vectors @ vectors.T)[np.triu_indices(60, k=1)]
    assert (distances <= kit.reach).mean() == pytest.approx(0.002, abs=1e-3)


def as_read(anchor: object) -> object:
    """What JSON makes of an anchor: its tuples are lists."""
    return type(anchor)(anchor.prompt, anchor.code, anchor.entry_point, tuple(json.loads(json.dumps(anchor.cases))))


def test_the_same_seed_gives_the_same_bytes_and_nothing_is_left_behind(model: Path) -> None:
    files = (EMBEDDER_FILE, ANCHORS_FILE)
    made = []
    for seed in (0, 0, 1):
        make_kit(model, prompts=30, anchors=5, seed=seed)
        made.append([(model / name).read_bytes() for name in files])
    assert made[0] == made[1]
    assert (made[0][0] != made[2][0], made[0][1] == made[2][1]) == (True, True)
    assert {path.name for path in model.iterdir()} == {*files, "model.safetensors", "config.json", "tokenizer.json"}


def test_anchors_do_not_depend_on_the_order_of_sets() -> None:
    script = (
        "import hashlib; from perfuse.training import kit; "
        "print(hashlib.sha256(repr(kit.draw_anchors(500)).encode()).hexdigest())"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(hashes) == 1


def test_references_are_distinct_training_sentences() -> None:
    drawn = reference_prompts(200)
    assert len(set(drawn)) == 200
    assert not {task.prompt for task in held_out_tasks(EVALUATED)} & set(drawn)


def test_a_kit_needs_a_model(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"^gone/config\.json does not describe a text model: FileNotFoundError: "
    ):
        make_kit(tmp_path / "gone", prompts=2, anchors=1)
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_cannot_be_had_are_refused(model: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"^expected at least 2 prompts to estimate a covariance from; got 1$"):
        make_kit(model, prompts=1)
    with pytest.raises(InvalidRequest, match=r"^expected at least 1 anchor; got 0$"):
        make_kit(model, anchors=0)
    with pytest.raises(InvalidRequest, match=r"^the corpus has \d{4} validation tasks; 100000 anchors were asked for$"):
        make_kit(model, anchors=100_000)
    assert not (model / ANCHORS_FILE).exists()


def test_the_command_makes_a_kit_and_prints_the_folder(model: Path) -> None:
    words = ["train", "kit", "--model", str(model), "--prompts", "20", "--anchors", "3"]
    assert CliRunner().invoke(app, words).stdout == f"{model}\n"
    kit = read_kit(model)
    assert kit is not None
    assert len(kit.anchors()) == 3


def test_the_shipped_anchors_are_apart_from_what_is_published_and_their_answers_pass() -> None:
    kit = read_kit(SHIPPED)
    assert kit is not None
    anchors = kit.anchors()
    assert max(TASKS, learning.ANCHORS) <= EVALUATED
    assert len({anchor.prompt for anchor in anchors}) == len(anchors) == 1000
    evaluated = {task.combination for task in held_out_tasks(EVALUATED)}
    assert not evaluated & {task.combination for task in validation_tasks(1000, EVALUATED)}
    assert not {task.prompt for task in learning.anchor_tasks()} & {anchor.prompt for anchor in anchors}
    assert (SHIPPED / ANCHORS_FILE).stat().st_size < 600_000
    assert all(len({json.dumps({**case, "args": []}) for case in a.cases}) > 1 for a in anchors)
    some = anchors[::25]
    verdicts = sandbox.run_many(
        sandbox.Task(
            code=anchor.code,
            entry_point=anchor.entry_point,
            cases=[
                sandbox.Case(args=case["args"], expected=case.get("expected"), raises=case.get("raises"))
                for case in anchor.cases
            ],
            seconds=5.0,
        )
        for anchor in some
    )
    assert [verdict.passed for verdict in verdicts] == [True] * len(some)


def test_the_shipped_kit_is_of_the_shipped_model() -> None:
    kit = read_kit(SHIPPED)
    assert kit is not None
    again = draw_anchors(1000)
    assert kit.anchors() == [*map(as_read, again)]
    vectors = read_whitening(SHIPPED).unit(embed(load_text(SHIPPED), reference_prompts(60)))
    nearest = (1 - vectors @ vectors.T)[np.triu_indices(60, k=1)]
    assert 0.6 < kit.reach < 0.8
    assert (nearest < kit.reach).mean() < 0.02
