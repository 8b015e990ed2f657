"""``unbalanced``: LaTeX and code fences that are opened and not closed, or the other way round."""

from __future__ import annotations

import re

from gristmill.filters.quality.base import RowFacts, TextCheck, excerpt
from gristmill.filters.quality.phrases import without_code

_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[^\n`]*$", re.MULTILINE)
_ENVIRONMENT = re.compile(r"\\(begin|end)\s*\{([A-Za-z]+\*?)\}")
_BRACKETS = re.compile(r"(?<!\\)(?:\\\\)*(\\[()\[\]])")
_SIDES = re.compile(r"\\(left|right)(?![a-zA-Z])")
_CURRENCY = re.compile(r"(?<![\w$\\])\$\s?\d[\d,]*(?:\.\d+)?(?!,?\d|\s*[\^_\\{}$=+*/<>-])")
"""A price: no sign of a formula follows the number."""
_FORMULA = re.compile(r"\\[a-zA-Z]{2,}|(?<!\w)\$[a-zA-Z]\$")
"""What is in a text that writes formulas between dollars; others write prices and names of variables."""
_COMMAND = re.compile(r"\\[a-zA-Z]+\s*\{")


class Unbalanced(TextCheck, frozen=True, kw_only=True):
    r"""Fences, ``\(``, ``\[``, ``$``, braces, ``\left`` and environments without their other half.

    A dollar may be a price: dollars count only in a text that writes formulas, and are unbalanced only if
    they are with and without the prices.
    """

    suspect = r"```|~~~|\\|\$"

    latex: bool = True
    """Whether LaTeX is looked at."""
    fences: bool = True
    """Whether code fences are."""

    def find(self, text: str, told: RowFacts) -> str | None:
        """What is open, where."""
        if self.fences and (fault := _fences(text)):
            return fault
        if not self.latex:
            return None
        prose = without_code(text)
        return _environments(prose) or _brackets(prose) or _sides(prose) or _dollars(prose) or _braces(prose)


def _fences(text: str) -> str | None:
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif fence[1][0] == opened[1][0] and len(fence[1]) >= len(opened[1]):
            opened = None
    return None if opened is None else f"a code fence is not closed: {excerpt(text, opened.start())}"


def _environments(text: str) -> str | None:
    opened: list[re.Match[str]] = []
    for found in _ENVIRONMENT.finditer(text):
        if found[1] == "begin":
            opened.append(found)
        elif not opened or opened.pop()[2] != found[2]:
            return f"{found[0]} closes nothing: {excerpt(text, max(0, found.start() - 30), found.end())}"
    return f"{opened[-1][0]} is not closed: {excerpt(text, opened[-1].start())}" if opened else None


def _brackets(text: str) -> str | None:
    opened: re.Match[str] | None = None
    for found in _BRACKETS.finditer(text):
        mark = found[1]
        if mark in (r"\(", r"\["):
            if opened is not None:
                return f"{opened[1]} is not closed: {excerpt(text, opened.start())}"
            opened = found
        elif opened is None or (opened[1] == r"\(") != (mark == r"\)"):
            return f"{mark} closes nothing: {excerpt(text, max(0, found.start() - 40), found.end())}"
        else:
            opened = None
    return None if opened is None else f"{opened[1]} is not closed: {excerpt(text, opened.start())}"


def _sides(text: str) -> str | None:
    sides = [found[1] for found in _SIDES.finditer(text)]
    left, right = sides.count("left"), sides.count("right")
    return None if left == right else rf"{left} \left and {right} \right"


def _dollars(text: str) -> str | None:
    if "$" not in text or not _FORMULA.search(text):
        return None
    bare = re.sub(r"\\[\\$]", "  ", text)
    opened = _opened(bare)
    if opened is None or _opened(_CURRENCY.sub(lambda m: " " * len(m[0]), bare)) is None:
        return None
    return f"{opened[0]} is not closed: {excerpt(text, opened.start())}"


def _opened(text: str) -> re.Match[str] | None:
    """The dollars that nothing closes. In a formula ``$$`` closes it and begins the next one."""
    opened: re.Match[str] | None = None
    for mark in re.finditer(r"\$\$?", text):
        if opened is None:
            opened = mark
        elif mark[0] == opened[0]:
            opened = None
        elif mark[0] == "$$":
            opened = re.compile(r"\$").match(text, mark.start() + 1)
    return opened


def _braces(text: str) -> str | None:
    if not _COMMAND.search(text):
        return None
    depth = 0
    for found in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if depth < 0:
            return f"}} closes nothing: {excerpt(text, max(0, found.start() - 40), found.end())}"
    return f"{depth} {{ not closed: {excerpt(text[-80:])}" if depth else None
