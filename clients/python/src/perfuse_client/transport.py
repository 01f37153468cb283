"""How calls get to a server and answers back: connections, retries, timeouts, streams. Sync and async."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Optional, TypedDict, TypeVar

import httpx2

from perfuse_client.call import Call
from perfuse_client.errors import NoAnswer, PerfuseError, StreamBroken, TimedOut, UnexpectedAnswer, refusal
from perfuse_client.events import Event, EventLines, Result, event_of
from perfuse_client.retries import Retries

if TYPE_CHECKING:
    from typing_extensions import Self

AnswerT = TypeVar("AnswerT")
T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT = 60.0
_CONNECT_SECONDS = 5.0
_JSON = "application/json"
_EVENT_STREAM = "text/event-stream"
_FIRST_ERROR = 400
_SERVER_ERROR = 500


class _Shared:
    """What both transports know: the server, the key, the patience."""

    def __init__(self, url: Optional[str], key: Optional[str], timeout: float, retries: Optional[Retries]) -> None:
        self.url = url or os.environ.get("PERFUSE_URL") or DEFAULT_URL
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url: expected http://… or https://…, got {self.url!r}")
        key = key or os.environ.get("PERFUSE_KEY")
        self._headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self._timeout = timeout
        self._retries = retries or Retries()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def _patience(self, call: Call[AnswerT]) -> httpx2.Timeout:
        """A free connection of the pool is waited for without limit; only silence of the server counts."""
        seconds = self._timeout if call.timeout is None else call.timeout
        return httpx2.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS), pool=None)


class Transport(_Shared):
    """Carries calls out and waits for them.

    Args:
        url: of the server; None: `PERFUSE_URL`, or port 8000 of this machine.
        key: sent as bearer token; None: `PERFUSE_KEY`, or none.
        timeout: seconds of silence after which a call fails; each call can name its own.
        retries: when calls are sent again.
        transport: another way to the server, for example `httpx2.HTTPTransport(uds=…)` or one with a proxy.

    Raises:
        ValueError: the URL is not one of HTTP.
    """

    def __init__(
        self,
        url: Optional[str] = None,
        *,
        key: Optional[str] = None,
        timeout: float = DEFAULT_TIMEOUT,
        retries: Optional[Retries] = None,
        transport: Optional[httpx2.BaseTransport] = None,
    ) -> None:
        super().__init__(url, key, timeout, retries)
        self._http = httpx2.Client(base_url=self.url, headers=self._headers, transport=transport)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _answer(self, call: Call[AnswerT]) -> AnswerT:
        return self._retried(lambda: _read(call, self._sent(call, _JSON).content))

    def _stream(self, call: Call[AnswerT]) -> Generator[Event[AnswerT], None, None]:
        response = self._retried(lambda: self._sent(call, _EVENT_STREAM))
        lines, finished = EventLines(), False
        try:
            for chunk in response.iter_bytes():
                for event in _events(call, lines, chunk):
                    yield event
                    finished = isinstance(event, Result)
        except httpx2.RequestError as error:
            if not finished:
                raise _unanswered(call, error, StreamBroken) from error
        finally:
            response.close()
        if not finished:
            raise _cut_short(call)

    def _retried(self, attempt: Callable[[], T]) -> T:
        sent = 0
        while True:
            try:
                return attempt()
            except PerfuseError as error:
                sent += 1
                pause = self._retries.pause(sent, error)
                if pause is None:
                    raise
            time.sleep(pause)

    def _sent(self, call: Call[AnswerT], accept: str) -> httpx2.Response:
        request = self._http.build_request(**_request(call, accept), timeout=self._patience(call))
        try:
            response = self._http.send(request, stream=accept == _EVENT_STREAM)
            if not _is_stream(response):
                response.read()
        except httpx2.RequestError as error:
            raise _unanswered(call, error, NoAnswer) from error
        _check(call, response, accept)
        return response


class AsyncTransport(_Shared):
    """Carries calls out on an asyncio loop. A task that is cancelled closes its connection, and the server stops.

    Args:
        url: of the server; None: `PERFUSE_URL`, or port 8000 of this machine.
        key: sent as bearer token; None: `PERFUSE_KEY`, or none.
        timeout: seconds of silence after which a call fails; each call can name its own.
        retries: when calls are sent again.
        transport: another way to the server, for example `httpx2.AsyncHTTPTransport(uds=…)` or one with a proxy.

    Raises:
        ValueError: the URL is not one of HTTP.
    """

    def __init__(
        self,
        url: Optional[str] = None,
        *,
        key: Optional[str] = None,
        timeout: float = DEFAULT_TIMEOUT,
        retries: Optional[Retries] = None,
        transport: Optional[httpx2.AsyncBaseTransport] = None,
    ) -> None:
        super().__init__(url, key, timeout, retries)
        self._http = httpx2.AsyncClient(base_url=self.url, headers=self._headers, transport=transport)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def _answer(self, call: Call[AnswerT]) -> AnswerT:
        async def attempt() -> AnswerT:
            return _read(call, (await self._sent(call, _JSON)).content)

        return await self._retried(attempt)

    async def _stream(self, call: Call[AnswerT]) -> AsyncGenerator[Event[AnswerT], None]:
        response = await self._retried(lambda: self._sent(call, _EVENT_STREAM))
        lines, finished = EventLines(), False
        try:
            async for chunk in response.aiter_bytes():
                for event in _events(call, lines, chunk):
                    yield event
                    finished = isinstance(event, Result)
        except httpx2.RequestError as error:
            if not finished:
                raise _unanswered(call, error, StreamBroken) from error
        finally:
            await response.aclose()
        if not finished:
            raise _cut_short(call)

    async def _retried(self, attempt: Callable[[], Awaitable[T]]) -> T:
        sent = 0
        while True:
            try:
                return await attempt()
            except PerfuseError as error:
                sent += 1
                pause = self._retries.pause(sent, error)
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    async def _sent(self, call: Call[AnswerT], accept: str) -> httpx2.Response:
        request = self._http.build_request(**_request(call, accept), timeout=self._patience(call))
        try:
            response = await self._http.send(request, stream=accept == _EVENT_STREAM)
            if not _is_stream(response):
                await response.aread()
        except httpx2.RequestError as error:
            raise _unanswered(call, error, NoAnswer) from error
        _check(call, response, accept)
        return response


class _Request(TypedDict):
    method: str
    url: str
    params: dict[str, str]
    content: Optional[bytes]
    headers: dict[str, str]


def _request(call: Call[AnswerT], accept: str) -> _Request:
    headers = {"x-request-id": call.request_id, "accept": accept}
    if call.body is not None:
        headers["content-type"] = _JSON
    return {
        "method": call.method,
        "url": call.path,
        "params": call.parameters(),
        "content": call.content(),
        "headers": headers,
    }


def _check(call: Call[AnswerT], response: httpx2.Response, accept: str) -> None:
    """Raises what an answer that is no success stands for. Its body must have been read."""
    status, headers = response.status_code, response.headers
    request_id = headers.get("x-request-id", call.request_id)
    if status >= _FIRST_ERROR:
        raise refusal(status, response.content, request_id=request_id, retry_after=headers.get("retry-after"))
    if not response.is_success or (accept == _EVENT_STREAM and not _is_stream(response)):
        kind = headers.get("content-type", "of no type")
        raise UnexpectedAnswer(f"{call.method} {call.path}: status {status}, content {kind}", request_id=request_id)


def _is_stream(response: httpx2.Response) -> bool:
    return response.is_success and response.headers.get("content-type", "").startswith(_EVENT_STREAM)


def _read(call: Call[AnswerT], content: bytes) -> AnswerT:
    try:
        return call.read(content)
    except ValueError as error:
        raise _unexpected(call, error) from error


def _events(call: Call[AnswerT], lines: EventLines, chunk: bytes) -> Iterator[Event[AnswerT]]:
    for name, data in lines.feed(chunk):
        if name == "error":
            raise refusal(_SERVER_ERROR, data, request_id=call.request_id)
        try:
            event = event_of(name, data, call.read)
        except ValueError as error:
            raise _unexpected(call, error) from error
        if event is not None:
            yield event


def _unexpected(call: Call[AnswerT], error: ValueError) -> UnexpectedAnswer:
    return UnexpectedAnswer(f"{call.method} {call.path}: {error}", request_id=call.request_id)


def _cut_short(call: Call[AnswerT]) -> StreamBroken:
    said = f"{call.method} {call.path}: the stream ended before its result"
    return StreamBroken(said, request_id=call.request_id)


def _unanswered(call: Call[AnswerT], error: httpx2.RequestError, kind: type[NoAnswer]) -> PerfuseError:
    """What stopped a call before its answer was whole, as an error of ours."""
    said = f"{call.method} {call.path}: {str(error) or type(error).__name__}"
    if isinstance(error, httpx2.TimeoutException) and not isinstance(error, httpx2.ConnectTimeout):
        return TimedOut(said, request_id=call.request_id)
    return kind(said, request_id=call.request_id)
