"""Templates over dicts and lists of records."""

# ruff: noqa: E501 (a sentence is one line)

from __future__ import annotations

from random import Random

from perfuse.training.corpus.options import (
    AGGREGATES,
    NUMBER_MAPS,
    NUMBER_TESTS,
    REDUCTIONS,
    SINGLE_MAPS,
    WORD_TESTS,
    Option,
)
from perfuse.training.corpus.template import FIELDS, NAMES, WORDS, Chosen, Draft, Registry

MAPPINGS = Registry()
FIELD = tuple(Option(name, (name,), name, name) for name in FIELDS)
TAGS = tuple(Option(name, (name,), name, name) for name in ("city", "team", "kind", "color"))


def counts(rng: Random) -> dict[str, int]:
    """A dict of words to small integers."""
    return {word: rng.randint(-20, 30) for word in rng.sample(WORDS, rng.choice((0, 3, 5, 8)))}


def records(rng: Random) -> list[dict[str, object]]:
    """People or things with a name, a tag and number fields."""
    return [
        {
            "name": name,
            **{tag.key: rng.choice(("x", "y", "z")) for tag in TAGS},
            **{field: rng.randint(-20, 30) for field in FIELDS},
        }
        for name in rng.sample(NAMES, rng.choice((2, 4, 6)))
    ]


@MAPPINGS.template("dict[str, int]", where=NUMBER_TESTS, each=NUMBER_MAPS, into=REDUCTIONS)
def _dict_values(c: Chosen) -> Draft:
    where, each, into = c["where"], c["each"], c["into"]
    return Draft(
        (
            f"Take the values of a dict that are {where.phrase}, {each.phrase} and return {into.phrase}.",
            f"Of the dict's values keep those that are {where.phrase}; {each.phrase} and return {into.phrase}.",
        ),
        f"{into.name}_values_{where.name}_{each.name}",
        "data",
        (f"return {into.on(f'{each.on(chr(118))} for v in data.values() if {where.on(chr(118))}')}",),
        lambda rng: [counts(rng)],
    )


@MAPPINGS.template("dict[str, int]", where=NUMBER_TESTS, each=NUMBER_MAPS, keys=WORD_TESTS)
def _dict_filter(c: Chosen) -> Draft:
    where, each, keys = c["where"], c["each"], c["keys"]
    return Draft(
        (
            f"Keep the dict entries with keys {keys.phrase} and values that are {where.phrase}, {each.phrase} and return a dict.",
            f"From a dict take values that are {where.phrase} under keys {keys.phrase}; {each.phrase}; return the new dict.",
        ),
        f"entries_{keys.name}_{where.name}_{each.name}",
        "data",
        (
            "result = {}",
            "for key, value in data.items():",
            f"    if {keys.on('key')} and {where.on('value')}:",
            f"        result[key] = {each.on('value')}",
            "return result",
        ),
        lambda rng: [{word: rng.randint(-20, 30) for word in rng.sample(WORDS, 12)}],
    )


JOINS = (
    Option("sum", ("add them", "sum them"), "{x} + {y}", "sum"),
    Option("larger", ("take the larger", "keep the maximum"), "max({x}, {y})", "larger"),
    Option("smaller", ("take the smaller", "keep the minimum"), "min({x}, {y})", "smaller"),
    Option("product", ("multiply them", "take their product"), "{x} * {y}", "product"),
    Option("difference", ("subtract the second", "take first minus second"), "{x} - {y}", "difference"),
)
SCOPES = (
    Option("all", ("all keys", "every key"), "first.keys() | second.keys()", "all"),
    Option("common", ("common keys", "keys in both"), "first.keys() & second.keys()", "common"),
    Option("first", ("keys of the first", "the first one's keys"), "first", "first"),
)


@MAPPINGS.template("dict[str, int], dict[str, int]", join=JOINS, scope=SCOPES, where=NUMBER_TESTS)
def _merge(c: Chosen) -> Draft:
    join, scope, where = c["join"], c["scope"], c["where"]
    return Draft(
        (
            f"Merge two dicts over {scope.phrase}: {join.phrase}, zero if missing, and keep results that are {where.phrase}.",
            f"For {scope.phrase} of two dicts, {join.phrase} with zero for missing values; drop results that are not {where.phrase}.",
        ),
        f"merge_{scope.name}_{join.name}_{where.name}",
        "first, second",
        (
            "result = {}",
            f"for key in {scope.code}:",
            f"    value = {join.on('first.get(key, 0)').replace('{y}', 'second.get(key, 0)')}",
            f"    if {where.on('value')}:",
            "        result[key] = value",
            "return result",
        ),
        lambda rng: [{key: rng.randint(-20, 30) for key in rng.sample("abcdefgh", 5)} for _ in range(2)],
    )


