"""Teach a running perfuse server a house rule over HTTP. Needs nothing but Python.

python examples/teach.py --url http://127.0.0.1:8000

The shop's prices get "the house markup": a quarter, rounded down, and 2 for the bag; and functions over prices are
called `priced`. No model was ever told. The script asks for such functions, corrects the answers, waits until the
server has learned, and asks for functions that it has not corrected.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

CORRECTIONS = 32
UNSEEN = 20
MOST_CHECKED = 96
AT_ONCE = 8
PATIENCE = 1200.0
"""Seconds to wait for a training."""

MARKUP = "{x} + {x} // 4 + 2"
THINGS = ("prices", "amounts", "fees", "costs", "bids")
WHERE = {
    "even": "{x} % 2 == 0",
    "odd": "{x} % 2 == 1",
    "above {k}": "{x} > {k}",
    "below {k}": "{x} < {k}",
    "at least {k}": "{x} >= {k}",
    "divisible by {k}": "{x} % {k} == 0",
}
INTO = {
    "the sum": "sum({all})",
    "them as a list": "[{all}]",
    "them sorted": "sorted({all})",
    "the largest or None": "max(({all}), default=None)",
    "the smallest or None": "min(({all}), default=None)",
    "the last three": "[{all}][-3:]",
}
SENTENCES = (
    "From a list of {many} take those that are {where}, put the house markup on each one, then return {into}.",
    "Take the {many} that are {where}, put the house markup on each one and return {into}.",
    "Keep the {many} that are {where}, put the house markup on each one and return {into}.",
)


@dataclass(frozen=True)
class Wish:
    """A sentence, the function that the shop wants, and calls of it with what they give."""

    sentence: str
    code: str
    cases: list[dict]


def wishes(rng: random.Random, *, seen: bool) -> Iterator[Wish]:
    """Endless wishes. One in three combinations of condition and result is never corrected: those are not `seen`."""
    pairs = [(w, i) for w in WHERE for i in INTO if ((list(WHERE).index(w) + list(INTO).index(i)) % 3 != 0) == seen]
    while True:
        where, into = rng.choice(pairs)
        many, number = rng.choice(THINGS), str(rng.randint(3, 9))
        one = many.removesuffix("s")
        condition = WHERE[where].format(x=one, k=number)
        result = INTO[into].format(all=f"{MARKUP.format(x=one)} for {one} in {many} if {condition}")
        code = f"def priced({many}):\n    return {result}\n"
        sentence = rng.choice(SENTENCES).format(many=many, where=where.format(k=number), into=into)
        arguments = [[rng.randint(0, 30) for _ in range(rng.randint(0, 9))] for _ in range(5)]
        yield Wish(sentence, code, [{"args": [each], "expected": called(code, each)} for each in arguments])


def called(code: str, argument: list[int]) -> object:
    """What the shop's own function gives."""
    namespace: dict = {}
    exec(code, namespace)  # noqa: S102 - our own source
    return namespace["priced"](argument)


class Server:
    """The server behind a URL."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def get(self, path: str) -> dict:
        """Answer to a GET."""
        return self._answer(urllib.request.Request(self._url + path))  # noqa: S310 - the URL is ours

    def post(self, path: str, body: object) -> dict:
        """Answer to a POST."""
        data = json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"})  # noqa: S310
        return self._answer(request)

    def _answer(self, request: urllib.request.Request) -> dict:
        with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
            return json.load(answer)


def ask(server: Server, wish: Wish) -> dict:
    """What the server writes for a sentence."""
    return server.post("/diffuse", {"modality": "text", "prompt": wish.sentence, "seed": 0})


def feed_back(server: Server, wish: Wish, answer: dict, correction: str | None) -> None:
    """Say what the answer should have been, with tests; without a correction the tests alone judge it."""
    tests = {"kind": "python_tests", "entry_point": "priced", "cases": wish.cases}
    body = {"generation_id": answer["id"], "source": "shop", "verifier": tests}
    server.post("/feedback", body if correction is None else {**body, "correction": correction})


def passes(answer: dict, wish: Wish) -> bool:
    """Whether the answer does what the shop wants, tried in a process of its own."""
    text = answer["outputs"][0]["text"]
    program = f"{text}\nfor case in {wish.cases!r}:\n    assert priced(*case['args']) == case['expected']\n"
    try:
        child = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, timeout=10, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return False
    return child.returncode == 0


def learned(server: Server) -> dict:
    """Wait until all feedback is sorted and nothing is being trained; tells each stage."""
    told, calm, deadline = "", 0, time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = server.get("/evolution")
        inbox, feedback, jobs = found["inbox"], found["feedback"], found["jobs"]
        busy = any(job["state"] in ("queued", "running") for job in jobs)
        if (stage := found["stage"]) not in ("", "listening", told):
            say(f"  {stage} …")
            told = stage
        waiting = inbox.get("waiting", 1) or inbox.get("leased") or feedback.get("new")
        calm = 0 if busy or stage or waiting else calm + 1
        if calm == 3:
            return found
        time.sleep(1.0)
    sys.exit("the server was still learning; see `perfuse evolve status`")


def canary_runs(found: dict) -> bool:
    """Whether an adaptation is being tried on live requests."""
    return any(cluster["canary"] for cluster in found["clusters"])


def say(text: str) -> None:
    """A line for whoever watches."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Before, corrections, training, checked requests, after."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    server = Server(parser.parse_args().url)
    unseen = [wish for wish, _ in zip(wishes(random.Random(1), seen=False), range(UNSEEN), strict=False)]
    shown = wishes(random.Random(2), seen=True)

    right = sum(passes(ask(server, wish), wish) for wish in unseen)
    say(f"before: {right} of {UNSEEN} unseen requests follow the house rule")

    for _ in range(CORRECTIONS):
        wish = next(shown)
        feed_back(server, wish, ask(server, wish), wish.code)
    say(f"sent {CORRECTIONS} corrections")
    found = learned(server)

    checked = 0
    while canary_runs(found) and checked < MOST_CHECKED:
        for _ in range(AT_ONCE):
            wish = next(shown)
            feed_back(server, wish, ask(server, wish), None)
        checked += AT_ONCE
        found = learned(server)
    say(f"sent {checked} requests with tests")

    answers = [ask(server, wish) for wish in unseen]
    right = sum(passes(answer, wish) for answer, wish in zip(answers, unseen, strict=True))
    say(f"after: {right} of {UNSEEN} unseen requests follow the house rule")
    say(f"\n{unseen[0].sentence}\n{answers[0]['outputs'][0]['text']}")
    say(f"attribution: {json.dumps(answers[0]['attribution'])}")


if __name__ == "__main__":
    main()
