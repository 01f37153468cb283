"""The store as the rest of perfuse sees it: tables go in and come out as pyarrow.

`Store` is the one owner, `StoreReader` any other process, `Snapshot` what both hold at one commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]

from perfuse import _native
from perfuse.errors import InvalidRequest, StoreError
from perfuse.store.tables import TableSpec

Key: TypeAlias = str | int | bytes
Value: TypeAlias = bool | int | float | str | bytes | None
Rows: TypeAlias = pa.Table | pa.RecordBatch

_OTHER_BUILD = "open it with the build that wrote it, or use another data directory"


@dataclass(frozen=True, slots=True)
class Put:
    """Rows that replace those with the same keys."""

    table: TableSpec
    rows: Rows


@dataclass(frozen=True, slots=True)
class Delete:
    """Keys whose rows go; keys without a row are passed over."""

    table: TableSpec
    keys: Sequence[str] | Sequence[int] | Sequence[bytes]


Change: TypeAlias = Put | Delete


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction did: the last commit it wrote down, and bytes of log and segments before and after."""

    lsn: int
    rows: int
    bytes_before: int
    bytes_after: int


class Snapshot:
    """The tables as they were at commit `lsn`, whatever is written afterwards."""

    def __init__(self, native: _native.Snapshot) -> None:
        self._native = native

    @property
    def lsn(self) -> int:
        """Sequence number of the last commit it holds; 0 for an empty store."""
        return self._native.lsn

    def count(self, table: TableSpec) -> int:
        """Number of rows."""
        return self._native.count(table.name)

    def get(self, table: TableSpec, key: Key) -> dict[str, object] | None:
        """The row with `key`, by column, or None."""
        found = self._native.get(table.name, key)
        return None if found is None else _only_row(found)

    def generation(self, table: TableSpec, key: Key) -> int:
        """Sequence number of the commit that wrote the row with `key`; 0 when there is none."""
        return self._native.generation(table.name, key)

    def scan(
        self, table: TableSpec, where: Mapping[str, Value] | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """The rows whose columns equal all values of `where`, in the order they were written."""
        return pa.table(self._native.scan(table.name, where, columns))

    def search(
        self,
        table: TableSpec,
        queries: npt.NDArray[np.float32],
        k: int,
        where: Mapping[str, Value] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """The `k` rows nearest to each query, exact, best first.

        Args:
            table: one with a vector column.
            queries: one vector, or rows of them; float32.
            k: rows per query; fewer come when fewer match.
            where: columns and the values they must equal.
            columns: what to give back of each row; all columns when None.

        Returns:
            `_query` (row of `queries`), `_score` in the terms of the table's metric, then the columns.

        Raises:
            InvalidRequest: a query is not finite, has another width, or no direction (cosine).
        """
        return pa.table(self._native.search(table.name, queries, k, where, columns))


class _Opened:
    """What owner and reader have in common: an open store that `with` closes."""

    def __init__(self, path: Path, mode: Literal["owner", "reader"]) -> None:
        self._native = _native.ArrowStorage.open(path, mode)

    def close(self) -> None:
        """Give the store up (an owner: to another owner); snapshots stay readable."""
        self._native.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class StoreReader(_Opened):
    """Follows a store that another process owns; needs no write permission.

    Raises:
        NotFound: there is no store in `path`.
        StoreError: a table has another definition than its spec.
    """

    def __init__(self, path: Path, tables: Iterable[TableSpec] = ()) -> None:
        super().__init__(path, "reader")
        self._snapshot = Snapshot(self._native.snapshot())
        for spec in tables:
            _check(self._native.snapshot(), spec)

    def snapshot(self) -> Snapshot:
        """The newest commit; the same object, for one memory read, while nothing was committed."""
        if self._native.refresh() != self._snapshot.lsn:
            self._snapshot = Snapshot(self._native.snapshot())
        return self._snapshot


class Store(_Opened):
    """The one owner of a store: what `put` and its like return from is on disk.

    Args:
        path: directory, created when missing.
        tables: created when missing; one that an earlier build made gets the columns that its spec has behind its own.

    Raises:
        StoreLocked: another process owns it.
        StoreCorrupt: what is on disk contradicts its checksums.
        StoreError: a table has another definition than its spec, and not one that it can get.
    """

    def __init__(self, path: Path, tables: Iterable[TableSpec] = ()) -> None:
        super().__init__(path, "owner")
        try:
            for spec in tables:
                self._create(spec)
        except BaseException:
            self._native.close()
            raise

    def _create(self, spec: TableSpec) -> None:
        snapshot = self._native.snapshot()
        if spec.name not in snapshot.tables():
            self._native.create_table(spec.name, spec.schema, spec.key, spec.vector, spec.metric)
        elif snapshot.fingerprint(spec.name) != spec.fingerprint:
            self._evolve(spec)
        _check(self._native.snapshot(), spec)

    def _evolve(self, spec: TableSpec) -> None:
        """Give the table of an earlier build the columns that it lacks."""
        try:
            self._native.evolve_table(spec.name, spec.schema, spec.key, spec.vector, spec.metric)
        except InvalidRequest as error:
            raise StoreError(error.detail, hint=_OTHER_BUILD) from error

    def put(self, table: TableSpec, rows: Rows) -> int:
        """Put rows in place of those with the same keys; durable when the sequence number comes back."""
        return self._native.put(table.name, rows)

    def delete(self, table: TableSpec, keys: Sequence[str] | Sequence[int] | Sequence[bytes]) -> int:
        """Remove the rows of `keys`; durable when the sequence number comes back."""
        return self._native.delete(table.name, keys)

    def commit(self, changes: Sequence[Change]) -> int:
        """Make all changes or none; later ones see earlier ones. Durable when the sequence number comes back."""
        return self._native.commit([_native_change(change) for change in changes])

    def compare_and_swap(self, table: TableSpec, key: Key, generation: int, row: Rows) -> int | None:
        """Put one row if the row with `key` still has `generation` (0: there is none).

        Returns:
            The new generation, or None when the row has another.
        """
        return self._native.compare_and_swap(table.name, key, generation, row)

    def compact(self, *, forget: bool = False) -> Compacted:
        """Write the rows that are there into segments and go on with a log of what was committed meanwhile.

        Rows keep their generations, readers follow, and snapshots stay.

        Args:
            forget: do it twice. The files before are kept for readers that come late until the next compaction, so
                only then no byte of what was replaced or deleted before is in the store's directory.

        Raises:
            StoreFull: there is no room for the segments beside what is there; nothing has changed.
            StoreError: the disk failed; its message says whether the store must be opened again.
        """
        done = self._native.compact()
        before = done["before"]
        if forget:
            done = self._native.compact()
        return Compacted(done["lsn"], done["rows"], before, done["after"])

    def compaction_due(self) -> bool:
        """Whether most of log and segments is not rows that are there, or the log holds more than 2,000 commits."""
        return self._native.compaction_due()

    def snapshot(self) -> Snapshot:
        """The tables as they are now."""
        return Snapshot(self._native.snapshot())


def _native_change(change: Change) -> _native._Change:
    match change:
        case Put(table, rows):
            return ("put", table.name, rows)
        case Delete(table, keys):
            return ("delete", table.name, keys)


def _check(snapshot: _native.Snapshot, spec: TableSpec) -> None:
    if (there := snapshot.fingerprint(spec.name)) != spec.fingerprint:
        raise StoreError(
            f"table {spec.name!r} has another definition: expected fingerprint {spec.fingerprint}, there is {there}",
            hint=_OTHER_BUILD,
        )


def _only_row(rows: _native.Rows) -> dict[str, object]:
    row: dict[str, object] = pa.table(rows).to_pylist()[0]
    return row
