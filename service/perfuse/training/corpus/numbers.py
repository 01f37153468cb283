"""Templates over lists of numbers."""

# ruff: noqa: E501 (a sentence is one line)

from __future__ import annotations

from perfuse.training.corpus.options import (
    AGGREGATES,
    FALLBACKS,
    FOLDS,
    KEYS,
    NUMBER_MAPS,
    NUMBER_TESTS,
    PAIR_OPERATIONS,
    REDUCTIONS,
    SINGLE_MAPS,
    Option,
)
from perfuse.training.corpus.template import NOUNS, Chosen, Draft, Registry, filled_integers, integers

NUMBERS = Registry()


@NUMBERS.template("list[int]", where=NUMBER_TESTS, each=NUMBER_MAPS, into=REDUCTIONS)
def _comprehend(c: Chosen) -> Draft:
    one, many = c.rng.choice(NOUNS)
    where, each, into = c["where"], c["each"], c["into"]
    return Draft(
        (
            f"Keep the {many} that are {where.phrase}, {each.phrase} and return {into.phrase}.",
            f"From a list of {many} take those that are {where.phrase}, {each.phrase}, then return {into.phrase}.",
            f"Given {many}, {each.phrase} that is {where.phrase} and give back {into.phrase}.",
        ),
        f"{into.name}_{where.name}_{each.name}",
        many,
        (f"return {into.on(f'{each.on(one)} for {one} in {many} if {where.on(one)}')}",),
        lambda rng: [integers(rng)],
    )


@NUMBERS.template("list[int]", where=NUMBER_TESTS, each=NUMBER_MAPS, into=FOLDS)
def _accumulate(c: Chosen) -> Draft:
    one, many = c.rng.choice(NOUNS)
    where, each, into = c["where"], c["each"], c["into"]
    start = "1" if into.key == "product" else "0"
    return Draft(
        (
            f"Loop over the {many}, skip those that are not {where.phrase}, {each.phrase} and return {into.phrase}.",
            f"With a loop over {many}, {each.phrase} that is {where.phrase} and return {into.phrase}.",
        ),
        f"loop_{into.name}_{where.name}_{each.name}",
        many,
        (
            f"result = {start}",
            f"for {one} in {many}:",
            f"    if {where.on(one)}:",
            f"        {into.on(each.on(one)).replace('{a}', 'result')}",
            "return result",
        ),
        lambda rng: [integers(rng)],
    )


@NUMBERS.template("list[int]", stop=NUMBER_TESTS, each=NUMBER_MAPS, into=FOLDS)
def _until(c: Chosen) -> Draft:
    one, many = c.rng.choice(NOUNS)
    stop, each, into = c["stop"], c["each"], c["into"]
    start = "1" if into.key == "product" else "0"
    return Draft(
        (
            f"Go through the {many} and stop at the first that is {stop.phrase}; {each.phrase} before it and return {into.phrase}.",
            f"Until one of the {many} is {stop.phrase}, {each.phrase}; return {into.phrase}.",
        ),
        f"{into.name}_{each.name}_until_{stop.name}",
        many,
        (
            f"result = {start}",
            f"for {one} in {many}:",
            f"    if {stop.on(one)}:",
            "        break",
            f"    {into.on(each.on(one)).replace('{a}', 'result')}",
            "return result",
        ),
        lambda rng: [integers(rng)],
    )


@NUMBERS.template("list[int]", where=NUMBER_TESTS, yes=SINGLE_MAPS, no=SINGLE_MAPS)
def _replace_each(c: Chosen) -> Draft:
    one, many = c.rng.choice(NOUNS)
    where, yes, no = c["where"], c["yes"], c["no"]
    return Draft(
        (
            f"For each of the {many} return {yes.phrase} if it is {where.phrase}, otherwise {no.phrase}.",
            f"Build a list from {many}: {yes.phrase} where one is {where.phrase}, else {no.phrase}.",
        ),
        f"{yes.name}_{where.name}_else_{no.name}",
        many,
        (f"return [{yes.on(one)} if {where.on(one)} else {no.on(one)} for {one} in {many}]",),
        lambda rng: [integers(rng)],
    )


