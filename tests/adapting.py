"""A small text model that has learned: a store with adaptations of it, each for the prompts around one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from perfuse.adaptation.embedding import Encoder
from perfuse.adaptation.residency import Residency
from perfuse.adaptation.router import Router
from perfuse.adaptation.whitening import Vectors, Whitening
from perfuse.models.lora import fresh, to_bytes
from perfuse.models.text import LoadedText, TextConfig, TextNetwork, untrained_text
from perfuse.models.tokenizer import TextTokenizer
from perfuse.models.unified import DiffusionConfig
from perfuse.pipelines.alone import AloneRun, run_alone
from perfuse.pipelines.contract import Pipeline
from perfuse.pipelines.text import TextModel, TextPipeline
from perfuse.requests import Attribution, Request, TextRequest, TextResult
from perfuse.store.blobs import FOLDER, Blobs
from perfuse.store.learning import (
    ADAPTATIONS,
    ALIASES,
    TABLES,
    Adaptation,
    AdaptationState,
    Alias,
    Domain,
    Embedder,
    adaptation_id,
    alias_key,
    domains,
)
from perfuse.store.store import Change, Snapshot, Store, StoreReader

WIDTH = 16
WORDS = ("double", "every", "value", "of", "a", "list", "sum", "keep", "reverse", "words", "tree", "count", "sort")
RADIUS = 0.05


def phrases(count: int, seed: int = 0) -> list[str]:
    """Different prompts."""
    rng = np.random.default_rng(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(rng.choice(WORDS, size=int(rng.integers(2, 9))))] = None
    return list(found)


def tiny_text() -> LoadedText:
    tokenizer = TextTokenizer.train([" ".join(WORDS)] * 4, 300)
    network = DiffusionConfig(tokenizer.size, width=WIDTH, layers=2, heads=2, condition=8, max_length=128)
    config = TextConfig("tiny", 1, network, limit=128, length=8, tokenizer="", training={})
    read = untrained_text(config, tokenizer)
    assert isinstance(read.network, TextNetwork)
    read.network._network.float().text.freeze()  # the same numbers on every machine
    return read


def encoder_of(read: LoadedText) -> Encoder:
    raw = Encoder(read.network, read.tokenizer, _plain(), Embedder(hash="e", width=WIDTH))
    return replace(raw, whitening=Whitening.of([vector_of(raw, prompt) for prompt in phrases(80, seed=9)]))


def _plain() -> Whitening:
    return Whitening(np.zeros(WIDTH, np.float32), np.eye(WIDTH, dtype=np.float32))


def vector_of(encoder: Encoder, prompt: str) -> Vectors:
    call = encoder.call(prompt)
    (output,) = encoder.network.forward([call])
    return encoder.vector(call, output)


@dataclass
class World:
    """A store's owner, a reader of it, and the pipeline of a model that follows the reader.

    Attributes:
        taught: how many adaptations there are.
    """

    folder: Path
    base: str = "base"
    read: LoadedText = field(default_factory=tiny_text)
    taught: int = 0

    def __post_init__(self) -> None:
        self.owner = Store(self.folder)
        self.blobs = Blobs(self.folder / FOLDER)
        self.encoder = encoder_of(self.read)
        self.residency = Residency(self.blobs, self.read.config.network, torch.device("cpu"), torch.float32)
        self.router = Router(self.base, self.encoder, self.residency)
        self.reader = StoreReader(self.folder)

    def close(self) -> None:
        self.reader.close()
        self.owner.close()

    def model(self, *, learns: bool = True) -> TextModel:
        limits = {"limit": self.read.config.limit, "length": self.read.config.length}
        return TextModel(
            self.read.network, self.read.tokenizer, **limits, router=self.router if learns else None
        )  # fmt: skip

    def pipeline(self, *, learns: bool = True) -> TextPipeline:
        return TextPipeline({"tiny": self.model(learns=learns)})

    def open_tables(self) -> None:
        """What the evolution worker does when it starts."""
        self.owner.close()
        self.owner = Store(self.folder, [*TABLES, domains(WIDTH).spec])

    def teach(
        self,
        prompt: str,
        *,
        tenant: str = "t",
        cluster: str | None = None,
        state: AdaptationState = "champion",
        share: float = 0.5,
        radius: float = RADIUS,
        blob: bytes | None = None,
        **changes: object,
    ) -> Adaptation:
        """An adaptation for what is like `prompt`, served if it is a champion or a canary."""
        self.taught += 1
        data = adaptation_bytes(self.read, self.taught) if blob is None else blob
        cluster = f"c{self.taught}" if cluster is None else cluster
        name = self.blobs.put(data)
        centroid = tuple(float(x) for x in vector_of(self.encoder, prompt))
        record = Adaptation(
            id=adaptation_id(tenant, cluster, f"d{self.taught}", name), tenant=tenant, cluster=cluster, kind="lora",
            blob=name, parent=None, base=self.base, embedder="e", dataset=f"d{self.taught}", feedback=("f",),
            sources=("s",), seed=0, config="{}", report='{"gain": 0.25}', state=state, reason="", centroid=centroid,
            radius=radius, created=1.0, changed=1.0,
        )  # fmt: skip
        record = replace(record, **changes)  # type: ignore[arg-type]
        steps: list[Change] = [ADAPTATIONS.put(record)]
        if state in ("champion", "canary"):
            steps.append(domains(WIDTH).put(domain_of(record)))
            steps.append(ALIASES.put(self._alias(record, share)))
        self.owner.commit(steps)
        return record

    def _alias(self, record: Adaptation, share: float) -> Alias:
        key = alias_key(record.tenant, record.cluster)
        there = ALIASES.get(self.owner.snapshot(), key) or Alias(key=key, tenant=record.tenant, cluster=record.cluster)
        if record.state == "canary":
            return replace(there, canary=record.id, share=share)
        return replace(there, champion=record.id)

    def vector(self, prompt: str) -> Vectors:
        return vector_of(self.encoder, prompt)

    def snapshot(self) -> Snapshot:
        return self.reader.snapshot()

    def ask(self, request: TextRequest, *, tenant: str = "t", learns: bool = True) -> TextResult:
        result = self.run(self.pipeline(learns=learns), request, tenant=tenant)[0]
        assert isinstance(result, TextResult)
        return result

    def run(self, pipeline: Pipeline, request: Request, *, tenant: str = "t") -> tuple[object, AloneRun]:
        run = AloneRun(request.seed, tenant=tenant, reproducible=request.reproducible, snapshot=self.snapshot())
        return run_alone(pipeline, request, run=run), run


def domain_of(record: Adaptation) -> Domain:
    return Domain(
        id=record.id, tenant=record.tenant, cluster=record.cluster, embedder=record.embedder, base=record.base,
        state=record.state, radius=record.radius, centroid=record.centroid,
    )  # fmt: skip


def adaptation_bytes(read: LoadedText, seed: int, *, strength: float = 0.5) -> bytes:
    """An adaptation that changes every answer."""
    generator = torch.Generator().manual_seed(seed)
    made = fresh(read.config.network, 2, 2.0, generator)
    blocks = tuple(
        {name: (a, torch.randn(b.shape, generator=generator) * strength) for name, (a, b) in block.items()}
        for block in made.blocks
    )
    return to_bytes(replace(made, blocks=blocks))


def by(record: Adaptation, distance: float | None) -> Attribution:
    return Attribution(
        id=record.id, cluster=record.cluster, state=record.state, distance=distance, weight=1.0, gain=0.25,
        dataset=record.dataset,
    )  # fmt: skip
