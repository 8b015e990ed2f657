"""What a completion's program is, and whether what it printed or returned is what was expected."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

_FENCE = re.compile(r"[ \t]{0,3}(`{3,}+|~{3,}+)[ \t]*([^\s`{]*)")
_PYTHON = frozenset(("python", "py", "python3"))


def last_block(text: str) -> str | None:
    """The last fenced block of ``text`` that is marked as Python, else the last without a mark, if any.

    A block that the text ends in need not be closed.
    """
    found: dict[bool, str] = {}
    fence, label, start = "", "", 0
    lines = text.replace("\r\n", "\n").split("\n")
    for i, line in enumerate([*lines, None]):
        mark = _FENCE.match(line) if line is not None else None
        if not fence:
            if mark is not None:
                fence, label, start = mark[1], mark[2].lower(), i + 1
        elif line is None or (mark is not None and mark[1].startswith(fence) and not mark[2]):
            if label in _PYTHON or not label:
                found[bool(label)] = "\n".join(lines[start:i])
            fence = ""
    return found.get(True, found.get(False))


def same_output(printed: str, expected: str, tolerance: float = 0.0) -> bool:
    """Whether two texts have the same lines, except for spaces and for blank lines at either end."""
    left, right = ([line.split() for line in text.strip().split("\n")] for text in (printed, expected))
    if left == right or not tolerance:
        return left == right
    return len(left) == len(right) and all(
        len(a) == len(b) and all(_same_words(x, y, tolerance) for x, y in zip(a, b, strict=True))
        for a, b in zip(left, right, strict=True)
    )


def _same_words(left: str, right: str, tolerance: float) -> bool:
    if left == right:
        return True
    try:
        return math.isclose(float(left), float(right), rel_tol=tolerance, abs_tol=tolerance)
    except ValueError:
        return False


def same(value: Any, expected: Any, tolerance: float = 0.0) -> bool:
    """Whether two values of JSON are equal: ``2`` is ``2.0`` but not ``true``."""
    if isinstance(value, list) and isinstance(expected, list):
        return len(value) == len(expected) and all(
            same(a, b, tolerance) for a, b in zip(value, expected, strict=True)
        )
    if isinstance(value, Mapping) and isinstance(expected, Mapping):
        return value.keys() == expected.keys() and all(same(value[k], expected[k], tolerance) for k in value)
    if isinstance(value, bool) or isinstance(expected, bool):
        return value is expected
    if tolerance and isinstance(value, int | float) and isinstance(expected, int | float):
        try:
            return math.isclose(value, expected, rel_tol=tolerance, abs_tol=tolerance)
        except OverflowError:  # an integer that no float holds
            return value == expected
    return bool(value == expected)
