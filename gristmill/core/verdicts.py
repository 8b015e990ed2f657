"""Verdicts: what a verifier found out. Never a bool; only a filter turns one into keep or drop."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from gristmill.core.engine import Completion


class Outcome(StrEnum):
    """The five things a verifier can say.

    ``unparseable``: no answer could be read. ``timeout``: deciding took longer than the deadline.
    ``error``: the verifier itself failed. None of these three says that the answer is wrong.
    """

    CORRECT = "correct"
    INCORRECT = "incorrect"
    UNPARSEABLE = "unparseable"
    TIMEOUT = "timeout"
    ERROR = "error"


class Verdict(Struct, frozen=True, omit_defaults=True):
    """An outcome with its evidence: the answer that was read, the rule that decided, details if any.

    ``score`` is in [0, 1], ``None`` where the outcome is undecided.
    """

    outcome: Outcome
    score: float | None = None
    extracted: str | None = None
    rule: str = ""
    detail: str = ""

    @property
    def correct(self) -> bool:
        """Whether the answer was found right."""
        return self.outcome is Outcome.CORRECT

    @property
    def decided(self) -> bool:
        """Whether the answer was found either right or wrong."""
        return self.outcome in (Outcome.CORRECT, Outcome.INCORRECT)


def unfinished(completion: Completion) -> Verdict | None:
    """The verdict on a completion that was cut off, which is not an answer, right or wrong; else ``None``."""
    if completion.finished:
        return None
    return Verdict(Outcome.UNPARSEABLE, rule="unfinished", detail=f"finish_reason {completion.finish_reason}")


class Verifier(Protocol):
    """A plain function from a completion's text and a reference answer to a verdict.

    It never raises for any text. It may take arbitrarily long: ``gristmill.verifiers.pool.pool`` runs
    it in a worker process with a hard deadline.
    """

    def __call__(self, completion: str, reference: str, /) -> Verdict:
        """Judge ``completion`` against ``reference``."""
        ...
