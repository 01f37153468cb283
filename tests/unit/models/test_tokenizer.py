"""The tokenizer gives any text back byte for byte and never reads a mark from a text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfuse.errors import CheckpointError
from perfuse.models.tokenizer import MARKS, TextTokenizer

TRAINED = TextTokenizer.train(["def total(values):\n    return sum(values)\n", "Return the sum."] * 5, 320)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back(text: str) -> None:
    assert TRAINED.decode(TRAINED.encode(text)) == text


@pytest.mark.parametrize("text", ["a\r\n\tb\r\n", "# 🚀 café\n", "\ufeff x", "<mask><null><eos>", "\r \x00 \n\n"])
def test_awkward_text_comes_back(text: str) -> None:
    assert TRAINED.decode(TRAINED.encode(text)) == text


@given(st.lists(st.sampled_from([*MARKS, "x", " "])).map("".join))
def test_no_text_encodes_to_a_mark(text: str) -> None:
    assert all(token >= len(MARKS) for token in TRAINED.encode(text))


def test_marks_are_dropped_when_decoding() -> None:
    ids = TRAINED.encode("sum")
    assert TRAINED.decode([0, 2, *ids, 1, 3, 4]) == "sum"


def test_half_a_character_is_shown_as_such() -> None:
    rocket = TRAINED.encode("🚀")
    assert "\ufffd" in TRAINED.decode(rocket[:-1])


def test_a_batch_is_encoded_as_its_members() -> None:
    texts = ["sum(values)", "", "Return"]
    assert TRAINED.encode_batch(texts) == [TRAINED.encode(text) for text in texts]


def test_digits_and_parts_of_names_are_tokens_of_their_own() -> None:
    pieces = [TRAINED.decode([token]) for token in TRAINED.encode("12")]
    assert pieces == ["1", "2"]


def test_it_is_saved_and_read_back(tmp_path: Path) -> None:
    TRAINED.save(tmp_path / "tokenizer.json")
    read = TextTokenizer.load(tmp_path / "tokenizer.json")
    assert read.size == TRAINED.size
    assert read.encode("return sum") == TRAINED.encode("return sum")


def test_other_marks_are_refused(tmp_path: Path) -> None:
    TRAINED.save(tmp_path / "tokenizer.json")
    state = json.loads((tmp_path / "tokenizer.json").read_text())
    vocabulary = state["model"]["vocab"]
    vocabulary["<hole>"] = vocabulary.pop("<mask>")
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(CheckpointError) as caught:
        TextTokenizer.load(tmp_path / "tokenizer.json")
    assert caught.value.detail == (
        f"tokenizer.json starts with the tokens ('<null>', '<hole>', '<bos>', '<eos>', '<sep>'), expected {MARKS}"
    )


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_pieces_say_what_the_ids_of_a_text_say(text: str) -> None:
    pieces = TRAINED.pieces()
    assert b"".join(pieces[token] for token in TRAINED.encode(text)) == text.encode()
    assert pieces[: len(MARKS)] == [b""] * len(MARKS)
    assert all(pieces[len(MARKS) :])
