"""What a taught server has learned and serves, asked over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from perfuse.api.learned import AdapterAnswer, AdapterBrief, AdaptersAnswer
from perfuse.errors import PerfuseError
from perfuse.evaluation.learning import CLIENTS, clusters, live, request_of, sent, settled
from perfuse.evaluation.load import Server, ask, storm
from perfuse.training.corpus.families import FamilyTask
from perfuse.training.corpus.tasks import Task

_AnswerT = TypeVar("_AnswerT")


@dataclass(frozen=True, slots=True)
class Crowned:
    """Champions, and how they came to be.

    Attributes:
        ids: of the champions.
        forced: whether the live requests did not make one, so that the latest candidate was promoted by order.
        live: requests that were sent while a canary ran.
    """

    ids: tuple[str, ...]
    forced: bool
    live: int


@dataclass(frozen=True, slots=True)
class Given:
    """One answer.

    Attributes:
        text: of the first output.
        outputs: all of them, as the bytes of the answer.
        adaptations: ids of those that took part.
    """

    text: str
    outputs: bytes
    adaptations: tuple[str, ...]


class _Attribution(msgspec.Struct):
    id: str


class _Output(msgspec.Struct):
    text: str


class _Answer(msgspec.Struct):
    outputs: msgspec.Raw
    attribution: list[_Attribution] = []


async def adapters(server: Server) -> tuple[AdapterBrief, ...]:
    """All adaptations, the latest first.

    Raises:
        PerfuseError: the worker does not answer.
    """
    return (await _got(server, "/adapters", AdaptersAnswer)).adapters


async def adapter(server: Server, identity: str) -> AdapterAnswer:
    """One adaptation in full.

    Raises:
        PerfuseError: the worker does not answer, or knows none of that id.
    """
    return await _got(server, f"/adapters/{identity}", AdapterAnswer)


async def champions(server: Server) -> tuple[str, ...]:
    """Ids of what serves."""
    return tuple(str(each["champion"]) for each in await clusters(server) if each["champion"] is not None)


async def crowned(server: Server, tasks: Sequence[FamilyTask]) -> Crowned:
    """Send live requests of these tasks until no canary runs; promote by order what has not become champion so.

    Raises:
        PerfuseError: nothing was trained, or the gate rejected all of it.
    """
    lived = await live(server, tasks)
    await settled(server)
    if found := await champions(server):
        return Crowned(found, forced=False, live=lived)
    every = await adapters(server)
    waiting = [each.id for each in every if each.state in ("candidate", "canary")]
    if not waiting:
        ends = "; ".join(f"{each.id} is {each.state}: {each.reason}" for each in every) or "nothing was trained"
        raise PerfuseError(f"no adaptation can serve: {ends}", hint="give more items or training steps")
    await sent(server, f"/adapters/{waiting[0]}/promote", {"force": True}, 200)
    return Crowned((waiting[0],), forced=True, live=lived)


async def given(server: Server, tasks: Sequence[Task]) -> list[Given]:
    """What the server answers to the tasks' sentences; the same request gives the same bytes.

    Raises:
        PerfuseError: a request was refused.
    """
    answers = await storm(server.port, "/diffuse", [request_of(task) for task in tasks], CLIENTS)
    return await asyncio.to_thread(lambda: [given_by(answer.status, answer.body) for answer in answers])


def given_by(status: int, body: bytes) -> Given:
    """An answer of /diffuse. Raises PerfuseError where it is a problem."""
    if status != 200:
        raise PerfuseError(f"POST /diffuse: expected 200, got {status}: {body.decode()[:500]}")
    answer = msgspec.json.decode(body, type=_Answer)
    outputs = bytes(answer.outputs)
    first, *_ = msgspec.json.decode(outputs, type=list[_Output])
    return Given(first.text, outputs, tuple(each.id for each in answer.attribution))


async def _got(server: Server, path: str, kind: type[_AnswerT]) -> _AnswerT:
    answer = await ask(server.port, "GET", path)
    if answer.status != 200:
        raise PerfuseError(f"GET {path}: expected 200, got {answer.status}: {answer.body.decode()[:500]}")
    return msgspec.json.decode(answer.body, type=kind)
