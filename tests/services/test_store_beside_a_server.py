"""`perfuse store` on the data directory of a running server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from perfuse.store import Store, TableSpec
from processes import ScriptedServer

COUNTS = TableSpec("counts", pa.schema([pa.field("n", pa.int64(), nullable=False)]), "n")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ScriptedServer]:
    with Store(tmp_path / "store", [COUNTS]) as store:
        store.put(COUNTS, pa.table({"n": [1, 2]}, schema=COUNTS.schema))
    running = ScriptedServer(tmp_path)
    yield running
    running.stop()


def look(command: str, data: Path) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "perfuse", "store", command, "--data-dir", str(data)], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_the_store_of_a_running_server_is_read_and_the_server_goes_on(server: ScriptedServer) -> None:
    server.wait_ready()
    first = look("stats", server.data_dir)
    assert first["tables"] == {
        "counts": {"rows": 2, "versions": 2, "fingerprint": COUNTS.fingerprint, "schema_version": 1}
    }
    verified = {"segments": 0, "segment_bytes": 0, "records": 2, "bytes": first["log_bytes"], "lsn": 2}
    assert look("verify", server.data_dir) == verified
    assert look("stats", server.data_dir) == first
    assert server.get("after") == (200, "after 0")
    code, errors = server.end()
    assert code == 0, errors
