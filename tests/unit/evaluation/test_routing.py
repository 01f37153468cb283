"""Routing is measured as the server does it, and requests of other kinds are counted as such."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from perfuse.adaptation.whitening import Vectors, unit
from perfuse.cli.app import app
from perfuse.errors import CheckpointError, InvalidRequest
from perfuse.evaluation.routing import Domains, arrive, evaluate_routing, found_domains
from perfuse.training.corpus.families import FAR, NEAR

SHIPPED = Path(__file__).parents[3] / "service" / "perfuse" / "pretrained" / "code-small"
WIDTH = 16


def around(direction: int, count: int, seed: int = 0) -> Vectors:
    rng = np.random.default_rng((seed, direction))
    return unit(np.eye(WIDTH)[direction] + 0.1 * rng.normal(size=(count, WIDTH)))


def test_what_comes_in_a_little_at_a_time_is_sorted_by_kind() -> None:
    kinds = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], 20))
    vectors = np.concatenate([around(kind, 1, seed) for seed, kind in enumerate(kinds)])
    members = arrive(vectors, 0.5)
    assert len(set(zip(members, kinds, strict=True))) == len(set(members)) == 3


def test_a_request_goes_to_the_nearest_domain_that_takes_it_in() -> None:
    centroids = unit([[1, 0, 0], [1, 1, 0]])
    domains = Domains(centroids, np.asarray([0.2, 0.01], np.float32), np.asarray([[9, 1], [10, 0]]))
    asked = unit([[1, 0.1, 0], [1, 0.9, 0], [0, 0, 1], [1, 0.6, 0]])
    assert domains.nearest(asked).tolist() == [0, 1, -1, 0]
    assert [domains.know(family).tolist() for family in (0, 1)] == [[True, True], [True, False]]


def test_clusters_too_small_to_train_serve_nothing() -> None:
    vectors = np.concatenate([around(0, 30), around(1, 23)])
    labels = np.repeat([0, 1], [30, 23])
    domains = found_domains(vectors, labels, 0.5, around(2, 100))
    assert domains.taught.tolist() == [[30, 0]]
    assert (domains.nearest(around(0, 50, 7)) == 0).mean() > 0.9
    assert set(domains.nearest(np.concatenate([around(1, 50, 7), around(2, 50, 7)]))) == {-1}
    with pytest.raises(InvalidRequest, match=r"^23 items of feedback make no cluster of at least 24$"):
        found_domains(vectors[30:], labels[30:], 0.5, around(2, 100))


def test_families_reach_what_they_taught_and_the_base_models_tasks_reach_nothing() -> None:
    found = evaluate_routing(SHIPPED, [NEAR, FAR], items=48, unseen=20, base=40)
    assert found["base_misrouted"] == {"n": 40, "rate": 0.0}
    assert found["shared_domains"] == 0
    near = found["families"]["triangular"]
    assert near == {"domains": 1, "largest": 1.0, "routed": 1.0, "misrouted": 0.0, "base": 0.0}
    far = found["families"]["trees"]
    assert far["misrouted"] == 0.0
    assert far["routed"] + far["base"] == pytest.approx(1.0)


def test_a_model_without_a_kit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        evaluate_routing(tmp_path, [NEAR])
    assert (caught.value.detail, caught.value.hint) == (
        f"{tmp_path.name} has no kit",
        "make it with `perfuse train kit`",
    )


def test_the_command_prints_json(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    monkeypatch.setattr(
        "perfuse.evaluation.routing.evaluate_routing",
        lambda folder, families, **rest: given.append((folder.name, [f.name for f in families], rest)) or {"reach": 1},
    )
    said = CliRunner().invoke(app, ["eval", "routing", "--json", "--families", "trees,gaps", "--items", "5"]).stdout
    assert json.loads(said) == {"reach": 1}
    assert given == [("code-small", ["trees", "gaps"], {"items": 5, "unseen": 200, "seed": 0})]
