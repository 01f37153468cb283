"""The flight record, read after its writer is gone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from perfuse.engine.flight import CAPACITY, FlightRecorder, alive_at, batch_of, ended_from_outside, note_end


@given(batches=st.lists(st.lists(st.integers(0, 2**63 - 1), max_size=5), min_size=1, max_size=5))
def test_the_last_batch_is_what_is_read(tmp_path_factory, batches: list[list[int]]) -> None:
    path = tmp_path_factory.mktemp("flight") / "record"
    recorder = FlightRecorder(path)
    for batch in batches:
        recorder.batch(batch)
        assert batch_of(path) == frozenset(batch)
    recorder.close()
    assert batch_of(path) == frozenset(batches[-1])


def test_a_batch_survives_the_death_of_the_process(tmp_path: Path) -> None:
    path = tmp_path / "record"
    if (pid := os.fork()) == 0:
        recorder = FlightRecorder(path)
        recorder.batch([1, 2])
        recorder.batch([3, 4, 5])
        recorder.alive(12.5)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert batch_of(path) == {3, 4, 5}
    assert alive_at(path) == 12.5


def test_a_batch_larger_than_the_record_is_cut(tmp_path: Path) -> None:
    recorder = FlightRecorder(tmp_path / "record")
    recorder.batch(range(CAPACITY + 10))
    assert batch_of(tmp_path / "record") == frozenset(range(CAPACITY))
    recorder.close()


def test_a_new_record_is_empty_and_private(tmp_path: Path) -> None:
    path = tmp_path / "record"
    FlightRecorder(path).close()
    assert batch_of(path) == frozenset()
    assert alive_at(path) is None
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_missing_or_foreign_file_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "record"
    assert batch_of(path) is None
    path.write_bytes(b"short")
    assert batch_of(path) is None
    FlightRecorder(path).close()
    path.write_bytes(b"X" + path.read_bytes()[1:])
    assert batch_of(path) is None
    assert alive_at(path) is None


def test_how_an_engine_ended_is_noted_beside_its_last_batch(tmp_path: Path) -> None:
    path = tmp_path / "record"
    note_end(path, from_outside=True)
    assert not path.exists()
    recorder = FlightRecorder(path)
    recorder.batch([7, 8])
    recorder.alive(2.0)
    assert ended_from_outside(path) is None
    for outside in (True, False):
        note_end(path, from_outside=outside)
        assert ended_from_outside(path) is outside
    assert (batch_of(path), alive_at(path)) == ({7, 8}, 2.0)
    recorder.close()
    FlightRecorder(path).close()
    assert ended_from_outside(path) is None
