"""Templates over lists of integers, for every foreign language."""

# ruff: noqa: E501 (a sentence is one line)

from __future__ import annotations

from perfuse.training.corpus.languages.sketch import Registry, Sketch, numbers
from perfuse.training.corpus.options import FOLDS, NUMBER_MAPS, NUMBER_TESTS, SINGLE_MAPS, Option
from perfuse.training.corpus.template import Chosen

NUMBERS = Registry()
LISTS = (("x", "values"), ("x", "numbers"), ("n", "numbers"), ("v", "values"), ("x", "items"))
LOOPED = tuple(fold for fold in FOLDS if fold.key != "alternating")
ADDED = tuple(fold for fold in FOLDS if fold.key in {"sum", "product"})
SIDES = (
    Option("first", ("first",), "first_index", "first"),
    Option("last", ("last",), "last_index", "last"),
)
JOINTS = (
    Option("both", ("and",), "{x} and {y}", "and"),
    Option("either", ("or",), "{x} or {y}", "or"),
)
SIZES = tuple(t for t in NUMBER_TESTS if t.key in {"positive", "negative", "above", "below", "at_least", "at_most"})
DIVISIONS = tuple(t for t in NUMBER_TESTS if t.key in {"even", "odd", "multiple", "indivisible", "other_than"})
OTHERWISE = (
    Option("zero", ("zero",), "0", "or_zero"),
    Option("minus_one", ("minus one",), "-1", "or_minus_one"),
)


def _start(fold: str) -> str:
    return "1" if fold == "product" else "0"


@NUMBERS.template("list[int]", where=NUMBER_TESTS, each=NUMBER_MAPS, into=ADDED)
def _comprehend(c: Chosen) -> Sketch:
    x, many = c.rng.choice(LISTS)
    where, each, into = c["where"], c["each"], c["into"]
    how = "prod" if into.key == "product" else "sum"
    return Sketch(
        (
            f"Keep the {many} that are {where.phrase}, {each.phrase} and return {into.phrase}.",
            f"From a list of {many} take those that are {where.phrase}, {each.phrase}, then return {into.phrase}.",
            f"Given {many}, {each.phrase} that is {where.phrase} and give back {into.phrase}.",
        ),
        f"{into.name}_{where.name}_{each.name}",
        {many: "list[int]"},
        "int",
        (f"return {how}({each.on(x)} for {x} in {many} if {where.on(x)})",),
        numbers(each, into),
    )


@NUMBERS.template("list[int]", where=NUMBER_TESTS, each=NUMBER_MAPS, into=LOOPED)
def _accumulate(c: Chosen) -> Sketch:
    x, many = c.rng.choice(LISTS)
    where, each, into = c["where"], c["each"], c["into"]
    return Sketch(
        (
            f"Loop over the {many}, skip those that are not {where.phrase}, {each.phrase} and return {into.phrase}.",
            f"With a loop over {many}, {each.phrase} that is {where.phrase} and return {into.phrase}.",
        ),
        f"loop_{into.name}_{where.name}_{each.name}",
        {many: "list[int]"},
        "int",
        (
            f"result = {_start(into.key)}",
            f"for {x} in {many}:",
            f"    if {where.on(x)}:",
            f"        {into.on(each.on(x)).replace('{a}', 'result')}",
            "return result",
        ),
        numbers(each, into),
    )


@NUMBERS.template("list[int]", stop=NUMBER_TESTS, into=LOOPED)
def _until(c: Chosen) -> Sketch:
    x, many = c.rng.choice(LISTS)
    stop, into = c["stop"], c["into"]
    return Sketch(
        (
            f"Go through the {many}, stop at the first that is {stop.phrase}, and return {into.phrase} before it.",
            f"Until one of the {many} is {stop.phrase}, collect them; return {into.phrase}.",
        ),
        f"{into.name}_until_{stop.name}",
        {many: "list[int]"},
        "int",
        (
            f"result = {_start(into.key)}",
            f"for {x} in {many}:",
            f"    if {stop.on(x)}:",
            "        break",
            f"    {into.on(x).replace('{a}', 'result')}",
            "return result",
        ),
        numbers(into),
    )