@MAPPINGS.template("dict[str, int]", where=NUMBER_TESTS, order=(
    Option("rising", ("from low to high", "in rising order"), "sorted({x}, key=data.get)", "rising"),
    Option("falling", ("from high to low", "in falling order"), "sorted({x}, key=data.get, reverse=True)", "falling"),
    Option("name", ("in alphabetical order", "sorted by name"), "sorted({x})", "named"),
    Option("length", ("sorted by length", "from short to long"), "sorted({x}, key=len)", "by_length"),
), form=(
    Option("keys", ("the keys", "their keys"), "{x}", "keys"),
    Option("upper", ("the keys in upper case", "their upper-case keys"), "{x}.upper()", "upper"),
    Option("pairs", ("pairs of key and value", "key-value pairs"), "({x}, data[{x}])", "pairs"),
    Option("text", ("texts of the form key=value", "strings like key=value"), 'f"{{x}}={data[{x}]}"', "texts"),
    Option("lengths", ("the lengths of the keys", "their key lengths"), "len({x})", "lengths"),
))  # fmt: skip
def _ranking(c: Chosen) -> Draft:
    where, order, form = c["where"], c["order"], c["form"]
    return Draft(
        (
            f"For dict entries whose value is {where.phrase} return {form.phrase} {order.phrase}.",
            f"Return {form.phrase} {order.phrase}, for the values of a dict that are {where.phrase}.",
        ),
        f"{form.name}_{order.name}_{where.name}",
        "data",
        (
            f"chosen = [key for key in data if {where.on('data[key]')}]",
            f"return [{form.on('key')} for key in {order.on('chosen')}]",
        ),
        lambda rng: [dict(zip(rng.sample(WORDS, 6), rng.sample(range(-20, 30), 6), strict=True))],
    )


@MAPPINGS.template("dict[str, int]", where=NUMBER_TESTS, key=(
    Option("upper", ("in upper case", "upper-cased"), "{x}.upper()", "upper"),
    Option("lower", ("in lower case", "lower-cased"), "{x}.lower()", "lower"),
    Option("first", ("cut to the first letter", "reduced to the first letter"), "{x}[0]", "initial"),
    Option("back", ("reversed", "backwards"), "{x}[::-1]", "reversed"),
    Option("length", ("as their length", "as a number of letters"), "len({x})", "length"),
), each=SINGLE_MAPS)  # fmt: skip
def _invert(c: Chosen) -> Draft:
    where, key, each = c["where"], c["key"], c["each"]
    return Draft(
        (
            f"Invert a dict: for each value that is {where.phrase} map {each.phrase} to the list of its keys {key.phrase}.",
            f"Swap keys and values: values that are {where.phrase} become keys, {each.phrase}, with lists of old keys {key.phrase}.",
        ),
        f"invert_{where.name}_{key.name}_{each.name}",
        "data",
        (
            "result = {}",
            "for key, value in data.items():",
            f"    if {where.on('value')}:",
            f"        result.setdefault(str({each.on('value')}), []).append({key.on('key')})",
            "return result",
        ),
        lambda rng: [{word: rng.randint(-9, 14) for word in rng.sample(WORDS, 9)}],
    )


@MAPPINGS.template("list[dict]", field=FIELD, where=NUMBER_TESTS, other=FIELD, take=REDUCTIONS)
def _select(c: Chosen) -> Draft:
    field, where, other, take = c["field"], c["where"], c["other"], c["take"]
    return Draft(
        (
            f"From records whose {field.phrase} is {where.phrase} take the {other.phrase} and return {take.phrase}.",
            f"Collect the {other.phrase} of all items with {field.phrase} that is {where.phrase} and return {take.phrase}.",
        ),
        f"{take.name}_{other.name}_{field.name}_{where.name}",
        "items",
        ("return " + take.on(f'item["{other.code}"] for item in items if ' + where.on(f'item["{field.code}"]')),),
        lambda rng: [records(rng)],
    )


