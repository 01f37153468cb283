"""Opens what the learning side owns: the store with all its tables, and the blobs beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from perfuse.errors import ConfigError
from perfuse.evolution.tally import Tally
from perfuse.store import Store
from perfuse.store.blobs import FOLDER, Blobs
from perfuse.store.learning import EMBEDDERS, TABLES, Embedder, domains, memories


@dataclass(frozen=True, slots=True)
class Learned:
    """The owner's store with the blobs beside it, and what this process has done with it."""

    store: Store
    blobs: Blobs
    tally: Tally = field(default_factory=Tally, compare=False)

    @classmethod
    def open(cls, path: Path, embedder: Embedder) -> Self:
        """Open or create what lies in the folder `path`, ready for vectors of `embedder` and of all before it.

        A store that is mostly dead rows is compacted.

        Raises:
            ConfigError: the embedder made vectors of another width before.
            StoreLocked, StoreCorrupt, StoreError: as `Store`.
        """
        with Store(path, TABLES) as store:
            if store.compaction_due():
                store.compact()
            known = {there.hash: there.width for there in EMBEDDERS.scan(store.snapshot())}
            if known.setdefault(embedder.hash, embedder.width) != embedder.width:
                raise ConfigError(
                    f"embedder {embedder.hash} made vectors of width {known[embedder.hash]}; now {embedder.width} came"
                )
            if EMBEDDERS.get(store.snapshot(), embedder.hash) is None:
                store.commit([EMBEDDERS.put(embedder)])
        widths = sorted(set(known.values()))
        vectors = [table.spec for width in widths for table in (domains(width), memories(width))]
        return cls(Store(path, [*TABLES, *vectors]), Blobs(path / FOLDER))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.store.close()
