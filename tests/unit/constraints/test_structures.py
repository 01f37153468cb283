"""Structures over a tokenizer: built once, the last ones kept."""

from __future__ import annotations

import pytest

from perfuse.constraints import structures
from perfuse.constraints.structures import Structures
from perfuse.errors import ConstraintTooLarge, InvalidRequest, UnsupportedConstraint
from perfuse.models.tokenizer import TextTokenizer

TOKENIZER = TextTokenizer.train(['{"name": "value"}\n'] * 4, 300)


def test_a_structure_is_built_once_and_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structures, "KEPT", 2)
    known = Structures(TOKENIZER)
    first = known.of(None, "a")
    assert known.of('{"type": "null"}', None) is not first
    assert known.of(None, "a") is first
    known.of(None, "b")
    assert known.of(None, "a") is first
    known.of(None, "b")
    known.of(None, "c")
    assert known.of(None, "a") is not first
    assert known.of(None, None) is None


def test_what_is_refused_is_pointed_to() -> None:
    known = Structures(TOKENIZER)
    with pytest.raises(UnsupportedConstraint) as caught:
        known.of('{"type": "object", "properties": {"a": {"type": "array", "contains": {}}}}', None)
    assert (caught.value.detail, caught.value.field, caught.value.hint) == (
        'the keyword "contains" is not supported here',
        "/schema/properties/a/contains",
        "leave it out, or check it yourself in what comes back",
    )
    with pytest.raises(InvalidRequest) as wrong:
        known.of('{"type": "string", "minLength": 3, "maxLength": 2}', None)
    assert (wrong.value.detail, wrong.value.field) == ("maxLength is less than minLength", "/schema/maxLength")
    with pytest.raises(ConstraintTooLarge) as large:
        known.of(None, "(a|b)*a(a|b){20}")
    assert (large.value.detail, large.value.field, large.value.hint) == (
        "the automaton has more than 8192 states",
        "/regex",
        "lower maxLength, maxItems and repetitions, or list fewer values",
    )
