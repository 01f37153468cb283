"""Whether text is guaranteed to be JSON of a schema: schemas of tools, three prompts each, judged by `jsonschema`."""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import logging
import pathlib
import re
import subprocess
import tarfile
import time
import typing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt

from perfuse._native import Structure, Vocabulary
from perfuse.errors import CanvasTooShort, ConstraintTooLarge, NotInstalled, UnsupportedConstraint
from perfuse.evaluation.code import Fill, in_process
from perfuse.evaluation.intervals import wilson
from perfuse.evaluation.tool_schemas import TOOLS, Schema, drawn
from perfuse.models.text import load_text
from perfuse.models.tokenizer import MASK, NULL, TextTokenizer
from perfuse.requests import TextOutput, TextRequest

log = logging.getLogger(__name__)
SCHEMAS = 330
WORDINGS = ("Write {wanted}", "Call the tool with {told}.", "Arguments of the tool where {told}, as JSON.")
POSITIONS, VOCABULARY = 64, 4096
"""Of the dynamic program that is timed: all masked."""
FREE = 60
"""Requests that are asked again without their schema."""
KINDS = (
    "enum", "const", "anyOf", "$ref", "pattern", "format", "minLength", "maxLength", "minItems", "maxItems", "minimum",
    "maximum", "exclusiveMinimum", "prefixItems", "required", "additionalProperties",
)  # fmt: skip

Valid = Callable[[str, Schema], bool]


