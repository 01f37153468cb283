"""Families of tasks that no shipped model was trained on: what the server is asked to learn from feedback.

A family is *near* (a new operation inside structures of the corpus), *mid* (a new type of argument) or *far* (a new
structure). Its combinations are split by hash into those that feedback may show and those that are only evaluated, so
no evaluated function can have been corrected before.
"""

# ruff: noqa: E501 (a sentence is one line)

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from perfuse.errors import InvalidRequest
from perfuse.sandbox.compare import same
from perfuse.training.corpus.options import (
    FOLDS,
    NUMBER_MAPS,
    NUMBER_TESTS,
    REDUCTIONS,
    WORD_MAPS,
    Bound,
    Option,
)
from perfuse.training.corpus.tasks import TEMPLATES, Task, combinations, draft_sentence, draw_cases
from perfuse.training.corpus.template import WORDS, Chosen, Draft, Registry, Template, integers

VERSION = "1"
EVALUATED_PERCENT = 50
_ROUNDS = 12
"""How often the combinations are gone through, with new constants and words, before there are no further tasks."""

Distance = Literal["near", "mid", "far"]
Side = Literal["feedback", "evaluation"]


@dataclass(frozen=True, slots=True)
class Family:
    """Templates that belong together.

    `confusions` are known operations that a wrong correction puts in place of a new one, by slot.
    """

    name: str
    distance: Distance
    templates: tuple[Template, ...]
    confusions: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class FamilyTask:
    """A task and what it was made of, from which a wrong correction of it can be made."""

    task: Task
    family: Family
    template: Template
    slots: tuple[tuple[str, Bound], ...]
    style: int


def tasks(family: Family, side: Side, count: int, seed: int = 0) -> Sequence[FamilyTask]:
    """`count` tasks of one side with distinct sentences and functions, each combination once before any comes again.

    Tasks whose tests all expect the same value are skipped: they tell nothing.

    Raises:
        InvalidRequest: the family does not have as many.
    """
    rng = Random(f"family {VERSION} {family.name} {side} {seed}")
    found: list[FamilyTask] = []
    seen: set[str] = set()
    for drawn in _rounds(family, side, rng):
        if len(found) == count:
            break
        if not {drawn.task.prompt, drawn.task.code} & seen and len({repr(c.expected) for c in drawn.task.cases}) > 1:
            seen |= {drawn.task.prompt, drawn.task.code}
            found.append(drawn)
    if len(found) < count:
        raise InvalidRequest(f"family {family.name!r} has {len(found)} tasks for {side}; {count} were asked for")
    return found


def wrong_correction(drawn: FamilyTask, rng: Random) -> str:
    """A function for the same sentence, under the same name, that does something else than asked for.

    One operation is replaced by another that could stand in its place, so it reads like an honest answer; it fails at
    least one of the task's tests.

    Raises:
        InvalidRequest: every replacement passes the tests.
    """
    slots = dict(drawn.slots)
    swaps = [
        (slot, option)
        for slot, options in drawn.template.slots.items()
        for option in (options if len(options) > 1 else drawn.family.confusions)
        if option.key != slots[slot].key
    ]
    rng.shuffle(swaps)
    for slot, option in swaps:
        draft = drawn.template.draft(Chosen(Random(drawn.style), {**slots, slot: option.bind(rng)}))
        code = _code(_renamed(draft, drawn.task.entry_point), documented='"""' in drawn.task.code)
        if not _passes(code, drawn.task):
            return code
    raise InvalidRequest(f"no wrong correction of {drawn.task.entry_point!r} fails its tests")


def drawn_family(seed: int) -> Family:
    """The family of the pool that `seed` draws."""
    return POOL[Random(f"drawn {VERSION} {seed}").randrange(len(POOL))]


def demonstrated(seed: int) -> tuple[Family, ...]:
    """The four families of the demonstration: near, mid, far, and the one that `seed` draws."""
    return (NEAR, MID, FAR, drawn_family(seed))


def _side(family: Family, combination: Sequence[str]) -> Side:
    digest = hashlib.sha256(f"{VERSION}|{family.name}|{'|'.join(combination)}".encode()).digest()
    return "evaluation" if int.from_bytes(digest[:4], "big") % 100 < EVALUATED_PERCENT else "feedback"


