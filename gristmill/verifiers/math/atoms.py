"""The parts of an expression that stand alone: numbers, symbols, brackets, functions, matrices."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Protocol

from gristmill.verifiers.math import tree as t
from gristmill.verifiers.math.tokens import (
    ACCENTS,
    CLOSERS,
    CONSTANTS,
    DOTS,
    FUNCTIONS,
    GREEK,
    OVER,
    RENAMED,
    STOPS,
    TIMES,
    ParseError,
    is_word,
)
from gristmill.verifiers.math.tree import LimitError, Limits, Tree

_AT_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?=\))")


class Grammar(Protocol):
    """What the parser offers here."""

    text: str
    limits: Limits
    at: int
    kind: int
    here: str
    spaced: bool
    in_set: int
    in_angle: int
    indices: set[str]

    def advance(self) -> None:
        """Go to the next token."""
        ...

    def take(self, token: str) -> None:
        """Go past ``token``, which must stand here."""
        ...

    def listing(self) -> Tree:
        """A whole list, or its one item."""
        ...

    def items(self, *, flat: bool = True) -> list[Tree]:
        """The items of a list; ``flat``: 1 ± 2 among them is two."""
        ...

    def sum(self) -> Tree:
        """A sum."""
        ...

    def number(self) -> Tree:
        """A literal number."""
        ...

    def factor(self) -> Tree:
        """An atom with its powers and signs."""
        ...

    def argument(self, *, signed: bool = False) -> Tree:
        """What a command takes."""
        ...


def whole_number(tree: Tree) -> bool:
    """Whether a tree is a natural number above 0."""
    return bool(tree[0] == "n" and tree[1].denominator == 1 and tree[1] > 0)


def scalar(tree: Tree) -> Tree:
    """The tree, if it can be a term of a sum."""
    if tree[0] in t.COLLECTIONS or tree[0] == "rel":
        raise ParseError(f"a {tree[0]} where a number should be")
    return tree


def atom(p: Grammar) -> Tree:
    """The next thing that stands alone."""
    here = p.here
    if p.kind == 1:
        value = p.number()
        return based(p, value) if p.here == "_" else value
    if p.kind == 3:
        p.advance()
        return named(p, here)
    if p.kind == 2:
        p.advance()
        return command(p, here)
    if here in ("(", "["):
        return bracketed(p)
    if here == "{":
        return p.argument()
    if here == "|":
        return between(p, "|", "abs")
    if here == "√":
        p.advance()
        return t.power(p.limits, scalar(p.argument(signed=True)), t.num(Fraction(1, 2)))
    if here in CONSTANTS:
        p.advance()
        return CONSTANTS[here]
    raise ParseError(f"unexpected {here!r}")


def based(p: Grammar, value: Tree) -> Tree:
    """A numeral with its base: ``52_8``."""
    p.advance()
    base = p.argument()
    if value[0] != "n" or value[1].denominator != 1 or base[0] != "n":
        raise ParseError("a number with a subscript that is not a base")
    return ("f", "base", (value, base))


def named(p: Grammar, name: str) -> Tree:
    """A symbol with its marks, a constant or a function, by its letters."""
    name = RENAMED.get(name, name)
    if name in FUNCTIONS or name == "log10":
        return applied(p, name)
    if name in CONSTANTS and name not in p.indices and p.here not in ("_", "'"):
        return CONSTANTS[name]
    name = marked(p, name)
    if p.here == "(" and not p.spaced and (value := _AT_NUMBER.match(p.text, p.at)) is not None:
        for _ in range(2 + value[0].startswith("-")):
            p.advance()
        name += f"({value[0].strip('()')})"  # I(0) is a value of I, and not nothing
        p.take(")")
    return ("s", name)


def marked(p: Grammar, name: str) -> str:
    """A symbol's name with its subscript and primes."""
    while p.here in ("_", "'", "’", "′"):
        if p.here == "_":
            p.advance()
            name += "_" + raw(p)
        else:
            p.advance()
            name += "'"
    return name


def raw(p: Grammar) -> str:
    """A subscript as text, without spaces and braces."""
    if p.here != "{":
        found = p.here
        if p.kind == 1 and "\\" in p.text:
            p.at -= len(found) - 1
            found = found[0]
        p.advance()
        return found
    depth, found = 0, ""
    while p.kind:
        depth += (p.here == "{") - (p.here == "}")
        found += p.here if p.here not in "{}" else ""
        p.advance()
        if depth == 0:
            return found
    raise ParseError("an unclosed subscript")


