"""The tokens of a mathematical text, and the tables of what they mean."""

from __future__ import annotations

import re

from gristmill.verifiers.math import tree as t
from gristmill.verifiers.math.tree import LimitError, Limits, Tree

_TOKEN = re.compile(
    r"[ \t\n\x01\x02]*(?:(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)"  # a number
    r"|(\\[A-Za-z]+|\\.)|([A-Za-z]+|[^\W\d_])|(\*\*|<=|>=|!=|[^\s\x01\x02]))",
    re.DOTALL,
)
_NAMES = (
    "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc asin acos atan sinh cosh tanh coth "
    "sech csch arsinh arcosh artanh asinh acosh atanh ln log lg exp sqrt floor ceil abs max min gcd lcm sgn"
)
FUNCTIONS = frozenset(_NAMES.split())
RENAMED = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "arsinh": "asinh", "arcosh": "acosh"}
RENAMED |= {"artanh": "atanh", "lg": "log10", "sign": "sgn"}
CONSTANTS: dict[str, Tree] = {"pi": ("c", "pi"), "π": ("c", "pi"), "infty": t.INF, "infinity": t.INF}
CONSTANTS |= {
    "inf": t.INF,
    "∞": t.INF,
    "oo": t.INF,
    "e": ("c", "e"),
    "i": t.IMAGINARY,
    "emptyset": ("set", ()),
}
REALS: Tree = ("tuple", "(", ")", (("*", (t.MINUS, t.INF)), t.INF))
CONSTANTS |= {"varnothing": ("set", ()), "∅": ("set", ()), "setR": REALS}
CONSTANTS |= {f"set{letter}": ("s", sign) for letter, sign in zip("ZNQC", "ℤℕℚℂ", strict=True)}
RELATIONS = {
    "=": "=",
    "<": "<",
    ">": ">",
    "<=": "<=",
    ">=": ">=",
    "≤": "<=",
    "≥": ">=",
    "≠": "!=",
    "!=": "!=",
}
RELATIONS |= {
    r"\le": "<=",
    r"\leq": "<=",
    r"\leqslant": "<=",
    r"\ge": ">=",
    r"\geq": ">=",
    r"\geqslant": ">=",
}
RELATIONS |= {
    r"\ne": "!=",
    r"\neq": "!=",
    r"\lt": "<",
    r"\gt": ">",
    r"\in": "in",
    "∈": "in",
    r"\equiv": "≡",
    "≡": "≡",
}
RELATIONS |= {r"\approx": "~", r"\parallel": "∥", r"\perp": "⊥", r"\sim": "∼", r"\cong": "≅", r"\notin": "∉"}
RELATIONS |= {
    r"\subset": "⊂",
    r"\subseteq": "⊆",
    r"\supset": "⊃",
    r"\supseteq": "⊇",
    r"\mid": "∣",
    r"\propto": "∝",
}
SYMMETRIC = frozenset("=≠∥⊥∼≅≡∝") | {"!="}
TIMES = frozenset({"*", r"\cdot", r"\times", "·", "×", r"\ast", "∙"})
OVER = frozenset({"/", r"\div", "÷"})
UNION = {r"\cup": "union", "∪": "union", r"\cap": "meet", r"\setminus": "minus"}
GREEK = frozenset(
    str.split(
        """
        alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu
        nu xi omicron rho varrho sigma varsigma tau upsilon phi varphi chi psi omega Gamma Delta
        Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega hbar ell partial nabla Re Im aleph mho
        odot star circ triangle angle oplus wp imath jmath square dagger bullet prime diamond
        heartsuit spadesuit
        """
    )
)
"""Commands that are symbols."""
DOTS: Tree = ("s", "…")
ACCENTS = frozenset(
    str.split(
        r"""
        \dot \ddot \bar \hat \vec \tilde \overline \widehat \widetilde \overrightarrow \mathcal \mathscr
        \mathfrak \overset
        """
    )
)
CLOSERS = frozenset(
    [")", "]", "}", r"\}", r"\rfloor", r"\rceil", r"\rangle", "&", r"\\", r"\end", ",", ";", ""]
)
STOPS = (
    CLOSERS
    | set(RELATIONS)
    | set(UNION)
    | {":", r"\pmod", r"\bmod", "+", "-", "−", r"\pm", r"\mp", "±", "∓", "|", r"\vert", r"\mid"}
)
_WORD_VOWELS = frozenset("aeiouyAEIOUY")


class ParseError(ValueError):
    """The text is not mathematics that is understood here."""


def is_word(run: str) -> bool:
    """Whether a run of letters is a word of a language rather than a product of variables."""
    return (
        len(run) >= 3
        and not run.isupper()
        and run not in FUNCTIONS
        and run not in CONSTANTS
        and run not in ("abc", "abcd", "xyz", "abx", "axy", "aix", "aij")
        and not _WORD_VOWELS.isdisjoint(run)
    )


class TokenStream:
    """The current token and the way to the next; the depth of what is open."""

    def __init__(self, text: str, limits: Limits) -> None:
        self.text, self.limits, self.at, self.depth = text, limits, 0, 0
        self.kind, self.here, self.spaced = 0, "", False
        self.in_set = 0
        """How many sets are open: there a colon or a bar means "such that"."""
        self.in_angle = 0
        """How many arguments of trigonometric functions are open: there a degree is a number."""
        self.indices: set[str] = set()
        """The indices of the sums and products that are being read: here ``i`` is a number to count with."""
        self.advance()

    def advance(self) -> None:
        """Read the next token; kind 0 is the end, 1 a number, 2 a command, 3 letters, 4 anything else."""
        found = _TOKEN.match(self.text, self.at)
        if found is None:
            self.kind, self.here, self.at = 0, "", len(self.text)
            return
        self.kind = found.lastindex or 0
        self.here = found[self.kind]
        self.spaced = found.start(self.kind) > self.at
        self.at = found.end()
        if self.kind == 3 and self.here.isnumeric():  # a circled, Roman or other numeral is no symbol
            raise ParseError(f"the numeral {self.here!r}")
        if self.kind == 3 and len(self.here) > 1 and not self._whole(self.here):
            self.at = found.start(3) + self._prefix(self.here)
            self.here = self.here[: self.at - found.start(3)]

    @staticmethod
    def _whole(run: str) -> bool:
        return (
            run in FUNCTIONS
            or run in ("or", "and")
            or (len(run) > 1 and run in CONSTANTS)
            or is_word(run)
            or (len(run) > 2 and run.isupper())
        )

    @staticmethod
    def _prefix(run: str) -> int:
        for size in range(min(len(run), 6), 2, -1):  # sinx, cosx
            if run[:size] in FUNCTIONS:
                return size
        return 1

    def take(self, token: str) -> None:
        """Go past ``token``; ``ParseError`` if it does not stand here."""
        if self.here != token:
            raise ParseError(f"{token!r} expected, not {self.here!r}")
        self.advance()

    def enter(self) -> None:
        """Open one more level; ``LimitError`` if it is one too many."""
        self.depth += 1
        if self.depth > self.limits.nesting:
            raise LimitError(f"nesting deeper than {self.limits.nesting}", "nesting")