def _rounds(family: Family, side: Side, rng: Random) -> Iterator[FamilyTask]:
    every = [
        (template, combination)
        for template in family.templates
        for combination in combinations(template)
        if _side(family, combination) == side
    ]
    for _ in range(_ROUNDS):
        rng.shuffle(every)
        for template, combination in every:
            yield _build(family, template, combination, rng)


def _build(family: Family, template: Template, combination: tuple[str, ...], rng: Random) -> FamilyTask:
    slots = {
        slot: next(option for option in options if option.key == key).bind(rng)
        for (slot, options), key in zip(template.slots.items(), combination[2:], strict=True)
    }
    style = rng.getrandbits(64)
    draft = template.draft(Chosen(Random(style), slots))
    prompt, documented = draft_sentence(draft, rng)
    code = _code(draft, documented=documented)
    named = (f"{family.name}/{combination[0]}", *combination[1:])
    task = Task(prompt, draft.name, _signature(draft), code, named, draw_cases(code, draft, rng))
    return FamilyTask(task, family, template, tuple(slots.items()), style)


def _signature(draft: Draft) -> str:
    return f"def {draft.name}({draft.parameters}):"


def _code(draft: Draft, *, documented: bool) -> str:
    head = [f'    """{draft.name.replace("_", " ").capitalize()}."""'] if documented else []
    return "\n".join([_signature(draft), *head, *(f"    {line}" for line in draft.body)]) + "\n"


def _renamed(draft: Draft, name: str) -> Draft:
    return replace(draft, name=name, body=tuple(line.replace(f"{draft.name}(", f"{name}(") for line in draft.body))


def _passes(code: str, task: Task) -> bool:
    """Whether a function written by this generator gives what the task's tests expect."""
    namespace: dict[str, object] = {}
    exec(compile(code, "<generated correction>", "exec"), namespace)  # noqa: S102 - the generator's own source
    function = namespace[task.entry_point]
    assert callable(function)
    return all(same(case.expected, function(*copy.deepcopy(case.arguments))) for case in task.cases)


_CORPUS = {template.name: template for template in TEMPLATES}
_NUMBER_STRUCTURES = ("comprehend", "accumulate", "up_to", "digits", "dict_values", "flatten", "running")
_WORD_STRUCTURES = ("word_pipeline", "rewrite", "word_choice", "rejoin", "pad", "first_word", "group_words")


def _with_operation(name: str, operation: Option, structures: Sequence[str], confusions: tuple[Option, ...]) -> Family:
    """Structures of the corpus with nothing but a new operation where it applies one to each element."""
    templates = []
    for structure in structures:
        known = _CORPUS[structure]
        slot = "yes" if "yes" in known.slots else "each"
        templates.append(Template(known.name, known.types, {**known.slots, slot: (operation,)}, known.draft))
    return Family(name, "near", tuple(templates), confusions)


_MIDDLE = Registry()
_FAR = Registry()


def _intervals(rng: Random) -> list[list[int]]:
    starts = [rng.randint(-20, 20) for _ in range(rng.choice((0, 3, 5, 7, 8)))]
    return [[start, start + rng.randint(-3, 24)] for start in starts]


@_MIDDLE.template("list[interval]", where=NUMBER_TESTS, each=NUMBER_MAPS, into=REDUCTIONS)
def _spans(c: Chosen) -> Draft:
    where, each, into = c["where"], c["each"], c["into"]
    body = into.on(f"{each.on('(end - start)')} for start, end in intervals if {where.on('(end - start)')}")
    return Draft(
        (
            f"From intervals of start and end take the lengths that are {where.phrase}, {each.phrase} and return {into.phrase}.",
            f"For the intervals with a length that is {where.phrase}, {each.phrase} of the lengths and return {into.phrase}.",
        ),
        f"{into.name}_lengths_{where.name}_{each.name}",
        "intervals",
        (f"return {body}",),
        lambda rng: [_intervals(rng)],
    )


@_MIDDLE.template("list[int | None]", where=NUMBER_TESTS, each=NUMBER_MAPS, into=REDUCTIONS)
def _gaps(c: Chosen) -> Draft:
    where, each, into = c["where"], c["each"], c["into"]
    return Draft(
        (
            f"From a series with gaps that are None take the entries that are {where.phrase}, {each.phrase} and return {into.phrase}.",
            f"Pass over each None in a series; of the entries that are {where.phrase}, {each.phrase} and return {into.phrase}.",
        ),
        f"{into.name}_known_{where.name}_{each.name}",
        "series",
        (
            "known = [entry for entry in series if entry is not None]",
            f"return {into.on(f'{each.on(chr(120))} for x in known if {where.on(chr(120))}')}",
        ),
        lambda rng: [[None if rng.random() < 0.3 else number for number in integers(rng)]],
    )


