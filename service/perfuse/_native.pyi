"""The Rust parts of perfuse."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias, TypedDict, final, type_check_only

import numpy as np
import numpy.typing as npt

@type_check_only
class _ArrowSchema(Protocol):
    def __arrow_c_schema__(self) -> object: ...

@type_check_only
class _ArrowStream(Protocol):
    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...

@type_check_only
class _ArrowArray(Protocol):
    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]: ...

_Key: TypeAlias = str | int | bytes
_Keys: TypeAlias = Iterable[str] | Iterable[int] | Iterable[bytes]
_Value: TypeAlias = bool | int | float | str | bytes | None
_Rows: TypeAlias = _ArrowStream | _ArrowArray
_Vectors: TypeAlias = _ArrowStream | _ArrowArray | npt.NDArray[np.float32]
_Metric: TypeAlias = Literal["cosine", "inner_product", "l2"]
_Path: TypeAlias = tuple[list[int], list[float], list[float]]
_Change: TypeAlias = tuple[Literal["put"], str, _Rows] | tuple[Literal["delete"], str, _Keys]

@type_check_only
class _TableStats(TypedDict):
    rows: int
    versions: int
    fingerprint: str
    schema_version: int

@type_check_only
class _Stats(TypedDict):
    path: str
    store: str
    epoch: int
    lsn: int
    manifest: int
    segment_bytes: int
    log_bytes: int
    live_bytes: int
    tables: dict[str, _TableStats]

@type_check_only
class _Compacted(TypedDict):
    manifest: int
    lsn: int
    rows: int
    before: int
    after: int

@type_check_only
class _Verified(TypedDict):
    segments: int
    segment_bytes: int
    records: int
    bytes: int
    lsn: int

@type_check_only
class _Repaired(TypedDict):
    kept: int
    acknowledged: int
    aside: str | None

__all__ = [
    "ArrowStorage",
    "Rows",
    "Snapshot",
    "Structure",
    "VectorSearch",
    "Vocabulary",
    "__version__",
    "confine",
    "jail_support",
    "schema_fingerprint",
]

__version__: str

def schema_fingerprint(
    schema: _ArrowSchema, key: str, vector: str | None = None, metric: _Metric = "cosine"
) -> str: ...
def jail_support() -> tuple[int | None, bool]: ...
def confine(
    *,
    readable: Sequence[str | PathLike[str]],
    hidden: Sequence[str | PathLike[str]],
    writable: str | PathLike[str] | None,
    memory_bytes: int,
    cpu_seconds: int,
    file_bytes: int,
    open_files: int,
    threads: int,
    keep: Sequence[int],
    parent: int,
    programs: Sequence[str | PathLike[str]] = ...,
    processes: int = 0,
) -> dict[str, int]: ...

@final
class Rows:
    def __len__(self) -> int: ...
    def __arrow_c_schema__(self) -> object: ...
    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...

@final
class Snapshot:
    @property
    def lsn(self) -> int: ...
    def tables(self) -> list[str]: ...
    def fingerprint(self, table: str) -> str: ...
    def count(self, table: str) -> int: ...
    def get(self, table: str, key: _Key) -> Rows | None: ...
    def generation(self, table: str, key: _Key) -> int: ...
    def scan(
        self,
        table: str,
        filter: Mapping[str, _Value] | None = None,  # noqa: A002 (the public name)
        columns: Sequence[str] | None = None,
    ) -> Rows: ...
    def search(
        self,
        table: str,
        queries: _Vectors,
        k: int,
        where: Mapping[str, _Value] | None = None,
        columns: Sequence[str] | None = None,
    ) -> Rows: ...

@final
class ArrowStorage:
    @staticmethod
    def open(path: str | PathLike[str], mode: Literal["owner", "reader"] = "owner") -> ArrowStorage: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None: ...
    @property
    def lsn(self) -> int: ...
    def create_table(
        self, name: str, schema: _ArrowSchema, key: str, vector: str | None = None, metric: _Metric = "cosine"
    ) -> int: ...
    def evolve_table(
        self, name: str, schema: _ArrowSchema, key: str, vector: str | None = None, metric: _Metric = "cosine"
    ) -> int: ...
    def put(self, table: str, rows: _Rows) -> int: ...
    def delete(self, table: str, keys: _Keys) -> int: ...
    def commit(self, changes: Sequence[_Change]) -> int: ...
    def compare_and_swap(self, table: str, key: _Key, generation: int, row: _Rows) -> int | None: ...
    def refresh(self) -> int: ...
    def snapshot(self) -> Snapshot: ...
    def get(self, table: str, key: _Key) -> Rows | None: ...
    def scan(
        self,
        table: str,
        filter: Mapping[str, _Value] | None = None,  # noqa: A002 (the public name)
        columns: Sequence[str] | None = None,
    ) -> Rows: ...
    def search(
        self,
        table: str,
        queries: _Vectors,
        k: int,
        where: Mapping[str, _Value] | None = None,
        columns: Sequence[str] | None = None,
    ) -> Rows: ...
    def compact(self) -> _Compacted: ...
    def compaction_due(self) -> bool: ...
    def verify(self) -> _Verified: ...
    def backup(self, target: str | PathLike[str]) -> _Verified: ...
    @staticmethod
    def repair(path: str | PathLike[str]) -> _Repaired | None: ...
    def stats(self) -> _Stats: ...

@final
class VectorSearch:
    def __new__(cls, vectors: _Vectors, metric: _Metric = "cosine") -> Self: ...
    def __len__(self) -> int: ...
    def search(self, queries: _Vectors, k: int, threads: int = 1) -> Rows: ...

@final
class Vocabulary:
    def __new__(cls, tokens: Sequence[bytes], end: int) -> Self: ...
    def __len__(self) -> int: ...

@final
class Structure:
    @staticmethod
    def of_schema(schema: str, vocabulary: Vocabulary) -> Structure: ...
    @staticmethod
    def of_regex(pattern: str, vocabulary: Vocabulary) -> Structure: ...
    @property
    def states(self) -> int: ...
    @property
    def needed(self) -> int: ...
    def accepts(self, text: bytes) -> bool: ...
    def best(
        self,
        tokens: Sequence[int],
        open: int,  # noqa: A002 (what it is)
        first: int,
        scores: npt.NDArray[np.float32],
    ) -> _Path: ...
    def draw(
        self,
        tokens: Sequence[int],
        open: int,  # noqa: A002 (what it is)
        first: int,
        scores: npt.NDArray[np.float32],
        uniforms: Sequence[float],
    ) -> _Path: ...
