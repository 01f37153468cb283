"""Whether the server learns: corrections of new kinds of request go in over HTTP, unseen requests of them come back.

What is learned is simulated feedback: families of tasks that no shipped model was trained on, with corrections and
tests written by the generator (`training.corpus.families`). Evaluated combinations are never corrected.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from perfuse import logging, sandbox
from perfuse.adaptation.isotonic import calibration_error
from perfuse.errors import InvalidRequest, PerfuseError, Unavailable
from perfuse.evaluation.intervals import wilson
from perfuse.evaluation.load import Answer, Server, ask, serving, storm
from perfuse.training.corpus import families
from perfuse.training.corpus.families import Family, FamilyTask
from perfuse.training.corpus.tasks import Task, held_out_tasks, validation_tasks

log = logging.get(__name__)

CLIENTS = 32
SECONDS = 4.0
ANCHORS = 1000
LIVE = 200
"""Most live requests sent while a canary runs."""
LIVE_AT_ONCE = 16
POLL_SECONDS = 0.5


def tell(progress: str) -> None:
    """Log how far an evaluation is."""
    log.info(progress)


@dataclass(frozen=True, slots=True, kw_only=True)
class Teaching:
    """How feedback is given.

    Attributes:
        wrong: share of the corrections that are plausible and wrong.
        verified: whether tests come with the corrections.
        sources: how many sources say the same.
        shuffled: whether each correction belongs to another request.
        name: what the names of the sources begin with.
    """

    wrong: float = 0.0
    verified: bool = True
    sources: int = 1
    shuffled: bool = False
    name: str = "agent"


@dataclass(slots=True)
class Score:
    """Answers of one server to some tasks.

    Attributes:
        passed: task by task.
        by: id of the adaptation that took part, task by task; "" where none did.
        texts: the answers.
        chances: of each to be right, as it says itself; None where it does not.
    """

    passed: list[bool]
    by: list[str]
    texts: list[str]
    chances: list[float | None] = field(default_factory=list)

    @property
    def adapted(self) -> int:
        """How many answers an adaptation took part in."""
        return sum(map(bool, self.by))

    @property
    def rate(self) -> float:
        """Share that passed."""
        return sum(self.passed) / max(len(self.passed), 1)

    def as_json(self) -> dict[str, object]:
        """The rate with its 95 % Wilson interval."""
        low, high = wilson(sum(self.passed), len(self.passed))
        return {
            "pass_at_1": round(self.rate, 4),
            "low": round(low, 4),
            "high": round(high, 4),
            "n": len(self.passed),
            "adapted": self.adapted,
            **self._honesty(),
        }

    def _honesty(self) -> dict[str, object]:
        """How the chances that adapted answers say of themselves compare with how many are right."""
        told = [
            (chance, passed)
            for chance, passed, by in zip(self.chances, self.passed, self.by, strict=False)
            if by and chance is not None
        ]
        if not told:
            return {}
        chances, right = [chance for chance, _ in told], [passed for _, passed in told]
        return {
            "p_correct": {
                "n": len(told),
                "mean": round(sum(chances) / len(told), 4),
                "right": round(sum(right) / len(told), 4),
                "ece": round(calibration_error(chances, right), 4),
            }
        }


class _Output(msgspec.Struct):
    text: str
    p_correct: float | None = None


class _Attribution(msgspec.Struct):
    id: str


class _Filled(msgspec.Struct):
    """The part of an answer that is used; raises msgspec.ValidationError on a problem."""

    id: str
    outputs: list[_Output]
    attribution: list[_Attribution] = []


async def score(server: Server, tasks: Sequence[Task], adaptation: str = "auto") -> Score:
    """What the server answers to the tasks' sentences, judged in the jail; the same request gives the same bytes."""
    bodies = [request_of(task, adaptation=adaptation) for task in tasks]
    answers = await storm(server.port, "/diffuse", bodies, CLIENTS)
    filled = [msgspec.json.decode(answer.body, type=_Filled) for answer in answers]
    texts = [answer.outputs[0].text for answer in filled]
    verdicts = await asyncio.to_thread(
        sandbox.run_many, [_jailed(task, text) for task, text in zip(tasks, texts, strict=True)]
    )
    by = [each.attribution[0].id if each.attribution else "" for each in filled]
    return Score([v.passed for v in verdicts], by, texts, [answer.outputs[0].p_correct for answer in filled])


