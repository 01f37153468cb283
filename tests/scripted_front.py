"""A small front for tests of the supervisor: `GET /<prompt>` runs a text request and answers it with its restarts.

`/ready` answers 200 once an engine is ready; `/hang` never answers; `/long` takes two seconds of an engine; `/orphan`
gives the id of a process that has lost its parent and ends soon.
"""

from __future__ import annotations

import asyncio
import os
import signal

from perfuse.dispatch.engines import EnginePool
from perfuse.engine import launch as launching
from perfuse.engine import nursery
from perfuse.errors import ConfigError, PerfuseError
from perfuse.requests import TextRequest


async def answer(pool: EnginePool, path: str) -> tuple[int, str]:
    if path == "ready":
        return (200 if pool.ready else 503), str(os.getpid())
    if path == "orphan":
        shell = await asyncio.create_subprocess_exec("sh", "-c", "sleep 0.3 >/dev/null & echo $!", stdout=-1)
        return 200, (await shell.communicate())[0].decode().strip()
    if path == "hang":
        await asyncio.sleep(3600)
    try:
        done = await pool.run("text", TextRequest(prompt=path, steps=400 if path == "long" else 4))
    except PerfuseError as error:
        return error.status, error.code
    return 200, f"{path} {done.restarts}"


async def serve(launch: launching.FrontLaunch) -> None:
    pool = EnginePool(launch.engines)
    await pool.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    busy: set[asyncio.Task[None]] = set()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        busy.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            status, body = await answer(pool, head.split()[1].decode().strip("/"))
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            busy.discard(task)

    server = await asyncio.start_server(client, sock=launch.listening_socket())
    await stop.wait()
    server.close()
    if busy:
        await asyncio.wait(busy)
    await pool.close()


def main() -> None:
    launch = launching.receive(launching.FrontLaunch)
    if launch.settings().keys is not None:
        launching.refuse(ConfigError("the key file is empty", hint="write one"))
    asyncio.run(serve(launch))


if __name__ == "__main__":
    nursery.main(main)
