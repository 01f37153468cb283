"""Suites of other people, read from files that are not part of this project: what a line means is told by its fields.

prompt, test                    HumanEval: the prompt is code to continue, `check(entry_point)` the test
prompt, suffix                  HumanEval-Infilling: the tests are those of the item `humaneval_id` of a second file
test_list, code                 MBPP: a sentence (`description`, `text` or `prompt`), asserts
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import pyarrow as pa  # type: ignore[import-untyped]

from perfuse import sandbox
from perfuse.errors import InvalidRequest
from perfuse.evaluation.items import Item, compared, rate_of, table_of
from perfuse.evaluation.pages import replaced
from perfuse.models.text import load_text

START, END = "<!-- suites: written by make results-suites -->", "<!-- end of suites -->"
"""What the table stands between in its page."""

Line = Mapping[str, object]


def read_lines(path: Path) -> list[Line]:
    """The objects of a file of JSON lines, plain or packed (`.gz`, `.zst`).

    Raises:
        InvalidRequest: there is no such file, or a line is not an object.
    """
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            found = [json.loads(line) for line in stream.read().decode().splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"expected JSON lines in {path.name}, plain, .gz or .zst; got: {error}") from error
    if not all(isinstance(line, dict) for line in found):
        raise InvalidRequest(f"expected an object on each line of {path.name}")
    return found


def read_suite(path: Path, tests: Path | None = None) -> list[Item]:
    """The items of a suite in Python, those of other languages left out.

    Args:
        path: the suite.
        tests: a suite with the tests of the items that have none of their own.

    Raises:
        InvalidRequest: a file cannot be read, a line has no format that is known, or no item is Python.
    """
    others = {str(line.get("task_id")): line for line in read_lines(tests)} if tests is not None else {}
    lines = [line for line in read_lines(path) if line.get("language", "python") == "python"]
    if not lines:
        raise InvalidRequest(f"expected programs in Python; {path.name} holds none", hint="other languages are not run")
    return [_item(line, others, path.name) for line in lines]


def _item(line: Line, others: Mapping[str, Line], file: str) -> Item:
    try:
        if "test_list" in line:
            return _mbpp(line)
        if "suffix" in line:
            return _infilling(line, others)
        return _humaneval(line)
    except (KeyError, StopIteration, SyntaxError) as error:
        raise InvalidRequest(
            f"{file}: expected an item of HumanEval, HumanEval-Infilling or MBPP; "
            f"{line.get('task_id')!r} lacks {str(error) or 'a function'}",
            hint="items without tests need --tests with the file that has them",
        ) from error


def _humaneval(line: Line) -> Item:
    entry = str(line["entry_point"])
    return Item(
        kind="completion",
        prompt="",
        prefix=str(line["prompt"]),
        suffix="",
        middle=str(line["canonical_solution"]),
        entry_point=entry,
        tests=f"{line['test']}\n\ncheck({entry})\n",
    )


def _infilling(line: Line, others: Mapping[str, Line]) -> Item:
    entry = str(line["entry_point"])
    test = line["test"] if "test" in line else others[str(line["humaneval_id"])]["test"]
    return Item(
        kind=str(line["task_id"]).partition("/")[0],
        prompt="",
        prefix=str(line["prompt"]),
        suffix=str(line["suffix"]),
        middle=str(line["canonical_solution"]),
        entry_point=entry,
        tests=f"{test}\n\ncheck({entry})\n",
    )


def _mbpp(line: Line) -> Item:
    """The sentence as it is, behind it the head of the function, whose name no sentence says."""
    setup = line.get("test_setup") or line.get("test_setup_code") or "\n".join(_strings(line.get("test_imports")))
    tests, code = _strings(line["test_list"]), str(line["code"])
    called = {node.id for test in tests for node in ast.walk(ast.parse(test)) if isinstance(node, ast.Name)}
    function = next(node for node in ast.parse(code).body if isinstance(node, ast.FunctionDef) and node.name in called)
    prefix = f"def {function.name}({ast.unparse(function.args)}):"
    return Item(
        kind="sentence",
        prompt=str(next(line[name] for name in ("description", "text", "prompt") if name in line)),
        prefix=prefix,
        suffix="",
        middle="".join(f"\n    {line}" for part in function.body for line in ast.unparse(part).split("\n")) + "\n",
        entry_point=function.name,
        program=code,
        tests="\n".join([str(setup), *tests]),
    )


def _strings(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def drawn(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many items of each kind, always the same ones, in their order."""
    kinds: dict[str, list[int]] = {}
    for i, item in enumerate(items):
        kinds.setdefault(item.kind, []).append(i)
    kept = [i for mine in kinds.values() for i in Random("items of a suite").sample(mine, min(most, len(mine)))]
    return [items[i] for i in sorted(kept)]


def references_pass(items: Sequence[Item]) -> dict[str, float]:
    """How many of the suite's own programs pass its tests in this jail; the others nobody can pass here."""
    verdicts = sandbox.run_many(
        item.trial_of(item.program or item.prefix + item.middle + item.suffix) for item in items
    )
    return rate_of(sum(verdict.passed for verdict in verdicts), len(items))


def evaluate_suites(
    model: Path, twin: Path, suites: Sequence[Path], *, tests: Path | None = None, most: int = 500
) -> dict[str, object]:
    """`perfuse eval code --suite`, `eval infill --suite`: rates of model and twin on at most `most` items of each kind.

    Each continues or fills the same canvas until it is full. Items whose given part leaves no room count as failed.

    Raises:
        CheckpointError: a model folder is missing or damaged.
        InvalidRequest: a suite cannot be read.
        SandboxUnavailable: this kernel cannot confine generated code.
    """
    read = [(path, drawn(read_suite(path, tests), most)) for path in suites]
    ours, theirs = load_text(model), load_text(twin)
    return {
        "model": ours.config.label,
        "twin": theirs.config.label,
        "canvas": ours.config.limit,
        "suites": [
            {
                "suite": path.name.partition(".")[0],
                "kind": of_kind[0].kind,
                "references_pass": references_pass(of_kind),
                **compared(of_kind, ours, theirs),
            }
            for path, items in read
            for of_kind in by_kind(items)
        ],
    }


def by_kind(items: Sequence[Item]) -> list[list[Item]]:
    """The items of each kind, kinds in the order in which they come."""
    kinds: dict[str, list[Item]] = {}
    for item in items:
        kinds.setdefault(item.kind, []).append(item)
    return list(kinds.values())


def table(found: Mapping[str, object]) -> str:
    """What `evaluate_suites` found, as the Markdown of `docs/results/text.md`."""
    suites = found["suites"]
    assert isinstance(suites, list)
    caption = (
        f"`{found['model']}` and its twin `{found['twin']}` on a canvas of {found['canvas']} tokens, default sampler "
        "and greedy, one try per item. Too long to have any room left, and failed: "
        + ", ".join(f"{each['too_long']} of {each['n']} in {each['suite']} {each['kind']}" for each in suites)
        + ". The suite's own programs pass in this jail: "
        + ", ".join(f"{each['references_pass']['value']:.3f}" for each in suites)
        + ". Python: of what was filled in, how much parses. Intervals are Wilson's at 95 %; over the twin: the paired "
        "difference of pass@1."
    )
    return table_of(caption, ("suite", "kind"), suites)


def rewritten(page: str, found: Mapping[str, object]) -> str:
    """The page with the table between its two marks replaced. Raises ValueError without the marks."""
    return replaced(page, START, END, table(found))
