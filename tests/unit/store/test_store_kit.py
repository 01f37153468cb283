"""A model folder's kit is read as it was written, and a damaged one is said to be damaged."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from pathlib import Path

import pytest

from perfuse.errors import CheckpointError
from perfuse.store.kit import Anchor, Kit, base_of, find_kit, read_kit

ANCHOR = {"prompt": "Double é.", "code": "def f(x):\n    return 2 * x\n", "entry_point": "f"}
CASES = [{"args": [1], "expected": 2}, {"args": [None], "raises": "TypeError"}]
HINT = "make it again with `perfuse train kit`"


def embedder(width: int = 2, reach: str = "0.25") -> bytes:
    """A file of safetensors as its format says, made without its library."""
    tensors = {
        "__metadata__": {"reach": reach},
        "mean": {"dtype": "F32", "shape": [width], "data_offsets": [0, 4 * width]},
        "matrix": {"dtype": "F32", "shape": [width, width], "data_offsets": [4 * width, 4 * width * (width + 1)]},
    }
    header = json.dumps(tensors).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4 * width * (width + 1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "embedder.safetensors").write_bytes(embedder())
    (tmp_path / "anchors.jsonl").write_text(json.dumps({**ANCHOR, "cases": CASES}) + "\n", encoding="utf-8")
    return tmp_path


def present(folder: Path) -> Kit:
    kit = read_kit(folder)
    assert kit is not None
    return kit


def test_a_kit_is_read(folder: Path) -> None:
    kit = present(folder)
    assert (kit.folder, kit.base, kit.reach, kit.embedder.width) == (folder, base_of(folder), 0.25, 2)
    assert kit.anchors() == [Anchor("Double é.", ANCHOR["code"], "f", tuple(CASES))]


@pytest.mark.parametrize("missing", ["embedder.safetensors", "anchors.jsonl"])
def test_a_model_without_a_whole_kit_learns_nothing(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    assert read_kit(folder) is None


def test_the_embedder_is_another_after_any_change_of_model_or_file(folder: Path) -> None:
    seen = {present(folder).embedder.hash}
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        before = base_of(folder)
        (folder / name).write_bytes(b"changed")
        assert base_of(folder) != before
        seen.add(present(folder).embedder.hash)
    (folder / "embedder.safetensors").write_bytes(embedder(reach="0.5"))
    seen.add(present(folder).embedder.hash)
    assert len(seen) == 5


def test_the_base_is_the_hash_of_three_hashes(folder: Path) -> None:
    parts = (hashlib.sha256(name).digest() for name in (b"model.safetensors", b"tokenizer.json", b"config.json"))
    assert base_of(folder) == hashlib.sha256(b"".join(parts)).hexdigest()


def test_a_kit_without_a_model_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=f"^no model in {re.escape(str(folder))}: No such file or directory: model.safetensors$"
    ):
        read_kit(folder)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "JSONDecodeError: Expecting value: line 1 column 1 (char 0)"),
        (struct.pack("<Q", 2) + b"{}", "KeyError: 'mean'"),
        (struct.pack("<Q", 2) + b"[]", "TypeError: list indices must be integers or slices, not str"),
        (embedder(reach="near"), "ValueError: could not convert string to float: 'near'"),
    ],
)
def test_a_damaged_embedder_is_refused(folder: Path, data: bytes, reason: str) -> None:
    (folder / "embedder.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        read_kit(folder)
    assert (caught.value.detail, caught.value.hint) == (
        f"{folder.name}/embedder.safetensors cannot be read: {reason}",
        HINT,
    )


@pytest.mark.parametrize(("width", "reach"), [(2, "nan"), (2, "-0.1"), (2, "0.0"), (2, "2.5"), (0, "0.5")])
def test_an_embedder_that_means_nothing_is_refused(folder: Path, width: int, reach: str) -> None:
    (folder / "embedder.safetensors").write_bytes(embedder(width, reach))
    with pytest.raises(CheckpointError) as caught:
        read_kit(folder)
    assert caught.value.detail == (
        f"{folder.name}/embedder.safetensors has width {width} and reach {float(reach)}; "
        "expected a width of at least 1 and a reach over 0, at most 2.0"
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (json.dumps(ANCHOR), "KeyError: 'cases'"),
        ("[]", "TypeError: list indices must be integers or slices, not str"),
    ],
)
def test_damaged_anchors_are_refused(folder: Path, line: str, reason: str) -> None:
    (folder / "anchors.jsonl").write_text(line, encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        present(folder).anchors()
    assert (caught.value.detail, caught.value.hint) == (
        f"{folder.name}/anchors.jsonl cannot be read: {reason}",
        HINT,
    )


def test_the_first_folder_with_a_kit_is_found(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    assert find_kit([empty]) is None
    assert find_kit([empty, folder]) == present(folder)
