"""`perfuse store` on real stores: what it prints, what it says of damage, and its exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from perfuse.cli.app import main
from perfuse.store import Store, TableSpec

SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), ("text", pa.string())])
NOTES = TableSpec("notes", SCHEMA, "id")
GIVE_UP = "restore the store from a copy, or give up these commits with `perfuse store repair`"
NO_SEGMENTS = {"segments": 0, "segment_bytes": 0}
Perfuse = Callable[..., tuple[int, str, str]]


@pytest.fixture
def perfuse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Perfuse:
    """Runs the command line; gives exit code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["perfuse", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return (int(ended.value.code or 0), *capsys.readouterr())

    return run


def rows(*ids: str) -> pa.Table:
    return pa.table({"id": list(ids), "text": ["x" * 40] * len(ids)}, schema=SCHEMA)


def log_of(data: Path) -> Path:
    (log,) = (data / "store" / "wal").iterdir()
    return log


@pytest.fixture
def filled(tmp_path: Path) -> tuple[Path, list[int]]:
    """A data directory whose store has 4 commits, and where each begins and the last one ends."""
    with Store(tmp_path / "store") as store:
        ends = [log_of(tmp_path).stat().st_size]
    with Store(tmp_path / "store", [NOTES]) as store:
        ends.append(log_of(tmp_path).stat().st_size)
        for ids in (["a", "b"], ["c"], ["a"]):
            store.put(NOTES, rows(*ids))
            ends.append(log_of(tmp_path).stat().st_size)
    return tmp_path, ends


def flip(path: Path, byte: int) -> None:
    content = bytearray(path.read_bytes())
    content[byte] ^= 1
    path.write_bytes(content)


def test_an_empty_store(perfuse: Perfuse, tmp_path: Path) -> None:
    Store(tmp_path / "store").close()
    code, out, err = perfuse("store", "stats", "--data-dir", str(tmp_path))
    stats = json.loads(out)
    assert len(bytes.fromhex(stats.pop("store"))) == 16
    assert stats == {"path": str(tmp_path / "store"), "epoch": 1, "lsn": 0, "tables": {}} | {
        "manifest": 0,
        "segment_bytes": 0,
        "log_bytes": 64,
        "live_bytes": 0,
    }
    assert (code, err) == (0, "")
    code, out, err = perfuse("store", "verify", "--data-dir", str(tmp_path))
    assert (code, json.loads(out), err) == (0, NO_SEGMENTS | {"records": 0, "bytes": 64, "lsn": 0}, "")


def test_a_filled_store_counts_rows_that_are_there_and_versions_that_are_kept(
    perfuse: Perfuse, filled: tuple[Path, list[int]]
) -> None:
    data, ends = filled
    code, out, err = perfuse("store", "stats", "--data-dir", str(data))
    stats = json.loads(out)
    assert (code, err) == (0, "")
    assert (stats["epoch"], stats["lsn"], stats["log_bytes"]) == (2, 4, ends[4])
    assert stats["tables"] == {
        "notes": {"rows": 3, "versions": 4, "fingerprint": NOTES.fingerprint, "schema_version": 1}
    }
    code, out, err = perfuse("store", "verify", "--data-dir", str(data))
    assert (code, json.loads(out), err) == (0, NO_SEGMENTS | {"records": 4, "bytes": ends[4], "lsn": 4}, "")


@pytest.mark.parametrize("command", ["stats", "verify"])
def test_json_is_what_is_printed_anyhow(perfuse: Perfuse, filled: tuple[Path, list[int]], command: str) -> None:
    data = str(filled[0])
    assert perfuse("store", command, "--json", "--data-dir", data) == perfuse("store", command, "--data-dir", data)


def test_the_data_directory_may_come_from_the_environment(
    perfuse: Perfuse, filled: tuple[Path, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERFUSE_DATA_DIR", str(filled[0]))
    code, out, _ = perfuse("store", "verify")
    assert (code, json.loads(out)["records"]) == (0, 4)


def test_looking_changes_no_file_and_hinders_no_owner(perfuse: Perfuse, filled: tuple[Path, list[int]]) -> None:
    data, _ = filled
    with Store(data / "store", [NOTES]) as owner:
        files = [path for path in (data / "store").rglob("*") if path.is_file()]
        before = [(path, path.read_bytes(), path.stat().st_mtime_ns) for path in files]
        assert json.loads(perfuse("store", "stats", "--data-dir", str(data))[1])["lsn"] == 4
        assert json.loads(perfuse("store", "verify", "--data-dir", str(data))[1])["lsn"] == 4
        assert [(path, path.read_bytes(), path.stat().st_mtime_ns) for path in files] == before
        owner.put(NOTES, rows("d"))
        assert json.loads(perfuse("store", "stats", "--data-dir", str(data))[1])["tables"]["notes"]["rows"] == 4
        assert json.loads(perfuse("store", "verify", "--data-dir", str(data))[1])["records"] == 5


def test_compact_removes_what_was_replaced(perfuse: Perfuse, filled: tuple[Path, list[int]]) -> None:
    data, ends = filled
    code, out, err = perfuse("store", "compact", "--data-dir", str(data))
    done = json.loads(out)
    after = json.loads(perfuse("store", "stats", "--data-dir", str(data))[1])
    size = after["segment_bytes"] + after["log_bytes"]
    assert (code, err, done) == (0, "", {"lsn": 4, "rows": 3, "bytes_before": ends[4], "bytes_after": size})
    assert (after["manifest"], after["log_bytes"], after["lsn"]) == (2, 64, 4)
    assert after["tables"]["notes"] == {"rows": 3, "versions": 3, "fingerprint": NOTES.fingerprint, "schema_version": 1}
    verified = json.loads(perfuse("store", "verify", "--data-dir", str(data))[1])
    assert verified == {
        "segments": 1,
        "segment_bytes": after["segment_bytes"],
        "records": 0,
        "bytes": 64,
        "lsn": 4,
    }
    segment = data / "store" / "seg" / "00000000000000000002-0000.arrow"
    flip(segment, 70)
    damage = f'bytes 0 to {after["segment_bytes"]} of table "notes" fail their checksum; restore the store from a copy'
    assert perfuse("store", "verify", "--data-dir", str(data)) == (1, "", f"error: {segment}: {damage}\n")


def test_compact_leaves_a_store_that_is_owned_to_its_owner(perfuse: Perfuse, filled: tuple[Path, list[int]]) -> None:
    data, _ = filled
    expected = (
        f"error: the store in {data / 'store'} is owned by process {os.getpid()}\n"
        "hint:  stop the server first: only the owner of a store compacts it\n"
    )
    with Store(data / "store", [NOTES]):
        assert perfuse("store", "compact", "--data-dir", str(data)) == (4, "", expected)


def test_compact_makes_no_store_where_there_is_none(perfuse: Perfuse, tmp_path: Path) -> None:
    assert perfuse("store", "compact", "--data-dir", str(tmp_path)) == (
        2,
        "",
        f"error: there is no store at {tmp_path / 'store'}\nhint:  give the --data-dir of a server\n",
    )
    assert list(tmp_path.iterdir()) == []


def test_a_backup_is_a_store_with_its_blobs(perfuse: Perfuse, filled: tuple[Path, list[int]], tmp_path: Path) -> None:
    data, ends = filled
    blob = data / "store" / "blobs" / "ab" / "abc"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"weights")
    to = tmp_path / "copies" / "one"
    with Store(data / "store", [NOTES]):  # beside its owner
        code, out, err = perfuse("store", "backup", str(to), "--data-dir", str(data))
    assert (code, err, json.loads(out)) == (0, "", {**NO_SEGMENTS, "records": 4, "bytes": ends[4], "lsn": 4})
    assert (to / "store" / "blobs" / "ab" / "abc").read_bytes() == b"weights"
    with Store(to / "store", [NOTES]) as copy:
        assert copy.snapshot().count(NOTES) == 3
    assert perfuse("store", "backup", str(to), "--data-dir", str(data)) == (
        1,
        "",
        f"error: {to / 'store'} is there already; expected a new directory\n",
    )


def test_repairing_gives_up_the_first_damaged_commit_and_all_after_it(
    perfuse: Perfuse, filled: tuple[Path, list[int]]
) -> None:
    data, begins = filled
    assert perfuse("store", "repair", "--data-dir", str(data)) == (0, '{\n  "damaged": false\n}\n', "")
    log = log_of(data)
    flip(log, begins[2] + 40)
    damaged = log.read_bytes()
    code, out, err = perfuse("store", "repair", "--data-dir", str(data))
    aside = log.with_suffix(".damaged")
    expected = {"damaged": True, "kept": 2, "acknowledged": 4, "aside": str(aside)}
    assert (code, err, json.loads(out)) == (0, "", expected)
    assert aside.read_bytes() == damaged
    assert json.loads(perfuse("store", "verify", "--data-dir", str(data))[1])["lsn"] == 2


def test_repair_leaves_a_store_that_is_owned_and_makes_none(
    perfuse: Perfuse, filled: tuple[Path, list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    data, _ = filled
    with Store(data / "store", [NOTES]):
        assert perfuse("store", "repair", "--data-dir", str(data)) == (
            4,
            "",
            f"error: the store in {data / 'store'} is owned by process {os.getpid()}\nhint:  stop the server first\n",
        )
    empty = tmp_path_factory.mktemp("empty")
    assert perfuse("store", "repair", "--data-dir", str(empty)) == (
        2,
        "",
        f"error: there is no store at {empty / 'store'}\nhint:  give the --data-dir of a server\n",
    )
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("command", ["stats", "verify"])
class TestDamage:
    """The file is named, the store left as it is, and the exit code is 1."""

    def refusal(self, perfuse: Perfuse, command: str, data: Path) -> str:
        files = [path for path in (data / "store").rglob("*") if path.is_file()]
        before = [path.read_bytes() for path in files]
        code, out, err = perfuse("store", command, "--data-dir", str(data))
        assert (code, out) == (1, "")
        assert [path.read_bytes() for path in files] == before
        return err

    def test_in_a_record(self, perfuse: Perfuse, filled: tuple[Path, list[int]], command: str) -> None:
        data, begins = filled
        flip(log_of(data), begins[2] + 40)
        assert self.refusal(perfuse, command, data) == (
            f"error: {log_of(data)}: the record of LSN 3 at byte {begins[2]} is damaged, but the later LSN 4 at byte "
            f"{begins[3]} is whole; {GIVE_UP}\n"
        )

    def test_a_log_that_was_cut(self, perfuse: Perfuse, filled: tuple[Path, list[int]], command: str) -> None:
        data, begins = filled
        os.truncate(log_of(data), begins[3] + 8)
        assert self.refusal(perfuse, command, data) == (
            f"error: {log_of(data)}: LSN 4 was acknowledged, but the log is whole only up to LSN 3 at byte "
            f"{begins[3]}; {GIVE_UP}\n"
        )

    def test_a_log_that_is_gone(self, perfuse: Perfuse, filled: tuple[Path, list[int]], command: str) -> None:
        data, _ = filled
        log = log_of(data)
        log.unlink()
        assert self.refusal(perfuse, command, data) == (
            f"error: {log} is missing, but {data / 'store' / 'commit'} says that there was a store; "
            "restore the store from a copy\n"
        )

    def test_in_the_header(self, perfuse: Perfuse, filled: tuple[Path, list[int]], command: str) -> None:
        data, _ = filled
        flip(log_of(data), 20)
        assert self.refusal(perfuse, command, data) == (f"error: {log_of(data)}: the log's header fails its checksum\n")

    def test_in_the_commit_page(self, perfuse: Perfuse, filled: tuple[Path, list[int]], command: str) -> None:
        data, _ = filled
        flip(data / "store" / "commit", 20)
        assert self.refusal(perfuse, command, data) == (
            f"error: {data / 'store' / 'commit'}: the commit page fails its checksum\n"
        )


@pytest.mark.parametrize("command", ["stats", "verify"])
def test_bytes_behind_the_last_acknowledged_record_are_no_damage(
    perfuse: Perfuse, filled: tuple[Path, list[int]], command: str
) -> None:
    data, ends = filled
    with log_of(data).open("ab") as log:
        log.write(b"half a record that a killed owner left")
    code, out, err = perfuse("store", command, "--data-dir", str(data))
    assert (code, json.loads(out)["lsn"], err) == (0, 4, "")
    assert log_of(data).stat().st_size == ends[4] + 38


@pytest.mark.parametrize("command", ["stats", "verify"])
@pytest.mark.parametrize("there", ["nothing", "a file", "an empty folder", "a folder of something else"])
def test_a_directory_without_a_store(perfuse: Perfuse, tmp_path: Path, command: str, there: str) -> None:
    path = tmp_path / "store"
    if there == "a file":
        path.write_text("this is no store")
    elif there != "nothing":
        path.mkdir()
    if there == "a folder of something else":
        (path / "notes.txt").write_text("this is no log")
    assert perfuse("store", command, "--data-dir", str(tmp_path)) == (
        2,
        "",
        f"error: there is no store at {path}\nhint:  give the --data-dir of a server\n",
    )
    assert not (path / "LOCK").exists()
