"""Templates over text, in the idioms of each foreign language. C rewrites text in place; the shell pipes it."""

# ruff: noqa: E501 (a sentence is one line)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from perfuse.training.corpus.languages.form import function
from perfuse.training.corpus.languages.numbers import JOINTS
from perfuse.training.corpus.languages.sketch import EMITTERS, FOREIGN, Foreign, Registry, Sketch
from perfuse.training.corpus.options import CHAR_TESTS, SINGLE_MAPS, WORD_TESTS, Bound, Option
from perfuse.training.corpus.template import WORDS, Chosen

STRINGS = Registry()
NAMES = ("text", "text", "word", "line", "name")
_EACH = "for (char *p = {t}; *p; p++)"


@dataclass(frozen=True, slots=True)
class Idiom:
    """How each language says one step on text `{t}`: a method in JavaScript and Rust, statements in C, a filter in sh."""

    javascript: str
    rust: str
    c: tuple[str, ...]
    shell: str


def _dropping(test: str) -> tuple[str, ...]:
    return ("char *end = {t};", f"{_EACH} if ({test}) *end++ = *p;", "*end = 0;")


CHANGES = (
    Option("dash", ("replace every {c} by a dash", "put a dash for every {c}"), '{x}.replace("{c}", "-")', "dash"),
    Option("star", ("replace every {c} by a star", "put a star for every {c}"), '{x}.replace("{c}", "*")', "star"),
    Option("drop", ("remove every {c}", "leave out every {c}"), '{x}.replace("{c}", "")', "drop"),
    Option("spaces", ("remove the spaces", "leave out all spaces"), '{x}.replace(" ", "")', "close"),
    Option("underscores", ("replace spaces by underscores", "put underscores for spaces"), '{x}.replace(" ", "_")', "under"),
    Option("digits", ("remove the digits", "leave out all digits"), '"".join(c for c in {x} if not c.isdigit())', "wordy"),
    Option("letters", ("keep only the letters", "remove all but letters"), '"".join(c for c in {x} if c.isalpha())', "letters"),
    Option("vowels", ("remove the vowels", "leave out all vowels"), '"".join(c for c in {x} if c not in "aeiou")', "dry"),
    Option("none", ("take it", "use it as it is"), "{x}", "plain"),
)  # fmt: skip
CHANGED = {
    "dash": Idiom('.replaceAll("{c}", "-")', '.replace(\'{c}\', "-")', (f"{_EACH} if (*p == '{{c}}') *p = '-';",), "tr {c} -"),
    "star": Idiom('.replaceAll("{c}", "*")', '.replace(\'{c}\', "*")', (f"{_EACH} if (*p == '{{c}}') *p = '*';",), "tr {c} '*'"),
    "drop": Idiom('.replaceAll("{c}", "")', '.replace(\'{c}\', "")', _dropping("*p != '{c}'"), "tr -d {c}"),
    "spaces": Idiom('.replaceAll(" ", "")', '.replace(\' \', "")', _dropping("*p != ' '"), "tr -d ' '"),
    "underscores": Idiom('.replaceAll(" ", "_")', '.replace(\' \', "_")', (f"{_EACH} if (*p == ' ') *p = '_';",), "tr ' ' _"),
    "digits": Idiom('.replace(/[0-9]/g, "")', '.replace(|c: char| c.is_ascii_digit(), "")', _dropping("!isdigit(*p)"), "tr -d 0-9"),
    "letters": Idiom('.replace(/[^A-Za-z]/g, "")', '.replace(|c: char| !c.is_ascii_alphabetic(), "")', _dropping("isalpha(*p)"), "tr -cd A-Za-z"),
    "vowels": Idiom('.replace(/[aeiou]/g, "")', '.replace(|c| "aeiou".contains(c), "")', _dropping('!strchr("aeiou", *p)'), "tr -d aeiou"),
    "none": Idiom("", "", (), ""),
}  # fmt: skip
SHAPES = (
    Option("upper", ("give it in upper case", "upper-case it"), "{x}.upper()", "upper"),
    Option("lower", ("give it in lower case", "lower-case it"), "{x}.lower()", "lower"),
    Option("reverse", ("spell it backwards", "reverse it"), "{x}[::-1]", "reversed"),
    Option("cut", ("cut it to {k} characters", "keep its first {k} characters"), "{x}[:{k}]", "cut", 3, 6),
    Option("skip", ("drop its first character", "take off its first character"), "{x}[1:]", "skip"),
)
SWAPPING = (
    "for (int i = 0, j = strlen({t}) - 1; i < j; i++, j--) {",
    "    char c = {t}[i];",
    "    {t}[i] = {t}[j];",
    "    {t}[j] = c;",
    "}",
)
SHAPED = {
    "upper": Idiom(".toUpperCase()", ".to_uppercase()", (f"{_EACH} *p = toupper(*p);",), "tr a-z A-Z"),
    "lower": Idiom(".toLowerCase()", ".to_lowercase()", (f"{_EACH} *p = tolower(*p);",), "tr A-Z a-z"),
    "reverse": Idiom('.split("").reverse().join("")', ".chars().rev().collect()", SWAPPING, "rev"),
    "cut": Idiom(".slice(0, {k})", ".chars().take({k}).collect()", ("if (strlen({t}) > {k}) {t}[{k}] = 0;",), "cut -c1-{k}"),
    "skip": Idiom(".slice(1)", ".chars().skip(1).collect()", ("if (*{t}) memmove({t}, {t} + 1, strlen({t}));",), "cut -c2-"),
}  # fmt: skip