def evaluate_structures(model: Path, *, schemas: int = SCHEMAS, seed: int = 0) -> dict[str, object]:
    """`perfuse eval json`: validity of every answer, what was refused, and the time of the dynamic program.

    Raises:
        CheckpointError: the model folder is missing or damaged.
        NotInstalled: the package `jsonschema` is.
    """
    valid = checker()
    fill = in_process(load_text(model))
    vocabulary = large_vocabulary()
    asked = [*TOOLS, *drawn(seed, max(schemas - len(TOOLS), 0))][:schemas]
    refused: Counter[str] = Counter()
    answers: list[tuple[Schema, object, TextRequest, TextOutput]] = []
    took = _Times()
    for done, schema in enumerate(asked):
        try:
            answers += _answers(schema, fill, done)
        except (UnsupportedConstraint, ConstraintTooLarge, CanvasTooShort) as error:
            named = isinstance(error, UnsupportedConstraint) and error.field
            refused[named.rpartition("/")[2] if named else error.code] += 1
            continue
        took.measure(json.dumps(schema), vocabulary)
        if (done + 1) % 20 == 0:
            log.info("%d of %d schemas", done + 1, len(asked))
    judged = [(schema, valid(output.fill, schema)) for schema, _, _, output in answers]
    exact = [
        json.loads(output.fill) == wanted for (_, wanted, _, output), (_, ok) in zip(answers, judged, strict=True) if ok
    ]
    held = sum(ok for _, ok in judged)
    free = [
        valid(fill(_freed(request)).fill, schema) for schema, _, request, _ in answers[:: max(len(answers) // FREE, 1)]
    ]
    return {
        "n": len(asked),
        "accepted": len(answers) // len(WORDINGS),
        "refused_keywords": dict(refused.most_common()),
        "answers": len(answers),
        "valid": held,
        "valid_low": round(wilson(held, len(answers))[0], 4),
        "content_exact": sum(exact),
        "valid_without_schema": f"{sum(free)} of {len(free)}",
        "mean_forwards": round(float(np.mean([output.forwards for *_, output in answers] or [0])), 1),
        "by_kind": by_kind(judged),
        **took.as_json(),
    }


def by_kind(judged: Sequence[tuple[Schema, bool]]) -> dict[str, object]:
    """How often what was asked for holds, for each keyword that a schema uses."""
    found: dict[str, object] = {}
    for kind in KINDS:
        of = [ok for schema, ok in judged if f'"{kind}":' in json.dumps(schema)]
        if of:
            found[kind] = {"n": len(of), "valid": sum(of)}
    return found


def _answers(schema: Schema, fill: Fill, number: int) -> Iterator[tuple[Schema, object, TextRequest, TextOutput]]:
    wanted = instance(schema, schema, Random(f"wanted/{number}"))
    for words in WORDINGS:
        prompt = words.format(wanted=json.dumps(wanted, ensure_ascii=False), told=_told(wanted))[:160]
        request = TextRequest(prompt=prompt, schema=json.dumps(schema), seed=number)
        yield schema, wanted, request, fill(request)


def _told(wanted: object) -> str:
    pairs = wanted.items() if isinstance(wanted, dict) else [("value", wanted)]
    return ", ".join(f"{name} is {json.dumps(value, ensure_ascii=False)}" for name, value in pairs)


def _freed(request: TextRequest) -> TextRequest:
    return TextRequest(prompt=request.prompt, seed=request.seed)


def checker() -> Valid:
    """Whether a text is JSON that is valid by a schema, as `jsonschema` says. Raises NotInstalled."""
    try:
        import jsonschema  # type: ignore[import-untyped]
    except ImportError as error:
        raise NotInstalled("the package jsonschema is not installed", hint="pip install jsonschema") from error
    formats = jsonschema.Draft202012Validator.FORMAT_CHECKER

    def valid(text: str, schema: Schema) -> bool:
        try:
            value = json.loads(text)
        except ValueError:
            return False
        return bool(jsonschema.Draft202012Validator(schema, format_checker=formats).is_valid(value))

    return valid


def large_vocabulary() -> Vocabulary:
    """Byte-level BPE of 4096 entries, learned from schemas and from modules of the standard library."""
    texts = [json.dumps(schema) for schema in (*TOOLS, *drawn(1, 1000))]
    sources = [inspect.getsource(module) for module in (argparse, ast, inspect, pathlib, subprocess, tarfile, typing)]
    return Vocabulary(TextTokenizer.train([*texts, *sources], VOCABULARY).pieces(), NULL)


class _Times:
    """Milliseconds of building a structure and of one step over a wholly masked canvas of random scores."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        self._build: list[float] = []
        self._best: list[float] = []
        self._draw: list[float] = []
        self._states: list[int] = []
        self._size = 0

    def measure(self, schema: str, vocabulary: Vocabulary) -> None:
        """Time one schema."""
        self._size = len(vocabulary)
        began = time.perf_counter()
        structure = Structure.of_schema(schema, vocabulary)
        self._build.append(time.perf_counter() - began)
        self._states.append(structure.states)
        length = max(POSITIONS, structure.needed)
        logits = self._random.normal(0.0, 3.0, (length, self._size))
        scores: npt.NDArray[np.float32] = (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)
        for _ in range(3):
            began = time.perf_counter()
            structure.best([MASK] * length, MASK, 0, scores)
            self._best.append(time.perf_counter() - began)
            began = time.perf_counter()
            structure.draw([MASK] * length, MASK, 0, scores, self._random.random(length).tolist())
            self._draw.append(time.perf_counter() - began)

    def as_json(self) -> dict[str, object]:
        """Quantiles."""
        return {
            "dp_positions": POSITIONS,
            "dp_vocabulary": self._size,
            "dp_ms_p50": _ms(self._best, 50),
            "dp_ms_p99": _ms(self._best, 99),
            "dp_draw_ms_p99": _ms(self._draw, 99),
            "build_ms_p50": _ms(self._build, 50),
            "build_ms_p99": _ms(self._build, 99),
            "states_most": max(self._states, default=0),
        }


def _ms(seconds: Sequence[float], quantile: float) -> float:
    return round(float(np.percentile(seconds, quantile)) * 1000, 3) if seconds else 0.0


FORMATS = {
    "uri": "https://example.org/a",
    "email": "ada@example.org",
    "date-time": "2024-05-06T07:08:09Z",
    "date": "2024-05-06",
    "time": "07:08:09Z",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
    "ipv4": "192.0.2.7",
    "hostname": "example.org",
}
MATCHES = ("src/main.py", "1+2*3", "#00ff7f", "total", "ABC-123", "v1.2")
"""One for each pattern in use."""


def instance(schema: object, root: Schema, rng: Random) -> object:
    """A value that the schema allows, of the kind that a caller would ask for."""
    match schema:
        case {"$ref": str(name)}:
            definitions = root["$defs"]
            assert isinstance(definitions, dict)
            meant = definitions[name.rpartition("/")[2]]
            return None if '"$ref"' in json.dumps(meant) else instance(meant, root, rng)
        case {"anyOf": [*options]} | {"oneOf": [*options]}:
            return instance(rng.choice(options), root, rng)
        case {"enum": [*values]}:
            return rng.choice(values)
        case {"const": value}:
            return value
        case {"type": "object", "properties": dict(properties)}:
            return {name: instance(each, root, rng) for name, each in properties.items()}
        case {"type": "object"}:
            return {}
        case {"type": "array", "prefixItems": [*items]}:
            return [instance(each, root, rng) for each in items]
        case {"type": "array", "items": dict(item), "minItems": int(least)}:
            return [instance(item, root, rng) for _ in range(least)]
        case _:
            return _scalar(schema, rng)


def _scalar(schema: object, rng: Random) -> object:
    match schema:
        case {"type": "boolean"}:
            return rng.random() < 0.5
        case {"type": "integer" | ["integer", *_], "minimum": int(least)}:
            return least
        case {"type": "number", "maximum": int(most) | float(most)}:
            return int(most) if float(most).is_integer() else most
        case {"type": "integer" | "number"}:
            return 3
        case {"type": "string", **said}:
            return _string(said, rng)
        case _:
            return None


def _string(schema: Mapping[object, object], rng: Random) -> str:
    if "format" in schema:
        return FORMATS[str(schema["format"])]
    if isinstance(pattern := schema.get("pattern"), str):
        return next(text for text in MATCHES if re.search(pattern, text))
    most = schema.get("maxLength", 24)
    assert isinstance(most, int)
    return rng.choice(("sum", "even", "first value", "hello"))[:most]
