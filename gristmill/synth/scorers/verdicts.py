"""Scores that are the verdict of one of the recipe's verifiers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from gristmill.core.engine import Completion, FinishReason
from gristmill.core.errors import RowRejected
from gristmill.core.records import Score
from gristmill.core.stages import Context
from gristmill.core.verdicts import unfinished
from gristmill.synth.scorers.base import Answered, Scorer
from gristmill.synth.scoring import reference_in, verifier_of


class VerifierScore(Scorer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The verdict of one of the recipe's verifiers, with its evidence; the value is the verdict's score.

    An undecided verdict has no value: it is neither right nor wrong.
    """

    verifier: str | None = None
    """The name of a verifier under the recipe's ``verifiers``; ``null`` is the recipe's ``verifier``."""
    reference: str | None = "answer"
    """The field or column that holds the reference. ``null``: the verifier needs none and gets an empty
    one."""

    @property
    def verifiers(self) -> tuple[str, ...]:
        """The name of the verifier, where it is not the recipe's main one."""
        return () if self.verifier is None else (self.verifier,)

    @property
    def verifies(self) -> bool:
        """Whether the main verifier judges by the rows' own answers."""
        return self.verifier is None and self.reference == "answer"

    async def __call__(self, answer: Answered, context: Context, score: str) -> Sequence[Score]:
        """The verdict. ``RowRejected`` where the row has no reference."""
        reference = reference_in(answer.row, self.reference)
        if reference is None:
            raise RowRejected("no reference", f"the row has no {self.reference!r}")
        verdict = unfinished(Completion(answer.completion, cast(FinishReason, answer.finish_reason)))
        if verdict is None:
            verdict = await verifier_of(context, self.verifier)(answer.completion, reference)
        else:
            context.count(verdict)
        return [Score(score, verdict.score, verdict)]
