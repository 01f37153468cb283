"""Clients that never give up, and a reckoning of what was acknowledged to them. For test.sh; standard library only.

    PERFUSE_KEY=… python load.py run URL > ACKNOWLEDGED      until SIGTERM
    PERFUSE_KEY=… python load.py check URL ACKNOWLEDGED…     exits with 1 if anything acknowledged is gone

A client asks for a text, gives feedback on it with an idempotency key, and asks again. A request that is not answered,
or answered with 429 or 503, is sent again as it was. Acknowledged is what has `recorded: true`, and a feedback id.

The last of several files is the one that counts: since it was begun, nobody else may have given feedback.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

CLIENTS = 4
PAUSE = 0.1
PATIENCE = 120.0
COUNTED_EVERY = 6.0
"""Seconds after which what the server says of kept feedback is of now: its worker counts every 5."""
LATER = frozenset({429, 503})
Body = dict[str, object]


def say(line: str) -> None:
    """A line to stdout."""
    sys.stdout.write(line + "\n")


class Server:
    """A perfuse server, one connection per request so that a killed one is noticed at once."""

    def __init__(self, url: str, key: str) -> None:
        self._address = urlsplit(url).netloc
        self._headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}

    def ask(self, method: str, path: str, body: Body | None = None) -> tuple[int, bytes]:
        """Status and body of one answer. Raises OSError or HTTPException where there is none."""
        connection = http.client.HTTPConnection(self._address, timeout=30)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), self._headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def insist(
        self, method: str, path: str, body: Body | None = None, seen: Counter[str] | None = None
    ) -> tuple[int, Body]:
        """The first answer that does not say "later". Raises TimeoutError if none comes."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                status, raw = self.ask(method, path, body)
                if status not in LATER:
                    return status, json.loads(raw)
                outcome = str(status)
            except (OSError, http.client.HTTPException, ValueError) as error:
                outcome = type(error).__name__
            if seen is not None:
                seen[outcome] += 1
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer to {method} {path} for {PATIENCE:.0f} s")
            time.sleep(PAUSE)


def run(server: Server) -> None:
    """Ask and tell until SIGTERM, then print what was acknowledged."""
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    time.sleep(COUNTED_EVERY)
    before = settled(server)
    acknowledged: list[Body] = []
    refused: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    gaps: list[float] = []
    answered_at = [time.monotonic()]
    guard = threading.Lock()

    def client(number: int) -> None:
        while not done.is_set():
            asked = {"modality": "text", "prompt": "Return the sum of the numbers.", "seed": uuid.uuid4().int % 2**50}
            status, answer = server.insist("POST", "/v1/diffuse", asked, refused)
            now = time.monotonic()
            with guard:
                gaps.append(now - answered_at[0])
                answered_at[0] = now
            if status != 200:
                failed[f"diffuse {status} {answer.get('code')}"] += 1
                continue
            if not answer["recorded"]:
                refused["not recorded"] += 1
                continue
            told: Body = {"generation_id": answer["id"], "source": f"load-{number}", "reward": 0.0}
            told["idempotency_key"] = str(uuid.uuid4())
            status, said = server.insist("POST", "/v1/feedback", told, refused)
            if status != 202:
                failed[f"feedback {status} {said.get('code')}"] += 1
                continue
            acknowledged.append({"text": answer["outputs"][0]["text"], "told": told, "feedback": said["feedback_id"]})

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client, number) for number in range(CLIENTS)]
    report = {
        "kept_before": sum(before.values()),
        "acknowledged": acknowledged,
        "sent_again": refused,
        "longest_gap": round(max(gaps), 2),
        "failed": failed + Counter(repr(error) for each in clients if (error := each.exception())),
    }
    say(json.dumps(report))


def kept(server: Server) -> Iterator[tuple[str, float]]:
    """Feedback by where it is: the inbox's states, and those of the store."""
    _, raw = server.ask("GET", "/metrics")
    for name, state, value in re.findall(
        r'^perfuse_(inbox_items|evolution_feedback_items)\{state="(\w+)"\} (\S+)$', raw.decode(), re.MULTILINE
    ):
        yield f"{name.partition('_')[0]} {state}", float(value)


def settled(server: Server, expected: int = 0) -> dict[str, float]:
    """Kept feedback once none is on its way to the store and as much as expected is there, or as it is in the end."""
    deadline = time.monotonic() + PATIENCE
    while True:
        places = dict(kept(server))
        waiting = places.get("inbox waiting", 0) + places.get("inbox leased", 0)
        if (places and sum(places.values()) >= expected and not waiting) or time.monotonic() > deadline:
            return places
        time.sleep(1)


def check(server: Server, files: Sequence[Path]) -> None:
    """Look for everything that was acknowledged; print the counts, exit with 1 if something is missing."""
    contents = [json.loads(file.read_text()) for file in files]
    acknowledged = [each for content in contents for each in content["acknowledged"]]
    lost: Counter[str] = Counter()
    for each in acknowledged:
        told = each["told"]
        status, found = server.insist("GET", f"/v1/generations/{told['generation_id']}")
        if status != 200 or found["result"]["outputs"][0]["text"] != each["text"]:
            lost["generations"] += 1
        _, said = server.insist("POST", "/v1/feedback", told)
        if said.get("feedback_id") != each["feedback"]:
            lost["feedback ids"] += 1
    last = contents[-1]
    expected = int(last["kept_before"]) + len(last["acknowledged"])
    settled(server, expected)
    time.sleep(COUNTED_EVERY)
    places = settled(server, expected)
    kept_now = int(sum(places.values()))
    lost["feedback"] += max(expected - kept_now, int(places.get("inbox dead", 0)), 0)
    lost["feedback kept twice"] += max(kept_now - expected, 0)
    for content in contents:
        lost.update(content["failed"])
    lost = +lost
    shown = {name: int(value) for name, value in places.items() if value}
    say(f"  acknowledged: {len(acknowledged)} answers and as many feedbacks; feedback now: {shown} of {expected}")
    for content in contents:
        say(f"  sent again, by why: {content['sent_again']}; longest without an answer: {content['longest_gap']} s")
    say(f"  lost or failed: {dict(lost) or 0}")
    sys.exit(1 if lost or not acknowledged else 0)


if __name__ == "__main__":
    target = Server(sys.argv[2], os.environ["PERFUSE_KEY"])
    if sys.argv[1] == "run":
        run(target)
    else:
        check(target, [Path(name) for name in sys.argv[3:]])