@NUMBERS.template("list[int]", size=SIZES, joint=JOINTS, division=DIVISIONS)
def _count(c: Chosen) -> Sketch:
    x, many = c.rng.choice(LISTS)
    size, joint, division = c["size"], c["joint"], c["division"]
    test = joint.on(division.on(x)).replace("{y}", size.on(x))
    return Sketch(
        (
            f"Count the {many} that are {division.phrase} {joint.phrase} {size.phrase}.",
            f"How many of the {many} are {division.phrase} {joint.phrase} {size.phrase}?",
            f"Return the number of {many} {division.phrase} {joint.phrase} {size.phrase}.",
        ),
        f"count_{division.name}_{joint.name}_{size.name}",
        {many: "list[int]"},
        "int",
        (f"return sum(1 for {x} in {many} if {test})",),
        numbers(),
    )


QUANTIFIERS = (
    Option("any", ("any",), "any", "any"),
    Option("all", ("all",), "all", "all"),
)


@NUMBERS.template("list[int]", ("javascript", "rust", "c"), which=QUANTIFIERS, where=NUMBER_TESTS, each=NUMBER_MAPS)
def _quantified(c: Chosen) -> Sketch:
    x, many = c.rng.choice(LISTS)
    which, where, each = c["which"], c["where"], c["each"]
    verb = "is" if which.key == "any" else "are"
    return Sketch(
        (
            f"In a copy of {many}, {each.phrase}; tell whether {which.phrase} of the results {verb} {where.phrase}.",
            f"Check if {which.phrase} of the {many} {verb} {where.phrase} after you {each.phrase}.",
        ),
        f"{which.name}_{where.name}_{each.name}",
        {many: "list[int]"},
        "bool",
        (f"return {which.code}({where.on(f'({each.on(x)})')} for {x} in {many})",),
        numbers(each),
    )


@NUMBERS.template(
    "list[int]", ("javascript", "rust", "c"), which=QUANTIFIERS, size=SIZES, joint=JOINTS, division=DIVISIONS
)
def _check(c: Chosen) -> Sketch:
    x, many = c.rng.choice(LISTS)
    which, size, joint, division = c["which"], c["size"], c["joint"], c["division"]
    test = joint.on(size.on(x)).replace("{y}", division.on(x))
    verb = "is" if which.key == "any" else "are"
    return Sketch(
        (
            f"Check whether {which.phrase} of the {many} {verb} {size.phrase} {joint.phrase} {division.phrase}.",
            f"Tell if {which.phrase} of the {many} {verb} {size.phrase} {joint.phrase} {division.phrase}.",
        ),
        f"{which.name}_{size.name}_{joint.name}_{division.name}",
        {many: "list[int]"},
        "bool",
        (f"return {which.code}({test} for {x} in {many})",),
        numbers(),
    )


@NUMBERS.template("list[int]", ("javascript", "rust", "shell"), where=NUMBER_TESTS, each=NUMBER_MAPS)
def _keep(c: Chosen) -> Sketch:
    x, many = c.rng.choice(LISTS)
    where, each = c["where"], c["each"]
    return Sketch(
        (
            f"Keep the {many} that are {where.phrase} and {each.phrase}.",
            f"Filter the {many} to those {where.phrase}, then {each.phrase}.",
            f"List what comes of the {many} that are {where.phrase} when you {each.phrase}.",
        ),
        f"keep_{where.name}_{each.name}",
        {many: "list[int]"},
        "list[int]",
        (f"return [{each.on(x)} for {x} in {many} if {where.on(x)}]",),
        numbers(each),
    )


@NUMBERS.template("list[int]", where=NUMBER_TESTS, yes=SINGLE_MAPS, no=SINGLE_MAPS)
def _replace_each(c: Chosen) -> Sketch:
    x, many = c.rng.choice(LISTS)
    where, yes, no = c["where"], c["yes"], c["no"]
    return Sketch(
        (
            f"Turn each of the {many} into {yes.phrase} if it is {where.phrase}, otherwise into {no.phrase}.",
            f"Replace each of the {many}: by {yes.phrase} where it is {where.phrase}, else by {no.phrase}.",
        ),
        f"{yes.name}_{where.name}_else_{no.name}",
        {many: "list[int]"},
        "list[int]",
        (f"return [{yes.on(x)} if {where.on(x)} else {no.on(x)} for {x} in {many}]",),
        numbers(yes, no),
    )


THEN = tuple(m for m in NUMBER_MAPS if m.key in {"negate", "plus", "minus", "times", "double"})
FIRST = tuple(m for m in NUMBER_MAPS if m.key not in {"times", "double", "negate"})


