"""JavaScript, Rust, C and shell: what parses, and where what does not is at fault."""

from __future__ import annotations

import sys

import pytest

from perfuse.errors import NotInstalled
from perfuse.syntax import trees
from perfuse.syntax.fault import Fault

RIGHT = {
    "javascript": "function double(x) {\n  return x * 2;\n}\n",
    "rust": "fn double(x: i64) -> i64 {\n    x * 2\n}\n",
    "c": "long twice(long x) {\n    return x * 2;\n}\n",
    "shell": 'double() {\n  echo "$(( $1 * 2 ))"\n}\n',
}


@pytest.mark.parametrize("language", RIGHT)
def test_code_that_parses_has_no_fault(language: str) -> None:
    assert trees.parser(language)(RIGHT[language]) == []
    assert trees.parser(language)("") == []


@pytest.mark.parametrize(
    ("language", "code", "fault"),
    [
        ("c", "long f(long x) {\n    return x\n}\n", Fault(29, 29, 2, "expected ';'")),
        ("javascript", "// é\nfunction f() {\n  return 1;\n", Fault(31, 31, 3, "expected '}'")),
        ("rust", "// é\nfn f() { let x = = 1; }\n", Fault(22, 23, 2, "unexpected '='")),
    ],
)
def test_a_fault_is_told_in_characters(language: str, code: str, fault: Fault) -> None:
    assert trees.parser(language)(code) == [fault]


@pytest.mark.parametrize("language", RIGHT)
def test_a_text_that_is_cut_off_has_a_fault(language: str) -> None:
    assert trees.parser(language)(RIGHT[language].rstrip("}\n"))


def test_a_grammar_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tree_sitter_rust", None)
    trees.parser.cache_clear()
    try:
        with pytest.raises(NotInstalled, match=r"^the parser of rust is not installed: ") as caught:
            trees.parser("rust")
    finally:
        trees.parser.cache_clear()
    assert (caught.value.field, caught.value.hint) == ("/syntax", "pip install tree-sitter tree-sitter-rust")
