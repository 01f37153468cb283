"""Raw Python is read where it lies."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from random import Random

from perfuse.training.corpus.sources import MAX_BYTES, PACKAGES, digest, files, windows


def test_the_standard_library_is_found() -> None:
    found = files()
    assert any(path.name == "textwrap.py" for path in found)
    assert all(path.stat().st_size < MAX_BYTES for path in found)


def test_one_file_in_twenty_is_held_out() -> None:
    trained, held_out = set(files()), set(files(held_out=True))
    assert not trained & held_out
    assert 0.03 < len(held_out) / len(trained) < 0.07


def test_every_package_is_found() -> None:
    folders = {part for path in files() for part in path.parts}
    assert set(PACKAGES) <= folders


def test_a_digest_tells_contents_and_their_order(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("1")
    second.write_text("2")
    assert digest((first, second)) != digest((second, first))
    assert len(digest((first,))) == 64


def test_windows_are_runs_of_lines_of_the_files(tmp_path: Path) -> None:
    text = "".join(f"line_{i} = {i}\r\n" for i in range(40))
    (tmp_path / "a.py").write_bytes(text.encode())
    (tmp_path / "latin.py").write_bytes(b"x = '\xe9'\n")
    paths = [tmp_path / "a.py", tmp_path / "latin.py"]
    for piece in islice(windows(Random(0), lines=5, paths=paths), 50):
        assert 1 <= piece.count("\n") <= 5
        assert piece.replace("\r\n", "\n") in text.replace("\r\n", "\n")
