"""From the inbox to the table: an item becomes a row, and its verifier is run in the jail."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import msgspec

from perfuse.errors import InvalidRequest
from perfuse.evolution.schema import conforms
from perfuse.sandbox import Case, Task, run_many
from perfuse.store.learning import Feedback
from perfuse.wire import FeedbackItem, JsonSchema, PythonTests

SECONDS = 4.0
"""Time for all cases of one verifier."""
SUCCESS = "success"
"""The outcome that counts as a verdict."""


class _Request(msgspec.Struct):
    prompt: str = ""
    prefix: str = ""
    suffix: str = ""


class _Output(msgspec.Struct):
    text: str


class _Result(msgspec.Struct):
    outputs: list[_Output]


_verifiers: msgspec.json.Decoder[PythonTests | JsonSchema] = msgspec.json.Decoder(PythonTests | JsonSchema)


def row_of(identity: str, item: FeedbackItem) -> Feedback:
    """The row of an item of the inbox with that id, not yet verified, curated or embedded.

    `accepted` counts as a reward of 1 or -1, and so does an outcome named `success` that is true or false.

    Raises:
        InvalidRequest: it is not about a text, or about one that there is not.
    """
    if item.kind != "diffuse":
        raise InvalidRequest(f"expected feedback about a text; got feedback about a {item.kind}")
    request = msgspec.json.decode(item.request, type=_Request)
    result = msgspec.json.decode(item.result, type=_Result)
    if item.output >= len(result.outputs):
        raise InvalidRequest(f"expected feedback about one of {len(result.outputs)} outputs; got output {item.output}")
    return Feedback(
        id=identity,
        tenant=item.tenant,
        generation=item.generation,
        source=item.source,
        received=item.received,
        model=item.model,
        prompt=request.prompt,
        prefix=request.prefix,
        suffix=request.suffix,
        output=result.outputs[item.output].text,
        adaptations=item.adaptations,
        correction=item.correction,
        reward=_reward(item),
        verifier="" if item.verifier is None else msgspec.json.encode(item.verifier).decode(),
        output_passed=None,
        correction_passed=None,
        state="new",
        reason="",
        cluster="",
        embedder="",
        embedding=b"",
    )


def verify(rows: Sequence[Feedback], *, parallel: int = 2) -> list[Feedback]:
    """The rows with the verdicts of their verifiers on output and correction; blocks while the jail runs.

    Raises:
        SandboxUnavailable: this kernel cannot confine; nothing was run.
    """
    texts = [(row.id, text) for row in rows if row.verifier for text in _texts(row)]
    verifiers = {row.id: _verifiers.decode(row.verifier) for row in rows if row.verifier}
    tasks = [(each, task) for each in texts if (task := _task(verifiers[each[0]], each[1])) is not None]
    verdicts = run_many((task for _, task in tasks), parallel=parallel)
    passed = {each: verdict.passed for (each, _), verdict in zip(tasks, verdicts, strict=True)}
    for each in texts:
        if isinstance(verifier := verifiers[each[0]], JsonSchema):
            passed[each] = conforms(each[1], verifier.schema)
    return [_judged(row, passed) for row in rows]


def _judged(row: Feedback, passed: dict[tuple[str, str], bool]) -> Feedback:
    if not row.verifier:
        return row
    correction = None if row.correction is None else passed[row.id, row.correction]
    return replace(row, output_passed=passed[row.id, row.output], correction_passed=correction)


def _reward(item: FeedbackItem) -> float | None:
    if item.reward is not None:
        return item.reward
    said = item.accepted if item.accepted is not None else (item.outcome or {}).get(SUCCESS)
    return (1.0 if said else -1.0) if isinstance(said, bool) else None


def _texts(row: Feedback) -> Iterable[str]:
    return dict.fromkeys([row.output] if row.correction is None else [row.output, row.correction])


def _task(verifier: PythonTests | JsonSchema, text: str) -> Task | None:
    if isinstance(verifier, JsonSchema):
        return None
    cases = [Case(case.args, case.expected, case.raises) for case in verifier.cases]
    return Task(text, verifier.entry_point, cases, seconds=SECONDS)
