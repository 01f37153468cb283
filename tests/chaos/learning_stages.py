"""What of the evolution worker can be seen from outside while it works, and where it was when it was killed.

Its steps leave their traces in the inbox, in the store, and in the files of jobs. They are read here beside the
worker: often, to kill it at a stage, and once more when it is dead and nothing moves.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Literal

from redis import Redis
from redis.exceptions import RedisError

from perfuse.errors import NotFound
from perfuse.evaluation.load import children_of
from perfuse.evolution.training import RESULT
from perfuse.queue.inbox import SQLITE_FILE
from perfuse.store import Snapshot, StoreReader
from perfuse.store.learning import ADAPTATIONS, ALIASES, FEEDBACK, JOBS, Alias

Taking = Literal["", "lease", "verify", "ack"]
Working = Literal["", "prepare", "replay", "train", "blob", "gate", "cas"]
STREAM, ATTEMPTS, WHY = ("{perfuse}:inbox:" + name for name in ("stream", "attempts", "why"))
HORIZON = 30 * 86_400_000
"""Milliseconds of idling after which the queue in Redis counts an item as free."""
LEASED = """
local found = {}
for _, each in ipairs(redis.call('XPENDING', KEYS[1], 'workers', '-', '+', 64)) do
    if each[3] < tonumber(ARGV[1]) then
        local id = redis.call('XRANGE', KEYS[1], each[1], each[1])[1][2][2]
        found[#found + 1] = id
        found[#found + 1] = redis.call('HGET', KEYS[2], id) or '0'
    end
end
return found
"""


class Outside:
    """Reads what the worker leaves behind.

    Args:
        data_dir: of the server.
        queue: "sqlite" or the address of a Redis.
    """

    def __init__(self, data_dir: Path, queue: str) -> None:
        self._data_dir = data_dir
        self._redis = None if queue == "sqlite" else Redis.from_url(queue, socket_timeout=2.0)
        self._reader: StoreReader | None = None

    def close(self) -> None:
        """Let go of queue and store."""
        if self._redis is not None:
            self._redis.close()
        if self._reader is not None:
            self._reader.close()

    @property
    def snapshot(self) -> Snapshot | None:
        """The store as it is now; None before the worker has made its tables."""
        try:
            if self._reader is None:
                self._reader = StoreReader(self._data_dir / "store")
            found = self._reader.snapshot()
            found.count(JOBS.spec)
        except NotFound:
            return None
        return found

    # the inbox -------------------------------------------------------------------------------------------------------

    def leased(self) -> dict[str, int]:
        """Items that are leased now, with the attempts begun; nothing while Redis is away."""
        try:
            return self._leased_sqlite() if self._redis is None else self._leased_redis(self._redis)
        except RedisError:
            return {}

    def _leased_sqlite(self) -> dict[str, int]:
        with closing(sqlite3.connect(f"file:{self._data_dir / SQLITE_FILE}?mode=ro", uri=True, timeout=5)) as inbox:
            now = "(julianday('now') - 2440587.5) * 86400.0"
            rows = inbox.execute(f"SELECT id, attempts FROM items WHERE until > {now} AND died IS NULL").fetchall()
        return dict(rows)

    def _leased_redis(self, redis: Redis) -> dict[str, int]:
        found = redis.eval(LEASED, 2, STREAM, ATTEMPTS, HORIZON)
        return {identity.decode(): int(begun) for identity, begun in zip(found[::2], found[1::2], strict=True)}

    def attempts(self, identity: str) -> int | None:
        """How often an item was begun; None once it has been put aside or is gone."""
        if self._redis is not None:
            try:
                return None if self._redis.hexists(WHY, identity) else int(self._redis.hget(ATTEMPTS, identity) or 0)
            except RedisError:
                return 0
        with closing(sqlite3.connect(f"file:{self._data_dir / SQLITE_FILE}?mode=ro", uri=True, timeout=5)) as inbox:
            row = inbox.execute("SELECT attempts FROM items WHERE id = ? AND died IS NULL", (identity,)).fetchone()
        return None if row is None else int(row[0])

    def taking(self) -> Taking:
        """Where it is with what it has leased: not all begun, begun, or written and not acknowledged."""
        leased = self.leased()
        if not leased:
            return ""
        if 0 in leased.values():
            return "lease"
        snapshot = self.snapshot
        written = snapshot is not None and any(snapshot.generation(FEEDBACK.spec, identity) for identity in leased)
        return "ack" if written else "verify"

    # the job ---------------------------------------------------------------------------------------------------------

    def working(self) -> Working:
        """Where it is with its job; "cas" is behind the move of the alias and before the job's end."""
        snapshot = self.snapshot
        running = [] if snapshot is None else JOBS.scan(snapshot, {"state": "running"})
        if not running or snapshot is None:
            return ""
        (job,) = running
        if job.adaptation is not None and (made := ADAPTATIONS.get(snapshot, job.adaptation)) is not None:
            return "gate" if made.state == "candidate" else "cas"
        folder = self._data_dir / "evolution" / job.id
        for name, stage in ((RESULT, "blob"), ("replay.jsonl", "train"), ("lessons.jsonl", "replay")):
            if (folder / name).exists():
                return stage  # type: ignore[return-value]
        return "prepare"

    def drafting(self) -> bool:
        """Whether a blob is being written, or is about to be."""
        folder = self._data_dir / "store" / "blobs"
        return any(path.name.startswith(".draft-") for path in folder.glob(".draft-*")) or self.working() == "blob"

    def aliases(self) -> list[Alias]:
        """What serves each cluster."""
        snapshot = self.snapshot
        return [] if snapshot is None else ALIASES.scan(snapshot)


def named(pid: int, name: str) -> list[int]:
    """Descendants of a process that call themselves `perfuse-<name>`."""
    return [child for child in children_of(pid) if _name(child) == f"perfuse-{name}"]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""
