"""Sums, multiples, products and powers of written matrices, carried out as they are read."""

from __future__ import annotations

from collections.abc import Sequence

from gristmill.verifiers.math import tree as t
from gristmill.verifiers.math.tokens import ParseError
from gristmill.verifiers.math.tree import LimitError, Limits, Tree

_SIDE = 8
"""Rows and columns of matrices that are multiplied."""


def added(limits: Limits, terms: Sequence[Tree]) -> Tree:
    """The sum of matrices of one shape. ``ParseError`` for anything else."""
    shapes = {(x[1], len(x[2])) if x[0] == "matrix" else None for x in terms}
    if len(shapes) != 1 or None in shapes:
        raise ParseError("a sum of matrices of different shapes")
    columns = zip(*(x[2] for x in terms), strict=True)
    return ("matrix", terms[0][1], tuple(t.add(limits, entries) for entries in columns))


def multiplied(limits: Limits, factors: Sequence[Tree]) -> Tree:
    """The product of matrices and scalars, in order. ``ParseError`` where the shapes do not fit."""
    scalars = [x for x in factors if x[0] != "matrix"]
    if any(x[0] in t.COLLECTIONS or x[0] == "rel" for x in scalars):
        raise ParseError("a product of a matrix and a collection")
    found: Tree | None = None
    for factor in factors:
        if factor[0] == "matrix":
            found = factor if found is None else _product(limits, found, factor)
    if found is None:
        raise ParseError("no matrix")
    if scalars:
        found = ("matrix", found[1], tuple(t.multiply(limits, (*scalars, x)) for x in found[2]))
    return found


def _product(limits: Limits, a: Tree, b: Tree) -> Tree:
    inner, columns = a[1], b[1]
    rows = len(a[2]) // inner
    if inner * columns != len(b[2]):
        raise ParseError("a product of matrices whose shapes do not fit")
    if max(rows, inner, columns) > _SIDE:
        raise LimitError(f"a product of matrices larger than {_SIDE} by {_SIDE}", "items")
    entries = (
        t.add(
            limits, [t.multiply(limits, (a[2][i * inner + k], b[2][k * columns + j])) for k in range(inner)]
        )
        for i in range(rows)
        for j in range(columns)
    )
    return ("matrix", columns, tuple(entries))


def raised(limits: Limits, base: Tree, exponent: Tree) -> Tree:
    """A small natural power of a square matrix, or its transpose. ``ParseError`` for other powers."""
    columns = base[1]
    if exponent == ("s", "T"):
        rows = len(base[2]) // columns
        return ("matrix", rows, tuple(base[2][r * columns + c] for c in range(columns) for r in range(rows)))
    if exponent[0] != "n" or exponent[1].denominator != 1 or not 1 <= exponent[1] <= 16:
        raise ParseError("a power of a matrix")
    found = base
    for _ in range(int(exponent[1]) - 1):
        found = _product(limits, found, base)
    return found
