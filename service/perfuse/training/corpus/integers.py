"""Templates over one or a few numbers."""

# ruff: noqa: E501 (a sentence is one line)

from __future__ import annotations

from perfuse.training.corpus.options import FALLBACKS, FOLDS, NUMBER_MAPS, NUMBER_TESTS, REDUCTIONS, SINGLE_MAPS, Option
from perfuse.training.corpus.template import Chosen, Draft, Registry

INTEGERS = Registry()


@INTEGERS.template("int", where=NUMBER_TESTS, each=NUMBER_MAPS, into=REDUCTIONS)
def _up_to(c: Chosen) -> Draft:
    where, each, into = c["where"], c["each"], c["into"]
    return Draft(
        (
            f"From the integers 1 to n take those that are {where.phrase}, {each.phrase} and return {into.phrase}.",
            f"For all i from one up to n that are {where.phrase}, {each.phrase} and return {into.phrase}.",
        ),
        f"{into.name}_up_to_{where.name}_{each.name}",
        "n",
        ("return " + into.on(f"{each.on('i')} for i in range(1, n + 1) if {where.on('i')}"),),
        lambda rng: [rng.randint(0, 24)],
    )


@INTEGERS.template("int", where=NUMBER_TESTS, each=NUMBER_MAPS, into=FOLDS)
def _digits(c: Chosen) -> Draft:
    where, each, into = c["where"], c["each"], c["into"]
    start = "1" if into.key == "product" else "0"
    return Draft(
        (
            f"Take the digits of n from the right, keep those that are {where.phrase}, {each.phrase} and return {into.phrase}.",
            f"For the digits of n, last first, that are {where.phrase}, {each.phrase} and return {into.phrase}.",
        ),
        f"digits_{into.name}_{where.name}_{each.name}",
        "n",
        (
            f"result = {start}",
            "while n > 0:",
            "    n, digit = divmod(n, 10)",
            f"    if {where.on('digit')}:",
            f"        {into.on(each.on('digit')).replace('{a}', 'result')}",
            "return result",
        ),
        lambda rng: [rng.randint(0, 99999999)],
    )


SHRINKS = (
    Option("divide", ("divide n by {k} rounding down", "floor divide n by {k}"), "n //= {k}", "divide", 2, 5),
    Option("subtract", ("subtract {k} from n", "take {k} off n"), "n -= {k}", "subtract", 3, 19),
    Option(
        "halve_minus",
        ("subtract {k} from n and halve it", "take {k} off n and halve it"),
        "n = (n - {k}) // 2",
        "shrink",
        1,
        9,
    ),
)
LIMITS = (
    Option("above", ("n is above {k}", "n exceeds {k}"), "n > {k}", "above", 1, 40),
    Option("at_least", ("n is at least {k}", "n is {k} or more"), "n >= {k}", "at_least", 1, 40),
    Option("positive", ("n is positive", "n is greater than zero"), "n > 0", "positive"),
)
TRACES = (
    Option("steps", ("the number of steps", "how many steps it takes"), "steps += 1", "steps"),
    Option("sum", ("the sum of all n seen", "the total of all n seen"), "steps += n", "total"),
    Option("odd", ("how many odd n are seen", "the number of odd n seen"), "steps += n % 2", "odd_seen"),
    Option(
        "largest_digit",
        ("the largest last digit seen", "the highest last digit seen"),
        "steps = max(steps, n % 10)",
        "last_digit",
    ),
)


@INTEGERS.template("int", shrink=SHRINKS, limit=LIMITS, trace=TRACES, after=SINGLE_MAPS)
def _countdown(c: Chosen) -> Draft:
    shrink, limit, trace, after = c["shrink"], c["limit"], c["trace"], c["after"]
    return Draft(
        (
            f"While {limit.phrase}, {shrink.phrase}; find {trace.phrase} and return {after.phrase}.",
            f"Repeatedly {shrink.phrase} as long as {limit.phrase}. Count {trace.phrase}, return {after.phrase}.",
        ),
        f"{trace.name}_{shrink.name}_{limit.name}_{after.name}",
        "n",
        (
            "steps = 0",
            f"while {limit.code}:",
            f"    {trace.code}",
            f"    {shrink.code}",
            f"return {after.on('steps')}",
        ),
        lambda rng: [rng.randint(0, 400)],
    )


