"""Templates over one or two integers, for every foreign language."""

from __future__ import annotations

from perfuse.training.corpus.integers import COMPARISONS, LABELS, LIMITS, SHRINKS, SUBJECTS, TRACES
from perfuse.training.corpus.languages.numbers import ADDED, DIVISIONS, JOINTS, LOOPED, SIZES
from perfuse.training.corpus.languages.sketch import Registry, Sketch, number
from perfuse.training.corpus.options import NUMBER_MAPS, NUMBER_TESTS, PAIR_OPERATIONS, SINGLE_MAPS, Option
from perfuse.training.corpus.template import Chosen

INTEGERS = Registry()
GENTLE = tuple(m for m in NUMBER_MAPS if m.key in {"negate", "double", "modulo", "floor", "minus"})


@INTEGERS.template("int", where=NUMBER_TESTS, each=NUMBER_MAPS)
def _up_to(c: Chosen) -> Sketch:
    where, each = c["where"], c["each"]
    return Sketch(
        (
            f"From the integers 1 to n take those that are {where.phrase}, {each.phrase} and return the sum.",
            f"For all i from one up to n that are {where.phrase}, {each.phrase} and return the total.",
        ),
        f"sum_up_to_{where.name}_{each.name}",
        {"n": "int"},
        "int",
        (f"return sum({each.on('i')} for i in range(1, n + 1) if {where.on('i')})",),
        lambda rng: [rng.randint(0, 24)],
    )


@INTEGERS.template("int", each=GENTLE, into=ADDED)
def _product_up_to(c: Chosen) -> Sketch:
    each, into = c["each"], c["into"]
    how = "prod" if into.key == "product" else "sum"
    return Sketch(
        (
            f"For the integers 1 to n {each.phrase} and return {into.phrase}.",
            f"Take i from one up to n, {each.phrase} and return {into.phrase}.",
        ),
        f"{into.name}_to_{each.name}",
        {"n": "int"},
        "int",
        (f"return {how}({each.on('i')} for i in range(1, n + 1))",),
        lambda rng: [rng.randint(0, 7)],
    )


@INTEGERS.template("int", where=NUMBER_TESTS, into=LOOPED)
def _digits(c: Chosen) -> Sketch:
    where, into = c["where"], c["into"]
    return Sketch(
        (
            f"Take the digits of n from the right, keep those that are {where.phrase} and return {into.phrase}.",
            f"For the digits of n that are {where.phrase} return {into.phrase}.",
        ),
        f"digits_{into.name}_{where.name}",
        {"n": "int"},
        "int",
        (
            f"result = {'1' if into.key == 'product' else '0'}",
            "while n > 0:",
            "    digit = n % 10",
            "    n //= 10",
            f"    if {where.on('digit')}:",
            f"        {into.on('digit').replace('{a}', 'result')}",
            "return result",
        ),
        number(0, 99999999),
    )


@INTEGERS.template("int", shrink=SHRINKS, limit=LIMITS, trace=TRACES, after=SINGLE_MAPS)
def _countdown(c: Chosen) -> Sketch:
    shrink, limit, trace, after = c["shrink"], c["limit"], c["trace"], c["after"]
    return Sketch(
        (
            f"While {limit.phrase}, {shrink.phrase}; find {trace.phrase} and return {after.phrase}.",
            f"Repeatedly {shrink.phrase} as long as {limit.phrase}. Count {trace.phrase}, return {after.phrase}.",
        ),
        f"{trace.name}_{shrink.name}_{limit.name}_{after.name}",
        {"n": "int"},
        "int",
        (
            "steps = 0",
            f"while {limit.code}:",
            f"    {trace.code}",
            f"    {shrink.code}",
            f"return {after.on('steps')}",
        ),
        number(0, 400),
    )


@INTEGERS.template("int", label=LABELS, first=COMPARISONS, second=COMPARISONS, subject=SUBJECTS)
def _classify(c: Chosen) -> Sketch:
    label, first, second, subject = c["label"], c["first"], c["second"], c["subject"]
    low = c.rng.randint(2, 40)
    high = low + c.rng.randint(5, 50)
    small, middle, large = label.code.split(",")
    return Sketch(
        (
            f"Label {subject.phrase} as {label.phrase}: {small} {first.phrase} {low}, {middle} {second.phrase} {high}.",
            f"Return {small} for {subject.phrase} {first.phrase} {low}, {middle} {second.phrase} {high}, else {large}.",
        ),
        f"{subject.name}_{label.name}",
        {subject.code: "int"},
        "str",
        (
            f"if {subject.code} {first.code} {low}:",
            f'    return "{small}"',
            f"if {subject.code} {second.code} {high}:",
            f'    return "{middle}"',
            f'return "{large}"',
        ),
        lambda rng: [rng.choice((low - 1, low, low + 1, high - 1, high, high + 1, 0, 120))],
    )


