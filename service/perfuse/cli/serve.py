"""`perfuse serve`: every setting of `ServeConfig` is a flag here."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from perfuse.config import ServeConfig, load


def _type_of(field: FieldInfo) -> Any:  # noqa: ANN401 (a type for typer)
    """How typer reads the flag: lists for tuples, plain words for choices (the settings check them)."""
    kind = field.annotation
    if get_origin(kind) is tuple:
        return list[get_args(kind)[0]]  # type: ignore[misc]
    for candidate in (bool, int, float, Path):
        if kind is candidate or candidate in get_args(kind):
            return candidate
    return str


def _flag(name: str, field: FieldInfo) -> inspect.Parameter:
    default = field.default
    shown = "none" if default in (None, ()) else default
    option = typer.Option(help=f"{field.description} (env PERFUSE_{name.upper()}, default {shown})", show_default=False)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[_type_of(field) | None, option]
    )


def command(*, config: Path | None, **flags: object) -> None:
    """Serve models over HTTP until stopped with Ctrl-C or SIGTERM."""
    from perfuse.engine.supervisor import serve

    given = {name: value for name, value in flags.items() if value not in (None, [])}
    raise typer.Exit(serve(load(given, config)))


_CONFIG = inspect.Parameter(
    "config",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[Path | None, typer.Option(help="YAML file of these settings", envvar="PERFUSE_CONFIG")],
)
_PARAMETERS = [_CONFIG, *(_flag(name, field) for name, field in ServeConfig.model_fields.items())]
command.__signature__ = inspect.Signature(_PARAMETERS)  # type: ignore[attr-defined]
command.__annotations__ = {parameter.name: parameter.annotation for parameter in _PARAMETERS}
