"""What cannot be read serves nobody, and the rest goes on."""

from __future__ import annotations

from pathlib import Path

from perfuse.evolution.damage import leave_damaged
from perfuse.evolution.learned import Learned
from perfuse.evolution.promote import admit, get, promote, start_canary
from perfuse.store.aliases import current
from perfuse.store.learning import FEEDBACK, Adaptation
from unit.evolution.learning import candidate, feedback, reopen


def canary(learned: Learned, dataset: str, cluster: str = "c") -> Adaptation:
    learned.store.commit([FEEDBACK.put(feedback(f"{cluster}-a", "a", cluster))])
    made = admit(learned, candidate(dataset, "a", cluster=cluster), dataset.encode())
    return start_canary(learned, made.id, 0.25, "{}", 2.0)


def test_damaged_canaries_and_champions_leave_and_whole_ones_stay(tmp_path: Path) -> None:
    with reopen(tmp_path) as learned:
        whole = promote(learned, canary(learned, "1").id, "", 3.0)
        missing = canary(learned, "2")
        before = promote(learned, canary(learned, "3", "d").id, "", 3.0)
        damaged = promote(learned, canary(learned, "4", "d").id, "", 4.0)
        learned.blobs.path(missing.blob).unlink()
        learned.blobs.path(damaged.blob).write_bytes(b"?")
        assert leave_damaged(learned, 5.0) == [missing.id, damaged.id]
        snapshot = learned.store.snapshot()
        aliases = [current(snapshot, "t", cluster) for cluster in "cd"]
        assert [(a.champion, a.canary) for a in aliases] == [(whole.id, None), (before.id, None)]
        assert (get(snapshot, missing.id).state, get(snapshot, damaged.id).state) == ("rejected", "retired")
        assert get(snapshot, missing.id).reason == f"its bytes cannot be read: no blob {missing.blob}"
        assert get(snapshot, damaged.id).reason.startswith(
            f"its bytes cannot be read: blob {damaged.blob} holds 1 bytes with the SHA-256 "
        )
        assert leave_damaged(learned, 6.0) == []
