"""What /feedback takes: the body, what of it is refused, and the item it becomes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal, Self

import msgspec
from pydantic import Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from perfuse import plugins
from perfuse.api.problems import FieldError, InvalidFields
from perfuse.api.schemas import Body
from perfuse.metrics import Verdict
from perfuse.queue.ledger import Generation
from perfuse.wire import FeedbackItem, Installed, JsonSchema, PythonCase, PythonTests

MOST_CASES = 64
MOST_VERIFIER_BYTES = 65_536
MOST_DEPTH = 32
_MOST_SCHEMA_DEPTH = 16
_MOST_OUTCOMES = 32
_INT64 = 1 << 63
_TYPES = frozenset(("null", "boolean", "integer", "number", "string", "array", "object"))
_COUNTS = frozenset(("minItems", "maxItems", "minLength", "maxLength"))
_BOUNDS = frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"))
_NOTES = frozenset(("title", "description"))
SCHEMA_KEYWORDS = tuple(
    sorted(
        {"type", "enum", "const", "properties", "required", "additionalProperties", "items"}
        | _COUNTS
        | _BOUNDS
        | _NOTES
    )
)
"""The keywords of JSON Schema that a verifier may use."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]
Visible = Annotated[str, Field(pattern=r"^[\x21-\x7e]+$", max_length=200)]


class CaseBody(Body):
    """One call of `entry_point` and what must come of it: `expected` or `raises`."""

    args: Annotated[list[JsonValue], Field(max_length=32)]
    expected: JsonValue = Field(None, description="the value to be returned")
    raises: Name | None = Field(None, description="the exception to be raised instead, or a base class of it")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if ("expected" in self.model_fields_set) == (self.raises is not None):
            raise PydanticCustomError("case", "a case has either `expected` or `raises`")
        return self


class PythonTestsBody(Body):
    """Tests of the output as a Python module, run in the jail."""

    kind: Literal["python_tests"]
    entry_point: Name = Field(description="the function to call")
    cases: Annotated[list[CaseBody], Field(min_length=1, max_length=MOST_CASES)]

    def record(self) -> PythonTests:
        """As the item holds it."""
        cases = [PythonCase(args=[*case.args], expected=case.expected, raises=case.raises) for case in self.cases]
        return PythonTests(self.entry_point, cases)


class JsonSchemaBody(Body):
    """A schema for the output as JSON."""

    kind: Literal["json_schema"]
    schema_: dict[str, JsonValue] = Field(alias="schema", description=f"keywords: {', '.join(SCHEMA_KEYWORDS)}")

    def record(self) -> JsonSchema:
        """As the item holds it."""
        return JsonSchema({**self.schema_})


class InstalledBody(Body):
    """A verifier that is installed on the server, by its name."""

    kind: Literal["installed"]
    name: Visible
    arguments: dict[str, JsonValue] = Field(default_factory=dict, description="what it is told beside the output")

    def record(self) -> Installed:
        """As the item holds it."""
        return Installed(self.name, {**self.arguments})


class FeedbackBody(Body):
    """What became of a generation: reward, accepted, correction or outcome; or a verifier, also with a correction."""

    generation_id: Annotated[str, Field(min_length=1, max_length=200)]
    output: Annotated[int, Field(ge=0, le=1000)] = Field(0, description="which output is meant")
    source: Visible = Field(description="who says so; feedback is weighed, limited and revoked by source")
    reward: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)] | None = None
    accepted: bool | None = None
    correction: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="the text as it should have been, prefix and suffix included"
    )
    outcome: Annotated[dict[str, JsonValue], Field(min_length=1, max_length=_MOST_OUTCOMES)] | None = Field(
        None, description="what came of it: names with booleans, numbers or texts"
    )
    verifier: Annotated[PythonTestsBody | JsonSchemaBody | InstalledBody, Field(discriminator="kind")] | None = None
    idempotency_key: Visible | None = Field(None, description="a second feedback under the same key is the first one")

    @model_validator(mode="after")
    def _one_verdict(self) -> Self:
        given = [name for name in ("reward", "accepted", "correction", "outcome") if getattr(self, name) is not None]
        if self.verifier is not None:
            if set(given) - {"correction"}:
                raise PydanticCustomError("verdict", "a verifier can only come with a correction")
        elif len(given) != 1:
            raise PydanticCustomError(
                "verdict", "expected one of reward, accepted, correction and outcome, or a verifier"
            )
        return self

    @property
    def verdict(self) -> Verdict:
        """What kind of feedback this is."""
        if self.verifier is not None:
            return "verifier" if self.correction is None else "verified_correction"
        if self.reward is not None:
            return "reward"
        if self.accepted is not None:
            return "accepted"
        return "correction" if self.outcome is None else "outcome"

    def said(self) -> bytes:
        """All that it says, apart from its key, in one way of writing."""
        return msgspec.json.encode(self.model_dump(exclude={"idempotency_key"}), order="sorted")


