"""What a stream says: events of a generation, read from server-sent events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Optional, TypeVar, Union

from pydantic import BaseModel, ConfigDict

AnswerT = TypeVar("AnswerT")


class Accepted(BaseModel):
    """The request is admitted; about `backlog_seconds` of work lie before it. `snapshot` says what it knows."""

    backlog_seconds: float
    snapshot: int


class Step(BaseModel):
    """`step` of at most `of` steps are done."""

    step: int
    of: int


class Preview(Step):
    """What there is after a step: the `canvas` of a text, with `░` for masked places; `states` of the best plan.

    What later servers add is kept as attributes, too.
    """

    model_config = ConfigDict(extra="allow")

    canvas: Optional[str] = None
    states: Optional[list[list[float]]] = None


class Restarted(BaseModel):
    """An engine died; the request runs again."""

    restarts: int


@dataclass(frozen=True)
class Result(Generic[AnswerT]):
    """The last event."""

    answer: AnswerT


Event = Union[Accepted, Step, Preview, Restarted, Result[AnswerT]]

_Told = Union[Accepted, Step, Preview, Restarted]
_KINDS: dict[str, type[_Told]] = {"accepted": Accepted, "step": Step, "preview": Preview, "restarted": Restarted}


class EventLines:
    """Server-sent events out of the bytes of a stream, however they are cut."""

    def __init__(self) -> None:
        self._rest = b""
        self._name = ""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[tuple[str, bytes]]:
        """Name and data of each event that is complete now."""
        # Bytes, not text: str.splitlines would also cut at U+2028, which JSON may hold.
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.rstrip(b"\r").partition(b":")
            value = value[1:] if value.startswith(b" ") else value
            if name == b"event":
                self._name = value.decode()
            elif name == b"data":
                self._data.append(value)
            elif not (name or value) and self._data:
                yield self._name, b"\n".join(self._data)
                self._name, self._data = "", []


def event_of(name: str, data: bytes, read: Callable[[bytes], AnswerT]) -> Optional[Event[AnswerT]]:
    """The event of a name; None for those that a later server may add.

    Args:
        name: as the server calls it.
        data: its JSON.
        read: makes the answer out of the JSON of a result.

    Raises:
        ValueError: the data is not what the name promises.
    """
    if name == "result":
        return Result(read(data))
    if name not in _KINDS:
        return None
    return _KINDS[name].model_validate_json(data)
