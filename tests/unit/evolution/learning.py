"""Rows to learn from and trained candidates, small enough to be made by the dozen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from perfuse.evolution.learned import Learned
from perfuse.store.blobs import FOLDER, Blobs
from perfuse.store.learning import TABLES, Adaptation, Embedder, Feedback, domains, memories
from perfuse.store.store import Change, Store

WIDTH = 2
EMBEDDER = Embedder(hash="e", width=WIDTH)


class Crash(BaseException):
    """The process ends here."""


class CrashingStore(Store):
    """A store whose process ends before or after one of its next commits, if told to.

    Attributes:
        crash: "before", "after" or None.
        spared: commits that go well until then.
    """

    crash: str | None = None
    spared: int = 0

    def commit(self, changes: list[Change]) -> int:
        due = self.crash is not None and self.spared == 0
        self.spared -= self.crash is not None
        if due and self.crash == "before":
            raise Crash
        lsn = super().commit(changes)
        if due:
            raise Crash
        return lsn


def reopen(path: Path) -> Learned:
    """What the next owner finds."""
    with Learned.open(path, EMBEDDER):
        pass
    specs = [*TABLES, domains(WIDTH).spec, memories(WIDTH).spec]
    return Learned(CrashingStore(path, specs), Blobs(path / FOLDER))


def feedback(identity: str, source: str, cluster: str = "c", **changes: object) -> Feedback:
    row = Feedback(
        id=identity, tenant="t", generation=f"g-{identity}", source=source, received=1.0, model="m@1",
        prompt=f"p-{identity}", prefix="", suffix="", output="wrong", adaptations=(), correction="right", reward=None,
        verifier="{}", output_passed=False, correction_passed=True, state="curated", reason="verifier",
        cluster=cluster, embedder="e", embedding=b"",
    )  # fmt: skip
    return replace(row, **changes)  # type: ignore[arg-type]


def candidate(dataset: str, *sources: str, cluster: str = "c", **changes: object) -> Adaptation:
    """A trained candidate of the feedback `<cluster>-<source>` of each source."""
    made = Adaptation(
        id="", tenant="t", cluster=cluster, kind="lora", blob="", parent=None, base="base", embedder="e",
        dataset=dataset, feedback=tuple(f"{cluster}-{s}" for s in sources), sources=sources, seed=0, config="{}",
        report="", state="candidate", reason="", centroid=(1.0, 0.0), radius=0.2, created=1.0, changed=1.0,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]
