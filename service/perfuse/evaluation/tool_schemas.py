"""Schemas as agents meet them: parameters of imagined tools, written for this, and schemas drawn at random."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random

Schema = Mapping[str, object]

TEXT: Schema = {"type": "string"}
SHORT: Schema = {"type": "string", "minLength": 1, "maxLength": 24}
PATH: Schema = {"type": "string", "pattern": "^[a-z0-9_]+(/[a-z0-9_]+){0,3}\\.[a-z]{2,4}$"}
COUNT: Schema = {"type": "integer", "minimum": 1, "maximum": 50}
FLAG: Schema = {"type": "boolean"}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}


def tool(required: Sequence[str], **properties: Schema) -> dict[str, object]:
    """The parameters of a tool."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def some(items: Schema, most: int) -> Schema:
    """An array of at least one."""
    return {"type": "array", "items": items, "minItems": 1, "maxItems": most}


def one_of(*values: object) -> Schema:
    """An enumeration."""
    return {"enum": list(values)}


def maybe(schema: Schema) -> Schema:
    """As Python's frameworks write an optional value."""
    return {"anyOf": [schema, {"type": "null"}], "default": None}


TOOLS: Sequence[Schema] = (
    tool(["path"], path=PATH, first={"type": "integer", "minimum": 1}, last={"type": "integer", "minimum": 1}),
    tool(["path", "content"], path=PATH, content=TEXT),
    tool(["path", "old", "new"], path=PATH, old=SHORT, new=TEXT, all=FLAG),
    tool(["command"], command=TEXT, seconds={"type": "integer", "minimum": 1, "maximum": 600}),
    tool(["pattern"], pattern=SHORT, folder=maybe(PATH), ignore_case=FLAG, most=COUNT),
    tool(["query"], query=SHORT, most=COUNT, language=one_of("de", "en", "fr")),
    tool(["url"], url={"type": "string", "format": "uri"}, method=one_of("GET", "HEAD"), timeout=maybe(COUNT)),
    tool(["to", "subject"], to=some({"type": "string", "format": "email"}, 3), subject=SHORT, body=TEXT),
    tool(["title", "start"], title=SHORT, start={"type": "string", "format": "date-time"}, minutes=COUNT),
    tool(["city"], city=SHORT, unit=one_of("celsius", "fahrenheit"), days={"type": "integer", "maximum": 7}),
    tool(["table"], table=SHORT, columns=some(SHORT, 4), where=maybe(SHORT), limit=COUNT),
    tool(["from", "to", "amount"], **{"from": one_of("EUR", "USD"), "to": one_of("JPY", "CHF")}, amount=SHARE),
    tool(["x", "y"], x={"type": "number"}, y={"type": "number"}, button=one_of("left", "right")),
    tool(["keys"], keys=some(one_of("ctrl", "shift", "tab", "enter"), 3)),
    tool(["steps"], steps=some(tool(["do", "state"], do=SHORT, state=one_of("open", "done")), 3)),
    tool(["expression"], expression={"type": "string", "pattern": "^[0-9+*/() -]{1,30}$"}),
    tool(["id"], id={"type": "string", "format": "uuid"}),
    tool(["labels"], labels=some(SHORT, 3), colour={"type": "string", "pattern": "^#[0-9a-f]{6}$"}),
    tool(["latitude", "longitude"], latitude={"type": "number", "minimum": -90, "maximum": 90},
         longitude={"type": "number", "minimum": -180, "maximum": 180}),
    tool(["day"], day={"type": "string", "format": "date"}, hour={"type": "integer", "minimum": 0, "maximum": 23}),
    tool(["answer"], answer=TEXT, confidence=SHARE, sources=some(COUNT, 3)),
    tool(["thought", "next"], thought=SHORT, next=FLAG, number=COUNT, total=COUNT),
    tool(["host"], host={"type": "string", "format": "ipv4"}, port={"type": "integer", "minimum": 1, "maximum": 65535}),
    tool(["name"], name=SHORT, kind={"const": "function"}, arguments={"type": "object"}),
    tool(["size"], size={"type": ["integer", "string"], "maxLength": 4, "minimum": 0}),
    {"type": "array", "items": {"$ref": "#/$defs/point"}, "minItems": 1, "maxItems": 2,
     "$defs": {"point": tool(["x", "y"], x=COUNT, y=COUNT)}},
    {"anyOf": [tool(["file"], file=PATH), tool(["text"], text=SHORT)]},
    {"type": "array", "prefixItems": [SHORT, COUNT], "items": False, "minItems": 2, "maxItems": 2},
    one_of("yes", "no", "unsure"),
    some(one_of(1, 2, 3, None), 4),
    # What is not served, as it is met.
    tool(["tags"], tags={"type": "array", "items": SHORT, "uniqueItems": True}),
    tool(["env"], env={"type": "object", "additionalProperties": TEXT}),
    tool(["value"], value={"oneOf": [TEXT, COUNT]}),
    tool(["step"], step={"type": "integer", "multipleOf": 5}),
    tool(["data"], data={}),
    tool(["items"], items={"type": "array"}),
    tool(["node"], node={"$ref": "#/$defs/node"}) | {"$defs": {"node": tool([], next={"$ref": "#/$defs/node"})}},
    {"type": "object", "patternProperties": {"^x": TEXT}},
    {"type": "object", "properties": {"a": TEXT}, "minProperties": 1},
    {"allOf": [tool(["a"], a=TEXT), tool(["b"], b=TEXT)]},
)  # fmt: skip
NAMES = (
    "name",
    "value",
    "count",
    "items",
    "total",
    "index",
    "key",
    "text",
    "word",
    "numbers",
    "result",
    "limit",
    "even",
)
WORDS = ("sum", "double", "even", "odd", "reverse", "first", "last", "upper", "lower", "sorted")
UNSERVED: Sequence[tuple[str, object]] = (
    ("uniqueItems", True), ("contains", {"type": "null"}), ("unevaluatedItems", False), ("minContains", 1),
)  # fmt: skip


