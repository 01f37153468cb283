"""Writes a file as a whole, so that whoever reads it finds the old bytes or the new ones, after any crash."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` beside `path` and rename it over; on disk when this returns. A missing folder is made, mode 0700."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Return when the names in `folder`, and its own, are on the disk."""
    _sync(folder)
    # Always: who made the folder may have died before he came to it. The name of a mounted disk is not on that disk.
    if folder.stat().st_dev == folder.parent.stat().st_dev:
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
