"""Whether a server that was just deployed does its work, found out over HTTP as its clients will use it.

The checks run in order, because later ones use what earlier ones made. A check fails alone: the others still run, and
one whose material is missing is skipped and says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, TypeAlias

import msgspec

from perfuse.errors import Unavailable

if TYPE_CHECKING:
    import httpx2

Outcome = Literal["passed", "failed", "skipped"]
Body: TypeAlias = dict[str, object]

SOURCE = "perfuse-validate"
"""Who the feedback of a check is from; `perfuse evolve revoke --source perfuse-validate` takes it back."""
_TEXT: Body = {"modality": "text", "prompt": "Return the sum of the numbers.", "seed": 1}
_STREAMED: Body = {
    **_TEXT,
    "length": 48,
    "steps": 24,
    "sampler": "low_confidence",
    "adaptation": "none",
    "stream": True,
}
_PLAN: Body = {
    "domain": "trajectory",
    "environment": "maze2d-umaze",
    "state": [3.0, 1.0, 0.0, 0.0],
    "goal": {"position": [1.0, 1.0], "tolerance": 0.5},
    "seed": 1,
}
_TIMEOUT_SECONDS = 120.0
_PAUSE_SECONDS = 0.2
_OK, _ACCEPTED, _INVALID, _UNAVAILABLE = 200, 202, 422, 503
_BUFFERED = 0.25
"""Events of a stream that arrive within this share of its computing time were held back by somebody."""


@dataclass(frozen=True, slots=True)
class Check:
    """One question to the server and what came of it; `detail` says what was seen, or expected and seen."""

    name: str
    outcome: Outcome
    seconds: float
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    """All checks of one server. `generation` can be asked for again after a restart, with `--generation`."""

    url: str
    version: str | None
    generation: str | None
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(check.outcome != "failed" for check in self.checks)


class _Failed(Exception):
    """The server did something else than was expected of it."""


class _Skipped(Exception):
    """The question cannot be put to this server."""


def validate(url: str, key: str | None = None, *, wait_seconds: float = 60.0, generation: str | None = None) -> Report:
    """Ask a server everything that a deployment must be able to do.

    Args:
        url: of the server.
        key: API key with the scopes `generate` and `feedback`, if the server wants one.
        wait_seconds: how long it may take to become ready.
        generation: id of an answer given before, which must still be known.

    Raises:
        Unavailable: nothing answers at that URL, so there is nothing to check.
    """
    with _Visit(url, key, wait_seconds, generation) as visit:
        checks = tuple(_checked(name, question) for name, question in visit.questions())
        return Report(url, visit.version, visit.recorded, checks)


def _checked(name: str, question: Callable[[], str]) -> Check:
    import httpx2

    started = time.monotonic()
    outcome: Outcome = "passed"
    try:
        detail = question()
    except _Skipped as reason:
        outcome, detail = "skipped", str(reason)
    except _Failed as reason:
        outcome, detail = "failed", str(reason)
    except httpx2.HTTPError as error:
        outcome, detail = "failed", f"expected an answer, but: {error or type(error).__name__}"
    return Check(name, outcome, round(time.monotonic() - started, 3), detail)


@dataclass
class _Visit:
    """One client that asks one question after the other, and keeps what the server gave it."""

    url: str
    key: str | None
    wait_seconds: float
    generation: str | None
    version: str | None = None
    recorded: str | None = None
    _answer: Body = field(default_factory=dict)
    _served: frozenset[str] = frozenset()

    def __enter__(self) -> Self:
        import httpx2

        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        self._client = httpx2.Client(base_url=self.url.rstrip("/"), headers=headers, timeout=_TIMEOUT_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.close()

    def questions(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """What is asked, in order."""
        yield "ready", self._ready
        yield "models", self._models
        yield "answers", self._answers
        yield "streams", self._streams
        yield "plans", self._plans
        yield "takes feedback", self._takes_feedback
        yield "learns", self._learns
        yield "remembers", self._remembers
        yield "refuses", self._refuses
        yield "measures", self._measures

    def _ready(self) -> str:
        import httpx2

        deadline = time.monotonic() + self.wait_seconds
        began = time.monotonic()
        while True:
            try:
                answer = self._client.get("/readyz")
            except httpx2.HTTPError as error:
                if time.monotonic() >= deadline:
                    raise Unavailable(
                        f"no answer from {self.url}: {error}", hint="is the server running there?"
                    ) from None
            else:
                if answer.status_code != _UNAVAILABLE or time.monotonic() >= deadline:
                    break
            time.sleep(_PAUSE_SECONDS)
        said = _body(answer, _OK)
        self.version = str(_body(self._client.get("/version"), _OK).get("version"))
        return f"after {time.monotonic() - began:.1f} s; feedback: {said.get('inbox')}"

    def _models(self) -> str:
        models = _body(self._client.get("/v1/models"), _OK).get("models")
        _expect(isinstance(models, list) and len(models) > 0, "at least one model", models)
        assert isinstance(models, list)
        self._served = frozenset(str(model["modality"]) for model in models)
        return ", ".join(f"{model['name']} ({model['modality']})" for model in models)

    def _answers(self) -> str:
        self._needs("text")
        self._answer = _body(self._post("/v1/diffuse", _TEXT), _OK)
        fill = _first_output(self._answer).get("fill")
        _expect(bool(fill), "a text", fill)
        return f"{self._answer['model']} in {_milliseconds(self._answer)} ms"

    def _streams(self) -> str:
        self._needs("text")
        arrivals: list[tuple[str, float]] = []
        data = "{}"
        with self._client.stream("POST", "/v1/diffuse", json=_STREAMED) as answer:
            if answer.status_code != _OK:
                answer.read()
                _body(answer, _OK)
            for line in answer.iter_lines():
                kind, _, value = line.partition(": ")
                if kind == "event":
                    arrivals.append((value, time.monotonic()))
                elif kind == "data":
                    data = value
        names = [name for name, _ in arrivals]
        _expect(names[:1] == ["accepted"] and names[-1:] == ["result"], "events from accepted to result", names)
        _expect(not {"step", "preview"}.isdisjoint(names), "steps or previews", names)
        lasted, computed = arrivals[-1][1] - arrivals[0][1], _compute_seconds(_parsed(data))
        if lasted < _BUFFERED * computed:
            raise _Failed(
                f"expected events while the answer was computed ({computed:.3f} s), "
                f"but all came within {lasted:.3f} s; does a proxy buffer them?"
            )
        return f"{len(names)} events over {lasted * 1000:.0f} ms"

    def _plans(self) -> str:
        self._needs("trajectory")
        answer = _body(self._post("/v1/plan", _PLAN), _OK)
        _expect(answer.get("status") == "verified", "a verified plan", answer.get("status"))
        return f"{answer['model']} in {_milliseconds(answer)} ms, verified"

    def _takes_feedback(self) -> str:
        if not self._answer:
            raise _Skipped("there is no answer to give feedback on")
        body = {"generation_id": self._answer["id"], "source": SOURCE, "reward": 0.0}
        given = [
            _body(self._post("/v1/feedback", {**body, "idempotency_key": self._answer["id"]}), _ACCEPTED)["feedback_id"]
            for _ in range(2)
        ]
        _expect(given[0] == given[1], "the same id when it is sent again", given)
        return f"{given[0]}, kept once when sent twice"

    def _learns(self) -> str:
        answer = self._client.get("/v1/evolution")
        if answer.status_code == _UNAVAILABLE and "does not learn" in answer.text:
            raise _Skipped("this server only collects feedback (--evolution off)")
        _body(answer, _OK)
        return "the evolution worker answers"

    def _remembers(self) -> str:
        if not self._answer and self.generation is None:
            raise _Skipped("there is no answer to ask for")
        if self.generation is not None:
            self._find(self.generation)
        if self._answer:
            found = self._find(str(self._answer["id"]))
            wanted = _first_output(self._answer).get("fill")
            result = found.get("result")
            seen = _first_output(result if isinstance(result, dict) else {}).get("fill")
            _expect(seen == wanted, f"the answer {wanted!r}", seen)
            self.recorded = str(self._answer["id"])
        return "the answer was found again" + ("" if self.generation is None else ", and the one from before")

    def _find(self, generation: str) -> Body:
        return _body(self._client.get(f"/v1/generations/{generation}"), _OK)

    def _refuses(self) -> str:
        answer = self._post("/v1/diffuse", {**_TEXT, "no_such_field": 1})
        body = _body(answer, _INVALID)
        _expect(body.get("code") == "invalid_request", "the code invalid_request", body.get("code"))
        return "an unknown field is a problem with a code"

    def _measures(self) -> str:
        answer = self._client.get("/metrics")
        found = [line for line in answer.text.splitlines() if line.startswith("perfuse_build_info{")]
        _expect(answer.status_code == _OK and len(found) == 1, "perfuse_build_info in /metrics", answer.status_code)
        return found[0].partition(" ")[0]

    def _needs(self, modality: str) -> None:
        if modality not in self._served:
            raise _Skipped(f"this server has no model for {modality}")

    def _post(self, path: str, body: Mapping[str, object]) -> httpx2.Response:
        return self._client.post(path, json=body)


def _body(answer: httpx2.Response, status: int) -> Body:
    """The object of an answer that must have this status; a problem becomes the sentence of the failure."""
    body = _parsed(answer.content)
    if answer.status_code != status:
        said = body.get("detail", answer.text[:200])
        raise _Failed(f"{answer.request.url.path}: expected {status}, got {answer.status_code}: {said}")
    return body


def _parsed(raw: bytes | str) -> Body:
    try:
        return msgspec.json.decode(raw, type=Body)
    except msgspec.DecodeError:
        return {}


def _expect(holds: bool, expected: str, seen: object) -> None:
    if not holds:
        raise _Failed(f"expected {expected}, got {seen!r}")


def _first_output(answer: Mapping[str, object]) -> Body:
    outputs = answer.get("outputs")
    return outputs[0] if isinstance(outputs, list) and outputs else {}


def _milliseconds(answer: Mapping[str, object]) -> str:
    timing = answer.get("timing_ms")
    return f"{timing['total']:.0f}" if isinstance(timing, dict) else "?"


def _compute_seconds(answer: Mapping[str, object]) -> float:
    timing = answer.get("timing_ms")
    return float(timing["compute"]) / 1000 if isinstance(timing, dict) else 0.0