def phrase(rng: Random) -> Sequence[object]:
    """One text of words, numbers and spaces."""
    parts = [rng.choice((*WORDS, str(rng.randint(0, 99)))) for _ in range(rng.randint(1, 4))]
    return [" ".join(parts)]


def _filled(idiom: str, step: Bound, text: str) -> str:
    return idiom.replace("{c}", step.letter).replace("{k}", step.constant).replace("{t}", text)


IN_PLACE = tuple(shape for shape in SHAPES if shape.key != "reverse")
BACKWARDS = tuple(shape for shape in SHAPES if shape.key == "reverse")
UNCHANGED = tuple(change for change in CHANGES if change.key == "none")


@STRINGS.template("str", change=CHANGES, shape=IN_PLACE)
def _rewrite(c: Chosen) -> Sketch:
    return _rewritten(c)


@STRINGS.template("str", ("javascript", "rust", "shell"), change=CHANGES, shape=BACKWARDS)
def _rewrite_backwards(c: Chosen) -> Sketch:
    return _rewritten(c)


@STRINGS.template("str", ("c",), change=UNCHANGED, shape=BACKWARDS)
def _backwards(c: Chosen) -> Sketch:
    return _rewritten(c)


def _rewritten(c: Chosen) -> Sketch:
    text = c.rng.choice(NAMES)
    change, shape = c["change"], c["shape"]
    steps = ((CHANGED[change.key], change), (SHAPED[shape.key], shape))
    methods = "".join(_filled(idiom.javascript, step, text) for idiom, step in steps)
    adapters = "".join(_filled(idiom.rust, step, text) for idiom, step in steps)
    statements = [_filled(line, step, text) for idiom, step in steps for line in idiom.c]
    filters = " | ".join(_filled(idiom.shell, step, text) for idiom, step in steps if idiom.shell)
    return Sketch(
        (
            f"Given {text}, {change.phrase}, then {shape.phrase}.",
            f"In {text} {change.phrase} and {shape.phrase}.",
            f"Take a {text}, {change.phrase}; {shape.phrase}.",
        ),
        f"{change.name}_{shape.name}",
        {text: "str"},
        "str",
        (f"return {shape.on(f'({change.on(text)})')}",),
        phrase,
        {
            "javascript": (f"return {text}{methods};",),
            "rust": (text + adapters,),
            "c": tuple(statements),
            "shell": (f'echo "$1" | {filters}',),
        },
    )