class _Outputs(msgspec.Struct):
    outputs: list[msgspec.Raw]


class _Frame(msgspec.Struct):
    prefix: str = ""
    suffix: str = ""


def untagged(error: InvalidFields) -> InvalidFields:
    """The same error with pointers into the body: pydantic puts the verifier's kind into them."""
    errors = list(error.errors)
    for kind in ("python_tests", "json_schema", "installed"):
        prefix = f"/verifier/{kind}"
        errors = [
            FieldError("/verifier" + each.pointer.removeprefix(prefix), each.message)
            if f"{each.pointer}/".startswith(f"{prefix}/")
            else each
            for each in errors
        ]
    return InvalidFields(errors, error.hint)


def check(body: FeedbackBody) -> None:
    """Refuse what the types of the body cannot. Raises InvalidFields."""
    errors = [*_outcome_errors(body), *_case_errors(body)]
    hint = None
    if not errors and isinstance(body.verifier, JsonSchemaBody):
        errors = list(_value_errors(body.verifier.schema_, "/verifier/schema", MOST_DEPTH))
        errors = errors or list(_schema_errors(body.verifier.schema_, "/verifier/schema", _MOST_SCHEMA_DEPTH))
        hint = f"the keywords are {', '.join(SCHEMA_KEYWORDS)}"
    if not errors and isinstance(body.verifier, InstalledBody):
        errors = list(_value_errors(body.verifier.arguments, "/verifier/arguments", MOST_DEPTH))
        if body.verifier.name not in (known := plugins.verifiers()):
            errors.append(FieldError("/verifier/name", f"no verifier is named {body.verifier.name!r}"))
            hint = f"installed on this server are {', '.join(known) or 'none'}"
    if not errors and body.verifier is not None:
        size = len(msgspec.json.encode(body.verifier.record()))
        if size > MOST_VERIFIER_BYTES:
            message = f"a verifier has at most {MOST_VERIFIER_BYTES} bytes, this one has {size}"
            errors, hint = [FieldError("/verifier", message)], "send fewer or smaller cases"
    if errors:
        raise InvalidFields(errors, hint)


def item_of(body: FeedbackBody, found: Generation, received: float) -> FeedbackItem:
    """The item that the inbox keeps.

    Args:
        body: checked.
        found: the generation that the body is about.
        received: Unix seconds.

    Raises:
        InvalidFields: the generation has no such output, or cannot be judged in this way.
    """
    errors = list(_plan_errors(body) if found.kind == "plan" else _text_errors(body, found))
    if errors:
        raise InvalidFields(errors)
    return FeedbackItem(
        received=received,
        tenant=found.tenant,
        source=body.source,
        generation=found.id,
        kind=found.kind,
        model=found.model,
        seed=found.seed,
        generated=found.created,
        snapshot=found.snapshot,
        adaptations=found.adaptations,
        request=found.request,
        result=found.result,
        output=body.output,
        reward=body.reward,
        accepted=body.accepted,
        correction=body.correction,
        outcome=_outcome(body),
        verifier=None if body.verifier is None else body.verifier.record(),
    )


def _outcome(body: FeedbackBody) -> dict[str, bool | int | float | str] | None:
    if body.outcome is None:
        return None
    return {name: value for name, value in body.outcome.items() if isinstance(value, bool | int | float | str)}


def _plan_errors(body: FeedbackBody) -> Iterator[FieldError]:
    if body.output:
        yield FieldError("/output", f"the generation has 1 output, so 0 is the only one, got {body.output}")
    for name in ("correction", "verifier"):
        if getattr(body, name) is not None:
            yield FieldError(f"/{name}", "a plan is judged by reward, accepted or outcome")


