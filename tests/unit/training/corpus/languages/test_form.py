"""One form, four notations: what each language makes of the same lines."""

from __future__ import annotations

import ast

import pytest

from perfuse.training.corpus.languages import c, javascript, rust, shell
from perfuse.training.corpus.languages.form import Function, first_index, function, last_index, negated, reference

SQUARES = ("return sum(x ** 2 for x in values if x % 2 == 1)",)


@pytest.fixture
def squares() -> Function:
    return function("sum_odd_odd_squares", {"values": "list[int]"}, "int", SQUARES)


def test_a_name_says_no_word_twice_in_a_row(squares: Function) -> None:
    assert (squares.snake, squares.camel) == ("sum_odd_squares", "sumOddSquares")


def test_the_reference_is_the_form_run_as_python(squares: Function) -> None:
    assert reference(squares)([1, 2, 3]) == 10
    with pytest.raises(TypeError):
        reference(squares)()


def test_javascript_chains_methods(squares: Function) -> None:
    assert javascript.emit(squares) == (
        "function sumOddSquares(values) {\n"
        "    return values.filter(x => x % 2 !== 0).map(x => x ** 2).reduce((a, b) => a + b, 0);\n"
        "}\n"
    )


def test_rust_chains_iterators(squares: Function) -> None:
    assert rust.emit(squares) == (
        "fn sum_odd_squares(values: &[i64]) -> i64 {\n"
        "    values.iter().filter(|&&x| x % 2 != 0).map(|&x| x * x).sum()\n"
        "}\n"
    )


def test_c_loops_over_a_pointer_and_a_count(squares: Function) -> None:
    assert c.emit(squares) == (
        "int sum_odd_squares(const int *values, int count) {\n"
        "    int result = 0;\n"
        "    for (int i = 0; i < count; i++) {\n"
        "        int x = values[i];\n"
        "        if (x % 2 != 0) result += x * x;\n"
        "    }\n"
        "    return result;\n"
        "}\n"
    )


def test_the_shell_loops_over_its_arguments_and_prints(squares: Function) -> None:
    assert shell.emit(squares) == (
        "sum_odd_squares() {\n"
        "    result=0\n"
        '    for x in "$@"; do\n'
        "        [ $((x % 2)) -ne 0 ] && result=$((result + x * x))\n"
        "    done\n"
        '    echo "$result"\n'
        "}\n"
    )


@pytest.mark.parametrize(
    ("test", "opposite"),
    [
        ("x < 3", "x >= 3"),
        ("x == 3 and x > 1", "x != 3 or x <= 1"),
        ("x == 3 or x >= 1", "x != 3 and x < 1"),
        ("f", "not f"),
    ],
)
def test_a_condition_is_turned_round(test: str, opposite: str) -> None:
    assert ast.unparse(negated(ast.parse(test, mode="eval").body)) == opposite


def test_an_index_is_minus_one_where_nothing_is_found() -> None:
    assert (first_index([False, True, True]), last_index([True, True, False])) == (1, 1)
    assert (first_index([]), last_index([False])) == (-1, -1)


@pytest.mark.parametrize("emit", [javascript.emit, rust.emit, c.emit, shell.emit])
def test_what_the_form_does_not_know_is_refused(emit: object) -> None:
    assert callable(emit)
    unknown = function("f", {"n": "int"}, "int", ("with n:", "    n = 1", "return n"))
    with pytest.raises(ValueError, match=r"^not in the intermediate form: with n:"):
        emit(unknown)
