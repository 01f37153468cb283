"""A store is written, compacted, read and killed by several processes at once: does anything go missing, tear or leak?

    python -m chaos.store_storm --minutes 10 --kills 2000

The owner writes in one thread and compacts in another, without a pause. Two readers follow, two open the store anew for
each look. Commit `n` puts row `n` and the row "last" and deletes row `n - KEPT`: a snapshot says what it must hold.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow as pa

from perfuse import ArrowStorage

SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), ("n", pa.int64()), ("text", pa.string())])
KEPT = 100
_BUSY_SECONDS = 0.25
_LOOK_SECONDS = 0.005
"""Between two looks of a reader, so that four of them leave something of two cores."""

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["pyarrow", "perfuse._native"])


@dataclass
class Report:
    """What happened.

    Attributes:
        seconds: it took.
        kills: of the owner, each at a random moment within 0.25 s of its first commit.
        commits: acknowledged.
        lost: of those, gone when the next owner opened the store.
        compactions: manifests made.
        looks: snapshots that readers compared with what they must hold.
        descriptors: open in each reader that follows, after its first and its last look.
        megabytes: in the store's folder, the most that was found after a kill.
    """

    seconds: float = 0.0
    kills: int = 0
    commits: int = 0
    lost: int = 0
    compactions: int = 0
    looks: int = 0
    descriptors: tuple[tuple[int, int], ...] = ()
    megabytes: float = 0.0


def storm(path: Path, *, seconds: float = 0.0, kills: int = 0) -> Report:
    """Let it go on for so long and until so many owners were killed.

    Raises:
        AssertionError: a reader, an owner or this saw something else than what was committed.
    """
    began, delays, report = time.monotonic(), random.Random(5), Report()
    with ArrowStorage.open(path) as store:
        store.create_table("t", SCHEMA, "id")
    readers = [_Child(look, path) for look in (follow, follow, open_anew, open_anew)]
    first = [reader.said() for reader in readers]
    while report.kills < kills or time.monotonic() - began < seconds:
        owner = _Child(own, path)
        owner.said()
        time.sleep(delays.uniform(0.0, _BUSY_SECONDS))
        acknowledged = owner.end(signal.SIGKILL)
        report.kills += 1
        report.megabytes = max(report.megabytes, _bytes(path) / 1e6)
        with ArrowStorage.open(path) as store:
            report.lost += max(0, acknowledged - check(store))
            report.commits, report.compactions = store.lsn, store.stats()["manifest"]
            assert store.verify()["lsn"] == store.lsn
    assert all(reader.process.is_alive() for reader in readers), "a reader ended"
    looks = [reader.end(signal.SIGTERM) for reader in readers]
    report.looks = sum(seen for seen, _ in looks)
    report.descriptors = tuple((before[1], after[1]) for before, after in zip(first[:2], looks[:2], strict=True))
    report.seconds = round(time.monotonic() - began, 1)
    return report


def check(store: ArrowStorage) -> int:
    """Compare a snapshot with what its commits made; its sequence number."""
    snapshot = store.snapshot()
    lsn = snapshot.lsn
    expected = [f"row {n}" for n in range(max(2, lsn - KEPT + 1), lsn + 1)] + ["last"] * (lsn > 1)
    found = pa.table(snapshot.scan("t"))
    assert found["id"].to_pylist() == expected, (lsn, found["id"].to_pylist()[:3], expected[:3])
    assert lsn == 1 or found["n"].to_pylist()[-1] == snapshot.generation("t", "last") == lsn
    return lsn


def own(path: Path, tell: Connection) -> None:
    """Write and compact until killed, and tell each acknowledged commit."""
    store = ArrowStorage.open(path)
    threading.Thread(target=_for_ever, args=(store.compact,), daemon=True).start()
    while True:
        lsn = store.lsn + 1
        rows = pa.table({"id": [f"row {lsn}", "last"], "n": [lsn, lsn], "text": ["x" * (lsn % 3000), None]}, SCHEMA)
        assert store.commit([("put", "t", rows), ("delete", "t", [f"row {lsn - KEPT}"])]) == lsn
        tell.send(lsn)


def follow(path: Path, tell: Connection) -> None:
    """Look again and again through one reader."""
    with ArrowStorage.open(path, "reader") as reader:

        def look() -> int:
            reader.refresh()
            return check(reader)

        _look(look, tell)


def open_anew(path: Path, tell: Connection) -> None:
    """Look again and again, each time through another reader."""

    def look() -> int:
        with ArrowStorage.open(path, "reader") as reader:
            return check(reader)

    _look(look, tell)


def _look(look: Callable[[], int], tell: Connection) -> None:
    """Tell how often was looked, and how many descriptors are open, about once a second."""
    last, looks, told = 0, 0, 0.0
    while True:
        lsn = look()
        assert lsn >= last, f"LSN {lsn} came after {last}"
        last, looks = lsn, looks + 1
        if time.monotonic() - told > 1.0:
            told = time.monotonic()
            tell.send((looks, len(list(Path("/proc/self/fd").iterdir()))))
        time.sleep(_LOOK_SECONDS)


def _for_ever(work: Callable[[], object]) -> None:
    while True:
        work()


class _Child:
    """A process that tells something again and again."""

    def __init__(self, part: Callable[[Path, Connection], None], path: Path) -> None:
        self._told, telling = _processes.Pipe(duplex=False)
        self.process = _processes.Process(target=part, args=(path, telling), daemon=True)
        self.process.start()
        telling.close()
        self._last: object = None
        self._listener = threading.Thread(target=self._listen)
        self._said = threading.Event()
        self._listener.start()

    def _listen(self) -> None:
        while True:
            try:
                self._last = self._told.recv()
            except (EOFError, OSError):  # what was cut by a kill was not told
                self._said.set()
                return
            self._said.set()

    def said(self) -> object:
        """What it told first, or since."""
        self._said.wait()
        assert self._last is not None, "a child ended before it did anything"
        return self._last

    def end(self, number: signal.Signals) -> object:
        """End it; what it told last."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)
        self._listener.join()
        self.process.join()
        self._told.close()
        return self._last


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def main() -> None:
    """Play a part, or run all of it and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--path", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = storm(given.path or Path(folder) / "store", seconds=given.minutes * 60, kills=given.kills)
    sys.stdout.write(json.dumps(asdict(report), indent=2) + "\n")


if __name__ == "__main__":
    main()
