"""`perfuse store`: look into a store without disturbing its owner; tidy it through its owner."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from perfuse.cli.options import AlwaysJson, Json, ModelFolders
from perfuse.cli.terminal import emit_json
from perfuse.errors import ConfigError, NotFound, StoreLocked

if TYPE_CHECKING:
    from perfuse._native import ArrowStorage

app = typer.Typer(help="Look into the store and tidy it, also while a server uses it.", no_args_is_help=True)

DataDir: TypeAlias = Annotated[Path, typer.Option(help="the server's data directory", envvar="PERFUSE_DATA_DIR")]


@app.command()
def stats(*, data_dir: DataDir = Path("perfuse-data"), json: AlwaysJson = False) -> None:
    """Sizes and counts of the store and its tables, as JSON."""
    del json
    with _reader(data_dir) as store:
        emit_json(store.stats())


@app.command()
def verify(*, data_dir: DataDir = Path("perfuse-data"), json: AlwaysJson = False) -> None:
    """Read every record again and check it against its checksum: counts as JSON, or where the damage is and exit 1."""
    del json
    with _reader(data_dir) as store:
        emit_json(store.verify())


@app.command()
def compact(*, data_dir: DataDir = Path("perfuse-data"), json: AlwaysJson = False) -> None:
    """Remove what was replaced or deleted from the files of a store that no server uses: bytes before and after."""
    del json
    from perfuse.engine.housing import STORE
    from perfuse.store import Store

    _reader(data_dir).close()  # an owner would create a store where there is none
    try:
        with Store(data_dir / STORE) as store:
            emit_json(asdict(store.compact(forget=True)))
    except StoreLocked as locked:
        raise StoreLocked(locked.detail, hint="stop the server first: only the owner of a store compacts it") from None


@app.command()
def backup(
    to: Annotated[Path, typer.Argument(help="a new folder, which can be a server's data directory")],
    *,
    data_dir: DataDir = Path("perfuse-data"),
    json: AlwaysJson = False,
) -> None:
    """Copy store and blobs while a server goes on using them: what the copy was found to hold, as JSON."""
    del json
    import shutil

    from perfuse.engine.housing import STORE
    from perfuse.store.blobs import FOLDER

    with _reader(data_dir) as store:
        to.mkdir(parents=True, exist_ok=True)
        found = store.backup(to / STORE)
    if (data_dir / STORE / FOLDER).is_dir():  # after the rows: a blob is there before any row names it
        shutil.copytree(data_dir / STORE / FOLDER, to / STORE / FOLDER)
    emit_json(found)


@app.command()
def repair(*, data_dir: DataDir = Path("perfuse-data"), json: AlwaysJson = False) -> None:
    """Give up the commits from the first damaged one on, of a store that no server uses: the last one kept, as JSON.

    The log as it was stays beside the new one. A damaged manifest or segment cannot be repaired: restore a backup.
    """
    del json
    from perfuse._native import ArrowStorage
    from perfuse.engine.housing import STORE

    try:
        found = ArrowStorage.repair(data_dir / STORE)
    except NotFound:
        raise _nothing(data_dir) from None
    except StoreLocked as locked:
        raise StoreLocked(locked.detail, hint="stop the server first") from None
    emit_json({"damaged": found is not None, **(found or {})})


@app.command()
def purge(*, data_dir: DataDir = Path("perfuse-data"), model: ModelFolders = None, json: Json = False) -> None:
    """Remove the bytes of all that was deleted and of adaptations that serve no more: `perfuse evolve purge`."""
    from perfuse.cli import evolve

    evolve.purge(data_dir=data_dir, model=model, json=json)


def _reader(data_dir: Path) -> ArrowStorage:
    from perfuse._native import ArrowStorage
    from perfuse.engine.housing import STORE

    if not (data_dir / STORE).is_dir():
        raise _nothing(data_dir)
    try:
        return ArrowStorage.open(data_dir / STORE, "reader")
    except NotFound:
        raise _nothing(data_dir) from None


def _nothing(data_dir: Path) -> ConfigError:
    from perfuse.engine.housing import STORE

    return ConfigError(f"there is no store at {data_dir / STORE}", hint="give the --data-dir of a server")
