"""What the base model can do, measured once per model: vectors of its anchors, and how long their answers are.

Half of the anchors is replayed in training, the other half is never shown to a trainer and measures harm.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perfuse.adaptation.whitening import Vectors
from perfuse.evolution.answers import Answerer, Asked, each
from perfuse.store.files import write_whole
from perfuse.store.kit import Anchor, Kit

SCORED = 50
"""Anchors whose tokens are counted for the mean."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The anchors of a base model.

    Attributes:
        replayed: anchors that may be shown to a trainer.
        measured: anchors that may not.
        vectors: `[n, width]`, of `measured`.
        replayed_vectors: `[m, width]`, of `replayed`.
        tokens: that an anchor's answer has in the mean.
    """

    replayed: tuple[Anchor, ...]
    measured: tuple[Anchor, ...]
    vectors: Vectors
    replayed_vectors: Vectors
    tokens: float


async def reference(kit: Kit, answerer: Answerer, folder: Path) -> Reference:
    """The reference of a model; measured once, then read from `folder`.

    Raises:
        CheckpointError: the anchors are damaged.
        PerfuseError: the engines cannot answer.
    """
    anchors = kit.anchors()
    path = folder / f"reference-{kit.embedder.hash[:16]}.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        kept = await _measure(anchors, answerer)
        write_whole(path, json.dumps(kept).encode())
    vectors = np.stack([np.frombuffer(bytes.fromhex(text), dtype="<f4") for text in kept["vectors"]])
    odd = np.arange(len(anchors)) % 2 == 1
    return Reference(
        replayed=tuple(anchors[0::2]),
        measured=tuple(anchors[1::2]),
        vectors=vectors[odd],
        replayed_vectors=vectors[~odd],
        tokens=kept["tokens"],
    )


async def _measure(anchors: Sequence[Anchor], answerer: Answerer) -> dict[str, object]:
    vectors = await answerer.embed([anchor.prompt for anchor in anchors])

    async def tokens(anchor: Anchor) -> int:
        return (await answerer.bits(Asked(anchor.prompt), anchor.code, "none", ""))[1]

    counts = await each(anchors[:SCORED], tokens)
    return {"vectors": [vector.hex() for vector in vectors], "tokens": sum(counts) / len(counts)}
