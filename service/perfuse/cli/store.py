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
def purge(*, data_dir: DataDir = Path("perfuse-data"), model: ModelFolders = None, json: Json = False) -> None:
    """Remove the bytes of all that was deleted and of adaptations that serve no more: `perfuse evolve purge`."""
    from perfuse.cli import evolve

    evolve.purge(data_dir=data_dir, model=model, json=json)


def _reader(data_dir: Path) -> ArrowStorage:
    from perfuse._native import ArrowStorage
    from perfuse.engine.housing import STORE

    path = data_dir / STORE
    nothing = ConfigError(f"there is no store at {path}", hint="give the --data-dir of a server")
    if not path.is_dir():
        raise nothing
    try:
        return ArrowStorage.open(path, "reader")
    except NotFound:
        raise nothing from None
