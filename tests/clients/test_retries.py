"""What is sent again, when, and under which key and id."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx2
import pytest
from perfuse_client import AsyncClient, Client, NoAnswer, Overloaded, Retries, TimedOut, Unavailable

from clients.scripted_http import answer, answering, problem
from perfuse.evaluation.load import serving

MEMORY = {"id": "m", "prompt": "p", "text": "t", "source": "s", "generation": None, "created": 1.0}
NEVER = Retries(most=0)


class Watched(httpx2.AsyncHTTPTransport):
    """Notes when each call was refused with which `Retry-After`, and when it came back."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[str, tuple[float, float]] = {}
        self.waits: list[tuple[float, float]] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        identity = request.headers["x-request-id"]
        if (before := self.refused.pop(identity, None)) is not None:
            self.waits.append((before[1], time.monotonic() - before[0]))
        response = await super().handle_async_request(request)
        if response.status_code == 429:
            self.refused[identity] = (time.monotonic(), float(response.headers["retry-after"]))
        return response


LONG = {"prompt": "Return the sum of a list.", "length": 64, "steps": 64, "sampler": "low_confidence"}


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that takes on one request at a time."""
    data_dir = tmp_path_factory.mktemp("crowded") / "data"
    with serving(data_dir, "--max-backlog-seconds", "0.01", "--evolution", "off") as server:
        asyncio.run(server.ready())
        yield f"http://127.0.0.1:{server.port}"


async def test_a_full_server_is_asked_again_after_retry_after_until_all_are_served(crowded: str) -> None:
    watched = Watched()
    async with AsyncClient(crowded, retries=Retries(most=100), transport=watched) as client:
        answers = await asyncio.gather(*(client.diffuse(**LONG, seed=seed) for seed in range(5)))
    assert [each.seed for each in answers] == list(range(5))
    assert watched.waits
    assert all(waited >= asked >= 1.0 for asked, waited in watched.waits)


async def test_who_does_not_want_to_wait_is_told_for_how_long(crowded: str) -> None:
    async with AsyncClient(crowded, retries=NEVER) as client:
        answers = await asyncio.gather(*(client.diffuse(**LONG) for _ in range(5)), return_exceptions=True)
    refused = [each for each in answers if isinstance(each, BaseException)]
    assert {type(each) for each in refused} == {Overloaded}
    assert all(each.retry_after >= 1.0 and each.code == "overloaded" for each in refused)  # type: ignore[attr-defined]


def in_turn(url: str, **named: Any) -> Any:
    with Client(url, **named) as client:
        return client.remember(prompt="p", text="t")


def on_a_loop(url: str, **named: Any) -> Any:
    async def remember() -> Any:
        async with AsyncClient(url, **named) as client:
            return await client.remember(prompt="p", text="t")

    return asyncio.run(remember())


@pytest.fixture(params=[in_turn, on_a_loop], ids=["sync", "async"])
def remember(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return request.param


@pytest.mark.parametrize(
    "first",
    [
        answer(429, problem(429, "inbox_full"), retry_after="0"),
        answer(503, problem(503, "unavailable", retry_after=0.0)),
        answer(503, b"<html>no upstream</html>", content_type="text/html", retry_after="0.05"),
        answer(503, b"", retry_after="soon"),
        answer(429, [], retry_after=format_datetime(datetime(2020, 1, 1, tzinfo=UTC))),
        b"",
        b"HTTP/1.1 201 Created\r\ncontent-length: 100\r\n\r\n{",
    ],
    ids=["full", "unavailable", "proxy", "word", "date", "closed", "cut"],
)
def test_what_was_refused_or_lost_is_sent_again_under_the_same_key_and_id(
    first: bytes, remember: Callable[..., Any]
) -> None:
    with answering(first, answer(201, MEMORY)) as script:
        assert remember(script.url).id == "m"
    one, two = script.received
    assert one.json() == two.json()
    assert one.headers["x-request-id"] == two.headers["x-request-id"]
    assert len(str(one.json()["idempotency_key"])) == 32


def test_retry_after_is_kept(remember: Callable[..., Any]) -> None:
    with answering(
        answer(429, problem(429, "overloaded", retry_after=0.1), retry_after="1"), answer(201, MEMORY)
    ) as script:
        remember(script.url)
    waited = script.received[1].at - script.received[0].at
    assert waited >= 1.0


def test_a_date_says_when(remember: Callable[..., Any]) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1))
    with answering(answer(503, b"", retry_after=later)) as script, pytest.raises(Unavailable) as caught:
        remember(script.url)
    assert caught.value.retry_after == pytest.approx(3600, abs=5)
    assert caught.value.args[0] == "503 unexpected: an empty answer"


def test_after_the_last_attempt_the_error_is_raised(remember: Callable[..., Any]) -> None:
    refused = answer(429, problem(429, "overloaded", retry_after=0.01, hint="wait"))
    with answering(refused, refused, refused) as script, pytest.raises(Overloaded) as caught:
        remember(script.url)
    sent = script.received[0].headers["x-request-id"]
    assert str(caught.value) == f"429 overloaded: because; hint: wait (request {sent})"
    assert caught.value.hint == "wait"


def test_a_server_that_asks_for_too_much_patience_is_not_waited_for(remember: Callable[..., Any]) -> None:
    with answering(answer(503, problem(503, "unavailable"), retry_after="61")) as script, pytest.raises(Unavailable):
        remember(script.url)


@pytest.mark.parametrize("status", [400, 409, 500, 502])
def test_other_refusals_are_not_repeated(status: int, remember: Callable[..., Any]) -> None:
    with (
        answering(answer(status, problem(status, "internal_error"))) as script,
        pytest.raises(Exception, match=f"^{status}"),
    ):
        remember(script.url)
    assert len(script.received) == 1


def test_silence_is_not_repeated(remember: Callable[..., Any]) -> None:
    with answering(None) as script, pytest.raises(TimedOut):
        remember(script.url, timeout=0.05)
    assert len(script.received) == 1


def test_nobody_there(remember: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(NoAnswer) as caught:
        remember(f"http://127.0.0.1:{port}", retries=Retries(most=1))
    assert isinstance(caught.value, ConnectionError)
    assert caught.value.args[0].startswith("POST /memories: ")


def test_pauses_grow_and_are_spread() -> None:
    lost, full = NoAnswer("lost", request_id="r"), Retries(most=4)
    pauses = [[full.pause(sent, lost) for _ in range(50)] for sent in (1, 2, 3, 4)]
    for least, drawn in zip((0.25, 0.5, 1.0, 2.0), pauses, strict=True):
        assert all(pause is not None and least <= pause <= 1.25 * least for pause in drawn)
        assert len(set(drawn)) > 1
    assert full.pause(5, lost) is None
