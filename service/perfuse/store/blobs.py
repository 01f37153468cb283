"""Bytes of adaptations: files named by the SHA-256 of what they hold, so writing the same twice is writing once.

A file is complete and on disk, under its name, before `put` returns; only then may a row name it. So whoever sees the
row finds the bytes, after any crash. A file that no row names is left over and swept.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from perfuse.errors import InvalidRequest, NotFound, StoreCorrupt
from perfuse.store.files import sync_folder

FOLDER = "blobs"
_DRAFT = ".draft-"


class Blobs:
    """The files of one store; written by its owner, read by anyone.

    Args:
        folder: made with mode 0700 when missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, data: bytes) -> str:
        """Keep `data`; durable when its name comes back."""
        name = hashlib.sha256(data).hexdigest()
        path = self._folder / name
        if not self.holds(name):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = self._folder / f"{_DRAFT}{os.getpid()}-{name}"
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        self._sync()  # also when it was there: a writer may have died before its own sync
        return name

    def path(self, name: str) -> Path:
        """Where the bytes lie, whether or not they do.

        Raises:
            InvalidRequest: `name` is no SHA-256 in hexadecimal digits.
        """
        if len(name) != 64 or not set(name) <= set("0123456789abcdef"):
            raise InvalidRequest(f"expected 64 hexadecimal digits as the name of a blob; got {name!r}")
        return self._folder / name

    def read(self, name: str) -> bytes:
        """The bytes, compared with their name.

        Raises:
            NotFound: there are none of that name.
            StoreCorrupt: they are not what was put.
        """
        try:
            data = self.path(name).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"no blob {name}") from None
        if (found := hashlib.sha256(data).hexdigest()) != name:
            raise StoreCorrupt(
                f"blob {name} holds {len(data)} bytes with the SHA-256 {found}",
                hint="roll back what uses it; it can be trained again from its feedback",
            )
        return data

    def holds(self, name: str) -> bool:
        """Whether the bytes are there and are what was put."""
        try:
            self.read(name)
        except (NotFound, StoreCorrupt):
            return False
        return True

    def sweep(self, named: Iterable[str]) -> list[str]:
        """Remove all files but those `named`; gives the names of the removed. No `put` may be under way."""
        keep = set(named)
        there = sorted(self._folder.iterdir()) if self._folder.exists() else []
        left_over = [path for path in there if path.name not in keep]
        for path in left_over:
            path.unlink()
        if left_over:
            self._sync()
        return [path.name for path in left_over if not path.name.startswith(_DRAFT)]

    def _sync(self) -> None:
        sync_folder(self._folder)
