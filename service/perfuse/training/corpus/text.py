"""Templates over words and text."""

# ruff: noqa: E501 (a sentence is one line)

from __future__ import annotations

from perfuse.training.corpus.options import (
    CHAR_TESTS,
    FALLBACKS,
    WORD_MAPS,
    WORD_REDUCTIONS,
    WORD_TESTS,
    Option,
)
from perfuse.training.corpus.template import WORDS, Chosen, Draft, Registry, sentence, words

TEXT = Registry()
SEPARATORS = (
    Option("comma", ("commas",), ",", "comma"),
    Option("dash", ("dashes",), "-", "dash"),
    Option("semicolon", ("semicolons",), ";", "semicolon"),
    Option("colon", ("colons",), ":", "colon"),
    Option("slash", ("slashes",), "/", "slash"),
    Option("underscore", ("underscores",), "_", "underscore"),
)
FINISHES = (
    Option("upper", ("in upper case", "upper-cased"), "{x}.upper()", "upper"),
    Option("lower", ("in lower case", "lower-cased"), "{x}.lower()", "lower"),
    Option("reversed", ("backwards", "reversed"), "{x}[::-1]", "reversed"),
    Option("length", ("as a count", "as its length"), "len({x})", "count"),
    Option("sorted", ("with sorted characters", "with its characters sorted"), '"".join(sorted({x}))', "sorted"),
    Option("swap", ("with swapped case", "with its case flipped"), "{x}.swapcase()", "swapped"),
    Option("cut", ("cut to {k} characters", "only the first {k} characters"), "{x}[:{k}]", "cut", 3, 6),
    Option(
        "distinct",
        ("as the number of distinct characters", "as a count of distinct characters"),
        "len(set({x}))",
        "distinct",
    ),
)


@TEXT.template("list[str]", where=WORD_TESTS, each=WORD_MAPS, into=WORD_REDUCTIONS)
def _word_pipeline(c: Chosen) -> Draft:
    where, each, into = c["where"], c["each"], c["into"]
    many, one = c.rng.choice((("words", "word"), ("names", "name"), ("lines", "line")))
    return Draft(
        (
            f"From the {many} {where.phrase}, {each.phrase} and return {into.phrase}.",
            f"Keep the {many} {where.phrase}, {each.phrase} and give back {into.phrase}.",
            f"Given {many}, use only those {where.phrase}; {each.phrase} and return {into.phrase}.",
        ),
        f"{into.name}_{where.name}_{each.name}",
        many,
        (f"return {into.on(f'{each.on(one)} for {one} in {many} if {where.on(one)}')}",),
        lambda rng: [words(rng)],
    )


@TEXT.template("str", where=WORD_TESTS, each=WORD_MAPS, order=(
    Option("same", ("in the same order", "in their order"), "{x}", "kept"),
    Option("back", ("in reverse order", "from last to first"), "reversed({x})", "reversed"),
    Option("sorted", ("in alphabetical order", "sorted"), "sorted({x})", "sorted"),
))  # fmt: skip
def _rewrite(c: Chosen) -> Draft:
    where, each, order = c["where"], c["each"], c["order"]
    return Draft(
        (
            f"Split the text into words, keep those {where.phrase}, {each.phrase} and join them {order.phrase}.",
            f"In a text, {each.phrase} of the words {where.phrase} and return them joined by spaces {order.phrase}.",
        ),
        f"rewrite_{where.name}_{each.name}_{order.name}",
        "text",
        (
            "result = []",
            f"for word in {order.on('text.split()')}:",
            f"    if {where.on('word')}:",
            f"        result.append({each.on('word')})",
            'return " ".join(result)',
        ),
        lambda rng: [sentence(rng)],
    )


@TEXT.template("list[str]", where=WORD_TESTS, yes=WORD_MAPS, no=WORD_MAPS)
def _word_choice(c: Chosen) -> Draft:
    where, yes, no = c["where"], c["yes"], c["no"]
    return Draft(
        (
            f"For the words {where.phrase}, {yes.phrase}; for all others, {no.phrase}. Return the list.",
            f"Go through words: {yes.phrase} {where.phrase}, else {no.phrase}, and return all results.",
        ),
        f"{yes.name}_{where.name}_else_{no.name}",
        "words",
        (
            "result = []",
            "for word in words:",
            f"    if {where.on('word')}:",
            f"        result.append({yes.on('word')})",
            "    else:",
            f"        result.append({no.on('word')})",
            "return result",
        ),
        lambda rng: [words(rng)],
    )


