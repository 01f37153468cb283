"""Sorts what was taken in: embeds requests, labels what can be labelled, and finds out what belongs together."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from perfuse.adaptation.whitening import Vectors, unit
from perfuse.evolution.answers import Answerer
from perfuse.evolution.cluster import Cluster, cluster
from perfuse.evolution.curate import Rules, curate
from perfuse.evolution.learned import Learned
from perfuse.store.kit import Kit
from perfuse.store.learning import FEEDBACK, REVOCATIONS, Feedback

WIDE_REACH = 0.9
"""Cosine distance within which scattered requests are gathered: of 96 items of two families that scatter most, routing
of unseen ones rose from 0.53 to 1.00 and from 0.28 to 0.62, of base tasks it stayed at 0.004 at most."""


class Sorting:
    """Brings the rows of the feedback table up to date.

    Args:
        learned: the store.
        answerer: embeds prompts.
        kit: of the base model; vectors of another embedder are made anew.
        rules: of curation.
        least: members from which on a cluster can be trained; smaller ones are gathered.
    """

    def __init__(
        self, learned: Learned, answerer: Answerer, kit: Kit, rules: Rules | None = None, least: int = 24
    ) -> None:
        self._learned = learned
        self._answerer = answerer
        self._kit = kit
        self._rules = rules
        self._least = least

    async def sort(self) -> int:
        """Curate, and embed and cluster what counts; gives the number of rows that changed.

        What is put aside takes no engine's time and moves no cluster; it is embedded once it counts.

        Raises:
            PerfuseError: an engine cannot embed.
        """
        snapshot = self._learned.store.snapshot()
        before = {row.id: row for row in await asyncio.to_thread(FEEDBACK.scan, snapshot)}
        revocations = await asyncio.to_thread(REVOCATIONS.scan, snapshot)
        labelled = (await asyncio.to_thread(curate, before.values(), self._rules, revocations)).rows
        counting = await self._embed([row for row in labelled if row.state == "curated"])
        aside = [row for row in labelled if row.state != "curated"]
        sorted_rows = await asyncio.to_thread(_clustered, counting, self._kit.reach, self._least)
        changed = [row for row in (*sorted_rows, *aside) if row != before[row.id]]
        if changed:
            await asyncio.to_thread(self._write, changed)
        return len(changed)

    async def _embed(self, rows: Sequence[Feedback]) -> list[Feedback]:
        """The rows with vectors of the present embedder; those of another one lose their cluster with their vector."""
        here = self._kit.embedder.hash
        stale = [row for row in rows if row.embedder != here]
        prompts = list(dict.fromkeys(row.prompt for row in stale))
        vectors = dict(zip(prompts, await self._answerer.embed(prompts), strict=True))
        made = {row.id: replace(row, embedder=here, embedding=vectors[row.prompt], cluster="") for row in stale}
        return [made.get(row.id, row) for row in rows]

    def _write(self, changed: Sequence[Feedback]) -> None:
        """Rows that a revocation has removed meanwhile stay away."""
        snapshot = self._learned.store.snapshot()
        there = [row for row in changed if FEEDBACK.get(snapshot, row.id) is not None]
        if there:
            self._learned.store.commit([FEEDBACK.put(*there)])


def vectors_of(rows: Sequence[Feedback]) -> Vectors:
    """Embeddings of embedded rows, `[n, width]`."""
    return np.stack([np.frombuffer(row.embedding, dtype="<f4") for row in rows])


def centroid_of(vectors: Vectors) -> Vectors:
    """The mean direction of `[n, width]` vectors of length 1."""
    centre: Vectors = unit(vectors.mean(axis=0))[0]
    return centre


def _clustered(rows: Sequence[Feedback], reach: float, least: int) -> list[Feedback]:
    """Tenants apart: what one sends never moves what another finds."""
    tenants: dict[str, list[Feedback]] = defaultdict(list)
    for row in rows:
        tenants[row.tenant].append(row)
    names: dict[str, str] = {}
    for every in tenants.values():
        names |= _names(every, reach)
        names |= _gathered([replace(row, cluster=names.get(row.id, row.cluster)) for row in every], least)
    return [replace(row, cluster=names.get(row.id, row.cluster)) for row in rows]


def _names(rows: Sequence[Feedback], reach: float) -> Mapping[str, str]:
    """Clusters of the rows that have none yet."""
    new = [row for row in rows if not row.cluster]
    if not new:
        return {}
    members: dict[str, list[Feedback]] = defaultdict(list)
    for row in rows:
        if row.cluster:
            members[row.cluster].append(row)
    known = [Cluster(name, centroid_of(vectors_of(of)), len(of)) for name, of in sorted(members.items())]
    found = cluster(vectors_of(new), reach, known)
    return {row.id: found.clusters[index].name for row, index in zip(new, found.members, strict=True)}


def _gathered(rows: Sequence[Feedback], least: int) -> Mapping[str, str]:
    """Clusters, wide ones, of the rows whose own are too small to be trained; those that stay too small keep theirs."""
    sizes = Counter(row.cluster for row in rows)
    stray = [row for row in rows if sizes[row.cluster] < least]
    if len(stray) < least:
        return {}
    found = cluster(vectors_of(stray), WIDE_REACH)
    names = [found.clusters[index].name for index in found.members]
    gathered = Counter(names)
    return {row.id: name for row, name in zip(stray, names, strict=True) if gathered[name] >= least}
