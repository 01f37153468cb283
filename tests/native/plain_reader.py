"""Reads a store with nothing but docs/reference/storage-format.md and an Arrow library: what a stranger could write."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

Rows = dict[object, dict[str, object]]
_BLOCK = 1 << 16


def _table() -> list[int]:
    table = list(range(256))
    for _ in range(8):
        table = [crc >> 1 ^ (0x82F63B78 if crc & 1 else 0) for crc in table]
    return table


_CRC = _table()


def crc32c(data: bytes, start: int = 0) -> int:
    """CRC-32C (Castagnoli), reflected."""
    crc = start ^ 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def padded(length: int) -> int:
    """To a multiple of 8."""
    return -(-length // 8) * 8


def read(store: Path) -> tuple[int, dict[str, Rows]]:
    """The last LSN, and of each table its rows by key, each with its `_generation`."""
    newest = max((int(path.stem) for path in (store / "manifest").glob("*.manifest")), default=0)
    tables: dict[str, Rows] = {}
    schemas: dict[str, pa.Schema] = {}
    last = _manifest(store, newest, tables, schemas) if newest else 0
    for lsn, payload in _records((store / "wal" / f"{newest + 1:020}.wal").read_bytes(), last):
        last = lsn
        for kind, name, body in _changes(payload):
            stream = pa.ipc.open_stream(body)
            if kind in {1, 4}:
                schemas[name] = stream.schema
                empty = dict.fromkeys(stream.schema.names)
                tables[name] = {key: {**empty, **row} for key, row in tables.get(name, {}).items()}
                continue
            for row in stream.read_all().to_pylist():
                if kind == 2:
                    whole = {**dict.fromkeys(schemas[name].names), **row, "_generation": lsn}
                    tables[name][row[_key(schemas[name])]] = whole
                else:
                    tables[name].pop(row["key"], None)
    return last, tables


def _key(schema: pa.Schema) -> str:
    return schema.metadata[b"perfuse.key"].decode()


def _manifest(store: Path, number: int, tables: dict[str, Rows], schemas: dict[str, pa.Schema]) -> int:
    data = (store / "manifest" / f"{number:020}.manifest").read_bytes()
    assert (data[:8], struct.unpack_from("<I", data, len(data) - 8)[0]) == (b"PFSMANIF", crc32c(data[:-8]))
    version, count, _, there, lsn = struct.unpack_from("<II16sQQ", data, 8)
    assert (version, there) == (1, number)
    at = 48
    for index in range(count):
        _, rows, length, size, _ = struct.unpack_from("<QQQII", data, at)
        name = data[at + 32 : at + 32 + size].decode()
        at += 32 + padded(size)
        blocks = -(-length // _BLOCK)
        sums = struct.unpack_from(f"<{blocks}I", data, at)
        at += padded(4 * blocks)
        segment = (store / "seg" / f"{number:020}-{index:04}.arrow").read_bytes()
        assert [crc32c(segment[i * _BLOCK : (i + 1) * _BLOCK]) for i in range(blocks)] == list(sums)
        held = pa.ipc.open_file(segment).read_all()
        schemas[name] = held.schema.remove(len(held.schema) - 1)
        tables[name] = {row[_key(held.schema)]: row for row in held.to_pylist()}
        assert len(tables[name]) == rows
    return lsn


def _records(log: bytes, lsn: int) -> Iterator[tuple[int, bytes]]:
    """LSN and payload of each record until the first that is missing or fails."""
    assert (log[:8], struct.unpack_from("<I", log, 48)[0]) == (b"PFUSEWAL", crc32c(log[:48]))
    seed = crc32c(log[32:40], crc32c(log[16:32]))
    at = 64
    while at + 32 <= len(log):
        length, kind, number, _, checksum = struct.unpack_from("<IIQQI", log, at)
        end = at + 32 + padded(length)
        if kind != 1 or number != lsn + 1 or crc32c(log[at + 32 : end], crc32c(log[at : at + 24], seed)) != checksum:
            return
        lsn = number
        yield lsn, log[at + 32 : at + 32 + length]
        at = end


def _changes(payload: bytes) -> Iterator[tuple[int, str, bytes]]:
    at = 8
    for _ in range(struct.unpack_from("<I", payload)[0]):
        kind, size, length = struct.unpack_from("<B3xIQ", payload, at)
        at += 16
        name = payload[at : at + size].decode()
        at += padded(size)
        yield kind, name, payload[at : at + length]
        at += padded(length)
