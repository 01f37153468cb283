"""What learning costs those who are served: the search for an adaptation, and rows of several in one batch."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from perfuse.adaptation.embedding import Encoder
from perfuse.adaptation.residency import Residency
from perfuse.adaptation.router import Router
from perfuse.adaptation.whitening import Vectors, Whitening, unit
from perfuse.models.call import Call
from perfuse.models.lora import Adaptation, fresh
from perfuse.models.precision import pick_dtype
from perfuse.models.text import LoadedText, load_text
from perfuse.pipelines.shipped import SHIPPED
from perfuse.store.blobs import FOLDER, Blobs
from perfuse.store.learning import TABLES, Domain, Embedder, domains
from perfuse.store.store import Store, StoreReader

_TENANT = "bench"
_COMMIT = 2000
"""Rows of one commit."""


@dataclass(frozen=True, slots=True)
class RoutingBench:
    """Milliseconds on the compute thread, median and 99th percentile.

    Attributes:
        first: once, when an engine first meets the domains.
        unrelated: per request, to learn that nothing serves the tenant.
        lookup: per commit, to find out which tenants are served.
        search: per request, among all domains of one tenant; `cpu` is without what other processes took.
    """

    domains: int
    first: float
    unrelated_p50: float
    unrelated_p99: float
    lookup_p50: float
    lookup_p99: float
    search_p50: float
    search_p99: float
    search_cpu_p99: float

    def as_dict(self) -> dict[str, float]:
        """The figures by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class AdaptationsBench:
    """Milliseconds of a batch of rows, and how many times the base model's that is.

    Attributes:
        one: all rows carry the same adaptation.
        mixed: the rows carry several.
        embedding: one row more, as each request that may be routed computes.
    """

    rows: int
    adaptations: int
    rank: int
    base: float
    one: float
    mixed: float
    embedding: float
    one_ratio: float
    mixed_ratio: float

    def as_dict(self) -> dict[str, float]:
        """The figures by name."""
        return asdict(self)


def routing(*, count: int = 10_000, requests: int = 1000) -> RoutingBench:
    """Search among `count` domains, exact, with the shipped text model's width."""
    read = load_text(SHIPPED / "code-small", "cpu")
    width = read.config.network.width
    rng = np.random.default_rng(0)
    vectors = unit(rng.normal(size=(count, width)))
    with tempfile.TemporaryDirectory(prefix="perfuse-routing-") as folder:
        path = Path(folder)
        with Store(path, [*TABLES, domains(width).spec]) as store, StoreReader(path) as reader:
            _fill(store, vectors)
            router = _router(read, path, width)
            snapshot = reader.snapshot()
            queries = unit(rng.normal(size=(requests, width)))
            first = _seconds(lambda: router.concerns(snapshot, _TENANT))
            looked = [_seconds(lambda: _router(read, path, width).concerns(snapshot, _TENANT)) for _ in range(100)]
            asked = [_seconds(lambda: router.concerns(snapshot, "another")) for _ in queries]
            searched, computed = [], []
            for query in queries:
                began = time.thread_time()
                searched.append(_seconds(lambda: router.nearest(snapshot, _TENANT, query, _no_draw)))  # noqa: B023
                computed.append(time.thread_time() - began)
    cpu = _quantiles(computed)[1]
    return RoutingBench(count, 1e3 * first, *_quantiles(asked), *_quantiles(looked), *_quantiles(searched), cpu)


def adaptations(
    *, count: int = 4, rows: int = 16, length: int = 96, rank: int = 16, rounds: int = 30
) -> AdaptationsBench:
    """A batch of the shipped text model with no, one and several adaptations, in turn."""
    torch.set_num_threads(1)  # as the engine computes
    read = load_text(SHIPPED / "code-small", "cpu")
    learned = [_learned(read, rank, seed) for seed in range(count)]
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(5, read.config.network.vocabulary, (rows, length), generator=generator)

    def batch(carried: list[Adaptation | None]) -> float:
        calls = [Call(read.network, {"tokens": row}, adaptation=one) for row, one in zip(tokens, carried, strict=True)]
        return _seconds(lambda: read.network.forward(calls))

    embedding = Call(read.network, {"tokens": tokens[0, :32]}, frozenset({"hidden"}))
    base, one, mixed, embedded = [], [], [], []
    for _ in range(rounds + 1):
        base.append(batch([None] * rows))
        one.append(batch([learned[0]] * rows))
        mixed.append(batch([learned[i % count] for i in range(rows)]))
        embedded.append(_seconds(lambda: read.network.forward([embedding])))
    alone, same, several, vector = (1e3 * statistics.median(times[1:]) for times in (base, one, mixed, embedded))
    return AdaptationsBench(
        rows=rows,
        adaptations=count,
        rank=rank,
        base=alone,
        one=same,
        mixed=several,
        embedding=vector,
        one_ratio=same / alone,
        mixed_ratio=several / alone,
    )


def _fill(store: Store, vectors: Vectors) -> None:
    table = domains(vectors.shape[1])
    for start in range(0, len(vectors), _COMMIT):
        rows = [
            Domain(
                id=f"ad_{start + i:032x}",
                tenant=_TENANT,
                cluster=f"c_{start + i}",
                embedder="bench",
                base="bench",
                state="champion",
                radius=0.3,
                centroid=tuple(vector.tolist()),
            )
            for i, vector in enumerate(vectors[start : start + _COMMIT])
        ]
        store.commit([table.put(*rows)])


def _router(read: LoadedText, store: Path, width: int) -> Router:
    plain = Whitening(np.zeros(width, np.float32), np.eye(width, dtype=np.float32))
    encoder = Encoder(read.network, read.tokenizer, plain, Embedder(hash="bench", width=width))
    residency = Residency(Blobs(store / FOLDER), read.config.network, torch.device("cpu"), torch.float32)
    return Router("bench", encoder, residency)


def _learned(read: LoadedText, rank: int, seed: int) -> Adaptation:
    made = fresh(read.config.network, rank, float(rank), torch.Generator().manual_seed(seed), f"{seed}")
    return made.to(torch.device("cpu"), pick_dtype("auto", "cpu"))


def _no_draw(_: str) -> float:
    return 0.0


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _quantiles(seconds: list[float]) -> tuple[float, float]:
    """Median and 99th percentile in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100)
    return 1e3 * cuts[49], 1e3 * cuts[98]
