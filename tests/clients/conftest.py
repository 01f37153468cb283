"""One real server for all tests of the client: it has learned."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from perfuse.evaluation.load import Server, serving
from taught import teach


@dataclass(frozen=True)
class Taught:
    """A running server, its URL, and the ids of its adaptations by state at the start."""

    server: Server
    url: str
    adaptations: dict[str, str]


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Taught]:
    data_dir = tmp_path_factory.mktemp("client") / "data"
    adaptations = teach(data_dir)
    with serving(data_dir) as server:
        asyncio.run(server.ready())
        yield Taught(server, f"http://127.0.0.1:{server.port}", adaptations)
