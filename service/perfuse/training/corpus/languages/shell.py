"""The intermediate form as POSIX shell: a list is `"$@"`, a result is printed, a list result one value per line."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from perfuse.training.corpus.languages.braces import INDENT
from perfuse.training.corpus.languages.expressions import Expressions
from perfuse.training.corpus.languages.form import Function, Gathered, bounds, gathered, last_of, lowered, negated

_TESTS: dict[type[ast.cmpop], str] = {
    ast.Eq: "-eq",
    ast.NotEq: "-ne",
    ast.Lt: "-lt",
    ast.LtE: "-le",
    ast.Gt: "-gt",
    ast.GtE: "-ge",
}


def emit(form: Function) -> str:
    """The function as source, ending with a newline."""
    form = lowered(form)
    singles = [name for name, kind in form.parameters if kind != "list[int]"]
    taken = " ".join(f"{name}=${place}" for place, name in enumerate(singles, 1))
    lines = _block(form.body, last=True)
    return framed(form, [*([taken] if taken else []), *lines])


def framed(form: Function, body: Sequence[str]) -> str:
    """The function around the lines of a body."""
    return "\n".join([f"{form.snake}() {{", *(INDENT + line for line in body), "}"]) + "\n"


class _Arithmetic(Expressions):
    """What stands between `$((` and `))`."""

    def call(self, function: str, arguments: list[ast.expr]) -> tuple[str, int]:
        match function, arguments:
            case "abs", [ast.Name(id=name)]:
                return f"${{{name}#-}}", 8
            case "abs", [value]:
                return f"{self.write(value, 5)} < 0 ? -{self.write(value, 8)} : {self.write(value, 1)}", 0
            case _, [left, right]:
                sign = ">" if function == "max" else "<"
                compared = f"{self.write(left, 5)} {sign} {self.write(right, 5)}"
                return f"{compared} ? {self.write(left, 1)} : {self.write(right, 1)}", 0
            case _:
                raise ValueError(f"no arithmetic for {function}")


_ARITHMETIC = _Arithmetic()


def _number(node: ast.expr) -> str:
    """A value as one word."""
    match node:
        case ast.Constant(value=int() | str() as value):
            return str(value)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))):
            return f"-{value}"
        case ast.Name(id=name):
            return f'"${name}"'
        case ast.Call(func=ast.Name(id="abs"), args=[ast.Name(id=name)]):
            return f'"${{{name}#-}}"'
        case _:
            return f"$(({_ARITHMETIC.write(node)}))"


def _test(node: ast.expr) -> str:
    match node:
        case ast.BoolOp(op=operator, values=values):
            return (" && " if isinstance(operator, ast.And) else " || ").join(map(_test, values))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _test(negated(operand))
        case ast.Compare(left=ast.BinOp(op=ast.Mod(), right=ast.Constant(value=2)) as left, ops=[ast.Eq()]) if _is_one(
            node.comparators[0]
        ):
            return f"[ {_number(left)} -ne 0 ]"
        case ast.Compare(left=left, ops=[operator], comparators=[right]):
            return f"[ {_number(left)} {_TESTS[type(operator)]} {_number(right)} ]"
        case _:
            raise ValueError(f"not a condition: {ast.unparse(node)}")


def _is_one(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == 1


def _block(statements: Sequence[ast.stmt], *, last: bool = False) -> list[str]:
    lines = []
    for place, statement in enumerate(statements):
        lines += _statement(statement, last=last and place == len(statements) - 1)
    return lines


def _indented(statements: Sequence[ast.stmt]) -> list[str]:
    return [INDENT + line for line in _block(statements)]


def _statement(statement: ast.stmt, *, last: bool) -> list[str]:
    match statement:
        case ast.Return(value=ast.expr() as value):
            return _returned(value, last=last)
        case ast.Break():
            return ["break"]
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return _assigned(name, value)
        case ast.AugAssign(target=ast.Name(id=name) as target, op=operator, value=value):
            whole = ast.BinOp(ast.Name(target.id, ast.Load()), operator, value)
            return [f"{name}=$(({_ARITHMETIC.write(whole)}))"]
        case ast.If(test=test, body=body, orelse=[]):
            return _condition(test, _block(body))
        case ast.If(test=test, body=body, orelse=otherwise):
            return [f"if {_test(test)}; then", *_indented(body), "else", *_indented(otherwise), "fi"]
        case ast.While(test=test, body=body):
            return [f"while {_test(test)}; do", *_indented(body), "done"]
        case ast.For(target=ast.Name(id=name), iter=source, body=body):
            return _loop(name, source, _indented(body))
        case _:
            raise ValueError(f"not in the intermediate form: {ast.unparse(statement)}")


def _assigned(name: str, value: ast.expr) -> list[str]:
    match value:
        case ast.Call(func=ast.Name(id="max" | "min" as which), args=[ast.Name(id=same), other]) if same == name:
            number = _number(other)
            sign = "-gt" if which == "max" else "-lt"
            return [f'[ {number} {sign} "${name}" ] && {name}={_bare(number)}']
        case _:
            return [f"{name}={_bare(_number(value))}"]


def _condition(test: ast.expr, lines: list[str]) -> list[str]:
    """One or two commands behind `&&`, which binds to the left like `||`; more inside `if`."""
    if len(lines) < 3:
        return [" && ".join([_test(test), *lines])]
    return [f"if {_test(test)}; then", *(INDENT + line for line in lines), "fi"]


def _bare(word: str) -> str:
    """A word as the right side of an assignment, which needs no quotes."""
    return word.strip('"')


def _returned(value: ast.expr, *, last: bool) -> list[str]:
    found = gathered(value)
    if found is None:
        return [f"echo {_number(value)}", *([] if last else ["return"])]
    return _printed(found) if found.how == "list" else _search(found)


def _printed(found: Gathered) -> list[str]:
    line = f"echo {_number(found.each)}"
    if found.test is None:
        return _loop(found.name, found.source, [INDENT + line])
    inner = _condition(found.test, [line])
    return _loop(found.name, found.source, [INDENT + line for line in inner])


def _search(found: Gathered) -> list[str]:
    count = f"{INDENT}i=$((i + 1))"
    if found.how == "first_index":
        inner = _condition(found.each, ['echo "$i"', "return"])
        return ["i=0", *_loop(found.name, found.source, [*(INDENT + line for line in inner), count]), "echo -1"]
    inner = _condition(found.each, ["found=$i"])
    body = [*(INDENT + line for line in inner), count]
    return ["i=0 found=-1", *_loop(found.name, found.source, body), 'echo "$found"']


def _loop(name: str, source: ast.expr, body: Sequence[str]) -> list[str]:
    if (found := bounds(source)) is None:
        return [f'for {name} in "$@"; do', *body, "done"]
    start, stop = found
    last = last_of(stop)
    test = f'"${name}" -lt {_number(stop)}' if last is None else f'"${name}" -le {_number(last)}'
    return [
        f"{name}={_bare(_number(start))}",
        f"while [ {test} ]; do",
        *body,
        f"{INDENT}{name}=$(({name} + 1))",
        "done",
    ]
