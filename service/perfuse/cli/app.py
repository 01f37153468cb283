"""The command line as a whole: one file per command, errors as a sentence, a hint and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from perfuse import __version__
from perfuse.cli import (
    bench,
    doctor,
    engine,
    evaluate,
    evolve,
    generate,
    health,
    openapi,
    plan,
    queue,
    serve,
    store,
    train,
    validate,
)
from perfuse.cli.terminal import emit, errors
from perfuse.engine.launch import exit_code
from perfuse.errors import PerfuseError

_INTERRUPTED = 130

app = typer.Typer(
    name="perfuse",
    help="A diffusion model server that learns from the agents that use it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        emit(__version__)
        raise typer.Exit


@app.callback()
def _options(
    *,
    debug: Annotated[bool, typer.Option(help="show the traceback of an error", envvar="PERFUSE_DEBUG")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="print the version", callback=_version, is_eager=True)
    ] = False,
) -> None:
    del version
    _Debug.on = debug


class _Debug:
    on = False


app.command("serve")(serve.command)
app.command("engine")(engine.command)
app.command("generate")(generate.command)
app.command("plan")(plan.command)
app.add_typer(train.app, name="train")
app.add_typer(evaluate.app, name="eval")
app.add_typer(bench.app, name="bench")
app.add_typer(evolve.app, name="evolve")
app.add_typer(store.app, name="store")
app.add_typer(queue.app, name="queue")
app.command("openapi")(openapi.command)
app.command("doctor")(doctor.command)
app.command("health")(health.command)
app.command("validate")(validate.command)


def main() -> None:
    """Entry point of `perfuse` and `python -m perfuse`."""
    try:
        app()
    except PerfuseError as error:
        if _Debug.on:
            errors.print_exception()
        else:
            errors.print(f"[bold red]error:[/] {_escaped(error.detail)}")
            if error.hint:
                errors.print(f"[dim]hint:[/]  {_escaped(error.hint)}")
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:  # the reader of stdout has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")
