"""What a model folder brings along so that a server can learn with it, beside weights and tokenizer.

    embedder.safetensors   mean [W], matrix [W, W]: makes requests comparable (see `perfuse.adaptation.whitening`)
    anchors.jsonl          tasks of the model's own kind with tests: what nothing learned may harm, and what is replayed

A model without them is served and learns nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perfuse.errors import CheckpointError
from perfuse.store.learning import Embedder

EMBEDDER_FILE = "embedder.safetensors"
ANCHORS_FILE = "anchors.jsonl"
FARTHEST = 2.0
"""The cosine distance of opposite vectors."""
_WEIGHTS = ("model.safetensors", "tokenizer.json", "config.json")
_SHIPPED = Path(__file__).parent.parent / "pretrained"
_HINT = "make it again with `perfuse train kit`"


@dataclass(frozen=True, slots=True)
class Anchor:
    """A task the base model was trained for.

    Attributes:
        code: a right answer.
        cases: `{"args": […], "expected": …}` or `{"args": […], "raises": "…"}`, as in feedback.
    """

    prompt: str
    code: str
    entry_point: str
    cases: tuple[Mapping[str, object], ...]


@dataclass(frozen=True, slots=True)
class Kit:
    """What a server needs to know of a model to learn with it.

    Attributes:
        folder: of the model.
        base: SHA-256 (hex) of its weights, tokenizer and configuration.
        embedder: what makes vectors of requests, by its hash, and their width.
        reach: cosine distance within which vectors belong together.
    """

    folder: Path
    base: str
    embedder: Embedder
    reach: float

    def anchors(self) -> list[Anchor]:
        """The anchors, in the order of the file.

        Raises:
            CheckpointError: the file is damaged.
        """
        path = self.folder / ANCHORS_FILE
        try:
            with path.open(encoding="utf-8") as lines:
                rows = [json.loads(line) for line in lines]
            return [Anchor(row["prompt"], row["code"], row["entry_point"], tuple(row["cases"])) for row in rows]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{self.folder.name}/{ANCHORS_FILE} cannot be read: {type(error).__name__}: {error}", hint=_HINT
            ) from error


def read_kit(folder: Path) -> Kit | None:
    """The kit of a model folder; None where it has none.

    Raises:
        CheckpointError: the embedder file is damaged.
    """
    path = folder / EMBEDDER_FILE
    if not path.is_file() or not (folder / ANCHORS_FILE).is_file():
        return None
    base = base_of(folder)
    try:
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        width, reach = int(header["mean"]["shape"][0]), float(header["__metadata__"]["reach"])
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise CheckpointError(
            f"{folder.name}/{EMBEDDER_FILE} cannot be read: {type(error).__name__}: {error}", hint=_HINT
        ) from error
    if width < 1 or not 0 < reach <= FARTHEST:
        raise CheckpointError(
            f"{folder.name}/{EMBEDDER_FILE} has width {width} and reach {reach}; "
            f"expected a width of at least 1 and a reach over 0, at most {FARTHEST}",
            hint=_HINT,
        )
    digest = hashlib.sha256(base.encode() + data).hexdigest()
    return Kit(folder, base, Embedder(hash=digest, width=width), reach)


def find_kit(folders: Sequence[Path] = ()) -> Kit | None:
    """The kit of the first of these model folders that has one; of the shipped ones where none are given.

    Raises:
        CheckpointError: an embedder file is damaged.
    """
    kits = (read_kit(folder) for folder in folders or sorted(_SHIPPED.iterdir()))
    return next((kit for kit in kits if kit is not None), None)


def base_of(folder: Path) -> str:
    """Hash of the base model in `folder`: adaptations fit only the one that they were trained on.

    Raises:
        CheckpointError: a file is missing.
    """
    digest = hashlib.sha256()
    try:
        for name in _WEIGHTS:
            digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    except OSError as error:
        raise CheckpointError(f"no model in {folder}: {error.strerror}: {Path(str(error.filename)).name}") from error
    return digest.hexdigest()
