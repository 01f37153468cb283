"""`perfuse store`: look into a store without disturbing its owner."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfuse.cli.terminal import emit_json
from perfuse.errors import ConfigError

if TYPE_CHECKING:
    from perfuse._native import ArrowStorage

STORE = "store"
"""Its folder in the data directory."""

app = typer.Typer(help="Look into the store.", no_args_is_help=True)

DataDir = Annotated[Path, typer.Option(help="the server's data directory", envvar="PERFUSE_DATA_DIR")]


@app.command()
def stats(*, data_dir: DataDir = Path("perfuse-data")) -> None:
    """Sizes and counts of the store and its tables, as JSON."""
    with _reader(data_dir) as store:
        emit_json(store.stats())


@app.command()
def verify(*, data_dir: DataDir = Path("perfuse-data")) -> None:
    """Read every record again and check it against its checksum; the report goes to stdout as JSON.

    Raises:
        StoreCorrupt: a record does not match.
    """
    with _reader(data_dir) as store:
        emit_json(store.verify())


def _reader(data_dir: Path) -> ArrowStorage:
    from perfuse._native import ArrowStorage

    path = data_dir / STORE
    if not path.is_dir():
        raise ConfigError(f"there is no store at {path}", hint="give the --data-dir of a server")
    return ArrowStorage.open(path, "reader")
