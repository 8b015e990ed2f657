"""From tidy text, LaTeX or plain, to a tree. A recursive descent of bounded depth; no backtracking."""

from __future__ import annotations

import re
from fractions import Fraction

from gristmill.verifiers.math import matrices
from gristmill.verifiers.math import tree as t
from gristmill.verifiers.math.atoms import atom, scalar, whole_number
from gristmill.verifiers.math.tokens import OVER, RELATIONS, STOPS, TIMES, UNION, ParseError, TokenStream
from gristmill.verifiers.math.tree import LimitError, Limits, Tree

_SLASHED = re.compile(r"\s*/\s*\d+(?![\d.])")
_LITERAL = 4_000
"""Digits of a literal number at most: Python reads no more than 4,300."""


def parse(text: str, limits: Limits) -> Tree:
    """The tree of a tidied answer. ``ParseError``: not understood; ``LimitError``: beyond a bound."""
    parser = _Parser(text, limits)
    tree = parser.listing()
    if parser.kind:
        raise ParseError(f"unexpected {parser.here!r}")
    return tree


class _Parser(TokenStream):
    def items(self, *, flat: bool = True) -> list[Tree]:
        """Relations separated by commas, ``and`` or ``or``; ``flat``: 1 ± 2 among them is two."""
        found = [self.relation()]
        while self.here in (",", ";", "and", "or", r"\lor", r"\land", r"\vee", r"\wedge"):
            comma = self.here in (",", ";")
            self.advance()
            if comma and self.here in ("and", "or"):
                self.advance()
            found.append(self.relation())
            if len(found) > self.limits.items:
                raise LimitError(f"a list of more than {self.limits.items} items", "items")
        if not flat:
            return found
        return [item for one in found for item in (one[1] if one[0] == "list" else (one,))]

    def listing(self) -> Tree:
        found = self.items()
        return found[0] if len(found) == 1 else ("list", tuple(found))

    def relation(self) -> Tree:
        self.enter()
        if self.here == r"\approx":  # "about 11" is given as an answer
            self.advance()
        sides, operators = [self.union()], []
        while (operator := RELATIONS.get(self.here)) is not None and not (self.in_set and operator == "∣"):
            self.advance()
            operators.append(operator)
            sides.append(self.union())
        self.depth -= 1
        if self.here == r"\pmod":
            self.advance()
            return ("congruence", tuple(operators), scalar(self.argument()), tuple(sides))
        if not operators:
            return sides[0]
        if sides[-1][0] == "list":  # x = 1 ± 2
            return ("list", tuple(("rel", tuple(operators), (*sides[:-1], s)) for s in sides[-1][1]))
        return ("rel", tuple(operators), tuple(sides))

    def union(self) -> Tree:
        """Unions, intersections and differences of sets, from the left; ratios."""
        found = self.ratio()
        while (kind := UNION.get(self.here)) is not None:
            self.advance()
            right = self.ratio()
            found = (kind, (*found[1], right) if found[0] == kind == "union" else (found, right))
        return found

    def ratio(self) -> Tree:
        parts = [self.sum()]
        while self.here == ":" and not self.in_set:
            self.advance()
            parts.append(scalar(self.sum()))
        return parts[0] if len(parts) == 1 else ("ratio", tuple(parts))

    def sum(self) -> Tree:
        """Sums and differences; with ± a list of both readings, all signs taken alike."""
        upper = [self.signed()]
        lower: list[Tree] | None = None
        if upper[0][0] == "list":
            upper, lower = [upper[0][1][0]], [upper[0][1][1]]
        while self.here in ("+", "-", "−", r"\pm", "±", r"\mp", "∓"):
            sign = self.here
            self.advance()
            term = self.product()
            minus = self.minus(term)
            if sign in (r"\pm", "±", r"\mp", "∓"):
                lower = list(upper) if lower is None else lower
                first, second = (term, minus) if sign in (r"\pm", "±") else (minus, term)
                upper.append(first)
                lower.append(second)
                continue
            for branch in (upper, lower):
                if branch is not None:
                    branch.append(term if sign == "+" else minus)
        if len(upper) > 1 and any(x[0] == "matrix" for x in upper):
            return matrices.added(self.limits, upper if lower is None else [])
        whole = upper[0] if len(upper) == 1 else t.add(self.limits, map(scalar, upper))
        if lower is None:
            return whole
        return ("list", (whole, lower[0] if len(lower) == 1 else t.add(self.limits, map(scalar, lower))))

    def signed(self) -> Tree:
        if self.here in ("-", "−"):
            self.advance()
            return self.minus(self.product())
        if self.here in (r"\pm", "±", r"\mp", "∓"):
            self.advance()
            term = scalar(self.product())
            return ("list", (term, self.minus(term)))
        if self.here == "+":
            self.advance()
        return self.product()

    def minus(self, term: Tree) -> Tree:
        if term[0] == "matrix":
            return matrices.multiplied(self.limits, [t.MINUS, term])
        return t.negate(self.limits, scalar(term))

    def product(self) -> Tree:
        first = self.factor()
        factors = [first]
        while True:
            if self.here in TIMES:
                self.advance()
                factors.append(self.signed_factor())
            elif self.here in OVER:
                self.advance()
                factors.append(t.power(self.limits, scalar(self.signed_factor()), t.MINUS))
            elif self.here == r"\bmod":
                self.advance()
                whole = t.multiply(self.limits, map(scalar, factors))
                factors = [("f", "mod", (whole, scalar(self.factor())))]
            elif self.kind == 0 or (self.here in STOPS) or self.here in ("and", "or"):
                break
            elif self.kind == 1 and len(factors) == 1 and self.spaced and self.mixed(first):
                factors = [self.fraction_part(first)]
            else:
                if self.kind == 1 and factors[-1][0] == "n":
                    raise ParseError(f"two numbers side by side at {self.here!r}")
                if self.here == r"\frac" and len(factors) == 1 and whole_number(first):
                    factors = [self.mixed_fraction(first)]
                else:
                    factors.append(self.factor())
        if len(factors) == 1:
            return factors[0]
        if any(x[0] == "matrix" for x in factors):
            return matrices.multiplied(self.limits, factors)
        return t.multiply(self.limits, map(scalar, factors))

    def signed_factor(self) -> Tree:
        self.enter()
        if self.here in ("-", "−"):
            self.advance()
            found = self.minus(self.signed_factor())
        else:
            found = self.factor()
        self.depth -= 1
        return found

    def mixed(self, first: Tree) -> bool:
        """Whether ``1 4/5`` stands here."""
        return whole_number(first) and _SLASHED.match(self.text, self.at) is not None

    def fraction_part(self, whole: Tree) -> Tree:
        above = self.number()
        self.advance()
        below = self.number()
        return t.add(self.limits, (whole, t.divide(self.limits, above, below)))

    def mixed_fraction(self, whole: Tree) -> Tree:
        part = self.factor()
        if part[0] == "n" and 0 < part[1] < 1:
            return t.add(self.limits, (whole, part))
        return t.multiply(self.limits, (whole, part))

    def number(self) -> Tree:
        mantissa, mark, exponent = self.here.lower().partition("e")
        if len(mantissa) > (most := min(self.limits.digits, _LITERAL)):
            raise LimitError(f"a number of more than {most:,} digits", "digits")
        if mark and (len(exponent) > 6 or abs(int(exponent)) > self.limits.exponent):
            raise LimitError(f"an exponent over {self.limits.exponent:,}", "exponent")
        self.advance()
        if mantissa.isdigit():
            if not mark:
                return t.whole(mantissa)
            value = Fraction(int(mantissa))
        else:
            value = Fraction(mantissa + "0" if mantissa.endswith(".") else mantissa)
        if mark:
            value *= Fraction(10) ** int(exponent)
        return ("n", self.limits.bounded(value))

    def factor(self) -> Tree:
        """An atom with its powers, factorials and signs behind it."""
        self.enter()
        base = atom(self)
        while True:
            if self.here in ("^", "**"):
                self.advance()
                exponent = self.argument(signed=True)
                if base[0] == "matrix":
                    base = matrices.raised(self.limits, base, exponent)
                    continue
                base = t.power(self.limits, scalar(base), scalar(exponent))
            elif self.here == "!":
                step = 0
                while self.here == "!":
                    step += 1
                    self.advance()
                if step > 2:
                    raise LimitError("a tower of factorials", "factorial")
                base = t.factorial(self.limits, scalar(base), step)
            elif self.here == "%":
                self.advance()
                base = t.multiply(self.limits, (scalar(base), ("n", Fraction(1, 100))))
            elif self.here == "°":
                self.advance()
                if self.in_angle:
                    base = t.multiply(self.limits, (scalar(base), ("n", Fraction(1, 180)), ("c", "pi")))
            else:
                break
        self.depth -= 1
        return base

    def argument(self, *, signed: bool = False) -> Tree:
        r"""What a command or ``^`` takes: a group in braces or a single character or command."""
        self.enter()
        try:
            if self.here == "{":
                self.advance()
                found = self.listing()
                self.take("}")
                return found
            if self.kind == 1 and len(self.here) > 1 and self.in_latex():
                digit = self.here[0]
                self.at -= len(self.here) - 1
                self.advance()
                return ("n", Fraction(digit))
            if signed and self.here in ("-", "−", "+"):
                sign = self.here
                self.advance()
                part = self.factor()
                return part if sign == "+" else self.minus(part)
            return self.factor() if signed and not self.in_latex() else atom(self)
        finally:
            self.depth -= 1

    def in_latex(self) -> bool:
        """Whether one digit is one argument, as in TeX; ``2^10`` in plain text is not."""
        return "\\" in self.text
