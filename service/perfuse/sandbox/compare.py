"""When an answer equals what a case expects: by value and by type, judged outside the jail."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from perfuse.sandbox.child import to_wire


def same(expected: object, answer: object, tolerance: float | None = None) -> bool:
    """Whether `answer`, built from parsed JSON and thus free of foreign methods, is the value `expected`.

    - Types count: `True` is not 1, 1 is not 1.0, "1" is not 1. With a `tolerance`, int and float are compared as
      numbers instead and may differ by that much (0.0: equal numbers); bool still is no number.
    - NaN equals NaN, and -0.0 equals 0.0.
    - An expected list accepts a list or a tuple, because JSON has one kind of sequence. An expected tuple accepts a
      tuple only.
    - Dicts are equal when they have the same keys, types included, and the same values, in any order.
    """
    if isinstance(expected, tuple):
        return isinstance(answer, tuple) and _same_items(expected, answer, tolerance)
    if isinstance(expected, list):
        return isinstance(answer, list | tuple) and _same_items(expected, answer, tolerance)
    if isinstance(expected, dict):
        return isinstance(answer, dict) and _same_entries(expected, answer, tolerance)
    if tolerance is not None and _is_number(expected) and _is_number(answer):
        return _close(expected, answer, tolerance)
    if type(expected) is not type(answer):
        return False
    return expected == answer or (_is_nan(expected) and _is_nan(answer))


def _same_items(expected: Sequence[object], answer: Sequence[object], tolerance: float | None) -> bool:
    return len(expected) == len(answer) and all(
        same(wanted, found, tolerance) for wanted, found in zip(expected, answer, strict=True)
    )


def _same_entries(expected: Mapping[object, object], answer: Mapping[object, object], tolerance: float | None) -> bool:
    found = {to_wire(key): value for key, value in answer.items()}
    wanted = {to_wire(key): value for key, value in expected.items()}
    return found.keys() == wanted.keys() and all(same(wanted[key], found[key], tolerance) for key in wanted)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _close(expected: object, answer: object, tolerance: float) -> bool:
    assert isinstance(expected, int | float)
    assert isinstance(answer, int | float)
    if _is_nan(expected) or _is_nan(answer):
        return _is_nan(expected) and _is_nan(answer)
    if expected == answer:
        return True
    try:
        return abs(expected - answer) <= tolerance
    except OverflowError:  # an integer beyond the floats
        return False