@NUMBERS.template("list[int]", where=NUMBER_TESTS, yes=NUMBER_MAPS, no=NUMBER_MAPS)
def _partition(c: Chosen) -> Draft:
    one, many = c.rng.choice(NOUNS)
    where, yes, no = c["where"], c["yes"], c["no"]
    return Draft(
        (
            f"Split {many} into those that are {where.phrase} and the rest; {yes.phrase} of the former, {no.phrase} of the rest.",
            f"Partition the {many}: if {where.phrase}, {yes.phrase}; for the others, {no.phrase}. Return both lists.",
        ),
        f"split_{where.name}_{yes.name}_{no.name}",
        many,
        (
            "chosen, rest = [], []",
            f"for {one} in {many}:",
            f"    if {where.on(one)}:",
            f"        chosen.append({yes.on(one)})",
            "    else:",
            f"        rest.append({no.on(one)})",
            "return [chosen, rest]",
        ),
        lambda rng: [integers(rng)],
    )


WHICH = (
    Option("first", ("first",), "{x}", "first"),
    Option("last", ("last",), "reversed({x})", "last"),
)


@NUMBERS.template("list[int]", which=WHICH, where=NUMBER_TESTS, give=SINGLE_MAPS, otherwise=FALLBACKS)
def _find(c: Chosen) -> Draft:
    one, many = c.rng.choice(NOUNS)
    which, where, give, otherwise = c["which"], c["where"], c["give"], c["otherwise"]
    return Draft(
        (
            f"Find the {which.phrase} of the {many} that is {where.phrase} and return {give.phrase}, or {otherwise.phrase} if there is none.",
            f"Return {give.phrase} for the {which.phrase} {one} that is {where.phrase}; if no such {one} exists return {otherwise.phrase}.",
        ),
        f"{which.name}_{where.name}_{give.name}_{otherwise.name}",
        many,
        (
            f"for {one} in {which.on(many)}:",
            f"    if {where.on(one)}:",
            f"        return {give.on(one)}",
            f"return {otherwise.code}",
        ),
        lambda rng: [integers(rng)],
    )


QUANTIFIERS = (
    Option("all", ("all",), "all({x})", "all"),
    Option("any", ("any",), "any({x})", "any"),
    Option("none", ("none",), "not any({x})", "none"),
    Option("some_not", ("not all",), "not all({x})", "not_all"),
)


@NUMBERS.template("list[int]", how=QUANTIFIERS, each=NUMBER_MAPS, where=NUMBER_TESTS)
def _check(c: Chosen) -> Draft:
    one, many = c.rng.choice(NOUNS)
    how, each, where = c["how"], c["each"], c["where"]
    inner = f"({each.on(one)})" if " " in each.on(one) else each.on(one)
    return Draft(
        (
            f"Given {many}, {each.phrase} and tell whether {how.phrase} of the results are {where.phrase}.",
            f"Check if {how.phrase} of the {many} are {where.phrase} after you {each.phrase}.",
        ),
        f"{how.name}_{each.name}_{where.name}",
        many,
        (f"return {how.on(f'{where.on(inner)} for {one} in {many}')}",),
        lambda rng: [[rng.randint(-9, 12) for _ in range(rng.choice((0, 1, 1, 2, 2, 3)))]],
    )


@NUMBERS.template("list[int]", each=NUMBER_MAPS, fold=FOLDS, where=NUMBER_TESTS)
def _running(c: Chosen) -> Draft:
    one, many = c.rng.choice(NOUNS)
    each, fold, where = c["each"], c["fold"], c["where"]
    start = "1" if fold.key == "product" else "0"
    return Draft(
        (
            f"For the {many} that are {where.phrase}, {each.phrase} and return every running value of {fold.phrase}.",
            f"Return the running values of {fold.phrase} of the {many} that are {where.phrase} after you {each.phrase}.",
        ),
        f"running_{fold.name}_{each.name}_{where.name}",
        many,
        (
            f"current, result = {start}, []",
            f"for {one} in {many}:",
            f"    if {where.on(one)}:",
            f"        {fold.on(each.on(one)).replace('{a}', 'current')}",
            "        result.append(current)",
            "return result",
        ),
        lambda rng: [integers(rng)],
    )


