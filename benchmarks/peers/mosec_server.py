"""Mosec: a worker with a batch, behind its front in Rust."""

from __future__ import annotations

import sys

from model import BATCH, WINDOW_SECONDS, Body, Model
from mosec import Server, Worker


class Filling(Worker):
    """Fills gaps."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()

    def forward(self, data: list[Body]) -> list[Body]:
        """A batch."""
        return self.model(data)


if __name__ == "__main__":
    sys.argv = [sys.argv[0], "--address", "127.0.0.1", "--port", sys.argv[1], "--timeout", "120000"]
    server = Server()
    server.append_worker(
        Filling, num=1, max_batch_size=BATCH, max_wait_time=round(WINDOW_SECONDS * 1000), route="/fill", timeout=120
    )
    server.run()
