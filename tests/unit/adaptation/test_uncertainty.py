"""An estimator triggers on what is unsure or strange, and its calibration survives the disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from perfuse.adaptation.signals import Trace
from perfuse.adaptation.uncertainty import (
    CALIBRATION_FILE,
    LEVEL,
    Calibration,
    Novelty,
    Seen,
    UncertaintyEstimator,
    read_calibration,
)
from perfuse.adaptation.whitening import Vectors, Whitening
from perfuse.errors import CheckpointError, InvalidRequest
from perfuse.evaluation.intervals import clopper_pearson_upper

WIDTH = 8
RNG = np.random.default_rng(0)


def states(count: int, rng: np.random.Generator = RNG) -> Vectors:
    return rng.normal(size=(count, WIDTH)).astype(np.float32) + np.float32(3) * np.eye(WIDTH, dtype=np.float32)[0]


WHITENING = Whitening.of(states(200))


def trace(state: Vectors | None, certainty: float) -> Trace:
    one = torch.ones(1, dtype=torch.float64)
    return Trace(
        tokens=torch.zeros(1, dtype=torch.long), certainty=one * certainty, entropy=one, revealed=torch.zeros(1).long(),
        steps=1, told_entropy=(0.0,), state=state, given=torch.zeros(1, dtype=torch.long),
    )  # fmt: skip


def seen(count: int, rng: np.random.Generator) -> list[Seen]:
    """Doubt says how likely an item is to be wrong: exactly."""
    found = []
    for _ in range(count):
        doubt = float(rng.exponential(0.05))
        found.append(Seen(doubt, float(rng.normal(0.5, 0.1)), bool(rng.uniform() < np.exp(-doubt))))
    return found


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    rng = np.random.default_rng(1)
    novelty = Novelty.of(WHITENING, states(60, rng))
    unknown = [Seen(item.doubt, item.novelty + 1.0, right=False) for item in seen(100, rng)]
    return Calibration.of("b" * 64, "made up", seen(1200, rng), seen(200, rng), unknown, novelty)


def estimate(calibration: Calibration, certainty: float, state: Vectors) -> tuple[UncertaintyEstimator, Trace]:
    return UncertaintyEstimator(calibration), trace(state, certainty)


def test_a_known_prompt_is_near_and_its_opposite_far() -> None:
    known = WHITENING.mean + np.linspace(2, 3, WIDTH, dtype=np.float32) + 0.1 * states(40)
    novelty = Novelty.of(WHITENING, known)
    opposite = (2 * WHITENING.mean - known[0]).astype(np.float32)
    assert 0.0 <= novelty.of_state(known[0]) < 0.1
    assert 1.9 < novelty.of_state(opposite) <= 2.0


def test_a_sure_text_to_a_known_prompt_does_not_trigger(calibration: Calibration) -> None:
    easy = replace(calibration, novelties=np.linspace(1.9, 2.0, len(calibration.novelties)))
    estimator, sure = estimate(easy, 0.99999, states(1)[0])
    scored = estimator.score(sure)
    assert scored is not None
    assert (scored.novelty_quantile, scored.should_evolve, scored.novel) == (0.0, False, False)
    assert scored.combined == scored.confidence_quantile < 0.1
    assert scored.p_value > 0.5
    assert scored.calibrated_on == "made up"
    assert not estimator.should_evolve(sure)


def test_an_unsure_text_triggers_without_being_novel(calibration: Calibration) -> None:
    easy = replace(calibration, novelties=np.linspace(1.9, 2.0, len(calibration.novelties)))
    estimator, unsure = estimate(easy, 0.01, states(1)[0])
    scored = estimator.score(unsure)
    assert scored is not None
    assert (scored.should_evolve, scored.novel) == (True, False)
    assert scored.p_value <= LEVEL
    assert scored.combined > scored.threshold


def test_a_strange_prompt_triggers_however_sure_the_text_is(calibration: Calibration) -> None:
    strict = replace(calibration, novelties=np.linspace(0.0, 0.01, len(calibration.novelties)))
    estimator, strange = estimate(strict, 1.0, (2 * WHITENING.mean - states(1)[0]).astype(np.float32))
    scored = estimator.score(strange)
    assert scored is not None
    assert (scored.should_evolve, scored.novel) == (True, True)
    assert scored.confidence_quantile == 0.0


def test_right_items_trigger_as_rarely_as_promised(calibration: Calibration) -> None:
    rng = np.random.default_rng(2)
    right = [item for item in seen(4000, rng) if item.right]
    known = calibration
    below = (
        np.searchsorted(known.doubts, [i.doubt for i in right]),
        np.searchsorted(known.novelties, [i.novelty for i in right]),
    )
    combined = np.maximum(*below) / (len(known.doubts) + 1)
    threshold = UncertaintyEstimator(known).score(trace(states(1)[0], 0.5))
    assert threshold is not None
    triggered = int((combined > threshold.threshold).sum())
    assert clopper_pearson_upper(triggered, len(right)) < 0.06


def test_chances_fall_with_doubt_and_with_novelty(calibration: Calibration) -> None:
    def chance(doubt: float, novelty: float) -> float:
        return calibration.chance.at(calibration.strangeness(doubt, novelty))

    assert chance(0.01, 0.5) > 0.9 > chance(0.05, 1.5) + 0.8
    assert chance(0.01, 0.5) >= chance(1.0, 0.5)
    state = states(1)[0]
    estimator, unsure = estimate(calibration, 0.5, state)
    assert estimator.p_correct(unsure) == chance(-float(np.log(0.5)), calibration.novelty.of_state(state))


def test_strangeness_is_counted_from_right_items(calibration: Calibration) -> None:
    logs, novelties = np.log(calibration.doubts + 1e-3), calibration.novelties
    usual = float(np.exp(logs.mean()) - 1e-3), float(novelties.mean())
    assert calibration.strangeness(*usual) == pytest.approx(0.0, abs=1e-9)
    doubtful = float(np.exp(logs.mean() + logs.std()) - 1e-3), float(novelties.mean() + 2 * novelties.std())
    assert calibration.strangeness(*doubtful) == pytest.approx(3.0)


def test_without_a_prompt_nothing_is_said(calibration: Calibration) -> None:
    estimator, nothing = UncertaintyEstimator(calibration), trace(None, 0.5)
    assert (estimator.score(nothing), estimator.p_correct(nothing), estimator.should_evolve(nothing)) == (
        None, None, False,
    )  # fmt: skip


def test_what_is_written_says_the_same_when_it_is_read(calibration: Calibration, tmp_path: Path) -> None:
    calibration.write(tmp_path)
    read = read_calibration(tmp_path, calibration.base, WHITENING)
    assert read is not None
    rng = np.random.default_rng(3)
    for certainty in (0.2, 0.9, 0.97, 0.9999):
        asked = trace(states(1, rng)[0], certainty)
        before, after = UncertaintyEstimator(calibration), UncertaintyEstimator(read)
        assert before.score(asked) == after.score(asked)
        assert before.p_correct(asked) == after.p_correct(asked)


def test_a_folder_without_a_calibration_has_none(tmp_path: Path) -> None:
    assert read_calibration(tmp_path, "b", WHITENING) is None


def test_a_calibration_of_other_weights_is_not_used_and_that_is_said(
    calibration: Calibration, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    calibration.write(folder)
    assert read_calibration(folder, "c" * 64, WHITENING) is None
    (record,) = caplog.records
    assert record.getMessage() == "calibration_of_another_model"
    assert vars(record) | {"model": "m", "made_for": "b" * 64, "base": "c" * 64} == vars(record)


def test_a_damaged_calibration_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / CALIBRATION_FILE).write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match=rf"^m/{CALIBRATION_FILE} cannot be read: SafetensorError: "):
        read_calibration(folder, "b", WHITENING)


def test_too_few_right_answers_give_no_threshold() -> None:
    novelty = Novelty.of(WHITENING, states(5))
    known = [Seen(0.1, 0.1, right=i < 23) for i in range(30)]
    with pytest.raises(InvalidRequest) as caught:
        Calibration.of("b", "few", known, [], [], novelty)
    assert caught.value.detail == ("23 of 30 calibration items are right; expected at least 24 for a threshold at 0.04")
    Calibration.of("b", "enough", [*known, Seen(0.1, 0.1, right=True)], [], [], novelty)


def test_too_few_known_prompts_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"^expected at least 5 known prompts; got 4$"):
        Novelty.of(WHITENING, states(4))