@TEXT.template("str", what=CHAR_TESTS, finish=FINISHES, how=(
    Option("keep", ("keep only", "keep just"), "", "keep"),
    Option("remove", ("remove all", "drop all"), "not ", "remove"),
))  # fmt: skip
def _keep_characters(c: Chosen) -> Draft:
    what, finish, how = c["what"], c["finish"], c["how"]
    test = what.on("c") if how.key == "keep" else f"not ({what.on('c')})"
    return Draft(
        (
            f"In a text {how.phrase} {what.phrase} and return the result {finish.phrase}.",
            f"Given text, {how.phrase} {what.phrase}; return what is left {finish.phrase}.",
        ),
        f"{how.name}_{what.name}_{finish.name}",
        "text",
        (f'kept = "".join(c for c in text if {test})', f"return {finish.on('kept')}"),
        lambda rng: [sentence(rng)],
    )


SYMBOLS = tuple(
    Option(name, (f"a {name}",), symbol, name)
    for name, symbol in (("star", "*"), ("hash", "#"), ("plus", "+"), ("tilde", "~"), ("bar", "|"))
)


@TEXT.template("str", what=CHAR_TESTS, symbol=SYMBOLS, finish=FINISHES)
def _mask_characters(c: Chosen) -> Draft:
    what, symbol, finish = c["what"], c["symbol"], c["finish"]
    return Draft(
        (
            f"Replace {what.phrase} of a text by {symbol.phrase} and return it {finish.phrase}.",
            f"Put {symbol.phrase} in place of {what.phrase} in the text; return the result {finish.phrase}.",
        ),
        f"mask_{what.name}_{symbol.name}_{finish.name}",
        "text",
        (
            'result = ""',
            "for c in text:",
            f'    result += "{symbol.code}" if {what.on("c")} else c',
            f"return {finish.on('result')}",
        ),
        lambda rng: [sentence(rng)],
    )


@TEXT.template("str", what=CHAR_TESTS, other=CHAR_TESTS, operation=(
    Option("both", ("both added", "their sum"), "{x} + {y}", "sum"),
    Option("minus", ("the first minus the second", "their difference"), "{x} - {y}", "difference"),
    Option("more", ("whether the first are more", "whether there are more of the first"), "{x} > {y}", "more"),
    Option("pair", ("both as a list", "a list of both"), "[{x}, {y}]", "pair"),
))  # fmt: skip
def _count_characters(c: Chosen) -> Draft:
    what, other, operation = c["what"], c["other"], c["operation"]
    return Draft(
        (
            f"Count the {what.phrase} and the {other.phrase} in a text and return {operation.phrase}.",
            f"In the text count {what.phrase}, then {other.phrase}; return {operation.phrase}.",
        ),
        f"{operation.name}_{what.name}_{other.name}",
        "text",
        (
            f"first = sum(1 for c in text if {what.on('c')})",
            f"second = sum(1 for c in text if {other.on('c')})",
            f"return {operation.on('first').replace('{y}', 'second')}",
        ),
        lambda rng: [sentence(rng)],
    )


@TEXT.template("str", split=SEPARATORS, each=WORD_MAPS, join=SEPARATORS)
def _rejoin(c: Chosen) -> Draft:
    split, each, join = c["split"], c["each"], c["join"]
    return Draft(
        (
            f"Split a text at {split.phrase}, {each.phrase} and join with {join.phrase}.",
            f"The text has parts between {split.phrase}; {each.phrase} and put {join.phrase} between them.",
        ),
        f"{split.name}_{each.name}_{join.name}",
        "text",
        (f'parts = text.split("{split.code}")', f'return "{join.code}".join({each.on("part")} for part in parts)'),
        lambda rng: [split.code.join(rng.choice(WORDS) for _ in range(rng.randint(1, 5)))],
    )


