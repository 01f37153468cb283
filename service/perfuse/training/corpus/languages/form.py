"""The intermediate form: a function written once, in the small part of Python that every target language can say.

A function's body may hold

    name = E      name += E (also -=, *=, //=)      if C: … else: …      while C: …      break      return E
    for x in values: …          for i in range(a, b): …
    return sum(E for x in S if C)           return prod(…)          return [E for x in S if C]
    return sum(1 for x in S if C)           return any(C for x in S)          return all(C for x in S)
    return first_index(C for x in values)   return last_index(C for x in values)

where S is `values` or `range(a, b)`, and E and C are made of names, integers, `+ - * // % **`, comparisons, `and`,
`or`, `not`, `E if C else E`, `abs`, `min` and `max` of two. `//` and `%` are meant for numbers that are not negative,
where all languages agree. Running the form as Python gives the value of a test case, whatever was emitted from it.
"""

from __future__ import annotations

import ast
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from textwrap import indent
from typing import Literal

Kind = Literal["int", "bool", "str", "list[int]"]


@dataclass(frozen=True)
class Function:
    """A function in the intermediate form: words of its name, parameters, kind of result and statements."""

    words: tuple[str, ...]
    parameters: tuple[tuple[str, Kind], ...]
    result: Kind
    body: tuple[ast.stmt, ...]

    @property
    def snake(self) -> str:
        """The name as Rust, C and shell write it."""
        return "_".join(self.words)

    @property
    def camel(self) -> str:
        """The name as JavaScript writes it."""
        head, *rest = self.words
        return head + "".join(word.capitalize() for word in rest)

    @cached_property
    def assignments(self) -> Counter[str]:
        """How often each name is assigned, parameters counted once more."""
        names = (node for s in self.body for node in ast.walk(s) if isinstance(node, ast.Name))
        stores = (name.id for name in names if isinstance(name.ctx, ast.Store))
        return Counter([*(name for name, _ in self.parameters), *stores])


def function(name: str, parameters: Mapping[str, Kind], result: Kind, lines: Iterable[str]) -> Function:
    """The form of `lines`. Words that the name repeats one after the other are said once."""
    words = name.split("_")
    once = [word for i, word in enumerate(words) if i == 0 or word != words[i - 1]]
    return Function(tuple(once), tuple(parameters.items()), result, tuple(ast.parse("\n".join(lines)).body))


def first_index(found: Iterable[bool]) -> int:
    """Position of the first True, or -1."""
    return next((i for i, is_it in enumerate(found) if is_it), -1)


def last_index(found: Iterable[bool]) -> int:
    """Position of the last True, or -1."""
    return max((i for i, is_it in enumerate(found) if is_it), default=-1)


VOCABULARY = {"prod": math.prod, "first_index": first_index, "last_index": last_index}


def reference(form: Function) -> Callable[..., object]:
    """The form as a Python function."""
    head = f"def reference({', '.join(name for name, _ in form.parameters)}):"
    body = indent(ast.unparse(ast.Module(list(form.body), [])), "    ")
    namespace: dict[str, object] = dict(VOCABULARY)
    exec(compile(f"{head}\n{body}\n", "<intermediate form>", "exec"), namespace)  # noqa: S102 - the generator's own
    found = namespace["reference"]
    assert callable(found)
    return found


@dataclass(frozen=True, slots=True)
class Gathered:
    """`how(E for x in S if C)`, the one generator of a function."""

    how: str
    name: str
    source: ast.expr
    each: ast.expr
    test: ast.expr | None

    @property
    def unchanged(self) -> bool:
        """Whether each element goes in as it is."""
        return isinstance(self.each, ast.Name) and self.each.id == self.name

    @property
    def counts(self) -> bool:
        """Whether this is `sum(1 for …)`."""
        return self.how == "sum" and isinstance(self.each, ast.Constant)


def gathered(node: ast.expr | None) -> Gathered | None:
    """The parts of a generator or list comprehension, None for any other expression."""
    match node:
        case ast.ListComp(elt=each, generators=[ast.comprehension(target=ast.Name(id=name), iter=source, ifs=tests)]):
            return Gathered("list", name, source, each, tests[0] if tests else None)
        case ast.Call(
            func=ast.Name(id=how),
            args=[
                ast.GeneratorExp(
                    elt=each, generators=[ast.comprehension(target=ast.Name(id=name), iter=source, ifs=tests)]
                )
            ],
        ):
            return Gathered(how, name, source, each, tests[0] if tests else None)
        case _:
            return None


def lowered(form: Function) -> Function:
    """The form with `sum`, `prod`, `any` and `all` of a generator as loops, for languages without generators."""
    *before, last = form.body
    found = gathered(last.value) if isinstance(last, ast.Return) else None
    if found is None or found.how not in {"sum", "prod", "any", "all"}:
        return form
    loop = f"for {found.name} in {ast.unparse(found.source)}:"
    each = ast.unparse(found.each)
    if found.how in {"any", "all"}:
        test = each if found.how == "any" else ast.unparse(negated(found.each))
        lines = [loop, f"    if {test}:", f"        return {found.how == 'any'}", f"return {found.how == 'all'}"]
    else:
        step = f"result {'+' if found.how == 'sum' else '*'}= {each}"
        inner = [f"    {step}"] if found.test is None else [f"    if {ast.unparse(found.test)}:", f"        {step}"]
        lines = [f"result = {0 if found.how == 'sum' else 1}", loop, *inner, "return result"]
    return replace(form, body=(*before, *ast.parse("\n".join(lines)).body))


_OPPOSITES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
}


def negated(test: ast.expr) -> ast.expr:
    """The opposite of a condition, without `not` where a comparison can be turned round."""
    match test:
        case ast.Compare(left=left, ops=[operator], comparators=[right]):
            return ast.Compare(left, [_OPPOSITES[type(operator)]()], [right])
        case ast.BoolOp(op=operator, values=values):
            return ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), [negated(v) for v in values])
        case _:
            return ast.UnaryOp(ast.Not(), test)


def substituted(node: ast.expr, name: str, replacement: ast.expr) -> ast.expr:
    """A copy of `node` with every use of `name` replaced."""

    class Replace(ast.NodeTransformer):
        def visit_Name(self, found: ast.Name) -> ast.expr:
            return replacement if found.id == name else found

    copied = ast.parse(ast.unparse(node), mode="eval").body
    result = Replace().visit(copied)
    assert isinstance(result, ast.expr)
    return result


def bounds(source: ast.expr) -> tuple[ast.expr, ast.expr] | None:
    """First value of `range(a, b)` and the last one's successor; None for a list."""
    match source:
        case ast.Call(func=ast.Name(id="range"), args=[start, stop]):
            return start, stop
        case _:
            return None


def last_of(stop: ast.expr) -> ast.expr | None:
    """`n` of `n + 1`, for languages that can name the last value of a range."""
    match stop:
        case ast.BinOp(left=last, op=ast.Add(), right=ast.Constant(value=1)):
            return last
        case _:
            return None
