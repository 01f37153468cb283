"""The evaluation measures what it says: scores of executed plans beside baselines, and the two references."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from perfuse.evaluation.maze2d import evaluate, references, starts, summarise
from perfuse.planning.control.rollout import Episode
from perfuse.planning.mazes import MAZES

SHIPPED = Path(__file__).parents[3] / "service/perfuse/pretrained/maze2d-umaze"
UMAZE = MAZES["maze2d-umaze"]


def test_rows_hold_mean_error_and_reach() -> None:
    row = summarise(UMAZE, [Episode(23.85, None), Episode(161.86, 40)])
    assert row.as_json() == {"score": 50.0, "se": 50.0, "reach": 0.5, "mean_arrival": 40.0}
    assert summarise(UMAZE, [Episode(23.85, None)]).as_json() == {
        "score": 0.0,
        "se": 0.0,
        "reach": 0.0,
        "mean_arrival": None,
    }


def test_all_runs_use_the_same_starts() -> None:
    assert np.array_equal(starts(UMAZE, 5), starts(UMAZE, 9)[:5])


def test_the_shipped_planner_scores_like_the_controller_and_far_above_an_untrained_one() -> None:
    report = evaluate(SHIPPED, "umaze", 24, candidates=4, steps=4)
    rows = report["rows"]
    assert isinstance(rows, dict)
    assert list(rows) == ["untrained", "n1", "one_step", "controller"]
    assert report["reach"] == 1.0
    assert report["episodes"] == 24
    assert report["model"] == "maze2d-umaze@1"
    assert report["controller_score"] == rows["controller"]["score"]
    assert abs(report["score"] - report["controller_score"]) < 8
    assert report["score"] > rows["untrained"]["score"] + 40


def test_both_reference_scores_of_d4rl_are_reproduced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfuse.evaluation.maze2d.REFERENCE_EPISODES", 30)
    report = references("umaze", groups=2)
    assert report["episodes"] == 60
    assert report["random"]["published"] == 23.85
    assert report["controller_script"]["published"] == 161.86
    assert report["random"]["return"] == pytest.approx(26.7, abs=25)
    assert report["controller_script"]["return"] == pytest.approx(169, abs=80)
    assert report["replanned"]["score"] == pytest.approx(144.1, abs=20)
