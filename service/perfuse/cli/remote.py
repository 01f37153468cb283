"""Asking a running server, for commands with `--url`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from perfuse.errors import PerfuseError, Unavailable
from perfuse.wire import error_classes

_TIMEOUT_SECONDS = 600.0

Body = dict[str, object]


def ask(
    url: str, key: str | None, route: str, fields: Mapping[str, object], on_preview: Callable[[Body], None]
) -> Body:
    """Post `fields` and follow the events to the result.

    Args:
        url: of the server.
        key: API key, if the server wants one.
        route: "diffuse" or "plan".
        fields: the body; fields that are None are left out.
        on_preview: told what each `step` or `preview` event says.

    Raises:
        PerfuseError: what the server answered, as the class of its code; Unavailable if nothing answers.
    """
    import httpx2

    address = f"{url.rstrip('/')}/v1/{route}"
    body = {name: value for name, value in fields.items() if value is not None} | {"stream": True}
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}
    try:
        with (
            httpx2.Client(timeout=_TIMEOUT_SECONDS) as client,
            client.stream("POST", address, content=msgspec.json.encode(body), headers=headers) as response,
        ):
            if response.status_code != httpx2.codes.OK:
                raise _error_of(response.read())
            name = ""
            for line in response.iter_lines():
                kind, _, value = line.partition(": ")
                if kind == "event":
                    name = value
                elif kind == "data" and name == "error":
                    raise _error_of(value.encode())
                elif kind == "data" and name == "result":
                    return msgspec.json.decode(value, type=Body)
                elif kind == "data" and name in {"step", "preview"}:
                    on_preview(msgspec.json.decode(value, type=Body))
    except httpx2.HTTPError as error:
        raise Unavailable(f"no answer from {url}: {error}", hint="is the server running? see `perfuse serve`") from None
    raise Unavailable(f"the server at {url} ended its answer early", hint="see the server's log")


def _error_of(raw: bytes) -> PerfuseError:
    """The problem as the error it stands for."""
    try:
        problem = msgspec.json.decode(raw, type=dict[str, object])
    except msgspec.DecodeError:
        return Unavailable("the answer is not from perfuse", hint="check --url")
    kind = error_classes().get(str(problem.get("code")), PerfuseError)
    hint = problem.get("hint")
    return kind(str(problem.get("detail")), hint=None if hint is None else str(hint))
