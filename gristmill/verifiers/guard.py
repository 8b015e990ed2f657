"""Where any error that a verifier raises becomes a verdict, and where a verifier is given the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gristmill.core.answers import final_answer
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.verifiers.evidence import unparseable

_DETAIL = 500
"""Characters of an error's text that are kept as evidence."""


def guarded(function: Callable[..., Any], *args: Any) -> Verdict:
    """The verdict of ``function(*args)``, or an ``error`` verdict with the type and text of what it raised.

    ``MemoryError`` is raised to the caller: the process may be unusable, and its owner decides.
    """
    try:
        verdict = function(*args)
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code may raise anything; it is kept
        return failure("raised", f"{type(error).__name__}: {error}")
    if isinstance(verdict, Verdict):
        return verdict
    return failure("no verdict", f"the verifier returned {type(verdict).__name__}, not a Verdict")


def answered(function: Callable[..., Any], completion: str, *args: Any) -> Verdict:
    """As ``guarded``, of what in ``completion`` is its answer; ``unparseable`` if its reasoning never ended.

    See ``core.answers.final_answer``: a letter or label in a model's reasoning is not what it answered.
    """
    answer = final_answer(completion)
    if answer is None:
        return unparseable("unfinished", "the reasoning, or the answer tag, is never closed")
    return guarded(function, answer, *args)


def failure(rule: str, detail: str) -> Verdict:
    """An ``error`` verdict: the verifier failed, whether the answer is right or wrong."""
    return Verdict(Outcome.ERROR, rule=rule, detail=detail[:_DETAIL])