LABELS = (
    Option("level", ("low, medium or high",), "low,medium,high", "level"),
    Option("size", ("small, normal or large",), "small,normal,large", "size"),
    Option("heat", ("cold, warm or hot",), "cold,warm,hot", "heat"),
    Option("speed", ("slow, steady or fast",), "slow,steady,fast", "speed"),
    Option("grade", ("fail, pass or merit",), "fail,pass,merit", "grade"),
    Option("risk", ("safe, risky or critical",), "safe,risky,critical", "risk"),
)
COMPARISONS = (
    Option("below", ("below",), "<", "below"),
    Option("up_to", ("up to",), "<=", "up_to"),
)
SUBJECTS = tuple(
    Option(word, (f"the {word}",), word, word)
    for word in ("temperature", "speed", "pressure", "score", "load", "volume")
)


@INTEGERS.template("int", label=LABELS, first=COMPARISONS, second=COMPARISONS, subject=SUBJECTS)
def _classify(c: Chosen) -> Draft:
    label, first, second, subject = c["label"], c["first"], c["second"], c["subject"]
    low = c.rng.randint(2, 40)
    high = low + c.rng.randint(5, 50)
    small, middle, large = label.code.split(",")
    return Draft(
        (
            f"Label {subject.phrase} as {label.phrase}: {small} {first.phrase} {low}, {middle} {second.phrase} {high}.",
            f"Return {small} for {subject.phrase} {first.phrase} {low}, {middle} {second.phrase} {high}, else {large}.",
        ),
        f"{subject.name}_{label.name}",
        subject.code,
        (
            f"if {subject.code} {first.code} {low}:",
            f'    return "{small}"',
            f"if {subject.code} {second.code} {high}:",
            f'    return "{middle}"',
            f'return "{large}"',
        ),
        lambda rng: [rng.choice((low - 1, low, low + 1, high - 1, high, high + 1, 0, 120))],
    )


@INTEGERS.template("int", one=NUMBER_TESTS, yes=SINGLE_MAPS, two=NUMBER_TESTS, also=SINGLE_MAPS)
def _piecewise(c: Chosen) -> Draft:
    one, yes, two, also = c["one"], c["yes"], c["two"], c["also"]
    return Draft(
        (
            f"If x is {one.phrase} return {yes.phrase}, if it is {two.phrase} return {also.phrase}, otherwise zero.",
            f"For x that is {one.phrase} give {yes.phrase}; else if {two.phrase} give {also.phrase}; else return 0.",
        ),
        f"{yes.name}_{one.name}_{also.name}_{two.name}",
        "x",
        (
            f"if {one.on('x')}:",
            f"    return {yes.on('x')}",
            f"if {two.on('x')}:",
            f"    return {also.on('x')}",
            "return 0",
        ),
        lambda rng: [rng.randint(-22, 22)],
    )


@INTEGERS.template("int", where=NUMBER_TESTS, each=NUMBER_MAPS, into=REDUCTIONS)
def _divisors(c: Chosen) -> Draft:
    where, each, into = c["where"], c["each"], c["into"]
    return Draft(
        (
            f"Find the divisors of n that are {where.phrase}, {each.phrase} and return {into.phrase}.",
            f"Of all divisors of n keep those that are {where.phrase}; {each.phrase} and return {into.phrase}.",
        ),
        f"{into.name}_divisors_{where.name}_{each.name}",
        "n",
        (
            "divisors = [d for d in range(1, n + 1) if n % d == 0]",
            "return " + into.on(f"{each.on('d')} for d in divisors if {where.on('d')}"),
        ),
        lambda rng: [rng.choice((1, 12, 24, 30, 36, 60, 72, 84, 90, 7))],
    )


