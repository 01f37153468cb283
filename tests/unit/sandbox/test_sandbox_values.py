"""Values on their way through the wall, and when two of them are the same."""

import json
import math
from collections import Counter, OrderedDict
from enum import IntEnum
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfuse.sandbox.child import NotAValue, from_wire, parse, to_wire
from perfuse.sandbox.compare import same

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
KEYS = st.none() | st.booleans() | st.integers() | st.text() | st.tuples(st.integers(), st.text())
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(KEYS, inner),
    max_leaves=20,
)


class Colour(IntEnum):
    RED = 1


class Point(NamedTuple):
    x: int
    y: int


class Liar(dict):
    def items(self):
        return [("forged", True)]

    def __eq__(self, other):
        return True

    __hash__ = None


@given(VALUES)
def test_a_value_comes_out_as_it_went_in(value):
    assert same(value, from_wire(json.loads(to_wire(value))))


@given(VALUES)
def test_the_scanner_of_the_child_reads_what_json_reads(value):
    line = to_wire(value)
    assert same(from_wire(json.loads(line)), from_wire(parse(line)))


@given(VALUES)
def test_a_line_is_ascii_without_line_breaks(value):
    line = to_wire(value)
    assert line.isascii()
    assert "\n" not in line


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Counter("aab"), {"a": 2, "b": 1}),
        (OrderedDict(b=1, a=2), {"a": 2, "b": 1}),
        (Point(1, 2), (1, 2)),
        (Colour.RED, 1),
        (Liar(true=1), {"true": 1}),
        ('\ud800 \U0001f600 \0 "', '\ud800 \U0001f600 \0 "'),
    ],
)
def test_a_subclass_counts_as_the_plain_value_it_holds(value, plain):
    assert same(plain, from_wire(json.loads(to_wire(value))))


@pytest.mark.parametrize("value", [{1, 2}, b"x", 1j, object, [print], {"a": {1}}, (x for x in ())])
def test_other_types_do_not_cross(value):
    with pytest.raises(NotAValue):
        to_wire(value)


def test_an_integer_too_long_for_decimal_digits_crosses():
    assert same(10**5000, from_wire(parse(to_wire(10**5000))))


def test_a_list_in_itself_does_not_cross():
    endless = []
    endless.append(endless)
    with pytest.raises(RecursionError):
        to_wire(endless)


@pytest.mark.parametrize(
    "wire", [{}, {"set": [1]}, {"tuple": [], "dict": []}, {"int": 7}, {"dict": [1]}, {"int": "seven"}]
)
def test_an_unknown_notation_is_refused(wire):
    with pytest.raises((ValueError, TypeError)):
        from_wire(wire)


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        (True, 1),
        (1, True),
        (1, 1.0),
        (1.0, 1),
        (0, False),
        ("1", 1),
        (None, False),
        ([1], [True]),
        ([1, 2], [1]),
        ((1, 2), [1, 2]),
        ([], {}),
        ({1: "a"}, {True: "a"}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({}, []),
        (math.nan, 0.0),
        ({1, 2}, [1, 2]),
    ],
)
def test_types_count(expected, answer):
    assert not same(expected, answer)


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        (math.nan, math.nan),
        (-0.0, 0.0),
        ([1, 2], (1, 2)),
        ((1, 2), (1, 2)),
        ({"a": [1], "b": 2}, {"b": 2, "a": (1,)}),
    ],
)
def test_the_same_value(expected, answer):
    assert same(expected, answer)


@pytest.mark.parametrize(
    ("expected", "answer", "tolerance", "equal"),
    [
        (1, 1.0, 0.0, True),
        (0.3, 0.1 + 0.2, 1e-9, True),
        (0.3, 0.31, 1e-9, False),
        (True, 1.0, 0.0, False),
        (1, True, 0.0, False),
        (math.inf, math.inf, 0.0, True),
        (math.inf, 1.0, 1e9, False),
        (math.nan, math.nan, 0.0, True),
        (math.nan, 1.0, 1e9, False),
        (10**400, 1.0, 1e9, False),
        ([1.0, {"a": 2}], [1, {"a": 2.0000001}], 1e-3, True),
    ],
)
def test_a_tolerance_makes_int_and_float_one_kind(expected, answer, tolerance, equal):
    assert same(expected, answer, tolerance) is equal
