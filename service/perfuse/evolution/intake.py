"""From the inbox to the table: an item becomes a row, and its verifier is run in the jail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import msgspec

from perfuse import logging, plugins
from perfuse.errors import InvalidRequest
from perfuse.evolution.schema import conforms
from perfuse.requests import Refinement
from perfuse.sandbox import Case, Task, run_many
from perfuse.store.learning import Feedback
from perfuse.syntax.refinement import shown
from perfuse.wire import FeedbackItem, Installed, JsonSchema, PythonTests, Verifier

_log = logging.get(__name__)

SECONDS = 4.0
"""Time for all cases of one verifier."""
SUCCESS = "success"
"""The outcome that counts as a verdict."""


class _Request(msgspec.Struct):
    prompt: str = ""
    prefix: str = ""
    suffix: str = ""
    language: str = "python"
    refine: Refinement | None = None


class _Output(msgspec.Struct):
    text: str


class _Result(msgspec.Struct):
    outputs: list[_Output]


_verifiers: msgspec.json.Decoder[Verifier] = msgspec.json.Decoder(Verifier)


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
    read = shown(request.prompt, request.language, request.refine, request.prefix, request.suffix)
    return Feedback(
        id=identity,
        tenant=item.tenant,
        generation=item.generation,
        source=item.source,
        received=item.received,
        model=item.model,
        prompt=read.prompt,
        prefix=read.prefix,
        suffix=read.suffix,
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
    passed: dict[tuple[str, str], bool | None] = {
        each: verdict.passed for (each, _), verdict in zip(tasks, verdicts, strict=True)
    }
    for each in texts:
        match verifiers[each[0]]:
            case JsonSchema() as verifier:
                passed[each] = conforms(each[1], verifier.schema)
            case Installed() as verifier:
                passed[each] = _installed(verifier, each[1])
    return [_judged(row, passed) for row in rows]


def _installed(verifier: Installed, text: str) -> bool | None:
    """What a function of another package says; None, which is no verdict, where it fails or is not there any more."""
    try:
        said = plugins.verifier(verifier.name)(text, verifier.arguments)
    except Exception as error:  # noqa: BLE001  # somebody else's code: its fault must not end the taking of feedback
        _log.warning("verifier_failed", verifier=verifier.name, reason=f"{type(error).__name__}: {error}")
        return None
    return bool(said)


def _judged(row: Feedback, passed: Mapping[tuple[str, str], bool | None]) -> Feedback:
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


def _task(verifier: Verifier, text: str) -> Task | None:
    if not isinstance(verifier, PythonTests):
        return None
    cases = [Case(case.args, case.expected, case.raises) for case in verifier.cases]
    return Task(text, verifier.entry_point, cases, seconds=SECONDS)