@INTEGERS.template("int", each=NUMBER_MAPS, into=REDUCTIONS)
def _primes(c: Chosen) -> Draft:
    each, into = c["each"], c["into"]
    return Draft(
        (
            f"Find all primes up to n, {each.phrase} and return {into.phrase}.",
            f"For the prime numbers not above n, {each.phrase} and return {into.phrase}.",
        ),
        f"{into.name}_primes_{each.name}",
        "n",
        (
            "primes = [p for p in range(2, n + 1) if all(p % d for d in range(2, p))]",
            "return " + into.on(f"{each.on('p')} for p in primes"),
        ),
        lambda rng: [rng.randint(1, 40)],
    )


SEEDS = (
    Option("zero_one", ("0 and 1",), "0, 1", "from_zero"),
    Option("one_two", ("1 and 2",), "1, 2", "from_one"),
    Option("two_one", ("2 and 1",), "2, 1", "from_two"),
    Option("one_three", ("1 and 3",), "1, 3", "from_three"),
)
NEXT = (
    Option("sum", ("the sum of the last two", "the last two added"), "a + b", "sum"),
    Option(
        "sum_plus", ("the sum of the last two plus {k}", "the last two added plus {k}"), "a + b + {k}", "sum_plus", 1, 9
    ),
    Option("twice", ("the last plus twice the one before", "twice the one before plus the last"), "2 * a + b", "twice"),
    Option(
        "difference",
        ("twice the last minus the one before", "twice the last less the one before"),
        "2 * b - a",
        "difference",
    ),
    Option(
        "modulo",
        ("the sum of the last two modulo {k}", "the last two added modulo {k}"),
        "(a + b) % {k}",
        "modulo",
        5,
        19,
    ),
)


@INTEGERS.template("int", seed=SEEDS, step=NEXT, each=NUMBER_MAPS, into=REDUCTIONS)
def _sequence(c: Chosen) -> Draft:
    seed, step, each, into = c["seed"], c["step"], c["each"], c["into"]
    return Draft(
        (
            f"Take n terms of the sequence from {seed.phrase} where the next is {step.phrase}; {each.phrase}, return {into.phrase}.",
            f"A sequence starts with {seed.phrase}; the next term is {step.phrase}. Of n terms, {each.phrase}, return {into.phrase}.",
        ),
        f"{into.name}_{step.name}_{seed.name}_{each.name}",
        "n",
        (
            f"a, b = {seed.code}",
            "terms = []",
            "for _ in range(n):",
            "    terms.append(a)",
            f"    a, b = b, {step.code}",
            "return " + into.on(f"{each.on('t')} for t in terms"),
        ),
        lambda rng: [rng.randint(0, 9)],
    )


@INTEGERS.template("str", each=SINGLE_MAPS, where=NUMBER_TESTS, otherwise=FALLBACKS)
def _parse(c: Chosen) -> Draft:
    each, where, otherwise = c["each"], c["where"], c["otherwise"]
    return Draft(
        (
            f"Parse text as an integer and return {each.phrase} if it is {where.phrase}; on any failure return {otherwise.phrase}.",
            f"Convert the text to int; when that fails or it is not {where.phrase} return {otherwise.phrase}, else {each.phrase}.",
        ),
        f"parse_{each.name}_{where.name}_{otherwise.name}",
        "text",
        (
            "try:",
            "    value = int(text)",
            "except ValueError:",
            f"    return {otherwise.code}",
            f"return {each.on('value')} if {where.on('value')} else {otherwise.code}",
        ),
        lambda rng: [
            rng.choice(
                (str(rng.randint(-20, 30)), str(rng.randint(-20, 30)), "x1", " 6 ", "", "3.5", str(rng.randint(3, 9)))
            )
        ],
    )