@NUMBERS.template("list[int]", pair=PAIR_OPERATIONS, where=NUMBER_TESTS, into=REDUCTIONS)
def _neighbours(c: Chosen) -> Draft:
    _, many = c.rng.choice(NOUNS)
    pair, where, into = c["pair"], c["where"], c["into"]
    operation = pair.on("a").replace("{y}", "b")
    return Draft(
        (
            f"Take the {pair.phrase} of each pair of neighbours in {many}, keep those that are {where.phrase} and return {into.phrase}.",
            f"For consecutive {many} compute the {pair.phrase}; of the results that are {where.phrase} return {into.phrase}.",
        ),
        f"{into.name}_{where.name}_neighbour_{pair.name}",
        many,
        (
            f"steps = [{operation} for a, b in zip({many}, {many}[1:])]",
            f"return {into.on('step for step in steps if ' + where.on('step'))}",
        ),
        lambda rng: [integers(rng)],
    )


@NUMBERS.template("list[int], list[int]", pair=PAIR_OPERATIONS, where=NUMBER_TESTS, into=REDUCTIONS)
def _combine(c: Chosen) -> Draft:
    pair, where, into = c["pair"], c["where"], c["into"]
    operation = pair.on("a").replace("{y}", "b")
    return Draft(
        (
            f"Walk over two lists together, take the {pair.phrase} of each pair whose first item is {where.phrase} and return {into.phrase}.",
            f"Given lists left and right, pair them up; where the left one is {where.phrase} take the {pair.phrase}; return {into.phrase}.",
        ),
        f"{into.name}_pair_{pair.name}_{where.name}",
        "left, right",
        (f"return {into.on(f'{operation} for a, b in zip(left, right) if ' + where.on('a'))}",),
        lambda rng: [integers(rng), filled_integers(rng)],
    )


SIZES = tuple(
    Option(f"of_{k}", (word,), str(k), word) for k, word in ((2, "two"), (3, "three"), (4, "four"), (5, "five"))
)


@NUMBERS.template("list[int]", size=SIZES, take=AGGREGATES, each=SINGLE_MAPS)
def _windows(c: Chosen) -> Draft:
    _, many = c.rng.choice(NOUNS)
    size, take, each = c["size"], c["take"], c["each"]
    return Draft(
        (
            f"For every window of {size.phrase} consecutive {many} take the {take.phrase} and return a list of {each.phrase}.",
            f"Slide a window of length {size.phrase} over {many}; for the {take.phrase} of each, collect {each.phrase}.",
        ),
        f"windows_{size.name}_{take.name}_{each.name}",
        many,
        (
            "result = []",
            f"for start in range(len({many}) - {int(size.code) - 1}):",
            f"    window = {many}[start : start + {size.code}]",
            f"    item = {take.on('window')}",
            f"    result.append({each.on('item')})",
            "return result",
        ),
        lambda rng: [filled_integers(rng)],
    )


@NUMBERS.template("list[int]", size=SIZES, take=AGGREGATES, where=NUMBER_TESTS)
def _chunks(c: Chosen) -> Draft:
    _, many = c.rng.choice(NOUNS)
    size, take, where = c["size"], c["take"], c["where"]
    return Draft(
        (
            f"Cut {many} into chunks of {size.phrase}, take the {take.phrase} of each and keep the results that are {where.phrase}.",
            f"Split the {many} into groups of {size.phrase} and return the {take.phrase} of every group when it is {where.phrase}.",
        ),
        f"chunks_{size.name}_{take.name}_{where.name}",
        many,
        (
            f"chunks = [{many}[i : i + {size.code}] for i in range(0, len({many}), {size.code})]",
            f"results = [{take.on('chunk')} for chunk in chunks]",
            f"return [item for item in results if {where.on('item')}]",
        ),
        lambda rng: [filled_integers(rng)],
    )


ENDS = (
    Option("largest", ("largest", "highest"), "sorted({x}, reverse=True)[:{n}]", "largest"),
    Option("smallest", ("smallest", "lowest"), "sorted({x})[:{n}]", "smallest"),
    Option("front", ("first",), "{x}[:{n}]", "first"),
    Option("back", ("last",), "{x}[-{n}:]", "last"),
)