CONVERSIONS = (
    Option("int", ("integers", "ints"), "int({x})", "ints"),
    Option("str", ("plain text", "strings"), "{x}", "strings"),
    Option("list", ("lists of characters", "character lists"), "list({x})", "lists"),
    Option("length", ("their lengths", "lengths"), "len({x})", "lengths"),
    Option("bool", ("true when they are 1", "booleans that are true for 1"), '{x} == "1"', "flags"),
)
KEY_FORMS = (
    Option("plain", ("unchanged", "as they are"), "{x}", "plain"),
    Option("upper", ("in upper case", "upper-cased"), "{x}.upper()", "upper"),
    Option("strip", ("stripped of spaces", "without spaces around"), "{x}.strip()", "stripped"),
    Option("title", ("capitalised", "starting with a capital"), "{x}.capitalize()", "capitalized"),
)


@TEXT.template("str", between=SEPARATORS, inside=SEPARATORS, value=CONVERSIONS, key=KEY_FORMS)
def _parse_pairs(c: Chosen) -> Draft:
    between, inside, value, key = c["between"], c["inside"], c["value"], c["key"]
    mark = "=" if between.key == inside.key else inside.code
    word = "equals signs" if between.key == inside.key else inside.phrase
    return Draft(
        (
            f"Parse pairs separated by {between.phrase}, keys and values by {word}, into a dict; values as {value.phrase}, keys {key.phrase}.",
            f"Read a dict from text with {between.phrase} between pairs and {word} inside; keys {key.phrase}, values as {value.phrase}.",
        ),
        f"parse_{between.name}_{value.name}_{key.name}",
        "text",
        (
            "result = {}",
            f'for pair in text.split("{between.code}"):',
            f'    key, value = pair.split("{mark}")',
            f"    result[{key.on('key')}] = {value.on('value')}",
            "return result",
        ),
        lambda rng: [
            between.code.join(
                f"{rng.choice((' a', 'bo', 'cd ', 'xy'))}{mark}{rng.choice((1, 12, 305, 1))}"
                for _ in range(rng.randint(1, 3))
            )
        ],
    )


TAILS = (
    Option("dots", ("three dots",), "...", "dots"),
    Option("dash", ("a dash",), "-", "dash"),
    Option("arrow", ("an arrow",), ">", "arrow"),
    Option("star", ("a star",), "*", "star"),
)


@TEXT.template("str", tail=TAILS, finish=FINISHES, end=(
    Option("front", ("first",), "[:{k}]", "front", 3, 12),
    Option("back", ("last",), "[-{k}:]", "back", 3, 12),
))  # fmt: skip
def _shorten(c: Chosen) -> Draft:
    tail, finish, end = c["tail"], c["finish"], c["end"]
    limit = end.constant
    cut = f'text{end.code} + "{tail.code}"' if end.key == "front" else f'"{tail.code}" + text{end.code}'
    return Draft(
        (
            f"If a text is longer than {limit} keep its {end.phrase} {limit} characters and add {tail.phrase}; return it {finish.phrase}.",
            f"Shorten text to its {end.phrase} {limit} characters with {tail.phrase} if it is longer; return it {finish.phrase}.",
        ),
        f"shorten_{end.name}_{tail.name}_{finish.name}",
        "text",
        (f"if len(text) > {limit}:", f"    text = {cut}", f"return {finish.on('text')}"),
        lambda rng: [sentence(rng)[: rng.choice((2, 8, 40))]],
    )


PADDINGS = (
    Option("left", ("on the left",), "{x}.rjust({k}, {c})", "left", 8, 16),
    Option("right", ("on the right",), "{x}.ljust({k}, {c})", "right", 8, 16),
    Option("both", ("on both sides",), "{x}.center({k}, {c})", "center", 8, 16),
)


@TEXT.template("list[str]", side=PADDINGS, symbol=SYMBOLS, each=WORD_MAPS)
def _pad(c: Chosen) -> Draft:
    side, symbol, each = c["side"], c["symbol"], c["each"]
    width = side.constant
    padding = side.option.code.replace("{x}", "item").replace("{k}", width).replace("{c}", f'"{symbol.code}"')
    return Draft(
        (
            f"Given words, {each.phrase} and pad {side.phrase} with {symbol.phrase} to {width} characters.",
            f"Pad words {side.phrase} to width {width} using {symbol.phrase} after you {each.phrase}.",
        ),
        f"pad_{side.name}_{symbol.name}_{each.name}",
        "words",
        (f"items = [{each.on('word')} for word in words]", f"return [{padding} for item in items]"),
        lambda rng: [words(rng)],
    )


