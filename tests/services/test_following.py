"""A second server on the same machine answers with what the first one has learned, and takes feedback for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfuse.config import ServeConfig
from perfuse.engine.supervisor import serve
from perfuse.errors import ConfigError
from perfuse.evaluation.load import Server, ask, serving
from taught import teach

BODY = {"modality": "text", "prompt": "Return the sum of a list.", "length": 8, "seed": 3, "reproducible": True}


async def diffused(server: Server) -> dict[str, object]:
    return (await ask(server.port, "POST", "/diffuse", BODY)).json()


async def test_answers_and_generations_are_those_of_the_server_that_is_followed(tmp_path: Path) -> None:
    identity = teach(tmp_path / "first")["champion"]
    flags = ("--threads", "1", "--evolution", "off")
    with (
        serving(tmp_path / "first", *flags) as first,
        serving(tmp_path / "second", *flags, "--follow", str(tmp_path / "first")) as second,
    ):
        await first.ready(120)
        await second.ready(120)
        told, retold = await diffused(first), await diffused(second)
        assert [each["id"] for each in retold["attribution"]] == [identity]
        assert retold["outputs"] == told["outputs"]
        found = await ask(second.port, "GET", f"/generations/{told['id']}")
        assert (found.status, found.json()["id"]) == (200, told["id"])
        feedback = {"generation_id": told["id"], "source": "a", "accepted": True, "idempotency_key": "k"}
        assert (await ask(second.port, "POST", "/feedback", feedback)).status == 202
        for server in (first, second):
            lines = (await ask(server.port, "GET", "/metrics")).body.decode().splitlines()
            assert 'perfuse_inbox_items{state="waiting"} 1.0' in lines


def test_nobody_to_follow(tmp_path: Path) -> None:
    config = ServeConfig(data_dir=tmp_path / "second", follow=tmp_path / "first", port=0)
    with pytest.raises(ConfigError) as refused:
        serve(config)
    assert refused.value.detail == f"expected the data directory of a server in {tmp_path / 'first'}; it holds no store"
    assert refused.value.hint == "start the server that is followed first"
