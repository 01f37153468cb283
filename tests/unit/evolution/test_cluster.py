"""Clusters of mixtures are found again, whatever the order; radii hold for members and keep others out."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfuse.adaptation.whitening import Vectors, Whitening, reach_of, unit
from perfuse.errors import InvalidRequest
from perfuse.evolution.cluster import assign, cluster, radius

WIDTH = 24
REACH = 0.25


def mixture(seed: int, sizes: list[int], spread: float = 0.08) -> tuple[Vectors, np.ndarray]:
    """Vectors around directions that are orthogonal to each other, in random order, and the direction of each."""
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0][: len(sizes)]
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rng.shuffle(labels)
    return unit(directions[labels] + spread * rng.normal(size=(len(labels), WIDTH))), labels


def same_partition(found: np.ndarray, labels: np.ndarray) -> bool:
    pairs = {(int(a), int(b)) for a, b in zip(found, labels, strict=True)}
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


@given(st.integers(0, 999), st.lists(st.integers(4, 40), min_size=1, max_size=6))
def test_a_mixture_is_taken_apart(seed: int, sizes: list[int]) -> None:
    vectors, labels = mixture(seed, sizes)
    found = cluster(vectors, REACH)
    assert same_partition(found.members, labels)
    assert sorted(c.size for c in found.clusters) == sorted(sizes)
    assert all(np.linalg.norm(c.centroid) == pytest.approx(1, abs=1e-5) for c in found.clusters)


@given(st.integers(0, 999), st.integers(0, 999))
def test_the_order_of_arrival_does_not_matter(seed: int, shuffle: int) -> None:
    vectors, _ = mixture(seed, [20, 9, 3], spread=0.2)
    order = np.random.default_rng(shuffle).permutation(len(vectors))
    one, other = cluster(vectors, 0.4), cluster(vectors[order], 0.4)
    assert [c.name for c in one.clusters] == [c.name for c in other.clusters]
    assert (one.members[order] == other.members).all()


@given(st.integers(0, 999), st.floats(0.01, 1.5), st.floats(0.02, 1.0))
def test_every_vector_belongs_to_the_nearest_centroid_and_no_cluster_is_empty(
    seed: int, reach: float, spread: float
) -> None:
    vectors, _ = mixture(seed, [15, 10, 5], spread)
    found = cluster(vectors, reach)
    assert sum(c.size for c in found.clusters) == len(vectors)
    assert set(found.members) == set(range(len(found.clusters)))
    assert len({c.name for c in found.clusters}) == len(found.clusters)


def test_clusters_keep_their_names_while_they_grow_and_new_ones_come_behind() -> None:
    vectors, labels = mixture(3, [30, 30, 30])
    first = cluster(vectors[labels < 2], REACH)
    grown = cluster(vectors, REACH, first.clusters)
    assert [c.name for c in grown.clusters[:2]] == [c.name for c in first.clusters]
    assert [c.size for c in grown.clusters] == [60, 60, 30]
    assert same_partition(grown.members, labels)


def test_batch_by_batch_comes_to_the_same_partition_as_at_once() -> None:
    vectors, labels = mixture(5, [40, 40, 40])
    known = cluster(vectors[:30], REACH).clusters
    for start, stop in pairwise([30, 60, 90, 120]):
        known = cluster(vectors[start:stop], REACH, known).clusters
    assert same_partition(assign(vectors, known)[0], labels)
    assert sum(c.size for c in known) == 120


def test_a_known_cluster_that_nothing_joins_stays_as_it_is() -> None:
    vectors, labels = mixture(7, [10, 10])
    known = cluster(vectors[labels == 0], REACH).clusters
    found = cluster(vectors[labels == 1], REACH, known)
    assert found.clusters[0].size == 10
    assert found.clusters[0].centroid == pytest.approx(known[0].centroid, abs=1e-6)
    assert set(found.members) == {1}


def test_no_vectors_make_no_clusters() -> None:
    found = cluster(np.zeros((0, WIDTH), np.float32), REACH)
    assert (found.clusters, len(found.members)) == ((), 0)


def test_many_vectors_are_compared_in_pieces() -> None:
    vectors, labels = mixture(9, [1200, 900])
    assert same_partition(cluster(vectors, REACH).members, labels)


def test_without_clusters_everything_is_infinitely_far() -> None:
    nearest, distance = assign(unit([[1.0, 0.0]]), ())
    assert (nearest.tolist(), distance.tolist()) == ([0], [np.inf])


@pytest.mark.parametrize("row", [[0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_vectors_without_a_direction_are_refused(row: list[float]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        unit([[1.0, 0.0], row])
    assert refused.value.detail == "expected finite vectors other than zero; row 1 is not"


@given(st.integers(0, 999), st.floats(0.05, 1.0))
def test_the_radius_holds_the_share_of_members_that_it_names(seed: int, share: float) -> None:
    vectors, _ = mixture(seed, [37])
    centre = cluster(vectors, REACH).clusters[0].centroid
    inside = 1 - vectors @ centre <= radius(vectors, centre, share=share)
    assert share <= inside.mean() < share + 1 / 37 + 1e-9


@given(st.integers(0, 999), st.floats(0, 1))
def test_the_radius_lets_in_no_more_outsiders_than_allowed(seed: int, leak: float) -> None:
    vectors, labels = mixture(seed, [30, 50], spread=0.6)
    members, others = vectors[labels == 0], vectors[labels == 1]
    centre = unit(members.mean(axis=0))[0]
    bound = radius(members, centre, outsiders=others, leak=leak)
    assert (1 - others @ centre <= bound).mean() <= leak or leak == 1


def test_the_radius_lies_in_the_middle_between_members_and_outsiders() -> None:
    centre = unit([[1.0, 0.0]])[0]
    members, others = unit([[1.0, 0.1], [1.0, 0.2]]), unit([[1.0, 1.0], [0.0, 1.0]])
    end, beginning = 1 - members[1] @ centre, 1 - others[0] @ centre
    assert radius(members, centre, share=1.0, outsiders=others) == pytest.approx((end + beginning) / 2, abs=1e-6)
    assert radius(others, centre, share=1.0, outsiders=members, leak=0.5) == pytest.approx(end, abs=1e-6)


def test_neighbours_draw_the_radius_in_but_never_into_the_members() -> None:
    centre = unit([[1.0, 0.0]])[0]
    members, others = unit([[1.0, 0.1], [1.0, 0.2]]), unit([[0.0, 1.0]])
    end = 1 - members[1] @ centre

    def bound(neighbours: list[list[float]]) -> float:
        return radius(members, centre, share=1.0, outsiders=others, leak=0.0, neighbours=unit(neighbours))

    between = 1 - unit([[1.0, 0.6]])[0] @ centre
    assert bound([[1.0, 0.6], [1.0, 0.9]]) == pytest.approx((end + between) / 2, abs=1e-6)
    assert bound([[1.0, 0.05]]) == pytest.approx(end, abs=1e-6)
    assert bound([[-1.0, 0.0]]) == radius(members, centre, share=1.0, outsiders=others, leak=0.0)


def test_whitening_gives_the_reference_one_variance_in_all_directions() -> None:
    rng = np.random.default_rng(2)
    reference = rng.normal(size=(4000, 6)) @ rng.normal(size=(6, 6)) + 5
    white = Whitening.of(reference, shrink=0.0)
    covariance = np.cov((reference - white.mean) @ white.matrix, rowvar=False)
    assert covariance == pytest.approx(np.eye(6), abs=1e-3)
    assert np.linalg.norm(white.unit(reference[:9]), axis=1) == pytest.approx(np.ones(9), abs=1e-5)


def test_a_small_new_direction_stands_out_after_whitening() -> None:
    rng = np.random.default_rng(4)
    loud = np.diag([5.0] * 4 + [0.1] * 20)
    reference, shifted = (rng.normal(size=(300, WIDTH)) @ loud + 3 for _ in range(2))
    shifted[:, -1] += 1.0
    white = Whitening.of(reference)
    assert len(cluster(unit(shifted), reach_of(unit(reference))).clusters) > 3
    ours, others = white.unit(shifted), white.unit(reference)
    centre = unit(ours.mean(axis=0))[0]
    bound = radius(ours[:200], centre, outsiders=others)
    assert (1 - ours[200:] @ centre <= bound).mean() > 0.9
    assert (1 - others @ centre <= bound).mean() <= 0.01


def test_without_outsiders_only_the_members_count() -> None:
    vectors, _ = mixture(1, [20])
    centre = vectors[0]
    assert radius(vectors, centre, outsiders=vectors[:0]) == radius(vectors, centre)


def test_the_reach_is_nearer_than_chance_brings_unrelated_requests() -> None:
    rng = np.random.default_rng(0)
    crowded = unit(rng.normal(size=(200, WIDTH)) + 4)  # all in one cone, as embeddings of one model are
    reach = reach_of(crowded, 0.05)
    distances = (1 - crowded @ crowded.T)[np.triu_indices(200, k=1)]
    assert (distances <= reach).mean() == pytest.approx(0.05, abs=1e-3)
    assert reach < 0.2