@NUMBERS.template("list[int]", end=ENDS, size=SIZES, each=NUMBER_MAPS)
def _top(c: Chosen) -> Draft:
    one, many = c.rng.choice(NOUNS)
    end, size, each = c["end"], c["size"], c["each"]
    return Draft(
        (
            f"Take the {size.phrase} {end.phrase} {many} and {each.phrase}; return the list.",
            f"Return a list with the {size.phrase} {end.phrase} of the {many}, but {each.phrase}.",
        ),
        f"{end.name}_{size.name}_{each.name}",
        many,
        (f"chosen = {end.on(many).replace('{n}', size.code)}", f"return [{each.on(one)} for {one} in chosen]"),
        lambda rng: [filled_integers(rng)],
    )


PROBLEMS = (
    Option("empty", ("it is empty", "there is nothing in it"), "not {x}", "filled", 0, 0),
    Option("negative", ("any is negative", "one of them is negative"), "any(item < 0 for item in {x})", "natural"),
    Option("many", ("there are more than {k}", "it holds more than {k}"), "len({x}) > {k}", "few", 4, 6),
    Option("zero", ("it contains zero", "zero is among them"), "0 in {x}", "nonzero"),
    Option("repeats", ("any repeats", "there are duplicates"), "len(set({x})) != len({x})", "unique"),
)


@NUMBERS.template("list[int]", refuse=PROBLEMS, each=NUMBER_MAPS, into=REDUCTIONS)
def _validate(c: Chosen) -> Draft:
    one, many = c.rng.choice(NOUNS)
    refuse, each, into = c["refuse"], c["each"], c["into"]
    return Draft(
        (
            f"Raise ValueError for the list of {many} if {refuse.phrase}; otherwise {each.phrase} and return {into.phrase}.",
            f"Given {many}, {each.phrase} and return {into.phrase}, but raise a ValueError if {refuse.phrase}.",
        ),
        f"checked_{into.name}_{each.name}_{refuse.name}",
        many,
        (
            f"if {refuse.on(many)}:",
            f'    raise ValueError("bad {many}")',
            f"return {into.on(f'{each.on(one)} for {one} in {many}')}",
        ),
        lambda rng: [[rng.randint(rng.choice((-3, 0, 1)), 20) for _ in range(rng.choice((0, 2, 3, 4, 8)))]],
    )


@NUMBERS.template("list[int]", where=NUMBER_TESTS, by=KEYS, take=AGGREGATES)
def _group(c: Chosen) -> Draft:
    one, many = c.rng.choice(NOUNS)
    where, by, take = c["where"], c["by"], c["take"]
    return Draft(
        (
            f"Group the {many} that are {where.phrase} {by.phrase} and map each group to its {take.phrase}.",
            f"Make a dict of the {take.phrase} per group, grouping {many} {by.phrase}, only those {where.phrase}.",
        ),
        f"group_{by.name}_{take.name}_{where.name}",
        many,
        (
            "groups = {}",
            f"for {one} in {many}:",
            f"    if {where.on(one)}:",
            f"        groups.setdefault({by.on(one)}, []).append({one})",
            f"return {{key: {take.on('group')} for key, group in groups.items()}}",
        ),
        lambda rng: [integers(rng)],
    )


@NUMBERS.template("list[int]", each=NUMBER_MAPS, where=NUMBER_TESTS, order=(
    Option("common", ("most common first", "by falling count"), "sorted({x}.items(), key=lambda pair: (-pair[1], pair[0]))", "common"),
    Option("rare", ("rarest first", "by rising count"), "sorted({x}.items(), key=lambda pair: (pair[1], pair[0]))", "rare"),
    Option("value", ("by value", "in order of value"), "sorted({x}.items())", "value"),
))  # fmt: skip
def _tally(c: Chosen) -> Draft:
    one, many = c.rng.choice(NOUNS)
    each, where, order = c["each"], c["where"], c["order"]
    return Draft(
        (
            f"Of the {many} that are {where.phrase}, {each.phrase}, count the results and return pairs {order.phrase}.",
            f"Count how often each result occurs when you {each.phrase} that is {where.phrase} in {many}; return pairs {order.phrase}.",
        ),
        f"count_{each.name}_{where.name}_{order.name}",
        many,
        (
            "counts = {}",
            f"for {one} in {many}:",
            f"    if {where.on(one)}:",
            f"        key = {each.on(one)}",
            "        counts[key] = counts.get(key, 0) + 1",
            f"return {order.on('counts')}",
        ),
        lambda rng: [[rng.randint(-9, 14) for _ in range(rng.choice((0, 4, 9, 12)))]],
    )