SETS = {
    "vowels": "aeiou", "consonants": "^aeiou", "digits": "0-9", "letters": "A-Za-z", "capitals": "A-Z", "small": "a-z",
    "visible": "^ ",
}  # fmt: skip
RUST_TESTS = {
    "vowels": '"aeiou".contains(c)', "consonants": '!"aeiou".contains(c)', "digits": "c.is_ascii_digit()",
    "letters": "c.is_ascii_alphabetic()", "capitals": "c.is_ascii_uppercase()", "small": "c.is_ascii_lowercase()",
    "visible": "c != ' '", "early": "c < '{c}'", "late": "c > '{c}'", "letter": "c == '{c}'",
}  # fmt: skip
C_TESTS = {
    "vowels": 'strchr("aeiou", *p)', "consonants": '!strchr("aeiou", *p)', "digits": "isdigit(*p)",
    "letters": "isalpha(*p)", "capitals": "isupper(*p)", "small": "islower(*p)",
    "visible": "*p != ' '", "early": "*p < '{c}'", "late": "*p > '{c}'", "letter": "*p == '{c}'",
}  # fmt: skip
LETTERS = (
    Option("letter", ("letters {c}", "times {c} occurs"), '{x} == "{c}"', "letter"),
    *(test for test in CHAR_TESTS if test.key in RUST_TESTS),
)
JAVASCRIPT_TESTS = {"early": 'c < "{c}"', "late": 'c > "{c}"', "letter": 'c === "{c}"'}


def _counting(language: Foreign, what: Bound, after: Bound, text: str) -> tuple[str, ...]:
    """A body that counts characters into `count` and returns what `after` makes of it."""
    chars = SETS.get(what.key, "")
    count = "" if after.key == "same" else "count"
    if language == "javascript":
        if chars:
            kept = f"[{chars[1:]}]" if chars.startswith("^") else f"[^{chars}]"
            value = f'{text}.replace(/{kept}/g, "").length'
        else:
            value = f"[...{text}].filter(c => {_filled(JAVASCRIPT_TESTS[what.key], what, text)}).length"
        return _ended(language, value, after, count)
    if language == "rust":
        value = f"{text}.chars().filter(|&c| {_filled(RUST_TESTS[what.key], what, text)}).count() as i64"
        return _ended(language, value, after, count)
    if language == "shell":
        chars = chars or {"early": " -{b}", "late": "{d}-z", "letter": "{c}"}[what.key]
        kept = f"-d '{chars[1:]}'" if chars.startswith("^") else f"-cd {_near(chars, what)}"
        return _ended(language, f'$(printf %s "$1" | tr {kept} | wc -c)', after, "count")
    loop = (
        "int count = 0;",
        f"for (const char *p = {text}; *p; p++) {{",
        f"    if ({_filled(C_TESTS[what.key], what, text)}) count++;",
        "}",
    )
    return (*loop, *_ended(language, "count", after, "count")[-1:])


def _near(chars: str, what: Bound) -> str:
    """A set of `tr` with the letter of the option, or its neighbours, in place."""
    before, behind = chr(ord(what.letter) - 1), chr(ord(what.letter) + 1)
    said = chars.replace("{c}", what.letter).replace("{b}", before).replace("{d}", behind)
    return f"'{said}'" if " " in said else said


def _ended(language: Foreign, value: str, after: Bound, count: str) -> tuple[str, ...]:
    """Lines that keep `value` in `count` and return what `after` makes of it."""
    if language == "shell":
        return (f"count={value}", *_returned(language, after))
    if language == "c":
        return _returned(language, after)
    if not count:
        return (f"return {value};",) if language == "javascript" else (value,)
    head = f"const count = {value};" if language == "javascript" else f"let count = {value};"
    return (head, *_returned(language, after))


def _returned(language: Foreign, after: Bound) -> tuple[str, ...]:
    whole = EMITTERS[language](function("f", {}, "int", (f"return {after.on('count')}",)))
    return tuple(line.removeprefix("    ") for line in whole.splitlines()[1:-1])


