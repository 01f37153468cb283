"""`perfuse bench native`: store and vector search beside their rivals, in one process, in turns.

Rivals run their best vectorised form on buffers made beforehand, with as many threads: each number of threads has a
process of its own, because BLAS reads it when it is loaded. Figures are medians over interleaved repetitions.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]

from perfuse._native import ArrowStorage, VectorSearch

Vectors = npt.NDArray[np.float32]

K = 10
WIDTH = 384
SINGLES = 400
"""Single-row commits of a repetition."""
BATCH = 1000
BATCHES = 20
PAUSE_SECONDS = 0.1
WRITERS = 16
COMMITS_OF_A_WRITER = 40
SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("created", pa.float64(), nullable=False),
        pa.field("vector", pa.list_(pa.float32(), WIDTH), nullable=False),
    ]
)
_TABLE = "CREATE TABLE rows (key TEXT PRIMARY KEY, prompt TEXT, created REAL, vector BLOB) WITHOUT ROWID"
_INSERT = "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)"

Row = tuple[str, str, float, bytes]


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure beside its rivals'.

    Attributes:
        ours: in `unit`.
        rivals: by name, in `unit`.
        ratio: how many times better than the best rival ours is; None without a rival.
        must: the target: a ratio, or without a rival the most that ours may be.
        threads: of ours and of the rivals.
    """

    name: str
    ours: float
    rivals: Mapping[str, float]
    unit: str
    ratio: float | None
    must: float
    threads: int