def request_of(task: Task, **more: object) -> dict[str, object]:
    """Body of a request for the task's sentence."""
    return {"modality": "text", "prompt": task.prompt, "seed": 0, "reproducible": True, **more}


def _jailed(task: Task, text: str) -> sandbox.Task:
    cases = [
        sandbox.Case(args=case.arguments, expected=case.expected, raises="ValueError" if case.raises else None)
        for case in task.cases
    ]
    return sandbox.Task(text, task.entry_point, cases, seconds=SECONDS)


def verifier_of(task: Task) -> dict[str, object]:
    """The task's tests as feedback carries them: without those whose numbers do not fit into 64 bits."""
    cases: list[dict[str, object]] = [
        {"args": list(case.arguments), "raises": "ValueError"}
        if case.raises
        else {"args": list(case.arguments), "expected": case.expected}
        for case in task.cases
        if _fits([list(case.arguments), case.expected])
    ]
    return {"kind": "python_tests", "entry_point": task.entry_point, "cases": cases}


def _fits(value: object) -> bool:
    if isinstance(value, dict):
        return all(_fits(each) for pair in value.items() for each in pair)
    if isinstance(value, list | tuple):
        return all(_fits(each) for each in value)
    return not isinstance(value, int) or -(2**63) <= value < 2**63


async def teach(server: Server, tasks: Sequence[FamilyTask], how: Teaching, seed: int = 0) -> None:
    """Ask for each task and correct the answers."""
    rng = random.Random(f"teach {seed}")
    said = [families.wrong_correction(drawn, rng) if rng.random() < how.wrong else drawn.task.code for drawn in tasks]
    if how.shuffled:
        said = said[1:] + said[:1]
    sources = [f"{how.name}-{number}" for number in range(how.sources)]
    await judged(server, [drawn.task for drawn in tasks], sources, said, verified=how.verified)


async def learned(server: Server, shown: Sequence[FamilyTask], items: int, how: Teaching, seed: int = 0) -> int:
    """Correct the first `items` tasks, wait, send the others as live requests, wait; gives how many live ones."""
    await teach(server, shown[:items], how, seed)
    await settled(server)
    lived = await live(server, shown[items:])
    await settled(server)
    return lived


async def live(server: Server, tasks: Sequence[FamilyTask]) -> int:
    """Requests with tests, as agents send them that check their answers, until no canary runs; gives how many."""
    for start in range(0, len(tasks), LIVE_AT_ONCE):
        if not any(cluster["canary"] for cluster in await clusters(server)):
            return start
        await judged(server, [drawn.task for drawn in tasks[start : start + LIVE_AT_ONCE]], ["tester"])
        await settled(server, jobs=False)
    return len(tasks)


async def judged(
    server: Server,
    tasks: Sequence[Task],
    sources: Sequence[str],
    corrections: Sequence[str] = (),
    *,
    verified: bool = True,
) -> None:
    """Ask for each task; each source then says of the answers what is right, and with `verified` sends the tests."""
    asking = [request_of(task) for task in tasks]
    answers = [_expect("/diffuse", 200, each) for each in await storm(server.port, "/diffuse", asking, CLIENTS)]
    saying: list[dict[str, object]] = []
    for index, (task, answer) in enumerate(zip(tasks, answers, strict=True)):
        identity = msgspec.json.decode(answer.body, type=_Filled).id
        body: dict[str, object] = {"generation_id": identity}
        if corrections:
            body["correction"] = corrections[index]
        if verified:
            body["verifier"] = verifier_of(task)
        saying += [{**body, "source": source, "idempotency_key": f"{identity}/{source}"} for source in sources]
    for answer in await storm(server.port, "/feedback", saying, CLIENTS):
        _expect("/feedback", 202, answer)


