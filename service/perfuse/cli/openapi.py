"""`perfuse openapi`: the API's description."""

from __future__ import annotations

from typing import Annotated

import typer

from perfuse.cli.terminal import emit, emit_json


def command(*, json: Annotated[bool, typer.Option("--json", help="JSON instead of YAML")] = False) -> None:
    """Print the OpenAPI document, as committed in openapi.yaml."""
    from perfuse.api.app import documented_app
    from perfuse.api.openapi import as_yaml

    document = documented_app().openapi()
    if json:
        emit_json(document)
    else:
        emit(as_yaml(document))