def command(p: Grammar, here: str) -> Tree:
    """What begins with a backslash."""
    name = here[1:]
    if name == "frac":
        above = scalar(p.argument())
        return t.divide(p.limits, above, scalar(p.argument()))
    if name == "sqrt":
        return root(p)
    if name == "binom":
        above = scalar(p.argument())
        return t.binomial(p.limits, above, scalar(p.argument()))
    if here == r"\{":
        return braces(p)
    if name in ("lfloor", "lceil", "lvert"):
        closing = {"lfloor": r"\rfloor", "lceil": r"\rceil", "lvert": r"\rvert"}[name]
        inside = scalar(p.sum())
        p.take(closing)
        return function(p, {"lfloor": "floor", "lceil": "ceil", "lvert": "abs"}[name], (inside,))
    if name in ("vert", "mid") or here == r"\|":
        return between(p, here, "abs", opened=True)
    if name == "begin":
        return matrix(p)
    if name in ("sum", "prod"):
        return repeated(p, name)
    if here in ACCENTS:
        return ("s", marked(p, f"{name} {raw(p)}"))
    if name == "ldots":
        return DOTS
    if here in STOPS or not (name in GREEK or name in FUNCTIONS or name in CONSTANTS):
        raise ParseError(f"the command {here!r}")
    return named(p, name)


def root(p: Grammar) -> Tree:
    """What a root sign stands over."""
    degree = t.num(2)
    if p.here == "[":
        p.advance()
        degree = scalar(p.sum())
        p.take("]")
    return t.power(p.limits, scalar(p.argument()), t.power(p.limits, degree, t.MINUS))


def braces(p: Grammar) -> Tree:
    r"""A set, by its elements or by a condition. The opening ``\{`` has been read."""
    if p.here == r"\}":
        p.advance()
        return ("set", ())
    p.in_set += 1
    found = p.items()
    conditions: list[Tree] = []
    if len(found) == 1 and p.here in (":", "|", r"\mid", r"\vert"):
        p.advance()
        conditions = p.items()
    p.in_set -= 1
    p.take(r"\}")
    if conditions:
        return ("such", found[0], tuple(conditions))
    return ("set", tuple(found))


def bracketed(p: Grammar) -> Tree:
    """A group, a tuple or an interval."""
    opening = p.here
    p.advance()
    found = p.items(flat=False)
    closing = p.here
    if closing not in (")", "]"):
        raise ParseError(f"{opening!r} is not closed")
    p.advance()
    if len(found) > 1 and (signed := [i for i, x in enumerate(found) if x[0] == "list"]):
        if len(signed) > 1:
            raise ParseError("several signs in one point")
        ways = found[signed[0]][1]  # (1, ±2) is two points
        points = ((*found[: signed[0]], way, *found[signed[0] + 1 :]) for way in ways)
        return ("list", tuple(("tuple", opening, closing, tuple(point)) for point in points))
    if len(found) > 1:
        return ("tuple", opening, closing, tuple(found))
    if (opening == "(") != (closing == ")"):
        raise ParseError("half an interval")
    return found[0]


def between(p: Grammar, bar: str, name: str, *, opened: bool = False) -> Tree:
    """What stands between two bars."""
    if not opened:
        p.advance()
    inside = scalar(p.sum())
    p.take(bar)
    return function(p, name, (inside,))


def applied(p: Grammar, name: str) -> Tree:
    """A function with its power and subscript before, and its argument behind."""
    exponent: Tree | None = None
    base: Tree | None = None
    while p.here in ("^", "_"):
        mark = p.here
        p.advance()
        part = scalar(p.argument(signed=True))
        exponent, base = (part, base) if mark == "^" else (exponent, part)
    inverse = exponent == t.MINUS and name in ("sin", "cos", "tan")
    if inverse:
        name, exponent = f"arc{name}", None
    angle = name in ("sin", "cos", "tan", "cot", "sec", "csc")
    p.in_angle += angle
    arguments = operands(p)
    p.in_angle -= angle
    found = function(p, name, arguments)
    if base is not None:
        if name not in ("log", "log10") or len(arguments) != 1:
            raise ParseError(f"{name} with a subscript")
        found = t.divide(p.limits, function(p, "ln", arguments), function(p, "ln", (base,)))
    return found if exponent is None else t.power(p.limits, found, exponent)