@MAPPINGS.template("list[dict]", tag=TAGS, field=FIELD, take=AGGREGATES, each=SINGLE_MAPS)
def _by_tag(c: Chosen) -> Draft:
    tag, field, take, each = c["tag"], c["field"], c["take"], c["each"]
    return Draft(
        (
            f"Group records by {tag.phrase} and for the {take.phrase} of {field.phrase} in each group store {each.phrase}.",
            f"For every {tag.phrase} among the items compute the {take.phrase} of {field.phrase} and map it to {each.phrase}.",
        ),
        f"{take.name}_{field.name}_by_{tag.name}_{each.name}",
        "items",
        (
            "groups = {}",
            "for item in items:",
            f'    groups.setdefault(item["{tag.code}"], []).append(item["{field.code}"])',
            "result = {}",
            "for key, group in groups.items():",
            f"    value = {take.on('group')}",
            f"    result[key] = {each.on('value')}",
            "return result",
        ),
        lambda rng: [records(rng)],
    )


@MAPPINGS.template("list[dict]", extreme=(
    Option("highest", ("highest", "largest"), "max", "highest"),
    Option("lowest", ("lowest", "smallest"), "min", "lowest"),
), field=FIELD, out=(*FIELD, Option("name", ("name",), "name", "name")), tag=TAGS)  # fmt: skip
def _best(c: Chosen) -> Draft:
    extreme, field, out, tag = c["extreme"], c["field"], c["out"], c["tag"]
    value = c.pick("x", "y", "z")
    return Draft(
        (
            f"Among records with {tag.phrase} {value} find the one with the {extreme.phrase} {field.phrase} and return its {out.phrase} or None.",
            f"Return the {out.phrase} of the item with the {extreme.phrase} {field.phrase} where {tag.phrase} is {value}, None without one.",
        ),
        f"{out.name}_of_{extreme.name}_{field.name}_{tag.name}",
        "items",
        (
            f'chosen = [item for item in items if item["{tag.code}"] == "{value}"]',
            "if not chosen:",
            "    return None",
            f'return {extreme.code}(chosen, key=lambda item: item["{field.code}"])["{out.code}"]',
        ),
        lambda rng: [records(rng)],
    )


@MAPPINGS.template("list[dict]", field=FIELD, other=FIELD, operation=(
    Option("sum", ("sum",), "{x} + {y}", "sum"),
    Option("difference", ("difference",), "{x} - {y}", "difference"),
    Option("product", ("product",), "{x} * {y}", "product"),
    Option("larger", ("larger",), "max({x}, {y})", "larger"),
), order=(
    Option("rising", ("lowest first", "in rising order"), "sorted({x}, key=lambda pair: pair[1])", "rising"),
    Option("falling", ("highest first", "in falling order"), "sorted({x}, key=lambda pair: -pair[1])", "falling"),
    Option("name", ("by name", "in order of name"), "sorted({x})", "named"),
))  # fmt: skip
def _derive(c: Chosen) -> Draft:
    field, other, operation, order = c["field"], c["other"], c["operation"], c["order"]
    expression = operation.on(f'item["{field.code}"]').replace("{y}", f'item["{other.code}"]')
    return Draft(
        (
            f"For each record pair its name with the {operation.phrase} of {field.phrase} and {other.phrase}; return the pairs {order.phrase}.",
            f"List pairs of name and {operation.phrase} of {field.phrase} and {other.phrase} for the items, {order.phrase}.",
        ),
        f"{operation.name}_{field.name}_{other.name}_{order.name}",
        "items",
        (f'pairs = [(item["name"], {expression}) for item in items]', f"return {order.on('pairs')}"),
        lambda rng: [records(rng)],
    )


@MAPPINGS.template("list[dict]", field=FIELD, other=FIELD, where=NUMBER_TESTS, each=NUMBER_MAPS)
def _update(c: Chosen) -> Draft:
    field, other, where, each = c["field"], c["other"], c["where"], c["each"]
    verb = each.phrase.replace("each one", f"its {other.code}")
    return Draft(
        (
            f"For every record whose {field.phrase} is {where.phrase}, {verb}; return all values of {other.phrase}.",
            f"If the {field.phrase} of an item is {where.phrase}, {verb}. Return the {other.phrase} of all items.",
        ),
        f"update_{other.name}_{field.name}_{where.name}_{each.name}",
        "items",
        (
            "for item in items:",
            f"    if {where.on(f'item[{chr(34)}{field.code}{chr(34)}]')}:",
            f'        item["{other.code}"] = ' + each.on(f'item["{other.code}"]'),
            f'return [item["{other.code}"] for item in items]',
        ),
        lambda rng: [records(rng)],
    )