@INTEGERS.template("int", where=NUMBER_TESTS, yes=SINGLE_MAPS, no=SINGLE_MAPS)
def _either(c: Chosen) -> Sketch:
    where, yes, no = c["where"], c["yes"], c["no"]
    return Sketch(
        (
            f"If n is {where.phrase} return {yes.phrase}, otherwise {no.phrase}.",
            f"Given n, return {yes.phrase} when it is {where.phrase} and {no.phrase} when it is not.",
        ),
        f"{yes.name}_if_{where.name}_else_{no.name}",
        {"n": "int"},
        "int",
        (f"return {yes.on('n')} if {where.on('n')} else {no.on('n')}",),
        number(-30, 30, yes, no),
    )


@INTEGERS.template("int", ("javascript", "rust", "c"), size=SIZES, joint=JOINTS, division=DIVISIONS)
def _is(c: Chosen) -> Sketch:
    size, joint, division = c["size"], c["joint"], c["division"]
    return Sketch(
        (
            f"Tell whether n is {size.phrase} {joint.phrase} {division.phrase}.",
            f"Return true if n is {size.phrase} {joint.phrase} {division.phrase}, else false.",
        ),
        f"is_{size.name}_{joint.name}_{division.name}",
        {"n": "int"},
        "bool",
        ("return " + joint.on(size.on("n")).replace("{y}", division.on("n")),),
        number(-30, 30),
    )


CLAMPS = (
    Option("between", ("within {low} and {high}",), "both", "between"),
    Option("least", ("at {low} or more",), "low", "floor"),
    Option("most", ("at {high} or less",), "high", "ceiling"),
)


@INTEGERS.template("int", each=SINGLE_MAPS, clamp=CLAMPS)
def _clamp(c: Chosen) -> Sketch:
    each, clamp = c["each"], c["clamp"]
    low = c.rng.randint(-9, 12)
    high = low + c.rng.randint(4, 60)
    said = clamp.phrase.replace("{low}", str(low)).replace("{high}", str(high))
    lower = (f"if value < {low}:", f"    return {low}") if clamp.code != "high" else ()
    upper = (f"if value > {high}:", f"    return {high}") if clamp.code != "low" else ()
    return Sketch(
        (
            f"Take n, compute {each.phrase} and keep the result {said}.",
            f"Return {each.phrase} for n, clamped so that it stays {said}.",
        ),
        f"clamp_{each.name}_{clamp.name}",
        {"n": "int"},
        "int",
        (f"value = {each.on('n')}", *lower, *upper, "return value"),
        number(-30, 40, each),
    )


@INTEGERS.template("int, int", pair=PAIR_OPERATIONS, after=SINGLE_MAPS)
def _pair(c: Chosen) -> Sketch:
    pair, after = c["pair"], c["after"]
    return Sketch(
        (
            f"Take the {pair.phrase} of a and b and return {after.phrase}.",
            f"For integers a and b compute the {pair.phrase}, then return {after.phrase}.",
        ),
        f"{pair.name}_{after.name}",
        {"a": "int", "b": "int"},
        "int",
        (f"value = {pair.on('a').replace('{y}', 'b')}", f"return {after.on('value')}"),
        lambda rng: [b := rng.randint(0, 30), rng.randint(0, b)],
    )


EUCLID = (
    Option("divisor", ("the greatest common divisor",), "a", "gcd"),
    Option("multiple", ("the least common multiple",), "product // a", "lcm"),
    Option("steps", ("how many steps Euclid's algorithm takes",), "steps", "euclid"),
)


@INTEGERS.template("int, int", what=EUCLID, after=SINGLE_MAPS)
def _euclid(c: Chosen) -> Sketch:
    what, after = c["what"], c["after"]
    start = {"multiple": ("product = a * b",), "steps": ("steps = 0",)}.get(what.key, ())
    count = ("    steps += 1",) if what.key == "steps" else ()
    value = f"({what.code})" if what.key == "multiple" else what.code
    return Sketch(
        (
            f"Find {what.phrase} of a and b and return {after.phrase}.",
            f"For two numbers a and b find {what.phrase}; return {after.phrase}.",
        ),
        f"{what.name}_{after.name}",
        {"a": "int", "b": "int"},
        "int",
        (*start, "while b != 0:", "    rest = a % b", "    a = b", "    b = rest", *count, f"return {after.on(value)}"),
        lambda rng: [rng.randint(1, 60), rng.randint(1, 60)],
    )


@INTEGERS.template("int, int", ("javascript", "rust", "c"), where=NUMBER_TESTS, each=NUMBER_MAPS)
def _between(c: Chosen) -> Sketch:
    where, each = c["where"], c["each"]
    return Sketch(
        (
            f"For the integers from a up to but without b that are {where.phrase}, {each.phrase} and return the sum.",
            f"From a to b, b left out, take the numbers that are {where.phrase}, {each.phrase} and add them up.",
        ),
        f"sum_between_{where.name}_{each.name}",
        {"a": "int", "b": "int"},
        "int",
        (f"return sum({each.on('i')} for i in range(a, b) if {where.on('i')})",),
        lambda rng: [a := rng.randint(0, 9), a + rng.randint(0, 15)],
    )
