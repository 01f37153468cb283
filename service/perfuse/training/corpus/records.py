"""Sentences that tell the fields of a record, and the record as JSON: what calls of tools are learned from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from random import Random

from perfuse.training.corpus.template import WORDS

NAMES = (
    "name", "age", "path", "title", "count", "city", "unit", "level", "color", "size", "weight", "email", "user",
    "active", "price", "tags", "items", "date", "start", "end", "width", "height", "limit", "offset", "query", "kind",
    "status", "id", "key", "value", "mode", "host", "port", "retries", "verbose", "folder", "file_name", "line_number",
    "max_results", "is_open", "user_id", "first_name", "last_name", "created_at", "target", "source", "amount",
)  # fmt: skip
_FOLDERS = ("src", "docs", "tests", "lib", "data", "notes")
_ENDINGS = ("py", "md", "txt", "json", "rs", "toml")
_WORDINGS = (
    "JSON with {told}.",
    "A JSON object where {told}.",
    "Write the record with {told} as JSON.",
    "Call it with {told}.",
    "The arguments as JSON: {told}.",
    "Return an object in which {told}.",
)


def records(rng: Random) -> Iterator[tuple[str, str]]:
    """Endless (sentence, JSON text and a line end); one in six sentences shows the JSON itself."""
    while True:
        record = {name: value(rng) for name in rng.sample(NAMES, rng.randint(1, 5))}
        text = json.dumps(record, ensure_ascii=False)
        prompt = f"Write {text}" if rng.random() < 1 / 6 else rng.choice(_WORDINGS).format(told=told(record))
        yield prompt, text + ("\n" if rng.random() < 0.5 else "")


def told(record: Mapping[str, object]) -> str:
    """The fields in words: `age is 3, name is "Ann"`."""
    return ", ".join(f"{name} is {json.dumps(value, ensure_ascii=False)}" for name, value in record.items())


def value(rng: Random, depth: int = 0) -> object:
    """A value as tools take them; lists and objects hold scalars."""
    kind = rng.random()
    if kind < 0.12 and depth == 0:
        return [_scalar(rng) for _ in range(rng.randint(0, 3))]
    if kind < 0.2 and depth == 0:
        return {name: value(rng, 1) for name in rng.sample(NAMES, rng.randint(1, 2))}
    return _scalar(rng)


def _scalar(rng: Random) -> object:
    kind = rng.random()
    if kind < 0.25:
        return rng.choice((rng.randint(0, 9), rng.randint(-50, 999), rng.randint(0, 99_999)))
    if kind < 0.33:
        return round(rng.uniform(-5, 100), rng.randint(1, 3))
    if kind < 0.45:
        return rng.random() < 0.5
    if kind < 0.5:
        return None
    if kind < 0.6:
        return f"{rng.choice(_FOLDERS)}/{rng.choice(WORDS).lower()}.{rng.choice(_ENDINGS)}"
    if kind < 0.66:
        return f"20{rng.randint(10, 39)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
    if kind < 0.72:
        return f"{rng.choice(WORDS).lower()}@example.org"
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 3)))
