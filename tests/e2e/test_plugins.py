"""A sampler of another package, asked for by name over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path

from perfuse.diffusion.samplers import RULES
from perfuse.evaluation.load import Server, ask, serving
from plugged import installed

BODY = {"modality": "text", "prompt": "Return the sum of a list.", "length": 24, "seed": 3}


def test_an_installed_sampler_fills_and_an_unknown_one_is_refused_with_the_names_there_are(tmp_path: Path) -> None:
    path = {"PYTHONPATH": str(installed(tmp_path / "packages", "perfuse-frontier"))}
    with serving(tmp_path / "data", environment=path) as server:
        asyncio.run(_asked(server))


async def _asked(server: Server) -> None:
    await server.ready()
    body = {**BODY, "sampler": "frontier", "reproducible": True}
    filled, again = [await ask(server.port, "POST", "/diffuse", body) for _ in range(2)]
    assert (filled.status, filled.json()["outputs"]) == (200, again.json()["outputs"])
    refused = await ask(server.port, "POST", "/diffuse", {**BODY, "sampler": "backwards"})
    problem = refused.json()
    known = ", ".join(("auto", *RULES, "frontier"))
    assert (refused.status, problem["field"]) == (422, "/sampler")
    assert problem["detail"] == f"no sampler is named 'backwards'; expected one of {known}"
