"""Which feedback belongs together: clusters of embeddings on the unit sphere, their centroids and radii.

Greedy leader clustering (Hartigan, Clustering Algorithms, 1975, §3.2): a vector joins the nearest centroid if that is
near enough, else it founds a cluster. It needs one pass, no number of clusters, and takes new vectors without moving
old ones. Distances are cosine distances, 1 - x·y, as in the store's search.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from perfuse.adaptation.whitening import Vectors

_ROUNDS = 4
_CHUNK = 1024
_ROUNDING = 1e-6
"""A vector of length 1 may be this far from itself."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Vectors that belong together.

    Args:
        name: stays the same while the cluster grows.
        centroid: `[width]`, of length 1.
        size: how many vectors it stands for.
    """

    name: str
    centroid: Vectors
    size: int


@dataclass(frozen=True, slots=True)
class Clustering:
    """The clusters, the known ones first, and for each vector the index of its own."""

    clusters: tuple[Cluster, ...]
    members: npt.NDArray[np.int64]


def cluster(vectors: Vectors, reach: float, known: Sequence[Cluster] = ()) -> Clustering:
    """Sort vectors into the known clusters and new ones; the order of arrival does not matter.

    What no known centroid has within `reach` founds clusters: the vector that has most others within reach is the
    first, what it reaches goes with it, and so on. New centroids are then moved to the mean of the vectors nearest to
    them a few times, as in k-means. Known centroids stand for `size` vectors already and move by what they gain.

    Args:
        vectors: `[n, width]`, of length 1.
        reach: largest cosine distance at which vectors belong together.
        known: clusters found before.
    """
    order = np.lexsort(vectors.T)
    rows = vectors[order]
    _, distance = assign(rows, known)
    new = _founded(rows[distance > reach], reach)
    nearest, _ = assign(rows, [*known, *new])
    for _ in range(_ROUNDS):
        new = [_joined(replace(c, size=0), rows[nearest == i]) for i, c in enumerate(new, len(known)) if i in nearest]
        before, (nearest, _) = nearest, assign(rows, [*known, *new])
        if np.array_equal(before, nearest):
            break
    grown = [_joined(c, rows[nearest == i]) for i, c in enumerate(known)]
    grown += [replace(c, size=int((nearest == i).sum())) for i, c in enumerate(new, len(known))]
    members = np.empty(len(rows), np.int64)
    members[order] = nearest
    return Clustering(tuple(grown), members)


def radius(
    vectors: Vectors,
    centroid: Vectors,
    *,
    share: float = 0.95,
    outsiders: Vectors | None = None,
    leak: float = 0.01,
    neighbours: Vectors | None = None,
) -> float:
    """Cosine distance from `centroid` within which requests belong to its members.

    Alone, the members decide: a `share` of them lies within. With outsiders, at most a share `leak` of these does, and
    where the members end before the outsiders begin, the radius lies in the middle between them. Neighbours draw it
    in to the middle between members and them, but never into the members: clusters of one family may touch.

    Args:
        vectors: `[n, width]`, the members; at least one.
        centroid: `[width]`.
        share: of the members; an order statistic, so it holds on the members exactly.
        outsiders: `[m, width]`, requests that do not belong, such as the base model's own tasks.
        leak: of the outsiders.
        neighbours: `[k, width]`, requests of other clusters, which may be too few to be trained for.
    """
    inside = np.sort(_distances(vectors, centroid))
    end = float(inside[min(math.ceil(share * len(inside)), len(inside)) - 1])
    beginning = _beginning(outsiders, centroid, leak)
    if beginning is None or beginning < end:
        return end if beginning is None else beginning
    nearest = _beginning(neighbours, centroid, leak)
    if nearest is not None:
        beginning = min(beginning, max(nearest, end))
    return (end + beginning) / 2


def _beginning(others: Vectors | None, centroid: Vectors, leak: float) -> float | None:
    """Distance below which a share `leak` of `others` lies; None where there are too few to say."""
    if others is None:
        return None
    outside = np.sort(_distances(others, centroid))
    allowed = math.floor(leak * len(outside))
    return float(np.nextafter(outside[allowed], np.float32(-1))) if allowed < len(outside) else None


def assign(vectors: Vectors, clusters: Sequence[Cluster]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """For each vector the index of the nearest cluster and the cosine distance to it; infinite where there is none."""
    if not clusters:
        return np.zeros(len(vectors), np.int64), np.full(len(vectors), np.inf, np.float32)
    similarity = vectors @ np.stack([c.centroid for c in clusters]).T
    nearest = similarity.argmax(axis=1)
    return nearest, np.float32(1) - similarity[np.arange(len(vectors)), nearest]


def _distances(vectors: Vectors, centroid: Vectors) -> Vectors:
    return np.float32(1) - vectors @ centroid


def _joined(grown: Cluster, gained: Vectors) -> Cluster:
    """The cluster with more vectors: the mean of all, back on the sphere; where they cancel out it stays."""
    total = grown.centroid.astype(np.float64) * grown.size + gained.sum(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(total))
    centroid = (total / length).astype(np.float32) if length > 0 else grown.centroid
    return Cluster(grown.name, centroid, grown.size + len(gained))


def _founded(rows: Vectors, reach: float) -> list[Cluster]:
    """Greedy cover: the row with most others within reach leads them, until none is left."""
    reach = max(reach, _ROUNDING)
    near = _near(rows, rows, reach)
    left = np.ones(len(rows), bool)
    found = []
    while left.any() and near[left].max() > 1:
        leader = rows[np.where(left, near, 0).argmax()]
        gone = left & (_distances(rows, leader) <= reach)
        left &= ~gone
        found.append(_joined(_named(leader), rows[gone]))
        near -= _near(rows, rows[gone], reach)
    return found + [_joined(_named(row), row[np.newaxis]) for row in rows[left]]  # nobody is near these


def _named(leader: Vectors) -> Cluster:
    return Cluster("c_" + sha256(leader.tobytes()).hexdigest()[:16], leader, 0)


def _near(rows: Vectors, others: Vectors, reach: float) -> npt.NDArray[np.int64]:
    """For each row how many of the others lie within reach."""
    counts = [
        (rows[start : start + _CHUNK] @ others.T >= 1 - reach).sum(axis=1) for start in range(0, len(rows), _CHUNK)
    ]
    return np.concatenate(counts) if counts else np.zeros(0, np.int64)
