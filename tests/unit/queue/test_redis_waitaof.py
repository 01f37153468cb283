"""Redis from 7.2 on confirms that a record is on its disk; a scripted server stands in for one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from perfuse.queue.ledger import Generation, LedgerUnavailable
from perfuse.queue.redis import RedisLedger

INFO = b"redis_version:7.2.4\r\naof_enabled:1\r\n"
GENERATION = Generation(
    id="i1",
    tenant="a",
    created=1.0,
    kind="plan",
    model="m@1",
    seed=1,
    snapshot=0,
    request=msgspec.Raw(b"{}"),
    result=msgspec.Raw(b"{}"),
)


class ScriptedRedis:
    """Speaks enough RESP: INFO, SET and WAITAOF, which says that `synced` servers have synced."""

    def __init__(self, synced: int) -> None:
        self.synced = synced
        self.commands: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            words = []
            for _ in range(int(head[1:])):
                length = int((await reader.readline())[1:])
                words.append((await reader.readexactly(length + 2))[:-2])
            self.commands.append(words[0].upper())
            writer.write(self.answer(words[0].upper()))
        writer.close()

    def answer(self, command: bytes) -> bytes:
        if command == b"INFO":
            return b"$%d\r\n%s\r\n" % (len(INFO), INFO)
        if command == b"WAITAOF":
            return b"*2\r\n:%d\r\n:0\r\n" % self.synced
        if command == b"HELLO":
            return b"-ERR unknown command\r\n"
        return b"+OK\r\n"


@pytest.mark.parametrize("synced", [1, 0])
async def test_a_record_waits_for_the_disk_of_the_server(tmp_path: Path, synced: int) -> None:
    script = ScriptedRedis(synced)
    async with await asyncio.start_unix_server(script.serve, tmp_path / "s"):
        ledger = RedisLedger(f"unix://{tmp_path}/s?protocol=2", ttl_seconds=5)
        await ledger.open()
        assert ledger.durability == "Redis 7.2.4, synced to disk: survives power loss"
        if synced:
            await ledger.record(GENERATION)
        else:
            with pytest.raises(LedgerUnavailable, match="the append-only file was not synced in time"):
                await ledger.record(GENERATION)
        assert script.commands[-2:] == [b"SET", b"WAITAOF"]
        await ledger.close()
