"""Documented functions become pairs; none that an evaluation suite holds."""

from __future__ import annotations

import ast
import json
from pathlib import Path

from typer.testing import CliRunner

from perfuse.cli.app import app
from perfuse.training.corpus import contamination
from perfuse.training.corpus.pairs import Pair, collect, kept

SOURCE = '''
import os

class Box:
    def width(self):
        """Give the width of the box in metres.

        More words that are not taken.
        """
        # a comment stays
        return self.x1 - self.x0

def bare(x):
    return x

def short(x):
    """Too short."""
    return x

def only_words(x):
    """This function says a lot but does nothing."""

@decorated
async def later(x):
    """Coroutines and decorators are left out here."""
    return x

def joined(parts, sep="/"):
    "Join all parts of a path with a separator: the default is a slash."
    return sep.join(
        parts
    )
'''


def written(folder: Path, **files: str) -> list[Path]:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return sorted(folder.glob("*.py"))


def test_a_pair_is_the_first_sentence_and_the_function_without_it(tmp_path: Path) -> None:
    pairs = collect(written(tmp_path, a=SOURCE, b="def broken(:\n"))
    assert [pair.prompt for pair in pairs] == [
        "Join all parts of a path with a separator",
        "Give the width of the box in metres.",
    ]
    assert pairs[0].code == 'def joined(parts, sep="/"):\n    return sep.join(\n        parts\n    )\n'
    assert pairs[1].code == "def width(self):\n    # a comment stays\n    return self.x1 - self.x0\n"
    for pair in pairs:
        ast.parse(pair.code)


def test_a_function_that_stands_in_two_files_is_taken_once(tmp_path: Path) -> None:
    assert len(collect(written(tmp_path, a=SOURCE, b=SOURCE.replace("parts", "parts  ")))) == 2


def test_collected_pairs_are_kept_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "Say it.", "code": "def say(): ...\\n"}\n')
    assert kept(path) == [Pair("Say it.", "def say(): ...\n")]


def test_texts_of_evaluation_suites_are_recognised() -> None:
    copied = (  # HumanEval/0, MIT, as the measure of what must not be learned
        "Check if in given list of numbers, are any two numbers closer to each other than given threshold."
    )
    assert contamination.is_evaluated(copied)
    assert not contamination.is_evaluated(
        "Check the numbers of a list against a threshold, then give back the closest."
    )


def test_the_command_marks_the_suites_of_its_files(tmp_path: Path) -> None:
    suite, out = tmp_path / "suite.jsonl", tmp_path / "marks.bin"
    words = " ".join(f"w{i}" for i in range(400))
    suite.write_text(json.dumps({"prompt": words, "test": "left out"}) + "\n")
    done = CliRunner().invoke(app, ["train", "marks", "--suite", str(suite), "--out", str(out)])
    assert done.stdout == f"{len(set(contamination.marks(words)))}\n"
    assert out.read_bytes() == b"".join(sorted(set(contamination.marks(words))))


def test_marks_do_not_depend_on_spaces_and_capitals(tmp_path: Path) -> None:
    text = "one two three four five six seven eight nine ten eleven twelve " * 4
    assert list(contamination.marks(text)) == list(contamination.marks(text.upper().replace(" ", "\n")))
    assert contamination.write_marks([text], tmp_path / "marks.bin") == len(set(contamination.marks(text)))
    assert (tmp_path / "marks.bin").stat().st_size == len(set(contamination.marks(text))) * contamination.BYTES