STRIDES = (
    Option("even_places", ("at even positions", "at positions 0, 2, 4"), "{x}[::2]", "even_places"),
    Option("odd_places", ("at odd positions", "at positions 1, 3, 5"), "{x}[1::2]", "odd_places"),
    Option("every", ("at every third position", "at positions 0, 3, 6"), "{x}[::3]", "every_third"),
    Option("inner", ("without the first and the last", "except both ends"), "{x}[1:-1]", "inner"),
    Option("rest", ("after the first", "except the first"), "{x}[1:]", "rest"),
    Option("initial", ("before the last", "except the last"), "{x}[:-1]", "but_last"),
)


@NUMBERS.template("list[int]", which=STRIDES, each=NUMBER_MAPS, into=REDUCTIONS)
def _slices(c: Chosen) -> Draft:
    one, many = c.rng.choice(NOUNS)
    which, each, into = c["which"], c["each"], c["into"]
    return Draft(
        (
            f"Take the {many} {which.phrase}, {each.phrase} and return {into.phrase}.",
            f"Given {many}, use only those {which.phrase}; {each.phrase} and return {into.phrase}.",
        ),
        f"{into.name}_{which.name}_{each.name}",
        many,
        (f"return {into.on(f'{each.on(one)} for {one} in {which.on(many)}')}",),
        lambda rng: [integers(rng)],
    )


@NUMBERS.template("list[list[int]]", take=AGGREGATES, where=NUMBER_TESTS, into=REDUCTIONS)
def _rows(c: Chosen) -> Draft:
    take, where, into = c["take"], c["where"], c["into"]
    return Draft(
        (
            f"Take the {take.phrase} of every row of a matrix, keep those that are {where.phrase} and return {into.phrase}.",
            f"For each row of the matrix compute the {take.phrase}; of the results that are {where.phrase} return {into.phrase}.",
        ),
        f"{into.name}_row_{take.name}_{where.name}",
        "matrix",
        (
            f"results = [{take.on('row')} for row in matrix]",
            f"return {into.on('item for item in results if ' + where.on('item'))}",
        ),
        lambda rng: [[[rng.randint(-15, 15) for _ in range(3)] for _ in range(rng.randint(2, 6))]],
    )


@NUMBERS.template("list[list[int]]", take=AGGREGATES, each=SINGLE_MAPS, where=NUMBER_TESTS)
def _columns(c: Chosen) -> Draft:
    take, each, where = c["take"], c["each"], c["where"]
    return Draft(
        (
            f"Take the {take.phrase} of every column of a matrix and, where it is {where.phrase}, collect {each.phrase}.",
            f"For each column of the matrix compute the {take.phrase}; if it is {where.phrase} add {each.phrase} to the result.",
        ),
        f"column_{take.name}_{where.name}_{each.name}",
        "matrix",
        (
            "result = []",
            "for column in zip(*matrix):",
            f"    item = {take.on('column')}",
            f"    if {where.on('item')}:",
            f"        result.append({each.on('item')})",
            "return result",
        ),
        lambda rng: [[[rng.randint(-15, 15) for _ in range(4)] for _ in range(rng.randint(2, 4))]],
    )


@NUMBERS.template("list[list[int]]", where=NUMBER_TESTS, each=NUMBER_MAPS, into=REDUCTIONS)
def _flatten(c: Chosen) -> Draft:
    one, many = c.rng.choice(NOUNS)
    where, each, into = c["where"], c["each"], c["into"]
    return Draft(
        (
            f"Flatten a list of lists of {many}, keep those that are {where.phrase}, {each.phrase} and return {into.phrase}.",
            f"From nested lists of {many} take all that are {where.phrase}, {each.phrase}, and return {into.phrase}.",
        ),
        f"{into.name}_nested_{where.name}_{each.name}",
        "rows",
        (
            f"flat = [{one} for row in rows for {one} in row]",
            f"return {into.on(f'{each.on(one)} for {one} in flat if {where.on(one)}')}",
        ),
        lambda rng: [[integers(rng)[:4] for _ in range(rng.randint(1, 4))]],
    )
