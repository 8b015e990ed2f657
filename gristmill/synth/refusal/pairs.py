"""Refusal preference pairs: a refusal over a wrong answer, a right answer over a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from gristmill.core.engine import Ability, Message
from gristmill.core.errors import RecipeError
from gristmill.core.knowledge import Certainty
from gristmill.core.prompts import within
from gristmill.core.records import Pair
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.synth.refusal.data import Sentence, SplitPart, choose, left_out
from gristmill.synth.refusal.evidence import answers, cost_of, needs_of
from gristmill.synth.refusal.forms import Form
from gristmill.synth.refusal.probe import ProbeKnowledge
from gristmill.synth.refusal.texts import REFUSALS


def refuse_plain(stage: str, form: Form) -> None:
    """Raise ``RecipeError`` for a form that a pair, whose sides are messages, cannot have."""
    if form.kind == "plain":
        raise RecipeError(
            f"{stage}: a pair has no plain form.", remedy="Set form.kind to conversation or system."
        )


class RefusalPairs(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes pairs from what a model is known to know, or not to know.

    Of an unsure question a refusal is preferred to a wrong answer, of a sure one a right answer to a refusal,
    against over-refusal. The wrong answer is one that a verdict found wrong; answers that decline are not
    wrong answers.

    That refusal should win where the model does not know, and lose where it does, is the common idea of
    preference data of abstention; the rule of evidence is this project's own.
    """

    reads: ClassVar[type[Struct]] = Certainty
    writes: ClassVar[type[Struct]] = Pair

    probe: ProbeKnowledge | None = None
    """The options of the stage that probed, whose samples are then the right and wrong answers (the
    completion log answers for them). Without it the right answer is the reference, and the wrong one the
    greedy answer, or the most frequent one if no sample is right."""
    form: Form = Form()
    """How the question and the answer are put into turns."""
    parts: Annotated[tuple[SplitPart, ...], Meta(min_length=1)] = ("train",)
    """The parts of the split that become data; the others are for evaluation."""
    evidence: Literal["interval", "label"] = "interval"
    """What a question needs beside its label: ``interval`` a Wilson interval of its right samples that lies
    below ``boundary`` (unsure) or above it (sure); ``label`` nothing more."""
    boundary: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    """The share of right samples on one side of which the interval has to lie."""
    limit: Annotated[int, Meta(ge=1)] = 1
    """The most pairs of a question."""
    refusals: Annotated[tuple[Sentence, ...], Meta(min_length=1)] = REFUSALS
    """The sentences to refuse with; one is chosen by seed for each question."""

    def __post_init__(self) -> None:
        refuse_plain("refusal_pairs", self.form)

    @property
    def needs(self) -> frozenset[Ability]:
        """What the probe needs; nothing without one."""
        return needs_of(self.probe)

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        return within("form", self.form.places)

    async def __call__(self, record: Certainty, context: Context) -> Sequence[Pair | Rejection]:
        """The pairs of one question, or a ``Rejection`` with the reason why there is none."""
        if (out := left_out(record, self.parts)) is not None:
            return [out]
        if self.evidence == "interval" and not self._settled(record):
            detail = f"{record.correct} of {record.decided}: {record.low:.3f} to {record.high:.3f}"
            return [Rejection(record.id, "no pair: the interval does not bear the label out", detail)]
        found = await answers(record, self.probe, self.form, context)
        refusal = choose(self.refusals, record.id, context)
        sure = record.certain == "sure"
        sides = [(a, refusal) for a in found.right] if sure else [(refusal, a) for a in found.wrong]
        if not sides:
            return [Rejection(record.id, f"no pair: no answer known to be {'right' if sure else 'wrong'}")]
        kind = "right over refusal" if sure else "refusal over wrong"
        prompt = self.form.prompt(record)
        return [
            Pair(
                f"{record.id}/refusal/{i}",
                record.id,
                kind,
                prompt,
                (Message("assistant", chosen),),
                (Message("assistant", rejected),),
                meta=record.meta,
            )
            for i, (chosen, rejected) in enumerate(sides[: self.limit])
        ]

    def _settled(self, record: Certainty) -> bool:
        return record.low > self.boundary if record.certain == "sure" else record.high < self.boundary

    def estimate(self, record: Certainty) -> Estimate:
        """The probe's samples at most; nothing without a probe."""
        return cost_of(record, self.probe, self.limit)
