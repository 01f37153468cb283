"""Which surroundings a fill can complete."""

from __future__ import annotations

import pytest

from perfuse.syntax.expecting import parseable


@pytest.mark.parametrize(
    ("prefix", "suffix"),
    [
        ("", ""),
        ("def f(x):\n", ""),
        ("def f(x", "):\n    return x\n"),
        ("def f(x):\n    return [", "]\n"),
        ("def f(x):\n    y = ", "\n    return y\n"),
        ("class A:\n    def f(self):\n", "\n    def g(self):\n        return 1\n"),
        ("def f(x)", "\n    return x\n"),
        ("for i in x:\n\tif i:\n", "\tprint(i)\n"),
    ],
)
def test_what_a_stand_in_completes_is_expected_to_parse(prefix: str, suffix: str) -> None:
    assert parseable(prefix, suffix, "python")


@pytest.mark.parametrize(("prefix", "suffix"), [("", ")))\n"), ("x = = ", ""), ("def f(x):\n    retu", " x\n}\n")])
def test_fragments_are_not(prefix: str, suffix: str) -> None:
    assert not parseable(prefix, suffix, "python")


def test_the_other_languages_have_their_own_parsers() -> None:
    assert parseable("fn f() -> i64 {\n    ", "\n}\n", "rust")
    assert not parseable("def f(x):\n", "", "rust")
    assert not parseable("", "", "text")
