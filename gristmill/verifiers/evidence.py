"""Verdicts from evidence: the one rule for combining checks, some of which may be undecided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from gristmill.core.verdicts import Outcome, Verdict


class Check(NamedTuple):
    """One check of a text. ``passed`` is ``None`` if it is undecided; ``why`` says why it did not pass."""

    name: str
    passed: bool | None
    why: str = ""


def decided(
    correct: bool, *, rule: str, score: float | None = None, extracted: str | None = None, detail: str = ""
) -> Verdict:
    """``correct`` or ``incorrect``, with score 1.0 or 0.0 unless another is given."""
    outcome = Outcome.CORRECT if correct else Outcome.INCORRECT
    value = float(correct) if score is None else score
    return Verdict(outcome, score=value, extracted=extracted, rule=rule, detail=detail)


def unparseable(rule: str, detail: str, extracted: str | None = None) -> Verdict:
    """The answer could not be read, which does not mean that it is wrong."""
    return Verdict(Outcome.UNPARSEABLE, extracted=extracted, rule=rule, detail=detail)


def all_of(checks: Sequence[Check]) -> Verdict:
    """The verdict on a text that must pass every check; ``detail`` names all that it does not pass.

    One failure makes it ``incorrect``, even if other checks are undecided. Without a failure, an undecided
    check makes it ``unparseable``. The score is the share of the decided checks that passed.
    """
    told = [c for c in checks if c.passed is not None]
    missed = [c for c in checks if not c.passed]
    detail = "; ".join(f"{c.name}: {c.why}" for c in missed)
    if missed and all(c.passed is None for c in missed):
        return unparseable("cannot be told", detail)
    score = sum(c.passed is True for c in told) / len(told) if told else 1.0
    rule = f"{len(checks) - len(missed)} of {len(checks)} checks"
    return decided(not missed, score=score, rule=rule, detail=detail)


def read_references(reference: str) -> tuple[str, ...]:
    """The acceptable answers: those of a JSON list of strings or numbers, otherwise the reference itself.

    Blank ones are dropped, so the result may be empty. A reference that only looks like a JSON list
    (``[1, 2) is half open``) is used as it is.
    """
    text = reference.strip()
    if text.startswith("["):
        try:
            found = msgspec.json.decode(text, type=list[str | int | float])
        except (ValueError, RecursionError):  # msgspec's errors and lone surrogates are ValueErrors
            found = [text]
        return tuple(s for one in found if (s := str(one).strip()))
    return (text,) if text else ()
