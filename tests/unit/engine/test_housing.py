"""The data directory: lock, private directory, leftovers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from perfuse.engine.housing import DataDirectory
from perfuse.errors import ConfigError, StoreLocked


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "data") as home:
        home.publish("http://127.0.0.1:1")
        content = json.loads((tmp_path / "data" / "server.lock").read_text())
        assert content == {"pid": os.getpid(), "run": str(home.run), "address": "http://127.0.0.1:1"}
        with pytest.raises(StoreLocked) as caught, DataDirectory(tmp_path / "data"):
            pass
        assert caught.value.detail == (
            f"the data directory {tmp_path / 'data'} is held by another server (process {os.getpid()})"
        )
    with DataDirectory(tmp_path / "data"):
        pass


def test_sockets_are_private_and_gone_at_the_end(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as home:
        bound = home.bind("engine-0.sock")
        assert (home.run / "engine-0.sock").stat().st_mode & 0o777 == 0o600
        assert home.run.stat().st_mode & 0o777 == 0o700
        bound.close()
    assert not (tmp_path / "run").exists()


def test_what_a_killed_server_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "perfuse-run-left"
    left.mkdir()
    data = tmp_path / "data"
    data.mkdir()
    (data / "server.lock").write_text(json.dumps({"pid": 1, "run": str(left)}))
    (data / "run").mkdir()
    (data / "run" / "old.sock").touch()
    with DataDirectory(data) as home:
        assert list(home.run.iterdir()) == []
    assert not left.exists()


@pytest.mark.parametrize("content", ["", "not json", "[]", '{"run": 5}', '{"run": "PATH"}'])
def test_a_lock_file_that_names_a_foreign_directory_removes_nothing(tmp_path: Path, content: str) -> None:
    foreign = tmp_path / "precious"
    foreign.mkdir()
    data = tmp_path / "data"
    data.mkdir()
    (data / "server.lock").write_text(content.replace("PATH", str(foreign)))
    with DataDirectory(data):
        pass
    assert foreign.exists()


def test_a_data_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as caught, DataDirectory(tmp_path / "file" / "data"):
        pass
    assert caught.value.detail == f"cannot use the data directory {tmp_path / 'file' / 'data'}: Not a directory"
    assert caught.value.hint == "choose another --data-dir"