DIVISIONS = (
    Option("floor", ("floor divide a by b", "divide a by b rounding down"), "a // b", "floor"),
    Option("remainder", ("take the remainder of a by b", "compute a modulo b"), "a % b", "remainder"),
    Option(
        "both",
        ("add quotient and remainder of a by b", "sum the quotient and remainder of a by b"),
        "sum(divmod(a, b))",
        "both",
    ),
    Option("up", ("divide a by b rounding up", "ceiling divide a by b"), "-(-a // b)", "ceiling"),
)
REFUSALS = (
    *FALLBACKS,
    Option("raise", ("raise ValueError",), "raise", "checked"),
    Option("same", ("a itself",), "a", "or_same"),
)


@INTEGERS.template("int, int", how=DIVISIONS, after=SINGLE_MAPS, zero=REFUSALS)
def _divide(c: Chosen) -> Draft:
    how, after, zero = c["how"], c["after"], c["zero"]
    fallback = 'raise ValueError("zero")' if zero.key == "raise" else f"return {zero.code}"
    verb = "" if zero.key == "raise" else "return "
    return Draft(
        (
            f"Given a and b, {how.phrase} and return {after.phrase}; if b is zero {verb}{zero.phrase}.",
            f"If b is zero {verb}{zero.phrase}, otherwise {how.phrase} and return {after.phrase}.",
        ),
        f"{how.name}_{after.name}_{zero.name}",
        "a, b",
        ("if b == 0:", f"    {fallback}", f"result = {how.code}", f"return {after.on('result')}"),
        lambda rng: [rng.randint(-30, 60), rng.choice((0, 2, 3, 5, 7, -4))],
    )


@INTEGERS.template("int", where=NUMBER_TESTS, each=SINGLE_MAPS, subject=SUBJECTS)
def _guard(c: Chosen) -> Draft:
    where, each, subject = c["where"], c["each"], c["subject"]
    return Draft(
        (
            f"Raise ValueError unless {subject.phrase} is {where.phrase}; otherwise return {each.phrase}.",
            f"Return {each.phrase} for {subject.phrase}, but raise a ValueError if it is not {where.phrase}.",
        ),
        f"guard_{subject.name}_{where.name}_{each.name}",
        subject.code,
        (
            f"if not ({where.on(subject.code)}):",
            f'    raise ValueError(f"bad {subject.code}: {{{subject.code}}}")',
            f"return {each.on(subject.code)}",
        ),
        lambda rng: [rng.randint(-22, 25)],
    )


BOUNDS = (
    Option("clamp", ("clamp {x} to", "limit {x} to"), "min(max({x}, {l}), {h})", "clamp"),
    Option("wrap", ("wrap {x} around", "let {x} wrap around"), "{l} + ({x} - {l}) % ({h} - {l})", "wrap"),
    Option(
        "reject",
        ("return None if {x} is outside", "give None when {x} is not in"),
        "{x} if {l} <= {x} <= {h} else None",
        "inside",
    ),
    Option(
        "excess",
        ("return how far {x} lies outside", "measure how far {x} is outside"),
        "max({l} - {x}, 0, {x} - {h})",
        "excess",
    ),
)


@INTEGERS.template("int", how=BOUNDS, each=SINGLE_MAPS)
def _bounded(c: Chosen) -> Draft:
    how, each = c["how"], c["each"]
    low = c.rng.randint(0, 10)
    high = low + c.rng.randint(5, 30)
    expression = how.on("y").replace("{l}", str(low)).replace("{h}", str(high))
    start = how.phrase.replace("{x}", "y")
    return Draft(
        (
            f"Let y be {each.phrase} for x; {start} the range {low} to {high}.",
            f"For x compute {each.phrase} as y, then {start} {low} to {high}.",
        ),
        f"{how.name}_{each.name}",
        "x",
        (f"y = {each.on('x')}", f"return {expression}"),
        lambda rng: [rng.randint(-15, 50)],
    )
