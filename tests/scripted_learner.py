"""An HTTP server that behaves like one that learns, without model, store and worker, to measure."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

Body = dict[str, object]

WRONG = "def nothing():\n    return 'nothing'\n"


@dataclass
class ScriptedLearner:
    """Trains as soon as something is corrected with tests; the canary becomes champion by live requests with tests.

    Attributes:
        right: answers that the champion gives, by sentence; all others are `WRONG`.
        data_dir: said to be the server's.
        stubborn: live requests never promote the canary.
        rejecting: the gate rejects whatever is trained.
        down: how many requests for /evolution find no worker.
    """

    right: Mapping[str, str]
    data_dir: Path
    stubborn: bool = False
    rejecting: bool = False
    down: int = 0
    port: int = 0
    feedback: list[Body] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    champion: str | None = None
    canary: str | None = None
    asked: int = 0
    connections: list[asyncio.Task[None] | None] = field(default_factory=list)

    async def ready(self) -> float:
        return 0.0

    def reset(self) -> None:
        """As with an empty data directory."""
        self.feedback, self.states, self.champion, self.canary = [], {}, None, None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(asyncio.current_task())
        while True:
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            method, path, _ = head.split(" ", 2)
            raw = await reader.readexactly(int(head.lower().split("content-length: ")[1].split()[0]))
            status, body = self.answer(method, path, json.loads(raw) if raw else {})
            data = json.dumps(body).encode()
            writer.write(f"HTTP/1.1 {status} -\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        writer.close()

    def answer(self, method: str, path: str, body: Body) -> tuple[int, Body]:
        match (method, *path.strip("/").split("/")):
            case "POST", "diffuse":
                return 200, self._filled(str(body["prompt"]))
            case "POST", "feedback":
                self._told(body)
                return 202, {"feedback_id": f"fb_{len(self.feedback)}"}
            case "GET", "evolution":
                if self.down:
                    self.down -= 1
                    return 503, {"code": "unavailable"}
                return 200, self._status()
            case "GET", "adapters":
                return 200, {"adapters": [self._adapter(identity) for identity in reversed(self.states)]}
            case "GET", "adapters", identity:
                return (200, self._adapter(identity)) if identity in self.states else (404, {"code": "not_found"})
            case "POST", "adapters", identity, "promote":
                self._promote(identity)
                return 200, self._adapter(identity)
            case "POST", "adapters", identity, "rollback":
                self.states[identity], self.champion = "retired", None
                return 200, {"champion": None}
            case "POST", "evolution", "revoke":
                return 200, self._revoke(str(body["source"]))
        raise AssertionError(f"{method} {path}")

    def _filled(self, prompt: str) -> Body:
        self.asked += 1
        knows = self.champion is not None and prompt in self.right
        text = self.right[prompt] if knows else WRONG
        attribution = [{"id": self.champion, "weight": 1.0}] if knows else []
        return {"id": f"gen_{self.asked}", "outputs": [{"text": text}], "attribution": attribution}

    def _told(self, body: Body) -> None:
        self.feedback.append(body)
        if "correction" in body and "verifier" in body and self.canary is None and self.champion is None:
            self._train()
        elif "correction" not in body and self.canary is not None and not self.stubborn:
            self._promote(self.canary)

    def _train(self) -> None:
        identity = f"ad_{len(self.states) + 1}"
        self.states[identity] = "rejected" if self.rejecting else "canary"
        self.canary = None if self.rejecting else identity

    def _promote(self, identity: str) -> None:
        self.states[identity], self.champion, self.canary = "champion", identity, None

    def _revoke(self, source: str) -> Body:
        gone = [each for each in self.feedback if each["source"] == source]
        self.feedback = [each for each in self.feedback if each["source"] != source]
        retired = list(self.states)
        self.states = dict.fromkeys(self.states, "retired")
        self.champion = self.canary = None
        self._train()
        return {"retired": retired, "cancelled": [], "feedback": len(gone), "memories": 0, "jobs": ["job_1"]}

    def _status(self) -> Body:
        verified = sum("verifier" in each for each in self.feedback)
        serves = {"cluster": "c", "champion": self.champion, "canary": self.canary}
        return {
            "inbox": {"waiting": 0, "leased": 0, "dead": 0},
            "feedback": {"curated": verified, "quarantined": len(self.feedback) - verified},
            "clusters": [serves] if self.states else [],
            "jobs": [],
            "stage": "",
        }

    def _adapter(self, identity: str) -> Body:
        sources = {str(each["source"]) for each in self.feedback if "correction" in each}
        return {
            "id": identity, "cluster": "c", "kind": "lora", "state": self.states[identity], "reason": "as scripted",
            "outcome": None, "feedback": len(self.feedback), "created": 1.0, "changed": 1.0, "base": "base",
            "parent": None, "blob": f"blob-{identity}", "embedder": "e", "dataset": "d", "feedback_ids": [],
            "sources": sorted(sources), "seed": 0, "radius": 0.2, "config": {}, "report": None,
        }  # fmt: skip


@asynccontextmanager
async def listening(learner: ScriptedLearner) -> AsyncIterator[ScriptedLearner]:
    """The learner on a port of its own."""
    server = await asyncio.start_server(learner.serve, "127.0.0.1", 0)
    learner.port = server.sockets[0].getsockname()[1]
    try:
        yield learner
    finally:
        server.close()
        await asyncio.gather(*(task for task in learner.connections if task is not None), return_exceptions=True)


@contextmanager
def started(learner: ScriptedLearner, *, fresh: bool = True) -> Iterator[ScriptedLearner]:
    """The learner in place of `learning.learning`, with an empty data directory or the one it had."""
    if fresh:
        learner.reset()
    yield learner
