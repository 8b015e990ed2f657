"""How many rows of the source to try next, so that a target is met with few candidates too many."""

from __future__ import annotations

import math

_FIRST = 32
_STEP = 0.015
"""The smallest step, as a share of what was tried: so much may be tried too many at the end."""


def first_try(rows: int) -> int:
    """Rows to try before anything is known of how many pass."""
    return max(_FIRST, rows // 50)


def next_try(tried: int, passed: int, wanted: int) -> int:
    """How many rows to try in all, after ``passed`` came of ``tried`` and fewer than ``wanted``.

    It approaches from below. The share that passes is taken at about two and a half standard deviations above
    what was seen (of a Poisson count), the rows that the next step will bring likewise; and a small step is
    always made.
    """
    missing = wanted - passed
    share = (passed + 2.5 * math.sqrt(passed + 1)) / tried
    spread = math.sqrt(max(0.0, 1 - passed / tried) / missing)
    step = math.floor(missing / share * max(0.0, 1 - 2.5 * spread))
    step = min(step, tried * (1 + passed))  # little is known of a share by which few have passed
    return tried + max(1, math.floor(_STEP * tried), step)