def _text_errors(body: FeedbackBody, found: Generation) -> Iterator[FieldError]:
    count = len(msgspec.json.decode(found.result, type=_Outputs).outputs)
    if body.output >= count:
        yield FieldError("/output", f"the generation has {count} outputs, counted from 0, got {body.output}")
    if body.correction is not None:
        frame = msgspec.json.decode(found.request, type=_Frame)
        kept = body.correction.startswith(frame.prefix) and body.correction.endswith(frame.suffix)
        if not kept or len(body.correction) < len(frame.prefix) + len(frame.suffix):
            yield FieldError(
                "/correction", "a correction begins with the prefix and ends with the suffix of its request"
            )


def _outcome_errors(body: FeedbackBody) -> Iterator[FieldError]:
    for name, value in (body.outcome or {}).items():
        pointer = f"/outcome/{_escaped(name)}"
        if not isinstance(value, bool | int | float | str):
            yield FieldError(pointer, "expected a boolean, a number or a text")
        else:
            yield from _value_errors(value, pointer, 1)


def _case_errors(body: FeedbackBody) -> Iterator[FieldError]:
    if isinstance(body.verifier, PythonTestsBody):
        for index, case in enumerate(body.verifier.cases):
            yield from _value_errors([*case.args], f"/verifier/cases/{index}/args", MOST_DEPTH)
            yield from _value_errors(case.expected, f"/verifier/cases/{index}/expected", MOST_DEPTH)


def _value_errors(value: JsonValue, pointer: str, depth: int) -> Iterator[FieldError]:
    """What of a JSON value cannot be kept: numbers beyond 64 bits or not finite, nesting beyond `depth`."""
    if isinstance(value, list | dict):
        if depth == 0:
            yield FieldError(pointer, f"values are nested at most {MOST_DEPTH} deep")
            return
        inside = enumerate(value) if isinstance(value, list) else value.items()
        for key, item in inside:
            yield from _value_errors(item, f"{pointer}/{_escaped(str(key))}", depth - 1)
    elif isinstance(value, float) and not math.isfinite(value):
        yield FieldError(pointer, "expected a finite number")
    elif isinstance(value, int) and not -_INT64 <= value < _INT64:
        yield FieldError(pointer, "expected an integer of at most 64 bits")


def _schema_errors(schema: JsonValue, pointer: str, depth: int) -> Iterator[FieldError]:
    """What of a schema is not of the subset, keyword by keyword."""
    if not isinstance(schema, dict):
        yield FieldError(pointer, "expected a schema, which is an object")
        return
    if depth == 0:
        yield FieldError(pointer, f"schemas are nested at most {_MOST_SCHEMA_DEPTH} deep")
        return
    for keyword, value in schema.items():
        here = f"{pointer}/{_escaped(keyword)}"
        if keyword not in SCHEMA_KEYWORDS:
            yield FieldError(here, f"the keyword {keyword!r} is not supported")
        elif (wanted := _wanted(keyword, value)) is not None:
            yield FieldError(here, f"expected {wanted}")
        elif keyword == "items":
            yield from _schema_errors(value, here, depth - 1)
        elif keyword == "properties" and isinstance(value, dict):
            for name, inner in value.items():
                yield from _schema_errors(inner, f"{here}/{_escaped(name)}", depth - 1)


def _wanted(keyword: str, value: JsonValue) -> str | None:
    """What a keyword's value should have been; None if it is that."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    names = isinstance(value, list) and all(isinstance(each, str) for each in value)
    rules: dict[str, tuple[bool, str]] = {
        "type": (_is_type(value), f"one or several of {', '.join(sorted(_TYPES))}"),
        "enum": (isinstance(value, list) and bool(value), "a list of values, not empty"),
        "properties": (isinstance(value, dict), "an object of schemas"),
        "required": (names, "a list of names"),
        "additionalProperties": (isinstance(value, bool), "true or false"),
    }
    if keyword in _COUNTS:
        fits, wanted = number and isinstance(value, int) and value >= 0, "an integer, 0 or more"
    elif keyword in _BOUNDS:
        fits, wanted = number, "a number"
    elif keyword in _NOTES:
        fits, wanted = isinstance(value, str), "a text"
    else:
        fits, wanted = rules.get(keyword, (True, ""))
    return None if fits else wanted


def _is_type(value: JsonValue) -> bool:
    kinds = value if isinstance(value, list) else [value]
    return bool(kinds) and all(isinstance(kind, str) and kind in _TYPES for kind in kinds)


def _escaped(name: str) -> str:
    """A name inside a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")
