"""Expressions of the intermediate form, in the notation that C handed down; languages override what they say else."""

from __future__ import annotations

import ast

TERNARY, OR, AND, EQUAL, ORDER, SUM, TERM, UNARY, ATOM = range(9)
_BINARY: dict[type[ast.operator], tuple[str, int]] = {
    ast.Add: ("+", SUM),
    ast.Sub: ("-", SUM),
    ast.Mult: ("*", TERM),
    ast.FloorDiv: ("/", TERM),
    ast.Mod: ("%", TERM),
}
_COMPARED: dict[type[ast.cmpop], tuple[str, int]] = {
    ast.Eq: ("==", EQUAL),
    ast.NotEq: ("!=", EQUAL),
    ast.Lt: ("<", ORDER),
    ast.LtE: ("<=", ORDER),
    ast.Gt: (">", ORDER),
    ast.GtE: (">=", ORDER),
}


class Expressions:
    """Writes expressions with as few brackets as precedence allows."""

    equal = "=="
    unequal = "!="

    def write(self, node: ast.expr, level: int = TERNARY) -> str:
        """`node` as source, in brackets if it binds looser than `level`."""
        text, binds = self.bound(node)
        return f"({text})" if binds < level else text

    def bound(self, node: ast.expr) -> tuple[str, int]:
        """`node` as source, and how tightly its outermost operator binds."""
        match node:
            case ast.Constant() | ast.Name():
                return _atom(node), ATOM
            case ast.UnaryOp(op=operator, operand=operand):
                return self.signed("-" if isinstance(operator, ast.USub) else "!", operand)
            case ast.BinOp(left=base, op=ast.Pow(), right=ast.Constant(value=int(exponent))):
                return self.power(base, exponent)
            case ast.BinOp(left=left, op=ast.FloorDiv(), right=right):
                return self.quotient(left, right)
            case ast.BinOp(left=left, op=operator, right=right):
                sign, level = _BINARY[type(operator)]
                return f"{self.write(left, level)} {sign} {self.write(right, level + 1)}", level
            case ast.Compare(left=left, ops=[operator], comparators=[right]):
                return self.compared(left, operator, right)
            case ast.BoolOp(op=operator, values=values):
                sign, level = ("&&", AND) if isinstance(operator, ast.And) else ("||", OR)
                # compilers warn of && beside || without brackets
                return f" {sign} ".join(self.write(value, EQUAL) for value in values), level
            case ast.IfExp(test=test, body=yes, orelse=no):
                return self.choice(test, yes, no)
            case ast.Call(func=ast.Name(id=function), args=arguments):
                return self.call(function, arguments)
            case _:
                raise ValueError(f"not in the intermediate form: {ast.unparse(node)}")

    def power(self, base: ast.expr, exponent: int) -> tuple[str, int]:
        """`base` to a small power, multiplied out."""
        return " * ".join([self.write(base, UNARY)] * exponent), TERM

    def quotient(self, left: ast.expr, right: ast.expr) -> tuple[str, int]:
        """Division rounding down, of numbers that are not negative."""
        return f"{self.write(left, TERM)} / {self.write(right, UNARY)}", TERM

    def compared(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> tuple[str, int]:
        """A comparison; an odd number is one whose remainder is not 0, also below 0."""
        sign, level = _COMPARED[type(operator)]
        match left, operator, right:
            case ast.BinOp(op=ast.Mod(), right=ast.Constant(value=2)), ast.Eq(), ast.Constant(value=1):
                sign, right = "!=", ast.Constant(0)
        sign = {"==": self.equal, "!=": self.unequal}.get(sign, sign)
        return f"{self.write(left, SUM)} {sign} {self.write(right, SUM)}", level

    def signed(self, sign: str, operand: ast.expr) -> tuple[str, int]:
        """A sign before an operand."""
        return sign + self.write(operand, UNARY), UNARY

    def choice(self, test: ast.expr, yes: ast.expr, no: ast.expr) -> tuple[str, int]:
        """One value or the other."""
        return f"{self.write(test, OR)} ? {self.write(yes, OR)} : {self.write(no, OR)}", TERNARY

    def call(self, function: str, arguments: list[ast.expr]) -> tuple[str, int]:
        """abs, min or max."""
        return f"{function}({', '.join(self.write(argument) for argument in arguments)})", ATOM


def _atom(node: ast.Constant | ast.Name) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node.value, str):
        return f'"{node.value}"'
    return str(node.value).lower()