@STRINGS.template("str", what=LETTERS, after=SINGLE_MAPS)
def _count_characters(c: Chosen) -> Sketch:
    text = c.rng.choice(NAMES)
    what, after = c["what"], c["after"]
    return Sketch(
        (
            f"Count the {what.phrase} in {text} and return {after.phrase}.",
            f"Find how many {what.phrase} are in the {text}; return {after.phrase}.",
        ),
        f"count_{what.name}_{after.name}",
        {text: "str"},
        "int",
        (f"count = sum(1 for c in {text} if {what.on('c')})", f"return {after.on('count')}"),
        phrase,
        {language: _counting(language, what, after, text) for language in FOREIGN},
    )


AFFIXES = tuple(test for test in WORD_TESTS if test.key in {"starts", "ends", "contains", "lacks"})
LENGTHS = tuple(test for test in WORD_TESTS if test.key in {"longer", "shorter", "exact", "capital"})
SAID: dict[str, dict[Foreign, str]] = {
    "starts": {"javascript": '{t}.startsWith("{c}")', "rust": "{t}.starts_with('{c}')", "c": "{t}[0] == '{c}'", "shell": "{c}*"},
    "ends": {"javascript": '{t}.endsWith("{c}")', "rust": "{t}.ends_with('{c}')", "c": "{t}[strlen({t}) - 1] == '{c}'", "shell": "*{c}"},
    "contains": {"javascript": '{t}.includes("{c}")', "rust": "{t}.contains('{c}')", "c": "strchr({t}, '{c}') != NULL", "shell": "*{c}*"},
    "lacks": {"javascript": '!{t}.includes("{c}")', "rust": "!{t}.contains('{c}')", "c": "strchr({t}, '{c}') == NULL", "shell": ""},
    "longer": {"javascript": "{t}.length > {k}", "rust": "{t}.len() > {k}", "c": "strlen({t}) > {k}", "shell": '[ "${#{t}}" -gt {k} ]'},
    "shorter": {"javascript": "{t}.length < {k}", "rust": "{t}.len() < {k}", "c": "strlen({t}) < {k}", "shell": '[ "${#{t}}" -lt {k} ]'},
    "exact": {"javascript": "{t}.length === {k}", "rust": "{t}.len() == {k}", "c": "strlen({t}) == {k}", "shell": '[ "${#{t}}" -eq {k} ]'},
    "capital": {"javascript": "/^[A-Z]/.test({t})", "rust": "{t}.starts_with(|c: char| c.is_ascii_uppercase())", "c": "isupper({t}[0])", "shell": "[A-Z]*"},
}  # fmt: skip
SINGULAR = {
    "starts": "starts with {c}", "ends": "ends with {c}", "contains": "contains {c}", "lacks": "does not contain {c}",
    "longer": "has more than {k} letters", "shorter": "has fewer than {k} letters", "exact": "has exactly {k} letters",
    "capital": "starts with a capital letter",
}  # fmt: skip


def one_word(rng: Random) -> Sequence[object]:
    """One word."""
    return [rng.choice(WORDS)]


@STRINGS.template("str", ("javascript", "rust", "c"), affix=AFFIXES, joint=JOINTS, length=LENGTHS)
def _judge_word(c: Chosen) -> Sketch:
    text = c.rng.choice(("word", "name", "text"))
    affix, joint, length = c["affix"], c["joint"], c["length"]
    first, second = (_filled(SINGULAR[bound.key], bound, text) for bound in (affix, length))
    bodies: dict[Foreign, tuple[str, ...]] = {}
    for language in ("javascript", "rust", "c"):
        left, right = (_filled(SAID[bound.key][language], bound, text) for bound in (affix, length))
        whole = f"{left} {'&&' if joint.key == 'both' else '||'} {right}"
        bodies[language] = (whole,) if language == "rust" else (f"return {whole};",)
    test = joint.on(f"({affix.on(text)})").replace("{y}", f"({length.on(text)})")
    return Sketch(
        (
            f"Tell whether {text} {first} {joint.phrase} {second}.",
            f"Return true if the {text} {first} {joint.phrase} {second}, else false.",
        ),
        f"is_{affix.name}_{joint.name}_{length.name}",
        {text: "str"},
        "bool",
        (f"return {test}",),
        one_word,
        bodies,
    )


