"""Lines around a place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfuse.syntax.fault import AROUND, Fault, Width, line_of, widened

CODE = "a\nbb\nccc\ndddd\ne\nf\n"


@pytest.mark.parametrize(
    ("start", "end", "width", "words"),
    [
        (0, 1, "line", "a"),
        (3, 4, "line", "\nbb"),
        (4, 5, "line", "\nbb"),
        (6, 6, "line", "\nccc"),
        (3, 6, "line", "\nbb\nccc"),
        (6, 7, "around", "a\nbb\nccc\ndddd\ne"),
        (10, 11, "around", "\nbb\nccc\ndddd\ne\nf"),
        (18, 18, "line", "\n"),
        (6, 7, "whole", CODE),
    ],
)
def test_the_lines_of_a_place(start: int, end: int, width: Width, words: str) -> None:
    first, last = widened(CODE, start, end, width)
    assert CODE[first:last] == words


@given(code=st.text("ab\n", max_size=30), places=st.tuples(st.integers(0, 30), st.integers(0, 30)))
def test_wider_is_never_less(code: str, places: tuple[int, int]) -> None:
    start, end = sorted(min(place, len(code)) for place in places)
    line, around, whole = (widened(code, start, end, width) for width in ("line", "around", "whole"))  # type: ignore[arg-type]
    assert whole == (0, len(code))
    assert 0 <= around[0] <= line[0] <= start <= max(end - 1, start) <= line[1] <= around[1] <= len(code)
    assert code[around[0] : around[1]].count("\n") <= code[line[0] : line[1]].count("\n") + 2 * AROUND


def test_lines_are_counted_from_one() -> None:
    assert [CODE[slice(*line_of(CODE, number))] for number in (1, 3, 6, 99)] == ["a", "ccc", "f", ""]


def test_columns_are_counted_from_one() -> None:
    assert [Fault(place, place + 1, 1, "").column(CODE) for place in (0, 2, 6)] == [1, 1, 2]
