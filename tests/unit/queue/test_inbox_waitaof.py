"""Redis from 7.2 on confirms that feedback is on its disk, an older one that it is written; a script stands in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from perfuse.queue.inbox import InboxUnavailable, Put
from perfuse.queue.inbox_redis import RedisInbox


class ScriptedRedis:
    """Speaks enough RESP: INFO, XGROUP, EVAL of a put, and WAITAOF, which says that `synced` servers have synced.

    `unwritten` are the bytes that its log lacks on disk, look by look; the last number stays.
    """

    def __init__(self, synced: int = 0, version: str = "7.2.4", unwritten: Sequence[int] = (0,)) -> None:
        self.synced = synced
        self.version = version
        self.unwritten = [*unwritten]
        self.commands: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            words = []
            for _ in range(int(head[1:])):
                length = int((await reader.readline())[1:])
                words.append((await reader.readexactly(length + 2))[:-2])
            self.commands.append(words[0].upper())
            writer.write(self.answer(words))
        writer.close()

    def answer(self, words: list[bytes]) -> bytes:
        match words[0].upper():
            case b"INFO":
                info = f"redis_version:{self.version}\r\naof_enabled:1\r\naof_buffer_length:{self.unwritten[0]}\r\n"
                if b"EVAL" in self.commands:
                    self.unwritten = self.unwritten[1:] or self.unwritten
                return b"$%d\r\n%s\r\n" % (len(info), info.encode())
            case b"XGROUP":
                return b"-BUSYGROUP Consumer Group name already exists\r\n"
            case b"EVAL":
                identity, _, digest = words[3 + int(words[2]) :][:3]
                return b"$%d\r\n%s\r\n" % (len(digest + identity), digest + identity)
            case b"WAITAOF":
                return b"*2\r\n:%d\r\n:0\r\n" % self.synced
            case _:
                return b"+OK\r\n"


@pytest.mark.parametrize("synced", [1, 0])
async def test_an_item_waits_for_the_disk_of_the_server(tmp_path: Path, synced: int) -> None:
    script = ScriptedRedis(synced)
    async with await asyncio.start_unix_server(script.serve, tmp_path / "s"):
        inbox = RedisInbox(f"unix://{tmp_path}/s?protocol=2", key_seconds=5)
        await inbox.open()
        assert inbox.durability == "Redis 7.2.4, synced to disk: survives power loss"
        puts = [Put(b"a"), Put(b"b")]
        done = await asyncio.gather(*(inbox.put(put) for put in puts), return_exceptions=True)
        if synced:
            assert done == [put.id for put in puts]
        else:
            assert [type(error) for error in done] == [InboxUnavailable] * 2
            assert str(done[0]) == "Redis did not take it: the append-only file was not synced in time"
        assert script.commands[-3:] == [b"EVAL", b"EVAL", b"WAITAOF"]
        await inbox.close()


@pytest.mark.parametrize("unwritten", [[120, 40, 0], [120]])
async def test_an_item_waits_until_an_older_server_has_written_its_log(tmp_path, monkeypatch, unwritten) -> None:
    monkeypatch.setattr("perfuse.queue.inbox_redis._AOF_MILLISECONDS", 30)
    script = ScriptedRedis(version="7.0.15", unwritten=unwritten)
    async with await asyncio.start_unix_server(script.serve, tmp_path / "s"):
        inbox = RedisInbox(f"unix://{tmp_path}/s?protocol=2", key_seconds=5)
        put = Put(b"a")
        if unwritten[-1]:
            with pytest.raises(InboxUnavailable, match=r"^Redis did not take it: the append-only file was not written"):
                await inbox.put(put)
        else:
            assert await inbox.put(put) == put.id
            assert script.commands[-4:] == [b"EVAL", b"INFO", b"INFO", b"INFO"]
        await inbox.close()


async def test_a_server_that_refuses_the_group_is_no_inbox(tmp_path: Path) -> None:
    script = ScriptedRedis(1)
    answer = script.answer
    script.answer = lambda words: b"-NOPERM no\r\n" if words[0] == b"XGROUP" else answer(words)  # type: ignore[method-assign]
    async with await asyncio.start_unix_server(script.serve, tmp_path / "s"):
        inbox = RedisInbox(f"unix://{tmp_path}/s?protocol=2", key_seconds=5)
        with pytest.raises(InboxUnavailable, match=r"^Redis cannot be reached: "):
            await inbox.open()
        await inbox.close()
