"""The front's end of the worker's socket: who is not there is said soon; after a restart it goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from ordering import Scripted, bound, serving
from perfuse import orders, wire
from perfuse.dispatch.evolution import EvolutionLink
from perfuse.errors import GenerationFailed, Unavailable
from perfuse.evolution.learned import Learned
from unit.evolution.learning import reopen

STATUS = orders.Status(tenant="t")
READY = wire.frame(orders.Ready())


@pytest.fixture
def learned(tmp_path: Path) -> Iterator[Learned]:
    with reopen(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "e.sock"


@asynccontextmanager
async def worker_that_sends(path: Path, *, first: bytes = READY, answer: bytes = b"") -> AsyncIterator[None]:
    """Answers every order with the same bytes, until its asker leaves."""
    connections: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        with suppress(ConnectionError):
            while await reader.read(4096):
                writer.write(answer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.ensure_future(serve(reader, writer)))

    server = await asyncio.start_unix_server(connected, path)
    yield
    server.close()
    await asyncio.gather(*connections)


async def test_nobody_listens(path: Path) -> None:
    with pytest.raises(Unavailable) as refused:
        await EvolutionLink(str(path)).ask(STATUS)
    assert refused.value.detail == "the evolution worker is not running"
    assert refused.value.hint == "it is starting again; try again"
    assert refused.value.retry_after == 2.0


async def test_somebody_listens_but_no_worker_is_there_yet(path: Path, learned: Learned) -> None:
    """The supervisor holds the socket; a connection waits in the kernel until a worker takes it."""
    listening = bound(path)
    link = EvolutionLink(str(path), ready_seconds=0.1)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="^the evolution worker is not running$"):
        await link.ask(STATUS)
    with pytest.raises(Unavailable, match="^the evolution worker is not running$"):
        await link.ask(STATUS)
    assert time.monotonic() - began < 20
    link.close()
    listening.close()


async def test_asking_goes_on_after_a_restart(path: Path, learned: Learned) -> None:
    async with serving(Scripted(learned), path):
        link = EvolutionLink(str(path))
        assert (await link.ask(STATUS))["stage"] == "train"
    path.unlink()
    with pytest.raises(Unavailable, match="^the evolution worker (is not running|ended before it answered)$"):
        await link.ask(STATUS)
    async with serving(Scripted(learned), path):
        assert (await link.ask(STATUS))["stage"] == "train"
        link.close()


async def test_those_who_ask_at_once_share_a_connection(path: Path, learned: Learned) -> None:
    async with serving(Scripted(learned), path) as link:
        answers = await asyncio.gather(*(link.ask(STATUS) for _ in range(50)))
        assert [answer["stage"] for answer in answers] == ["train"] * 50


async def test_a_worker_that_does_not_answer(path: Path) -> None:
    async with worker_that_sends(path):
        link = EvolutionLink(str(path), answer_seconds=0.05)
        with pytest.raises(Unavailable) as refused:
            await link.ask(STATUS)
        link.close()
    assert refused.value.detail == "the evolution worker did not answer within 0.05 s"
    assert refused.value.hint == "look at `perfuse evolve status` before you try again"


@pytest.mark.parametrize("answer", [b"\xff\xff\xff\xff", b"\0\0\0\1\xc1", wire.frame(wire.Cancel(id=1))])
async def test_what_is_no_answer_ends_the_connection(path: Path, answer: bytes) -> None:
    async with worker_that_sends(path, answer=answer):
        link = EvolutionLink(str(path))
        with pytest.raises(Unavailable, match="^the evolution worker said what is no answer: ") as refused:
            await link.ask(STATUS)
    assert refused.value.hint == "is it of another build?"


async def test_answers_that_nobody_waits_for_are_passed_over(path: Path) -> None:
    stale = wire.frame(orders.Done(99, {})) + wire.frame(orders.Done(1, {"n": 1})) + wire.frame(orders.Done(1, {}))
    async with worker_that_sends(path, answer=stale):
        link = EvolutionLink(str(path))
        assert await link.ask(STATUS) == {"n": 1}
        link.close()


async def test_a_problem_of_a_newer_build_is_a_failure(path: Path) -> None:
    problem = wire.frame(wire.Problem(id=1, code="from_the_future", detail="?"))
    async with worker_that_sends(path, answer=problem):
        link = EvolutionLink(str(path))
        with pytest.raises(GenerationFailed, match=r"^\?$"):
            await link.ask(STATUS)
        link.close()


async def test_closing_twice_or_unconnected_is_nothing(path: Path) -> None:
    link = EvolutionLink(str(path))
    link.close()
    link.close()
