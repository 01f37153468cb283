"""Whether a text is JSON of a schema, for the keywords that feedback may use; the API refuses all others."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "null": type(None),
    "boolean": bool,
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
}


def conforms(text: str, schema: Mapping[str, object]) -> bool:
    """Whether `text` is one JSON value (RFC 8259, so no NaN) that `schema` admits (JSON Schema 2020-12, §6 and §10)."""
    try:
        value = json.loads(text, parse_constant=_refused)
        return _valid(value, schema)
    except (ValueError, RecursionError):
        return False


def _refused(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _valid(value: object, schema: Mapping[str, object]) -> bool:
    return all(_holds(keyword, wanted, value) for keyword, wanted in schema.items()) and (
        not isinstance(value, dict) or _members_valid(value, schema)
    )


def _holds(keyword: str, wanted: object, value: object) -> bool:
    match keyword, wanted:
        case "type", str():
            return _is(value, wanted)
        case "type", list():
            return any(_is(value, each) for each in wanted)
        case "enum", list():
            return any(_equal(value, each) for each in wanted)
        case "const", _:
            return _equal(value, wanted)
        case "items", dict():
            return not isinstance(value, list) or all(_valid(each, wanted) for each in value)
        case (("minLength" | "minItems" | "maxLength" | "maxItems"), int()):
            return _sized(keyword, wanted, value)
        case (("minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum"), int() | float()):
            return _bounded(keyword, wanted, value)
        case _:
            return True


def _members_valid(value: dict[str, object], schema: Mapping[str, object]) -> bool:
    properties, required = schema.get("properties"), schema.get("required")
    known = properties if isinstance(properties, dict) else {}
    if isinstance(required, list) and not set(required) <= value.keys():
        return False
    if schema.get("additionalProperties") is False and not value.keys() <= known.keys():
        return False
    return all(_valid(each, known[name]) for name, each in value.items() if name in known)


def _is(value: object, kind: object) -> bool:
    if kind == "integer":
        return (
            not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value) and value % 1 == 0
        )
    if kind == "number" and isinstance(value, bool):
        return False
    return isinstance(value, _KINDS[str(kind)])


def _equal(one: object, other: object) -> bool:
    """Equality of JSON values: 1 equals 1.0, true does not equal 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    return one == other


def _sized(keyword: str, wanted: int, value: object) -> bool:
    kind = str if keyword.endswith("Length") else list
    if not isinstance(value, kind):
        return True
    return len(value) >= wanted if keyword.startswith("min") else len(value) <= wanted


def _bounded(keyword: str, wanted: float, value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    if "Min" in keyword or "Max" in keyword:
        return value > wanted if keyword.endswith("Minimum") else value < wanted
    return value >= wanted if keyword == "minimum" else value <= wanted