CLEANINGS = (
    Option("lower", ("ignoring case", "whatever the case"), "{x}.lower()", "caseless"),
    Option("spaces", ("ignoring spaces", "whatever the spaces"), '{x}.replace(" ", "")', "spaceless"),
    Option("exact", ("exactly", "to the letter"), "{x}", "exact"),
    Option(
        "letters",
        ("looking at letters only", "ignoring all but letters"),
        '"".join(c for c in {x} if c.isalpha())',
        "letters",
    ),
)
RELATIONS = (
    Option("anagram", ("are anagrams", "have the same letters"), "sorted(a) == sorted(b)", "anagram"),
    Option("mirror", ("mirror each other", "are each other backwards"), "a == b[::-1]", "mirror"),
    Option(
        "prefix",
        ("start alike: the first starts with the second", "nest: the first starts with the second"),
        "a.startswith(b)",
        "prefix",
    ),
    Option(
        "inside",
        ("contain one another: the second is in the first", "overlap: the second is in the first"),
        "b in a",
        "inside",
    ),
    Option("common", ("share a letter", "have a letter in common"), "bool(set(a) & set(b))", "common"),
    Option("equal", ("are equal", "are the same"), "a == b", "equal"),
    Option(
        "longer", ("differ: the first is longer", "differ in length with the first longer"), "len(a) > len(b)", "longer"
    ),
)


@TEXT.template("str, str", relation=RELATIONS, clean=CLEANINGS)
def _compare(c: Chosen) -> Draft:
    relation, clean = c["relation"], c["clean"]
    return Draft(
        (
            f"Check whether two texts {relation.phrase}, {clean.phrase}.",
            f"Tell if texts first and second {relation.phrase}, {clean.phrase}.",
        ),
        f"{relation.name}_{clean.name}",
        "first, second",
        (f"a = {clean.on('first')}", f"b = {clean.on('second')}", f"return {relation.code}"),
        lambda rng: rng.choice(
            (
                ["No on", "noon"],
                ["lis ten", "Silent"],
                ["tac", "cat"],
                ["tac!", "cat"],
                ["Rotor", "roto"],
                ["abc", "xyz"],
                ["tea m", "mate"],
                ["abcde", "bcd"],
                ["AbC", "abc"],
                ["a b", "ab"],
                ["ab-", "ab"],
                ["stone", "st one"],
                ["cat", "TAC"],
            )
        ),
    )


@TEXT.template("list[str]", where=WORD_TESTS, each=WORD_MAPS, otherwise=FALLBACKS)
def _first_word(c: Chosen) -> Draft:
    where, each, otherwise = c["where"], c["each"], c["otherwise"]
    single = each.phrase.replace("each one", "it")
    return Draft(
        (
            f"Find the first of the words {where.phrase}, {single} and return it; without one return {otherwise.phrase}.",
            f"Look for a word {where.phrase}: {single} and return the first, or {otherwise.phrase} if there is none.",
        ),
        f"first_{where.name}_{each.name}_{otherwise.name}",
        "words",
        (
            "for word in words:",
            f"    if {where.on('word')}:",
            f"        return {each.on('word')}",
            f"return {otherwise.code}",
        ),
        lambda rng: [words(rng)],
    )


@TEXT.template("list[str]", each=WORD_MAPS, key=(
    Option("initial", ("by first letter", "by initial"), "{x}[0]", "initial"),
    Option("final", ("by last letter", "by final letter"), "{x}[-1]", "final"),
    Option("length", ("by length", "by number of letters"), "str(len({x}))", "length"),
    Option("case", ("by whether they are lower case", "by lower case or not"), "str({x}.islower())", "case"),
    Option("vowels", ("by number of letters e", "by how often e occurs"), 'str({x}.count("e"))', "count"),
), take=WORD_REDUCTIONS)  # fmt: skip
def _group_words(c: Chosen) -> Draft:
    each, key, take = c["each"], c["key"], c["take"]
    return Draft(
        (
            f"Group words {key.phrase}; in each group {each.phrase} and map it to {take.phrase}.",
            f"Return a dict of words grouped {key.phrase}, where for every group you {each.phrase} and store {take.phrase}.",
        ),
        f"group_{key.name}_{each.name}_{take.name}",
        "words",
        (
            "groups = {}",
            "for word in words:",
            f"    groups.setdefault({key.on('word')}, []).append(word)",
            f"return {{key: {take.on(each.on('w') + ' for w in group')} for key, group in groups.items()}}",
        ),
        lambda rng: [words(rng)],
    )