async def asked(server: Server, task: Task) -> str:
    """Id of the answer to the task's sentence. Raises PerfuseError: it was refused."""
    answer = await sent(server, "/diffuse", request_of(task), 200)
    return msgspec.json.decode(answer.body, type=_Filled).id


async def accepted(server: Server, body: object) -> None:
    """Send feedback. Raises PerfuseError: it was refused."""
    await sent(server, "/feedback", body, 202)


async def sent(server: Server, path: str, body: object, expected: int) -> Answer:
    """Post; the answer, if it has the status expected. Raises PerfuseError: it has another one."""
    return _expect(path, expected, await ask(server.port, "POST", path, body))


def _expect(path: str, expected: int, answer: Answer) -> Answer:
    if answer.status != expected:
        raise PerfuseError(f"POST {path}: expected {expected}, got {answer.status}: {answer.body.decode()[:500]}")
    return answer


async def status(server: Server) -> dict[str, object]:
    """`GET /evolution`; empty while the worker is not there."""
    answer = await ask(server.port, "GET", "/evolution")
    return answer.json() if answer.status == 200 else {}


async def clusters(server: Server) -> list[Mapping[str, object]]:
    """Clusters with what serves them."""
    found = (await status(server)).get("clusters")
    return found if isinstance(found, list) else []


async def settled(server: Server, seconds: float = 900.0, *, jobs: bool = True) -> float:
    """Wait until all feedback is sorted and, with `jobs`, nothing is being trained; gives the seconds it took.

    Raises:
        Unavailable: it took longer.
    """
    started = time.monotonic()
    calm = 0
    while time.monotonic() - started < seconds:
        calm = calm + 1 if _calm(await status(server), jobs=jobs) else 0
        if calm == 3:
            return time.monotonic() - started
        await asyncio.sleep(POLL_SECONDS)
    raise Unavailable(f"the server was still learning after {seconds:g} s: {await status(server)}")


def _calm(found: Mapping[str, object], *, jobs: bool) -> bool:
    inbox, feedback, every = found.get("inbox"), found.get("feedback"), found.get("jobs")
    if not isinstance(inbox, dict) or not isinstance(feedback, dict) or not isinstance(every, list):
        return False
    under_way = [job for job in every if job["state"] in ("queued", "running")]
    waiting = inbox.get("waiting", 1) or inbox.get("leased", 0) or feedback.get("new", 0)
    return not waiting and not (jobs and (under_way or found.get("stage")))


@contextmanager
def learning(folder: Path, *flags: str) -> Iterator[Server]:
    """A server that learns, with its data directory in `folder`, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    with serving(folder / "data", "--max-backlog-seconds", "600", *flags) as server:
        yield server


def named(names: str, seed: int = 0) -> tuple[Family, ...]:
    """Families by name, separated by commas; without names near, mid, far, and one that `seed` draws.

    Raises:
        InvalidRequest: there is no family of that name.
    """
    every = {family.name: family for family in (*families.demonstrated(seed), *families.POOL)}
    if not names:
        return families.demonstrated(seed)
    if unknown := [name for name in names.split(",") if name not in every]:
        raise InvalidRequest(f"no family is named {', '.join(unknown)}; there are {', '.join(sorted(every))}")
    return tuple(every[name] for name in names.split(","))


def anchor_tasks(count: int = ANCHORS) -> list[Task]:
    """Tasks of the base model's own kind that neither training nor any gate has seen."""
    held_out = list(held_out_tasks(count))
    return [*held_out, *validation_tasks(count - len(held_out), len(held_out))][:count]
