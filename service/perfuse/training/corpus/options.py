"""The operations that sentences name and functions perform: predicates, maps and reductions, with their words."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Option:
    """One value of a slot: how a sentence says it, how Python says it, and its part of the function's name.

    `{x}` in `code` is the element, `{k}` in `code` and `phrases` a constant drawn from `low..high`, `{c}` a letter.
    """

    key: str
    phrases: tuple[str, ...]
    code: str
    name: str
    low: int = 2
    high: int = 20

    def bind(self, rng: Random) -> Bound:
        """This option with its constant and its wording drawn."""
        constant, letter = str(rng.randint(self.low, self.high)), rng.choice("abcdeilmnorst")
        phrase = rng.choice(self.phrases).replace("{k}", constant).replace("{c}", letter)
        return Bound(self, constant, letter, phrase)


@dataclass(frozen=True, slots=True)
class Bound:
    """An option whose constant and wording are chosen."""

    option: Option
    constant: str
    letter: str
    phrase: str

    @property
    def key(self) -> str:
        """Key of the option, part of the combination."""
        return self.option.key

    @property
    def name(self) -> str:
        """What the option adds to the name of the function."""
        return self.option.name

    def on(self, x: str) -> str:
        """The expression for element `x`."""
        return self.option.code.replace("{k}", self.constant).replace("{c}", self.letter).replace("{x}", x)

    @property
    def code(self) -> str:
        """The expression of an option without an element."""
        return self.on("")


NUMBER_TESTS = (
    Option("even", ("even",), "{x} % 2 == 0", "even"),
    Option("odd", ("odd",), "{x} % 2 == 1", "odd"),
    Option("positive", ("positive", "greater than zero"), "{x} > 0", "positive"),
    Option("negative", ("negative", "below zero"), "{x} < 0", "negative"),
    Option("above", ("greater than {k}", "above {k}", "larger than {k}"), "{x} > {k}", "above"),
    Option("below", ("less than {k}", "below {k}", "smaller than {k}"), "{x} < {k}", "below"),
    Option("at_least", ("at least {k}", "{k} or more", "no less than {k}"), "{x} >= {k}", "at_least"),
    Option("at_most", ("at most {k}", "{k} or less", "no more than {k}"), "{x} <= {k}", "at_most"),
    Option("multiple", ("divisible by {k}", "a multiple of {k}"), "{x} % {k} == 0", "multiple", 3, 9),
    Option("indivisible", ("not divisible by {k}", "not a multiple of {k}"), "{x} % {k} != 0", "indivisible", 3, 9),
    Option("other_than", ("different from {k}", "not equal to {k}"), "{x} != {k}", "other_than", 0, 9),
)
NUMBER_MAPS = (
    Option("square", ("square each one", "raise each one to the power of two"), "{x} ** 2", "squared"),
    Option("cube", ("cube each one", "raise each one to the power of three"), "{x} ** 3", "cubed"),
    Option("double", ("double each one", "take twice each one"), "{x} * 2", "doubled"),
    Option("negate", ("negate each one", "flip the sign of each one"), "-{x}", "negated"),
    Option("absolute", ("take the absolute value of each one", "drop the sign of each one"), "abs({x})", "absolute"),
    Option("plus", ("add {k} to each one", "increase each one by {k}"), "{x} + {k}", "increased"),
    Option("minus", ("subtract {k} from each one", "decrease each one by {k}"), "{x} - {k}", "decreased"),
    Option("times", ("multiply each one by {k}", "scale each one by {k}"), "{x} * {k}", "scaled", 3, 12),
    Option(
        "modulo", ("take each one modulo {k}", "take the remainder of each one by {k}"), "{x} % {k}", "modulo", 3, 9
    ),
    Option("floor", ("divide each one by {k} rounding down", "floor divide each one by {k}"), "{x} // {k}", "divided"),
)
SINGLE_MAPS = (
    Option("square", ("its square", "it squared"), "{x} ** 2", "square"),
    Option("cube", ("its cube", "it cubed"), "{x} ** 3", "cube"),
    Option("double", ("its double", "twice it"), "{x} * 2", "double"),
    Option("negate", ("its negation", "it with the sign flipped"), "-{x}", "negate"),
    Option("plus", ("it plus {k}", "it increased by {k}"), "{x} + {k}", "increase"),
    Option("minus", ("it minus {k}", "it decreased by {k}"), "{x} - {k}", "decrease"),
    Option("times", ("it times {k}", "it multiplied by {k}"), "{x} * {k}", "scale", 3, 12),
    Option("modulo", ("it modulo {k}", "its remainder by {k}"), "{x} % {k}", "modulo", 3, 9),
    Option("same", ("it unchanged", "it as it is"), "{x}", "keep"),
)
# `{x}` is an iterable expression without brackets
REDUCTIONS = (
    Option("sum", ("the sum", "the total"), "sum({x})", "sum"),
    Option("largest", ("the largest or None", "the maximum or None"), "max(({x}), default=None)", "max"),
    Option("smallest", ("the smallest or None", "the minimum or None"), "min(({x}), default=None)", "min"),
    Option("list", ("the list", "them as a list"), "[{x}]", "list"),
    Option("ascending", ("them sorted", "them in ascending order"), "sorted({x})", "sorted"),
    Option(
        "descending", ("them from high to low", "them in descending order"), "sorted(({x}), reverse=True)", "descending"
    ),
    Option("distinct", ("how many are distinct", "the number of distinct results"), "len({{x}})", "distinct"),
    Option("reversed", ("them in reverse order", "the list backwards"), "[{x}][::-1]", "reversed"),
    Option("last", ("the last three", "the final three"), "[{x}][-3:]", "last"),
)
# loops: start value and step, `{x}` the new element, `{a}` the accumulator
FOLDS = (
    Option("sum", ("the sum", "the total"), "{a} += {x}", "sum"),
    Option("product", ("the product", "them multiplied together"), "{a} *= {x}", "product"),
    Option("largest", ("the largest or zero", "the maximum or zero"), "{a} = max({a}, {x})", "max"),
    Option("smallest", ("the smallest or zero", "the minimum or zero"), "{a} = min({a}, {x})", "min"),
    Option("alternating", ("the alternating sum", "the sum with alternating signs"), "{a} = {x} - {a}", "alternating"),
)
WORD_TESTS = (
    Option("longer", ("longer than {k} letters", "with more than {k} letters"), "len({x}) > {k}", "long", 3, 6),
    Option("shorter", ("shorter than {k} letters", "with fewer than {k} letters"), "len({x}) < {k}", "short", 4, 7),
    Option("exact", ("with exactly {k} letters", "that are {k} letters long"), "len({x}) == {k}", "sized", 3, 6),
    Option("starts", ("starting with {c}", "that begin with {c}"), '{x}.startswith("{c}")', "starting"),
    Option("ends", ("ending with {c}", "that end in {c}"), '{x}.endswith("{c}")', "ending"),
    Option("contains", ("containing {c}", "that contain {c}"), '"{c}" in {x}', "containing"),
    Option("lacks", ("without {c}", "that do not contain {c}"), '"{c}" not in {x}', "lacking"),
    Option("capital", ("starting with a capital letter", "that are capitalised"), "{x}[0].isupper()", "capital"),
    Option("lowercase", ("in lower case", "that are all lower case"), "{x}.islower()", "lowercase"),
    Option("palindrome", ("that are palindromes", "that read the same backwards"), "{x} == {x}[::-1]", "palindrome"),
)
WORD_MAPS = (
    Option("upper", ("turn each one into upper case", "upper-case each one"), "{x}.upper()", "upper"),
    Option("lower", ("turn each one into lower case", "lower-case each one"), "{x}.lower()", "lower"),
    Option("reverse", ("reverse each one", "spell each one backwards"), "{x}[::-1]", "reversed"),
    Option("title", ("capitalise each one", "start each one with a capital"), "{x}.capitalize()", "capitalized"),
    Option(
        "first", ("take the first letter of each one", "keep only the first letter of each one"), "{x}[0]", "initial"
    ),
    Option("tail", ("drop the first letter of each one", "remove the first letter of each one"), "{x}[1:]", "tail"),
    Option("cut", ("cut each one to {k} letters", "keep the first {k} letters of each one"), "{x}[:{k}]", "cut", 2, 4),
    Option("repeat", ("repeat each one {k} times", "write each one {k} times"), "{x} * {k}", "repeated", 2, 4),
    Option("swap", ("swap the case of each one", "flip the case of each one"), "{x}.swapcase()", "swapped"),
    Option("mark", ("put an exclamation mark after each one", "append ! to each one"), '{x} + "!"', "marked"),
)
WORD_REDUCTIONS = (
    Option("list", ("the list", "them as a list"), "[{x}]", "list"),
    Option("spaces", ("them joined by spaces", "one string with spaces between"), '" ".join({x})', "joined"),
    Option("commas", ("them joined by commas", "one string with commas between"), '",".join({x})', "comma"),
    Option("dashes", ("them joined by dashes", "one string with dashes between"), '"-".join({x})', "dash"),
    Option("sorted", ("them sorted", "them in alphabetical order"), "sorted({x})", "sorted"),
    Option("by_length", ("them sorted by length", "them from short to long"), "sorted(({x}), key=len)", "by_length"),
    Option(
        "longest",
        ("the longest or None", "the one with the most letters or None"),
        "max(({x}), key=len, default=None)",
        "longest",
    ),
    Option("total", ("the total number of letters", "the sum of their lengths"), "len(''.join({x}))", "letters"),
    Option("distinct", ("how many are distinct", "the number of distinct results"), "len({{x}})", "distinct"),
    Option("reversed", ("them in reverse order", "the list backwards"), "[{x}][::-1]", "backwards"),
)
CHAR_TESTS = (
    Option("vowels", ("vowels",), '{x} in "aeiou"', "vowels"),
    Option("consonants", ("characters that are not vowels",), '{x} not in "aeiou"', "non_vowels"),
    Option("digits", ("digits",), "{x}.isdigit()", "digits"),
    Option("letters", ("letters",), "{x}.isalpha()", "letters"),
    Option("capitals", ("capital letters", "upper-case letters"), "{x}.isupper()", "capitals"),
    Option("small", ("small letters", "lower-case letters"), "{x}.islower()", "small"),
    Option("alphanumeric", ("letters and digits", "alphanumeric characters"), "{x}.isalnum()", "alphanumeric"),
    Option("visible", ("characters other than spaces", "characters that are not spaces"), '{x} != " "', "visible"),
    Option(
        "early", ("characters before {c} in the alphabet", "characters that sort before {c}"), '{x} < "{c}"', "before"
    ),
    Option("late", ("characters after {c} in the alphabet", "characters that sort after {c}"), '{x} > "{c}"', "after"),
)
KEYS = (
    Option("parity", ("by parity", "by whether they are even or odd"), '"even" if {x} % 2 == 0 else "odd"', "parity"),
    Option("sign", ("by sign", "by whether they are negative or not"), '"negative" if {x} < 0 else "other"', "sign"),
    Option(
        "remainder", ("by their remainder by {k}", "by their value modulo {k}"), "str({x} % {k})", "remainder", 3, 6
    ),
    Option("tens", ("by tens", "by their tens"), "str({x} // 10)", "tens"),
    Option(
        "size",
        ("by whether they exceed {k}", "by whether they are above {k}"),
        '"high" if {x} > {k} else "low"',
        "size",
    ),
)
AGGREGATES = (
    Option("sum", ("sum", "total"), "sum({x})", "sum"),
    Option("largest", ("largest", "maximum"), "max({x})", "max"),
    Option("smallest", ("smallest", "minimum"), "min({x})", "min"),
    Option("count", ("count", "number of entries"), "len({x})", "count"),
    Option("first", ("first",), "{x}[0]", "first"),
    Option("last", ("last",), "{x}[-1]", "last"),
    Option("spread", ("spread", "difference between largest and smallest"), "max({x}) - min({x})", "spread"),
    Option("middle", ("median", "middle after sorting"), "sorted({x})[len({x}) // 2]", "median"),
)
PAIR_OPERATIONS = (
    Option("sum", ("sum",), "{x} + {y}", "sum"),
    Option("product", ("product",), "{x} * {y}", "product"),
    Option("difference", ("difference",), "{x} - {y}", "difference"),
    Option("distance", ("absolute difference", "distance"), "abs({x} - {y})", "distance"),
    Option("larger", ("larger", "maximum"), "max({x}, {y})", "larger"),
    Option("smaller", ("smaller", "minimum"), "min({x}, {y})", "smaller"),
)
FALLBACKS = (
    Option("none", ("None",), "None", "or_none"),
    Option("zero", ("zero",), "0", "or_zero"),
    Option("minus_one", ("minus one",), "-1", "or_minus_one"),
)