SHELL_WORDS = tuple(test for test in WORD_TESTS if test.key in SAID and test.key != "lacks")


@STRINGS.template("str", ("javascript", "rust", "shell"), where=SHELL_WORDS, after=SINGLE_MAPS)
def _count_words(c: Chosen) -> Sketch:
    text = c.rng.choice(("text", "line", "title"))
    where, after = c["where"], c["after"]
    count = "" if after.key == "same" else "count"
    said = {language: _filled(SAID[where.key][language], where, "w") for language in ("javascript", "rust", "shell")}
    test = f"case $w in {said['shell']}) count=$((count + 1)) ;; esac"
    if said["shell"].startswith("[ "):
        test = f"{said['shell']} && count=$((count + 1))"
    return Sketch(
        (
            f"Count the words {where.phrase} in {text} and return {after.phrase}.",
            f"Split the {text} at spaces, find how many words are {where.phrase}, return {after.phrase}."
            if where.phrase.startswith(("longer", "shorter", "starting", "ending", "containing"))
            else f"Split the {text} at spaces, count the words {where.phrase}, return {after.phrase}.",
        ),
        f"words_{where.name}_{after.name}",
        {text: "str"},
        "int",
        (f"count = sum(1 for w in {text}.split(' ') if {where.on('w')})", f"return {after.on('count')}"),
        phrase,
        {
            "javascript": _ended(
                "javascript", f'{text}.split(" ").filter(w => {said["javascript"]}).length', after, count
            ),
            "rust": _ended("rust", f"{text}.split(' ').filter(|w| {said['rust']}).count() as i64", after, count),
            "shell": ("count=0", "for w in $1; do", f"    {test}", "done", *_returned("shell", after)),
        },
    )


PICKS = (
    Option("first", ("the first word",), '{x}.split(" ")[0]', "first"),
    Option("last", ("the last word",), '{x}.split(" ")[-1]', "last"),
)
PICKED: dict[str, dict[Foreign, str]] = {
    "first": {"javascript": '{t}.split(" ").at(0)', "rust": "{t}.split(' ').next().unwrap()", "shell": "${1%% *}"},
    "last": {"javascript": '{t}.split(" ").at(-1)', "rust": "{t}.split(' ').last().unwrap()", "shell": "${1##* }"},
}


@STRINGS.template("str", ("javascript", "rust", "shell"), which=PICKS, change=CHANGES[:3], shape=SHAPES)
def _pick_word(c: Chosen) -> Sketch:
    text = c.rng.choice(("text", "line", "title"))
    which, change, shape = c["which"], c["change"], c["shape"]
    steps = ((CHANGED[change.key], change), (SHAPED[shape.key], shape))
    picked = {language: _filled(said, which, text) for language, said in PICKED[which.key].items()}
    methods = "".join(_filled(idiom.javascript, step, text) for idiom, step in steps)
    adapters = "".join(_filled(idiom.rust, step, text) for idiom, step in steps)
    filters = " | ".join(_filled(idiom.shell, step, text) for idiom, step in steps)
    return Sketch(
        (
            f"Take {which.phrase} of {text}, {change.phrase} in it and {shape.phrase}.",
            f"From {text} get {which.phrase}; {change.phrase}, then {shape.phrase}.",
        ),
        f"{which.name}_{change.name}_{shape.name}",
        {text: "str"},
        "str",
        (f"return {shape.on('(' + change.on(f'({which.on(text)})') + ')')}",),
        phrase,
        {
            "javascript": (f"return {picked['javascript']}{methods};",),
            "rust": (picked["rust"] + adapters,),
            "shell": (f'echo "{picked["shell"]}" | {filters}',),
        },
    )
