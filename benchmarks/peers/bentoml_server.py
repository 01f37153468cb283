"""BentoML: a batchable API; it takes lists of bodies."""

from __future__ import annotations

import os
import sys

import bentoml
from model import BATCH, Body, Model


@bentoml.service(workers=1, traffic={"timeout": 120})
class Filling:
    """Fills gaps."""

    def __init__(self) -> None:
        self.model = Model()

    @bentoml.api(route="/fill", batchable=True, max_batch_size=BATCH, max_latency_ms=60_000)
    def fill(self, bodies: list[Body]) -> list[Body]:
        """A batch."""
        return self.model(bodies)


if __name__ == "__main__":
    command = [sys.executable, "-m", "bentoml", "serve", "bentoml_server:Filling"]
    os.execv(command[0], [*command, "--host", "127.0.0.1", "--port", sys.argv[1]])  # noqa: S606 (no shell is meant)
