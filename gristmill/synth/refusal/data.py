"""R-Tuning's data sets out of a split: sure and unsure, refusals, the baseline (arXiv 2311.09677)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from gristmill.core.engine import Ability, Role
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.knowledge import Certainty
from gristmill.core.prompts import within
from gristmill.core.records import Demonstration
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.synth.refusal.forms import Form
from gristmill.synth.refusal.texts import REFUSALS, SURE, SURE_QUESTION, UNSURE

Method = Literal["sure_unsure", "refuse", "uncertainty", "plain"]
SplitPart = Literal["train", "test", "test_ood"]
Piece = Literal["question", "answer", "sure_question", "reply"]
Sentence = Annotated[str, Meta(min_length=1)]

NOTHING = Estimate(0, 0, 0, 0, rows_max=1)
"""What a stage costs that calls no engine, and makes at most one record of each."""
REFUSAL_CALL = 1
"""The call whose seed chooses a refusal: one sentence for a question in all data sets of a run."""


def choose(sentences: Sequence[str], record_id: str, context: Context, call: int = REFUSAL_CALL) -> str:
    """The sentence of a bank that the run's seed chooses for a record, whatever rows are around it."""
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

    The authors' conversions have faults that this one does not have: labels matched as substrings
    ("supported" in "not_supported"), the last character cut off where there is no full stop, a list read by
    position where it is a mapping, blanks and full stops joined differently from one data set to the next.
    """

    reads: ClassVar[type[Struct]] = Certainty
    writes: ClassVar[type[Struct]] = Demonstration
    needs: ClassVar[frozenset[Ability]] = frozenset()

    method: Method = "sure_unsure"
    """``sure_unsure`` (R-Tuning): the question, the *reference* (for unsure questions too),
    ``sure_question``, then ``sure`` or ``unsure``. ``uncertainty`` (R-Tuning-U): the same shape, of a split
    by the entropy of the answers; a question without an entropy is rejected. ``refuse`` (R-Tuning-R): the
    reference where it is sure, elsewhere one of ``refusals``. ``plain``: the question and the reference,
    which is what R-Tuning is compared with."""
    form: Form = Form()
    """How the question and the answer are put into turns."""
    parts: Annotated[tuple[SplitPart, ...], Meta(min_length=1)] = ("train",)
    """The parts of the split that become data; the others are for evaluation."""
    loss: Annotated[tuple[Piece, ...], Meta(min_length=1)] = ("answer", "reply")
    """The pieces that are trained; in plain text also ``question`` and ``sure_question``. The default, what
    the model says itself, follows the paper's description; its scripts were not run."""
    answers: Literal["reference", "majority"] = "reference"
    """What the answer is: the reference, or the most frequent of the model's own answers, for which
    ``uncertainty`` needs no reference at all."""
    sure_question: Sentence = SURE_QUESTION
    """The question after the answer, whether the model is sure."""
    sure: Sentence = SURE
    """What is said to it of a sure question."""
    unsure: Sentence = UNSURE
    """What is said to it of an unsure question."""
    refusals: Annotated[tuple[Sentence, ...], Meta(min_length=1)] = REFUSALS
    """The sentences to refuse with; one is chosen by seed and the question's id."""

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

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        return within("form", self.form.places)

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
