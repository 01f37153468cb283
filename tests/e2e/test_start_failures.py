"""What `perfuse serve` says when it cannot work: a sentence, a hint, an exit code, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SECONDS = 60


def serve(*flags: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "perfuse", "serve", "--port", "0", *map(str, flags)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**os.environ, "COLUMNS": "200"},
    )


def test_a_corrupt_model_file_stops_the_start(tmp_path: Path) -> None:
    model = tmp_path / "broken"
    model.mkdir()
    (model / "config.json").write_text("{ this is no JSON")
    done = serve("--data-dir", tmp_path / "data", "--model", model)
    assert done.returncode == 3
    assert str(model) in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_model_folder_stops_the_start(tmp_path: Path) -> None:
    done = serve("--data-dir", tmp_path / "data", "--model", tmp_path / "nowhere")
    assert done.returncode == 3
    assert str(tmp_path / "nowhere") in done.stderr
    assert "Traceback" not in done.stderr


def test_a_foreign_address_without_keys_stops_the_start(tmp_path: Path) -> None:
    done = serve("--data-dir", tmp_path / "data", "--host", "0.0.0.0")
    assert done.returncode == 2
    assert "without keys only loopback addresses are served, not 0.0.0.0\n  hint: give --keys FILE" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_key_file_stops_the_start(tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    keys.write_text("- key: short\n")
    done = serve("--data-dir", tmp_path / "data", "--keys", keys)
    assert done.returncode == 2
    assert f"the key file {keys}: 0.key: String should have at least 16 characters" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def other_server(tmp_path: Path) -> Iterator[Path]:
    data = tmp_path / "data"
    with (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-m", "perfuse", "serve", "--port", "0", "--data-dir", str(data)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + SECONDS
        while b"listening" not in (tmp_path / "log").read_bytes():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield data
        process.terminate()
        process.wait(SECONDS)


def test_a_data_directory_held_by_another_server_stops_the_start(other_server: Path) -> None:
    done = serve("--data-dir", other_server)
    assert done.returncode == 4
    assert done.stderr.startswith("error: ")
    assert str(other_server) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a tmpfs needs privileges")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_stops_the_start(tiny_disk: Path) -> None:
    (tiny_disk / "filler").write_bytes(bytes(56 * 1024))
    done = serve("--data-dir", tiny_disk / "data")
    assert done.returncode in {1, 2}
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr
