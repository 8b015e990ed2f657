"""The two verifiers of mathematics that the benchmarks set side by side: ours, and math-verify."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache

from gristmill.verifiers.math import forget, verify


@cache
def math_verify() -> Callable[[str, str], str]:
    """math-verify's own ``parse`` and ``verify``, without its time-outs."""
    import math_verify as theirs

    logging.disable(logging.CRITICAL)

    def judge(completion: str, reference: str) -> str:
        wanted = theirs.parse(rf"\boxed{{{reference}}}", parsing_timeout=None)
        found = theirs.parse(completion, parsing_timeout=None)
        return "correct" if theirs.verify(wanted, found, timeout_seconds=None) else "incorrect"

    return judge


def ours(completion: str, reference: str) -> str:
    """Our verifier."""
    return verify(completion, reference).outcome.value


def ours_cold(completion: str, reference: str) -> str:
    """Our verifier with every memo emptied before the pair."""
    forget()
    return ours(completion, reference)