def operands(p: Grammar) -> tuple[Tree, ...]:
    """What a function is applied to: a bracket, a group, or the factors up to the next sign or function."""
    if p.here in ("(", "[", "{"):
        inside = p.argument() if p.here == "{" else bracketed(p)
        if inside[0] in ("tuple", "list"):
            return tuple(scalar(x) for x in inside[-1])
        return (scalar(inside),)
    if p.here in CLOSERS or not p.kind:
        raise ParseError("a function of nothing")
    sign = p.here in ("-", "−")
    if sign:
        p.advance()
    factors = [scalar(p.factor())]
    while p.kind in (1, 2, 3) and p.here not in STOPS and p.here.lstrip("\\") not in FUNCTIONS:
        if p.here in (r"\cdot", r"\times", r"\div", "and", "or") or (p.kind == 3 and is_word(p.here)):
            break
        factors.append(scalar(p.factor()))
    found = t.multiply(p.limits, factors)
    return (t.negate(p.limits, found) if sign else found,)


def function(p: Grammar, name: str, arguments: tuple[Tree, ...]) -> Tree:
    """A function of its arguments; exact where that is immediate."""
    first = arguments[0]
    if name == "sqrt":
        return t.power(p.limits, first, t.num(Fraction(1, 2)))
    if name == "exp":
        return t.power(p.limits, CONSTANTS["e"], first)
    if name == "ln" and first == CONSTANTS["e"]:
        return t.ONE
    if name in ("ln", "log", "log10") and first == t.ONE:
        return t.ZERO
    if first[0] == "n" and name in ("floor", "ceil", "abs"):
        value: Fraction = first[1]
        if name == "abs":
            return t.num(abs(value))
        return t.num(value.__floor__() if name == "floor" else value.__ceil__())
    return ("f", name, arguments)


def matrix(p: Grammar) -> Tree:
    r"""A matrix; ``\begin`` has been read."""
    kind = raw(p)
    if kind.rstrip("*") not in (
        "pmatrix",
        "bmatrix",
        "matrix",
        "vmatrix",
        "Bmatrix",
        "smallmatrix",
        "array",
        "Vmatrix",
    ):
        raise ParseError(f"an environment {kind!r}")
    if kind == "array":
        raw(p)
    found: list[Tree] = []
    columns, width = 0, 0
    while True:
        found.append(p.sum())
        width += 1
        if len(found) > p.limits.items:
            raise LimitError(f"a matrix of more than {p.limits.items} entries", "items")
        if p.here == "&":
            p.advance()
            continue
        columns = columns or width
        if width != columns:
            raise ParseError("rows of different length")
        width = 0
        if p.here == "\\\\":
            p.advance()
        if p.here == r"\end":
            p.advance()
            raw(p)
            return ("matrix", columns, tuple(found))
        if not p.kind:
            raise ParseError("an unclosed matrix")


def repeated(p: Grammar, name: str) -> Tree:
    """A sum or product with written bounds."""
    if p.here != "_":
        raise ParseError(f"a {name} without bounds")
    p.advance()
    start = p.argument()
    if start[0] != "rel" or start[1] != ("=",) or start[2][0][0] not in ("s", "c"):
        raise ParseError(f"a {name} without a variable")
    if p.here != "^":
        raise ParseError(f"a {name} without an upper bound")
    p.advance()
    last, first = scalar(p.argument()), scalar(start[2][1])
    body = summand(p, str(start[2][0][1]))
    if last[0] == first[0] == "n" and (last[1] - first[1] + 1) * t.repetitions(body) > p.limits.terms:
        raise LimitError(f"a {name} of more than {p.limits.terms:,} terms", "terms")
    return (name, str(start[2][0][1]), first, last, body)


def summand(p: Grammar, index: str) -> Tree:
    """What is summed or multiplied over ``index``: factors up to the next sign."""
    fresh = index not in p.indices
    p.indices.add(index)
    body = scalar(p.factor())
    while p.kind and p.here not in STOPS and p.here not in ("and", "or"):
        over = p.here in OVER
        if over or p.here in TIMES:
            p.advance()
        factor = scalar(p.factor())
        body = t.divide(p.limits, body, factor) if over else t.multiply(p.limits, (body, factor))
    if fresh:
        p.indices.discard(index)
    return body