def run(only: Sequence[str] = (), *, scale: float = 1.0) -> list[Measure]:
    """Every measure whose name contains one of `only`; all without.

    Args:
        only: parts of names.
        scale: of the numbers of rows; 1 for the published figures.
    """
    found: list[Measure] = []
    for threads in (1, 2):
        command = [sys.executable, "-m", __name__, str(threads), str(scale), *only]
        counts = {name: str(threads) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        environment = {**os.environ, **counts}
        said = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout  # noqa: S603
        found += msgspec.json.decode(said, type=list[Measure])
    return found


def measures(threads: int, scale: float) -> Iterator[tuple[str, Callable[[], Measure]]]:
    """What is measured with so many threads, by name."""
    many, most = round(100_000 * scale), round(1_000_000 * scale)

    def search(rows: int, width: int, queries: int, must: float) -> tuple[str, Callable[[], Measure]]:
        name = f"exact top-{K}, {rows} x {width}, {queries} {'query' if queries == 1 else 'queries at once'}"
        return name, lambda: searching(name, rows, width, queries, threads, must)

    yield search(many, WIDTH, 1, 3.0)
    yield search(most, 128, 1, 3.0)
    yield search(many, WIDTH, 256, 1.0)
    if threads > 1:
        return
    yield "loop", lambda: against_a_loop(round(2_000 * scale))
    yield "single commits", single_commits
    yield f"commits of {BATCH} rows", batched_commits
    yield f"commits of {WRITERS} writers", grouped_commits
    yield "open", lambda: opening(most)
    yield "refresh", refreshing
    yield "nothing new", nothing_new
    yield "lookup", lambda: looking_up(many)


# search ---------------------------------------------------------------------------------------------------------------


def searching(name: str, rows: int, width: int, queries: int, threads: int, must: float) -> Measure:
    """Milliseconds of one exact search by inner product, beside numpy's product and partition, and torch's."""
    import torch

    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((rows, width), np.float32)
    asked = rng.standard_normal((queries, width), np.float32)
    search = VectorSearch(vectors, "inner_product")
    scores = np.empty((queries, rows), np.float32)
    torch.set_num_threads(threads)
    torch_vectors, torch_asked, torch_scores = (torch.from_numpy(each) for each in (vectors, asked, scores.copy()))

    def numpy_top() -> npt.NDArray[np.int64]:
        np.matmul(asked, vectors.T, out=scores)
        best = np.argpartition(scores, -K, axis=1)[:, -K:]
        order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
        return np.take_along_axis(best, order, 1)

    def torch_top() -> None:
        torch.matmul(torch_asked, torch_vectors.T, out=torch_scores)
        torch.topk(torch_scores, K)

    found = pa.table(search.search(asked, K, threads))["row"].to_numpy().reshape(queries, K)
    exact = np.take_along_axis(asked @ vectors.T, found.astype(np.int64), 1)
    best = np.take_along_axis(asked @ vectors.T, numpy_top(), 1)
    assert np.allclose(exact, best, rtol=1e-4, atol=1e-4), "the nearest are not the nearest"
    times = interleaved(
        {"ours": lambda: search.search(asked, K, threads), "numpy": numpy_top, "torch": torch_top},
        repetitions=7 if queries > 1 else 21,
    )
    return beside(name, times, 1e3, "ms", must, threads)


def against_a_loop(rows: int) -> Measure:
    """Milliseconds of one search, beside a loop over lists in Python."""
    rng = np.random.default_rng(0)
    vectors, asked = rng.standard_normal((rows, WIDTH), np.float32), rng.standard_normal(WIDTH, np.float32)
    search = VectorSearch(vectors, "inner_product")
    lists, query = vectors.tolist(), asked.tolist()

    def loop() -> list[tuple[float, int]]:
        scored = [(sum(map(float.__mul__, query, row)), index) for index, row in enumerate(lists)]
        return sorted(scored, reverse=True)[:K]

    times = interleaved({"ours": lambda: search.search(asked[None], K), "python": loop}, repetitions=9)
    return beside(f"exact top-{K}, {rows} x {WIDTH}, a loop in Python", times, 1e3, "ms", 50.0, 1)


# commits --------------------------------------------------------------------------------------------------------------


def drawn(count: int, first: int = 0) -> list[Row]:
    """Rows with keys from `first` on: key, prompt of 40 characters, time, vector as bytes."""
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((count, WIDTH), np.float32)
    return [
        (f"key-{i:08d}", f"prompt {i:033d}", 1.7e9 + i, vector.tobytes()) for i, vector in enumerate(vectors, first)
    ]


def batch_of(rows: Sequence[Row]) -> pa.RecordBatch:
    """The same rows as Arrow."""
    vectors = pa.FixedSizeListArray.from_arrays(
        pa.array(np.frombuffer(b"".join(row[3] for row in rows), np.float32)), WIDTH
    )
    columns = [pa.array([row[0] for row in rows]), pa.array([row[1] for row in rows]), pa.array([r[2] for r in rows])]
    return pa.record_batch([*columns, vectors], schema=SCHEMA)


@dataclass(slots=True)
class Contest:
    """A store of ours and a SQLite database (WAL, synchronous=FULL) on the same disk."""

    folder: Path
    ours: ArrowStorage = field(init=False)
    theirs: sqlite3.Connection = field(init=False)

    def __post_init__(self) -> None:
        self.ours = ArrowStorage.open(self.folder / "ours")
        self.ours.create_table("rows", SCHEMA, "key", "vector")
        self.theirs = self.connect()
        self.theirs.execute(_TABLE)

    def connect(self) -> sqlite3.Connection:
        """Another connection to the database."""
        connection = sqlite3.connect(
            self.folder / "theirs.sqlite", isolation_level=None, check_same_thread=False, timeout=60.0
        )
        connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
        return connection

    def close(self) -> None:
        """Close both."""
        self.ours.close()
        self.theirs.close()


def single_commits() -> Measure:
    """Durable commits of one row per second, one writer, nothing grouped on either side."""
    with tempfile.TemporaryDirectory() as folder, closing(Contest(Path(folder))) as contest:
        rows = drawn(SINGLES)
        batches = [batch_of([row]) for row in rows]

        def ours() -> None:
            for batch in batches:
                contest.ours.put("rows", batch)

        def theirs() -> None:
            for row in rows:
                contest.theirs.execute(_INSERT, row)

        times = interleaved({"ours": ours, "sqlite": theirs}, repetitions=7)
    return rate("durable commits of one row, one writer", times, SINGLES, "commits/s", 1.2)


def batched_commits() -> Measure:
    """Rows per second in durable commits of `BATCH` rows."""
    with tempfile.TemporaryDirectory() as folder, closing(Contest(Path(folder))) as contest:
        rows = drawn(BATCH * BATCHES)
        parts = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
        batches = [batch_of(part) for part in parts]

        def ours() -> None:
            for batch in batches:
                contest.ours.put("rows", batch)

        def theirs() -> None:
            for part in parts:
                contest.theirs.execute("BEGIN IMMEDIATE")
                contest.theirs.executemany(_INSERT, part)
                contest.theirs.execute("COMMIT")

        times = interleaved({"ours": ours, "sqlite": theirs}, repetitions=5)
    return rate(f"rows in durable commits of {BATCH}, one writer", times, BATCH * BATCHES, "rows/s", 2.0)


def grouped_commits() -> Measure:
    """Durable commits of one row per second, `WRITERS` threads at once."""
    with tempfile.TemporaryDirectory() as folder, closing(Contest(Path(folder))) as contest:
        rows = drawn(WRITERS * COMMITS_OF_A_WRITER)
        shares = [rows[writer::WRITERS] for writer in range(WRITERS)]
        batches = [[batch_of([row]) for row in share] for share in shares]
        connections = [contest.connect() for _ in range(WRITERS)]

        def ours(writer: int) -> None:
            for batch in batches[writer]:
                contest.ours.put("rows", batch)

        def theirs(writer: int) -> None:
            for row in shares[writer]:
                connections[writer].execute(_INSERT, row)

        times = interleaved({"ours": lambda: at_once(ours), "sqlite": lambda: at_once(theirs)}, repetitions=5)
        for connection in connections:
            connection.close()
    return rate(f"durable commits of one row, {WRITERS} writers", times, len(rows), "commits/s", 3.0)


def at_once(work: Callable[[int], None]) -> None:
    """Run `work` of every writer in a thread of its own."""
    threads = [threading.Thread(target=work, args=(writer,)) for writer in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# opening and following ------------------------------------------------------------------------------------------------


def opening(rows: int) -> Measure:
    """Seconds to open a compacted store of so many rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        schema = pa.schema([pa.field("key", pa.int64(), nullable=False), pa.field("value", pa.float64())])
        with closing(ArrowStorage.open(path)) as store:
            store.create_table("rows", schema, "key")
            for start in range(0, rows, 100_000):
                keys = np.arange(start, min(start + 100_000, rows))
                store.put("rows", pa.record_batch([pa.array(keys), pa.array(keys * 0.5)], schema=schema))
            store.compact()
        times = interleaved({"ours": lambda: ArrowStorage.open(path).close()}, repetitions=5)
    return beside(f"open a store of {rows} rows", times, 1.0, "s", 0.5, 1)


def refreshing() -> Measure:
    """Milliseconds until a reader has seen one more commit."""
    with tempfile.TemporaryDirectory() as folder, closing(Contest(Path(folder))) as contest:
        reader = ArrowStorage.open(contest.folder / "ours", "reader")
        seconds = []
        for row in drawn(200):
            contest.ours.put("rows", batch_of([row]))
            seconds.append(timed(reader.refresh))
        reader.close()
    return beside("refresh of a reader after one commit", {"ours": median(seconds)}, 1e3, "ms", 1.0, 1)


def nothing_new() -> Measure:
    """Microseconds of a refresh that finds nothing new."""
    times = 10_000
    with tempfile.TemporaryDirectory() as folder, closing(Contest(Path(folder))) as contest:
        contest.ours.put("rows", batch_of(drawn(1)))
        reader = ArrowStorage.open(contest.folder / "ours", "reader")
        reader.refresh()
        seconds = [timed(lambda: repeat(reader.refresh, times)) / times for _ in range(7)]
        reader.close()
    return beside("nothing-new check of a reader", {"ours": median(seconds)}, 1e6, "us", 1.0, 1)


def looking_up(rows: int) -> Measure:
    """99th percentile of milliseconds for the 8 nearest of so many rows, while a writer commits and compacts."""
    with tempfile.TemporaryDirectory() as folder, closing(Contest(Path(folder))) as contest:
        for start in range(0, rows, 10_000):
            contest.ours.put("rows", batch_of(drawn(min(10_000, rows - start), start)))
        contest.ours.compact()
        stop = threading.Event()

        def write() -> None:
            for number, row in enumerate(forever(drawn(1000))):
                if stop.is_set():
                    return
                contest.ours.put("rows", batch_of([row]))
                if number % 500 == 499:
                    contest.ours.compact()
                time.sleep(0.005)

        writer = threading.Thread(target=write)
        writer.start()
        rng = np.random.default_rng(2)
        queries = rng.standard_normal((1000, 1, WIDTH), np.float32)
        seconds = [timed(partial(contest.ours.search, "rows", query, 8, None, ["key"])) for query in queries]
        stop.set()
        writer.join()
    high = float(np.percentile(seconds, 99))
    return beside(f"top-8 of {rows} under a writer and compaction, p99", {"ours": high}, 1e3, "ms", 2.0, 1)


def forever(rows: Sequence[Row]) -> Iterator[Row]:
    """The rows again and again."""
    while True:
        yield from rows


# time -----------------------------------------------------------------------------------------------------------------


def interleaved(contenders: Mapping[str, Callable[[], object]], *, repetitions: int) -> dict[str, float]:
    """Median seconds of each, one after the other in every repetition, after one that does not count.

    Between them is a pause: threads of BLAS and OpenMP spin for a while when their work is done.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for repetition in range(repetitions + 1):
        for name, work in contenders.items():
            time.sleep(PAUSE_SECONDS)
            took = timed(work)
            if repetition:
                seconds[name].append(took)
    return {name: median(each) for name, each in seconds.items()}


def timed(work: Callable[[], object]) -> float:
    """Seconds it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def repeat(work: Callable[[], object], times: int) -> None:
    """Do it so many times."""
    for _ in range(times):
        work()


def beside(name: str, seconds: Mapping[str, float], factor: float, unit: str, must: float, threads: int) -> Measure:
    """Where less is better."""
    values = {who: value * factor for who, value in seconds.items()}
    ours = values.pop("ours")
    return Measure(name, ours, values, unit, min(values.values()) / ours if values else None, must, threads)


def rate(name: str, seconds: Mapping[str, float], count: int, unit: str, must: float) -> Measure:
    """Where more is better: `count` in so many seconds."""
    values = {who: count / value for who, value in seconds.items()}
    ours = values.pop("ours")
    return Measure(name, ours, values, unit, ours / max(values.values()), must, 1)


def chosen(found: Iterable[tuple[str, Callable[[], Measure]]], only: Sequence[str]) -> list[Measure]:
    """Takes those whose name contains one of `only`; all without."""
    return [take() for name, take in found if not only or any(part in name for part in only)]


if __name__ == "__main__":
    count, scale, *parts = sys.argv[1:]
    taken = chosen(measures(int(count), float(scale)), parts)
    sys.stdout.buffer.write(msgspec.json.encode([asdict(each) for each in taken]))
