"""One training from feedback to canary. Each stage leaves a file or a row, so after a crash a job goes on behind it.

lessons.jsonl, tasks ─▶ replay.jsonl ─▶ adaptation.safetensors ─▶ candidate (store) ─▶ gate ─▶ canary | rejected
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from perfuse import logging
from perfuse.adaptation.whitening import Vectors
from perfuse.errors import PerfuseError, WrongState
from perfuse.evolution import training
from perfuse.evolution.answers import Answerer, Asked, each
from perfuse.evolution.cluster import radius
from perfuse.evolution.curate import Rules, curate
from perfuse.evolution.gate import Decision, Measured, Thresholds, decide
from perfuse.evolution.learned import Learned
from perfuse.evolution.lessons import Lessons, Task, lesson_line, lessons_of
from perfuse.evolution.promote import admit, get, reject, start_canary
from perfuse.evolution.reference import Reference
from perfuse.evolution.sorting import centroid_of, vectors_of
from perfuse.evolution.trial import measure
from perfuse.store.aliases import current
from perfuse.store.files import write_whole
from perfuse.store.kit import Kit
from perfuse.store.learning import FEEDBACK, JOBS, REVOCATIONS, Adaptation, Feedback, Job, JobState

_log = logging.get(__name__)

MOST_ATTEMPTS = 3
"""In a row that got a job no further: restarts of the server end no long training."""
REPLAY = "replay.jsonl"
LEAK = 0.002
"""Share of the replayed anchors that a radius may reach; the measured ones are not asked, they test it."""
LEAST_HELD_BACK = 8
"""Tasks kept back from which on a gain on none of them speaks against a candidate."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How adaptations are made.

    Args:
        config: fields of `training.lora.LoraConfig`.
        seconds: after which a trainer is killed.
        share: of the matching requests that a canary answers.
        thresholds: of the gate.
        curation: rules of curation.
    """

    config: Mapping[str, object]
    seconds: float
    share: float
    thresholds: Thresholds
    curation: Rules


class Workshop:
    """Runs jobs one at a time.

    Args:
        learned: the store.
        answerer: asks the engines.
        kit: of the base model.
        folder: where jobs keep their files.
        plan: how adaptations are made.
        reference: what the base model can do.
        resident_bytes: of an engine, asked at each gate; 0 while none runs.
        turn: held while a blob is put whose row is not yet there, which a purge would remove.

    Attributes:
        stage: what is being done, in words; "" when nothing is.
    """

    def __init__(
        self,
        learned: Learned,
        answerer: Answerer,
        kit: Kit,
        folder: Path,
        plan: Plan,
        reference: Reference,
        *,
        resident_bytes: Callable[[], int],
        turn: asyncio.Lock,
    ) -> None:
        self._learned = learned
        self._answerer = answerer
        self._kit = kit
        self._plan = plan
        self._reference = reference
        self._resident_bytes = resident_bytes
        self._turn = turn
        self._folder = folder
        self.stage = ""

    def next(self) -> Job | None:
        """The job to go on with: one that was running when a worker died, else the oldest queued one."""
        jobs = [job for job in JOBS.scan(self._learned.store.snapshot()) if job.state in ("queued", "running")]
        return min(jobs, key=lambda job: (job.state != "running", job.created, job.id), default=None)

    async def run(self, job: Job) -> JobState:
        """Bring a job to its end; gives its state. What fails for a passing reason is tried three times."""
        job = await asyncio.to_thread(self._at_home, job)
        if self._is_further(job):
            await asyncio.to_thread(write_whole, self._mark(job), json.dumps(self._reached(job)).encode())
            job = replace(job, attempt=0)
        if job.attempt >= MOST_ATTEMPTS:
            return self._end(job, "failed", f"{job.attempt} attempts were begun and none ended: {job.reason}")
        job = replace(job, state="running", attempt=job.attempt + 1, changed=time.time())
        await asyncio.to_thread(self._learned.store.commit, [JOBS.put(job)])
        try:
            state, reason = await self._run(job)
        except WrongState as error:
            return self._end(job, "cancelled", error.detail)
        except PerfuseError as error:
            _log.warning("job_failed", job=job.id, attempt=job.attempt, reason=error.detail)
            again = job.attempt < MOST_ATTEMPTS or self._is_further(job)
            return self._end(job, "queued" if again else "failed", error.detail)
        finally:
            self.stage = ""
        return self._end(job, state, reason)

    def _reached(self, job: Job) -> list[int]:
        """How far a job is, to be compared: stages that are done, and steps of the trainer."""
        folder = self._folder / job.id
        step = training.progress(folder).get("step", 0)
        trained, replayed = (folder / training.RESULT).exists(), (folder / REPLAY).exists()
        return [job.adaptation is not None, trained, step if isinstance(step, int) else 0, replayed]

    def _mark(self, job: Job) -> Path:
        return self._folder / job.id / "reached.json"

    def _is_further(self, job: Job) -> bool:
        """Whether a job is further than any attempt before had found it."""
        try:
            before = json.loads(self._mark(job).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return True
        return not isinstance(before, list) or self._reached(job) > before

    def _at_home(self, job: Job) -> Job:
        """The job for the base model and in the cluster of today: a new model sorts the same requests anew."""
        if job.base != self._kit.base:
            shutil.rmtree(self._folder / job.id, ignore_errors=True)
            job = replace(job, base=self._kit.base)
        rows = self._rows(job)
        homes = Counter(row.cluster for row in rows.values() if row.cluster)
        if not homes or job.cluster in homes:
            return job
        home = homes.most_common(1)[0][0]
        return replace(
            job, cluster=home, feedback=tuple(i for i in job.feedback if i in rows and rows[i].cluster == home)
        )

    def _end(self, job: Job, state: JobState, reason: str) -> JobState:
        """Write the end of a job, unless somebody has cancelled it meanwhile."""
        there = JOBS.get(self._learned.store.snapshot(), job.id)
        if there is None or there.state == "cancelled":
            state = "cancelled"
        if there is not None and there.adaptation is not None and state in ("failed", "cancelled"):
            self._leave(there.adaptation, f"its job ended as {state}: {reason}")
        if there is not None and there.state != "cancelled":
            done = replace(there, state=state, attempt=job.attempt, reason=reason, changed=time.time())
            self._learned.store.commit([JOBS.put(done)])
        if state in ("done", "cancelled"):
            shutil.rmtree(self._folder / job.id, ignore_errors=True)
        return state

    def _leave(self, candidate: str, reason: str) -> None:
        """A candidate that no job will ever bring to the gate again ends, so that its bytes can be purged."""
        found = get(self._learned.store.snapshot(), candidate)
        if found.state == "candidate":
            reject(self._learned, candidate, reason, found.report, time.time())

    async def _run(self, job: Job) -> tuple[JobState, str]:
        folder = self._folder / job.id
        rows = await asyncio.to_thread(self._rows, job)
        lessons = self._lessons(rows)
        if not lessons.lines:
            return "failed", "nothing of its feedback can be taught"
        write_whole(folder / "lessons.jsonl", "\n".join(lessons.lines).encode())
        champion = current(self._learned.store.snapshot(), job.tenant, job.cluster).champion
        self.stage = "replay"
        await self._replay(job, folder, len(lessons.lines))
        self.stage = "train"
        data = await training.train(folder, self._kit.folder, self._plan.config, self._plan.seconds)
        async with self._turn:
            candidate = await asyncio.to_thread(self._admit, job, rows, lessons, data, champion)
        await asyncio.to_thread(self._note, job, candidate.id)
        if candidate.state != "candidate":
            return "done", f"{candidate.id} is {candidate.state}: {candidate.reason}"
        self.stage = "gate"
        measured = await measure(
            candidate, lessons.held_back, self._reference, self._answerer, champion, self._resident_bytes(), len(data)
        )
        return await asyncio.to_thread(self._decide, candidate, lessons.held_back, measured)

    def _rows(self, job: Job) -> dict[str, Feedback]:
        snapshot = self._learned.store.snapshot()
        found = [FEEDBACK.get(snapshot, identity) for identity in job.feedback]
        return {row.id: row for row in found if row is not None}

    def _elsewhere(self, job: Job, width: int) -> Vectors:
        """Vectors `[n, width]` of what the tenant asks in other clusters."""
        rows = FEEDBACK.scan(self._learned.store.snapshot())
        others = [
            row
            for row in rows
            if (row.tenant, row.embedder) == (job.tenant, self._kit.embedder.hash)
            and row.cluster not in ("", job.cluster)
        ]
        return vectors_of(others) if others else np.empty((0, width), np.float32)

    def _lessons(self, rows: Mapping[str, Feedback]) -> Lessons:
        revocations = REVOCATIONS.scan(self._learned.store.snapshot())
        return lessons_of(curate(rows.values(), self._plan.curation, revocations).examples, rows)

    async def _replay(self, job: Job, folder: Path, count: int) -> None:
        """What the base model says itself, as many lines as there are lessons; kept when it is there already."""
        path = folder / REPLAY
        if path.exists():
            return
        rng = random.Random(job.id)
        anchors = rng.sample(self._reference.replayed, min(count, len(self._reference.replayed)))

        async def said(prompt: str) -> str:
            answer = await self._answerer.fill(Asked(prompt), "none", job.tenant)
            return lesson_line(Asked(prompt), answer.text)

        lines = await each([anchor.prompt for anchor in anchors], said)
        write_whole(path, "\n".join(lines).encode())

    def _admit(
        self,
        job: Job,
        rows: Mapping[str, Feedback],
        lessons: Lessons,
        data: bytes,
        champion: str | None,
    ) -> Adaptation:
        members = vectors_of([rows[identity] for identity in sorted(rows)])
        centroid = centroid_of(members)
        now = time.time()
        return admit(
            self._learned,
            Adaptation(
                id="",
                tenant=job.tenant,
                cluster=job.cluster,
                kind="lora",
                blob="",
                parent=champion,
                base=self._kit.base,
                embedder=self._kit.embedder.hash,
                dataset=lessons.dataset,
                feedback=lessons.feedback,
                sources=lessons.sources,
                seed=int(str(self._plan.config.get("seed", 0))),
                config=json.dumps(dict(self._plan.config)),
                report="",
                state="candidate",
                reason="",
                centroid=tuple(float(x) for x in centroid),
                radius=radius(
                    members,
                    centroid,
                    outsiders=self._reference.replayed_vectors,
                    leak=LEAK,
                    neighbours=self._elsewhere(job, members.shape[1]),
                ),
                created=now,
                changed=now,
            ),
            data,
        )

    def _note(self, job: Job, adaptation: str) -> None:
        self._learned.store.commit([JOBS.put(replace(job, adaptation=adaptation, changed=time.time()))])

    def _decide(self, candidate: Adaptation, tasks: Sequence[Task], measured: Measured) -> tuple[JobState, str]:
        decision = without_gain(measured, decide(measured, self._plan.thresholds))
        report = report_of(measured, decision)
        now = time.time()
        reasons = "; ".join(decision.reasons)
        _log.info("gate", adaptation=candidate.id, outcome=decision.outcome, reasons=reasons, tasks=len(tasks))
        if decision.outcome == "reject":
            reject(self._learned, candidate.id, reasons, report, now)
            return "done", f"{candidate.id} was rejected: {reasons}"
        start_canary(self._learned, candidate.id, self._plan.share, report, now)
        return "done", f"{candidate.id} is the canary" + (f"; open: {reasons}" if reasons else "")


def without_gain(measured: Measured, decision: Decision) -> Decision:
    """The decision, turned into a rejection where pairs too few to prove a gain still show none."""
    gain = measured.gain
    if decision.outcome == "unproven" and gain.n >= LEAST_HELD_BACK and gain.gained <= gain.lost:
        seen = f"no gain is seen: {gain.gained} won and {gain.lost} lost of {gain.n} pairs"
        return replace(decision, outcome="reject", reasons=(seen, *decision.reasons))
    return decision


def report_of(measured: Measured, decision: Decision) -> str:
    """The gate's figures as JSON; `gain` is the change in accuracy on the tasks kept back.

    `calibration`: chance of an answer to be right, by its doubt in nats (`adaptation.isotonic.Falling`).
    """
    pairs = measured.gain
    return json.dumps(
        {
            "outcome": decision.outcome,
            "reasons": list(decision.reasons),
            "gain": pairs.change,
            "pairs": {"n": pairs.n, "gained": pairs.gained, "lost": pairs.lost},
            "p_value": decision.p_value,
            "anchors": {
                name: {"n": p.n, "gained": p.gained, "lost": p.lost, "drop_at_most": decision.anchor_bounds[name]}
                for name, p in measured.anchors.items()
            },
            "nll_bits": measured.nll_bits,
            "latency_ratio": measured.latency_ratio,
            "memory_ratio": measured.memory_ratio,
            "calibration": None if measured.chance is None else measured.chance.as_json(),
        }
    )


def resident_bytes(pid: int | None) -> int:
    """Resident memory of a process; 0 where it cannot be read."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
