"""The binding of structures: what goes in, what comes out, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from perfuse._native import Structure, Vocabulary
from perfuse.errors import InvalidRequest

WORDS = [b"", b"a", b"b", b"ab"]
OPEN = 9


def uniform(rows: int) -> np.ndarray:
    return np.full((rows, len(WORDS)), -np.log(len(WORDS)), np.float32)


def test_the_best_text_comes_with_probabilities_and_entropies() -> None:
    vocabulary = Vocabulary(WORDS, 0)
    structure = Structure.of_regex("(ab)*", vocabulary)
    assert (len(vocabulary), structure.states, structure.needed) == (4, 2, 0)
    scores = np.log(np.array([[0.1, 0.1, 0.1, 0.7], [0.6, 0.2, 0.1, 0.1]], np.float32))
    tokens, confidence, entropy = structure.best([OPEN] * 3, OPEN, 0, scores)
    assert tokens == [3, 0, 0]
    assert confidence == pytest.approx([0.7 / 0.9, 0.6 / 0.9, 0.0], abs=1e-6)
    assert entropy == pytest.approx([0.6837, 0.8487, 0.0], abs=1e-3)


def test_a_text_is_drawn_by_one_uniform_per_position() -> None:
    structure = Structure.of_schema('{"enum": ["a", "b"]}', Vocabulary([b"", *(bytes([i]) for i in range(256))], 0))
    scores = np.full((3, 257), -np.log(257), np.float32)
    drawn = [structure.draw([OPEN + 999] * 3, OPEN + 999, 0, scores, [0.5, u, 0.5])[0] for u in (0.1, 0.9)]
    assert drawn == [[ord(sign) + 1 for sign in text] for text in ('"a"', '"b"')]
    assert structure.accepts(b'"a"')
    assert not structure.accepts(b'"c"')


def test_what_is_passed_wrongly_is_said() -> None:
    vocabulary = Vocabulary(WORDS, 0)
    structure = Structure.of_regex("ab", vocabulary)
    with pytest.raises(InvalidRequest, match=r"^no accepted text that fits into the canvas holds what is settled$"):
        Structure.of_regex("abab", vocabulary).best([OPEN], OPEN, 0, uniform(1))
    with pytest.raises(InvalidRequest, match=r"^expected 1 rows at most, came 2$"):
        structure.best([OPEN], OPEN, 0, uniform(2))
    with pytest.raises(InvalidRequest, match=r"^scores: expected a float32 buffer: "):
        structure.best([OPEN], OPEN, 0, uniform(1).astype(np.float64))  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match=r"^the end 1 is a text or no token; expected an id whose text is empty$"):
        Vocabulary(WORDS, 1)
