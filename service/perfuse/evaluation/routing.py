"""`perfuse eval routing`: do requests reach what was learned for their kind, and nothing that was learned for others?

Feedback of several families is clustered as the evolution worker does, a little at a time. Clusters large enough to
train become domains; unseen requests are routed by distance and radius, as in engines. Nothing is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt

from perfuse.adaptation.embedding import read_whitening
from perfuse.adaptation.whitening import Vectors
from perfuse.errors import CheckpointError, InvalidRequest
from perfuse.evolution.cluster import Cluster, cluster, radius
from perfuse.evolution.job import LEAK
from perfuse.evolution.sorting import centroid_of
from perfuse.evolution.trigger import Rules
from perfuse.models.text import load_text
from perfuse.store.kit import read_kit
from perfuse.training.corpus.families import Family, tasks
from perfuse.training.corpus.tasks import held_out_tasks
from perfuse.training.kit import embed

ARRIVING = 8
"""Items that are clustered at once."""
TAUGHT = 0.1
"""Share of a domain's lessons from which on it is said to have been taught a family."""


@dataclass(frozen=True, slots=True)
class Domains:
    """Where something learned would serve.

    Attributes:
        centroids: `[d, width]`, of length 1.
        radii: `[d]`.
        taught: `[d, families]`, lessons by family.
    """

    centroids: Vectors
    radii: Vectors
    taught: npt.NDArray[np.int64]

    def nearest(self, vectors: Vectors) -> npt.NDArray[np.int64]:
        """For each vector `[n, width]` the nearest domain within whose radius it lies; -1: the base model answers."""
        distances = 1 - vectors @ self.centroids.T
        distances[distances > self.radii] = np.inf
        return np.where(np.isfinite(distances.min(axis=1)), distances.argmin(axis=1), -1)

    def know(self, family: int) -> npt.NDArray[np.bool_]:
        """`[d]`, which domains were taught a family."""
        return np.asarray(self.taught[:, family] >= TAUGHT * self.taught.sum(axis=1))


def arrive(vectors: Vectors, reach: float) -> npt.NDArray[np.int64]:
    """Cluster of each vector `[n, width]`, taken in `ARRIVING` at a time."""
    members = np.empty(0, np.int64)
    for start in range(0, len(vectors), ARRIVING):
        known = [
            Cluster(str(i), centroid_of(vectors[:start][members == i]), int((members == i).sum()))
            for i in range(members.max(initial=-1) + 1)
        ]
        found = cluster(vectors[start : start + ARRIVING], reach, known).members
        members = np.unique(np.concatenate([members, found]), return_inverse=True)[1]
    return members


def found_domains(vectors: Vectors, labels: npt.NDArray[np.int64], reach: float, outsiders: Vectors) -> Domains:
    """Domains of feedback `[n, width]` in the order of its arrival; `labels` `[n]` are families.

    Raises:
        InvalidRequest: no cluster is large enough to be trained.
    """
    members = arrive(vectors, reach)
    large = np.flatnonzero(np.bincount(members) >= Rules().items)
    if len(large) == 0:
        raise InvalidRequest(f"{len(vectors)} items of feedback make no cluster of at least {Rules().items}")
    centroids = np.stack([centroid_of(vectors[members == i]) for i in large])
    radii = [
        radius(vectors[members == i], centre, outsiders=outsiders, leak=LEAK, neighbours=vectors[members != i])
        for i, centre in zip(large, centroids, strict=True)
    ]
    taught = [np.bincount(labels[members == i], minlength=int(labels.max()) + 1) for i in large]
    return Domains(centroids, np.asarray(radii, np.float32), np.stack(taught))


def evaluate_routing(
    model: Path, families: Sequence[Family], *, items: int = 96, unseen: int = 200, base: int = 500, seed: int = 0
) -> dict[str, object]:
    """Rates of unseen requests that reach a domain taught their family, another one, or the base model.

    Args:
        model: folder of a text model with a kit.
        families: what feedback is about.
        items: of feedback for each.
        unseen: requests of each.
        base: requests of the base model's own kind; none should be routed.
        seed: of the feedback and the order of its arrival.

    Raises:
        CheckpointError: the model or its kit is missing or damaged.
        InvalidRequest: a family does not have as many tasks, or too few items were asked for to train on.
    """
    if (kit := read_kit(model)) is None:
        raise CheckpointError(f"{model.name} has no kit", hint="make it with `perfuse train kit`")
    loaded, white = load_text(model), read_whitening(model)

    def vectors_of(prompts: Sequence[str]) -> Vectors:
        return white.unit(embed(loaded, prompts))

    shown = [(t.task.prompt, i) for i, family in enumerate(families) for t in tasks(family, "feedback", items, seed)]
    Random(f"routing {seed}").shuffle(shown)
    labels = np.asarray([family for _, family in shown])
    outsiders = vectors_of([anchor.prompt for anchor in kit.anchors()[::2]])
    domains = found_domains(vectors_of([prompt for prompt, _ in shown]), labels, kit.reach, outsiders)
    rows: dict[str, object] = {}
    for i, family in enumerate(families):
        reached = domains.nearest(vectors_of([t.task.prompt for t in tasks(family, "evaluation", unseen)]))
        known = domains.know(i)
        own = known[reached] & (reached >= 0)
        rows[family.name] = {
            "domains": int(known.sum()),
            "largest": round(float(domains.taught[:, i].max()) / items, 4),
            "routed": round(float(own.mean()), 4),
            "misrouted": round(float((~own & (reached >= 0)).mean()), 4),
            "base": round(float((reached < 0).mean()), 4),
        }
    strays = domains.nearest(vectors_of([task.prompt for task in held_out_tasks(base)])) >= 0
    shared = np.sum([domains.know(i) for i in range(len(families))], axis=0) > 1
    return {
        "reach": kit.reach,
        "items": items,
        "unseen": unseen,
        "families": rows,
        "domains": len(domains.radii),
        "shared_domains": int(shared.sum()),
        "base_misrouted": {"n": base, "rate": round(float(strays.mean()), 4)},
    }
