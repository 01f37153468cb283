"""Ray Serve: a deployment with a batched method."""

from __future__ import annotations

import sys
import time

import ray
from model import BATCH, WINDOW_SECONDS, Body, Model
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=200)
class Filling:
    """Fills gaps."""

    def __init__(self) -> None:
        self.model = Model()

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WINDOW_SECONDS)
    async def batch(self, bodies: list[Body]) -> list[Body]:
        """A batch."""
        return self.model(bodies)

    async def __call__(self, request: Request) -> Body:
        """One request."""
        return await self.batch(await request.json())


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Filling.bind(), route_prefix="/fill")
    while True:
        time.sleep(1)
