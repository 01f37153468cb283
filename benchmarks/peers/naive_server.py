"""FastAPI with a batcher of one's own: what one would write first."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI
from model import BATCH, WINDOW_SECONDS, Body, Model
from pydantic import BaseModel


class Asked(BaseModel):
    """A request."""

    prompt: str
    length: int
    steps: int
    seed: int = 0
    sampler: str = "low_confidence"


model = Model()
thread = ThreadPoolExecutor(1)
waiting: asyncio.Queue[tuple[Body, asyncio.Future[Body]]] = asyncio.Queue()


async def serve() -> None:
    """Batches for ever: the first request opens a window, up to 16 come in."""
    loop = asyncio.get_running_loop()
    while True:
        batch = [await waiting.get()]
        until = loop.time() + WINDOW_SECONDS
        while len(batch) < BATCH and (left := until - loop.time()) > 0:
            try:
                batch.append(await asyncio.wait_for(waiting.get(), left))
            except TimeoutError:
                break
        try:
            answers = await loop.run_in_executor(thread, model, [body for body, _ in batch])
        except Exception as error:  # noqa: BLE001  # a batch fails as a whole: that is what is measured
            for _, future in batch:
                if not future.done():
                    future.set_exception(RuntimeError(str(error)))
            continue
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Run the batcher beside the application."""
    del app
    batching = asyncio.create_task(serve())
    yield
    batching.cancel()


app = FastAPI(lifespan=lifespan)


@app.post("/fill")
async def fill(asked: Asked) -> Body:
    """Wait for the batch that this request is in."""
    future: asyncio.Future[Body] = asyncio.get_running_loop().create_future()
    await waiting.put((asked.model_dump(), future))
    return await future


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="critical", access_log=False)
