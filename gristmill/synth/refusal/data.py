"""R-Tuning's data sets out of a split: sure and unsure, refusals, the baseline (arXiv 2311.09677)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from gristmill.core.engine import Ability, Role
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.knowledge import Certainty
from gristmill.core.records import Demonstration
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.synth.refusal.forms import Form
from gristmill.synth.refusal.texts import REFUSALS, SURE, SURE_QUESTION, UNSURE

Method = Literal["sure_unsure", "refuse", "uncertainty", "plain"]
SplitPart = Literal["train", "test", "test_ood"]
Piece = Literal["question", "answer", "sure_question", "reply"]
Sentence = Annotated[str, Meta(min_length=1)]

NOTHING = Estimate(0, 0, 0, 0)
"""What a stage costs that calls no engine."""
REFUSAL_CALL = 1
"""The call whose seed chooses a refusal: one sentence for a question in all data sets of a run."""


def choose(sentences: Sequence[str], record_id: str, context: Context, call: int = REFUSAL_CALL) -> str:
    """The sentence of a bank that the run's seed chooses for a record, whatever rows stand around it."""
    return sentences[context.seed_for(record_id, call) % len(sentences)]


def left_out(record: Certainty, parts: Sequence[str]) -> Rejection | None:
    """Why a question is not for training: it is of another part of the split, or the rule left it out."""
    if record.part not in parts:
        return Rejection(record.id, f"not of the parts wanted: {record.part}")
    if record.certain is None:
        return Rejection(record.id, "left out by the split's rule")
    return None


class RTuning(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes a conversation to imitate of each question of the training part. No model is called.

    - ``sure_unsure`` (R-Tuning): the question, the *reference* (for unsure questions too), ``sure_question``,
      then ``sure`` or ``unsure``.
    - ``uncertainty`` (R-Tuning-U): the same shape, of a split by the entropy of the answers. A question
      without an entropy is rejected. With ``answers: majority`` no reference is used at all.
    - ``refuse`` (R-Tuning-R): the reference where it is sure; elsewhere a sentence of ``refusals``, chosen
      by seed and the question's id.
    - ``plain``: the question and the reference: what R-Tuning is compared with.

    ``loss`` says which pieces are trained: ``answer``, ``reply``, and in plain text also ``question`` and
    ``sure_question``. The default, what the model says itself, follows the paper's description; its
    scripts were not run. ``parts``: which parts of the split become data; the others are for evaluation.

    The authors' conversions have faults that this one has not: labels matched as substrings ("supported" in
    "not_supported"), the last character cut off where there is no full stop, a list read by position where
    it is a mapping, blanks and full stops joined differently from one data set to the next.
    """

    reads: ClassVar[type[Struct]] = Certainty
    writes: ClassVar[type[Struct]] = Demonstration
    needs: ClassVar[frozenset[Ability]] = frozenset()

    method: Method = "sure_unsure"
    form: Form = Form()
    parts: Annotated[tuple[SplitPart, ...], Meta(min_length=1)] = ("train",)
    loss: Annotated[tuple[Piece, ...], Meta(min_length=1)] = ("answer", "reply")
    answers: Literal["reference", "majority"] = "reference"
    sure_question: Sentence = SURE_QUESTION
    sure: Sentence = SURE
    unsure: Sentence = UNSURE
    refusals: Annotated[tuple[Sentence, ...], Meta(min_length=1)] = REFUSALS

    def __post_init__(self) -> None:
        if self.sure == self.unsure:
            raise RecipeError(
                f"r_tuning: sure and unsure are both {self.sure!r}.", remedy="Give two different sentences."
            )
        if self.form.kind != "plain" and (asked := {"question", "sure_question"} & set(self.loss)):
            raise RecipeError(
                f"r_tuning: loss on {sorted(asked)}, which is the user's part of a conversation.",
                remedy="Take it out of 'loss', or set form.kind to plain.",
            )
        if self.method in ("refuse", "plain") and "answer" not in self.loss:
            raise RecipeError(
                f"r_tuning: method {self.method} has no reply, and the answer carries no loss.",
                remedy="Put 'answer' into loss.",
            )

    async def __call__(self, record: Certainty, context: Context) -> Sequence[Demonstration | Rejection]:
        """One record, or a ``Rejection`` with the reason why there is none."""
        if (out := left_out(record, self.parts)) is not None:
            return [out]
        pieces: list[tuple[Role, str, bool]] = [
            ("user", self.form.asked(record), "question" in self.loss),
            ("assistant", self._answer(record, context), "answer" in self.loss),
        ]
        if self.method in ("sure_unsure", "uncertainty"):
            if self.method == "uncertainty" and record.entropy is None:
                raise RowRejected("has no entropy of its answers")
            reply = self.sure if record.certain == "sure" else self.unsure
            pieces.append(("user", self.sure_question, "sure_question" in self.loss))
            pieces.append(("assistant", reply, "reply" in self.loss))
        return [
            Demonstration(
                f"{record.id}/{self.method}",
                record.id,
                record.problem,
                record.answer,
                f"{self.method}/{record.certain}",
                self.form.turns(*pieces),
            )
        ]

    def _answer(self, record: Certainty, context: Context) -> str:
        if self.method == "refuse" and record.certain == "unsure":
            return choose(self.refusals, record.id, context)
        if self.answers == "reference":
            return self.form.answered(record)
        if not record.majority:
            raise RowRejected("has no majority among its answers")
        return self.form.answered(record, record.majority)

    def estimate(self, record: Certainty) -> Estimate:
        """It calls no engine."""
        return NOTHING