def drawn(seed: int, count: int) -> Iterator[Schema]:
    """Schemas drawn at random; every twelfth says something that is not served."""
    rng = Random(f"schemas/{seed}")
    for i in range(count):
        schema = _object(rng, 0)
        if i % 12 == 11:
            keyword, value = rng.choice(UNSERVED)
            schema = tool(["items"], items={"type": "array", "items": schema, "maxItems": 2, keyword: value})
        yield schema


def _any(rng: Random, depth: int) -> Schema:
    kinds = [_leaf] * 6 + [_array, _object, _either] if depth < 2 else [_leaf]
    return rng.choice(kinds)(rng, depth)


def _leaf(rng: Random, _: int) -> Schema:
    low = rng.randrange(-20, 100)
    return rng.choice(
        (
            TEXT,
            FLAG,
            {"type": "integer"},
            {"type": "null"},
            {"type": "integer", "minimum": low, "maximum": low + rng.randrange(1, 500)},
            {"type": "number", "exclusiveMinimum": low / 4, "maximum": low / 4 + 3},
            {"type": "string", "minLength": rng.randrange(3), "maxLength": rng.randrange(3, 30)},
            {"type": "string", "pattern": rng.choice(("^[a-z]+$", "^[A-Z]{3}-\\d{2,4}$", "^v\\d+(\\.\\d+){0,2}$"))},
            {"type": "string", "format": rng.choice(("date", "time", "uuid", "ipv4", "hostname", "email"))},
            {"enum": rng.sample((*WORDS, 1, 2, 2.5, None, True), rng.randrange(1, 5))},
            {"const": rng.choice(WORDS)},
        )
    )


def _array(rng: Random, depth: int) -> Schema:
    least = rng.randrange(3)
    return {"type": "array", "items": _any(rng, depth + 1), "minItems": least, "maxItems": least + rng.randrange(3)}


def _either(rng: Random, depth: int) -> Schema:
    return {"anyOf": [_any(rng, depth + 1) for _ in range(rng.randrange(2, 4))]}


def _object(rng: Random, depth: int) -> Schema:
    names = rng.sample(NAMES, rng.randrange(1, 5))
    return tool([name for name in names if rng.random() < 0.7], **{name: _any(rng, depth + 1) for name in names})