@_MIDDLE.template("dict[str, list[int]]", where=NUMBER_TESTS, each=NUMBER_MAPS, into=REDUCTIONS)
def _shelves(c: Chosen) -> Draft:
    where, each, into = c["where"], c["each"], c["into"]
    return Draft(
        (
            f"In a dict of lists take from every list those that are {where.phrase}, {each.phrase} and map its key to {into.phrase}.",
            f"Map each key of a dict of lists to {into.phrase} after you {each.phrase} that is {where.phrase}.",
        ),
        f"{into.name}_per_key_{where.name}_{each.name}",
        "lists",
        (
            "result = {}",
            "for key, values in lists.items():",
            f"    result[key] = {into.on(f'{each.on(chr(118))} for v in values if {where.on(chr(118))}')}",
            "return result",
        ),
        lambda rng: [{key: integers(rng)[:5] for key in rng.sample(WORDS, rng.choice((2, 3, 4)))}],
    )


def _tree(rng: Random, depth: int = 3) -> list[object]:
    return [
        _tree(rng, depth - 1) if depth and rng.random() < 0.4 else rng.randint(-15, 20)
        for _ in range(rng.choice((1, 2, 3, 4)))
    ]


_JOINED = tuple(option for option in FOLDS if option.key != "alternating")


@_FAR.template("nested list", where=NUMBER_TESTS, each=NUMBER_MAPS, into=_JOINED)
def _descend(c: Chosen) -> Draft:
    where, each, into = c["where"], c["each"], c["into"]
    name = f"deep_{into.name}_{where.name}_{each.name}"
    return Draft(
        (
            f"Walk lists inside lists to any depth: where a number is {where.phrase}, {each.phrase} and return {into.phrase}.",
            f"Descend into a tree of lists; of its numbers that are {where.phrase}, {each.phrase} and return {into.phrase} of all levels.",
        ),
        name,
        "tree",
        (
            f"result = {'1' if into.key == 'product' else '0'}",
            "for node in tree:",
            "    if isinstance(node, list):",
            f"        {into.on(f'{name}(node)').replace('{a}', 'result')}",
            f"    elif {where.on('node')}:",
            f"        {into.on(each.on('node')).replace('{a}', 'result')}",
            "return result",
        ),
        lambda rng: [_tree(rng)],
    )


_TRIANGULAR = Option(
    "triangular",
    ("take the triangular number of each one", "put each one into the triangle formula"),
    "{x} * ({x} + 1) // 2",
    "triangular",
)
_MIRROR = Option(
    "mirror", ("mirror each one around {k}", "reflect each one at {k}"), "2 * {k} - {x}", "mirrored", 2, 20
)
_DIGIT_SUM = Option(
    "digit_sum",
    ("take the digit sum of each one", "add up the decimal digits of each one"),
    "sum(map(int, str(abs({x}))))",
    "digit_summed",
)
_STUTTER = Option(
    "stutter",
    ("double the last letter of each one", "write the final letter of each one twice"),
    "{x} + {x}[-1:]",
    "stuttered",
)
_SPANS, _GAPS, _SHELVES = _MIDDLE.templates

NEAR = _with_operation("triangular", _TRIANGULAR, _NUMBER_STRUCTURES, NUMBER_MAPS)
MID = Family("intervals", "mid", (_SPANS,))
FAR = Family("trees", "far", tuple(_FAR.templates))
POOL = (
    _with_operation("mirror", _MIRROR, _NUMBER_STRUCTURES, NUMBER_MAPS),
    _with_operation("digit-sum", _DIGIT_SUM, _NUMBER_STRUCTURES, NUMBER_MAPS),
    _with_operation("stutter", _STUTTER, _WORD_STRUCTURES, WORD_MAPS),
    Family("gaps", "mid", (_GAPS,)),
    Family("dict-of-lists", "mid", (_SHELVES,)),
)
FAMILIES = {family.name: family for family in (NEAR, MID, FAR, *POOL)}