@NUMBERS.template("list[int]", each=FIRST, then=THEN)
def _map_twice(c: Chosen) -> Sketch:
    x, many = c.rng.choice(LISTS)
    each, then = c["each"], c["then"]
    return Sketch(
        (
            f"For the {many}, {each.phrase}, then {then.phrase}.",
            f"Transform the {many}: {each.phrase} and {then.phrase} afterwards.",
        ),
        f"{each.name}_then_{then.name}",
        {many: "list[int]"},
        "list[int]",
        (f"return [{then.on(f'({each.on(x)})')} for {x} in {many}]",),
        numbers(each),
    )


@NUMBERS.template("list[int]", side=SIDES, where=NUMBER_TESTS)
def _position(c: Chosen) -> Sketch:
    x, many = c.rng.choice(LISTS)
    side, where = c["side"], c["where"]
    return Sketch(
        (
            f"Return the index of the {side.phrase} of the {many} that is {where.phrase}, or -1.",
            f"Find the position of the {side.phrase} {many[:-1]} that is {where.phrase}; -1 if there is none.",
        ),
        f"{side.name}_{where.name}_index",
        {many: "list[int]"},
        "int",
        (f"return {side.code}({where.on(x)} for {x} in {many})",),
        numbers(),
    )


@NUMBERS.template("list[int]", ("javascript", "rust", "c"), side=SIDES, size=SIZES, joint=JOINTS, division=DIVISIONS)
def _index(c: Chosen) -> Sketch:
    x, many = c.rng.choice(LISTS)
    side, size, joint, division = c["side"], c["size"], c["joint"], c["division"]
    test = joint.on(size.on(x)).replace("{y}", division.on(x))
    return Sketch(
        (
            f"Return the index of the {side.phrase} of the {many} that is {size.phrase} {joint.phrase} {division.phrase}, or -1.",
            f"Find the position of the {side.phrase} {many[:-1]} that is {size.phrase} {joint.phrase} {division.phrase}; -1 if there is none.",
        ),
        f"{side.name}_{size.name}_{joint.name}_{division.name}_index",
        {many: "list[int]"},
        "int",
        (f"return {side.code}({test} for {x} in {many})",),
        numbers(),
    )


@NUMBERS.template("list[int]", side=SIDES, where=NUMBER_TESTS, give=SINGLE_MAPS, otherwise=OTHERWISE)
def _find(c: Chosen) -> Sketch:
    x, many = c.rng.choice(LISTS)
    side, where, give, otherwise = c["side"], c["where"], c["give"], c["otherwise"]
    loop = (f"for {x} in {many}:", f"    if {where.on(x)}:")
    if side.key == "first":
        lines: tuple[str, ...] = (*loop, f"        return {give.on(x)}", f"return {otherwise.code}")
    else:
        lines = (f"found = {otherwise.code}", *loop, f"        found = {give.on(x)}", "return found")
    return Sketch(
        (
            f"Find the {side.phrase} of the {many} that is {where.phrase} and return {give.phrase}, or {otherwise.phrase} if there is none.",
            f"Return {give.phrase} for the {side.phrase} of the {many} that is {where.phrase}, {otherwise.phrase} without one.",
        ),
        f"{side.name}_{where.name}_{give.name}_{otherwise.name}",
        {many: "list[int]"},
        "int",
        lines,
        numbers(give),
    )


@NUMBERS.template("list[int]", where=NUMBER_TESTS, yes=SINGLE_MAPS, no=SINGLE_MAPS)
def _balance(c: Chosen) -> Sketch:
    x, many = c.rng.choice(LISTS)
    where, yes, no = c["where"], c["yes"], c["no"]
    return Sketch(
        (
            f"Sum up the {many}, but count {yes.phrase} for each that is {where.phrase} and {no.phrase} for the others.",
            f"Return the total over {many} of {yes.phrase} where one is {where.phrase}, else {no.phrase}.",
        ),
        f"total_{yes.name}_{where.name}_else_{no.name}",
        {many: "list[int]"},
        "int",
        (
            "total = 0",
            f"for {x} in {many}:",
            f"    total += {yes.on(x)} if {where.on(x)} else {no.on(x)}",
            "return total",
        ),
        numbers(yes, no),
    )
