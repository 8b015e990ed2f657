"""Confidence in words: how it is asked for and read, data that teaches it, and its calibration pairs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from gristmill.core.engine import Ability, Message
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.knowledge import Certainty
from gristmill.core.prompts import within
from gristmill.core.records import Demonstration, Pair, Span, Turn
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.synth.refusal.data import NOTHING, SplitPart
from gristmill.synth.refusal.evidence import answers, cost_of, needs_of
from gristmill.synth.refusal.forms import Form
from gristmill.synth.refusal.pairs import refuse_plain
from gristmill.synth.refusal.probe import ProbeKnowledge
from gristmill.synth.refusal.texts import STATE_CONFIDENCE

SCALE = 10
"""A confidence is a number from 0 to 10 (arXiv 2410.09724, section 2)."""

_CALL = 3
"""The seed of the numbers is derived apart from that of the refusals."""
_TAIL = 2_000
"""A confidence is looked for in this many last characters."""
_STATED = re.compile(
    r"(?:\A|[\n.!?(\[*])[ \t*_(\[]{0,4}confidence(?: level| score)?[ \t*_]{0,4}[:=][ \t*_]{0,4}"
    r"(\d{1,3}(?:\.\d{1,4})?)(?![\d])[ \t]*(%|/[ \t]*\d{1,3}\b|out of[ \t]+\d{1,3}\b)?",
    re.IGNORECASE,
)
_SYSTEM = Form(kind="system", system=STATE_CONFIDENCE)
Level = Annotated[int, Meta(ge=0, le=SCALE)]


def stated_confidence(text: str, scale: int = SCALE) -> float | None:
    """The confidence that the end of ``text`` states, in [0, 1]; ``None`` where none can be read.

    Read are "Confidence: 7", "7/10", "7 out of 10" and "70%", with Markdown emphasis or without; the last of
    several counts. A bare number is on the scale 0 to ``scale``. A number beyond its scale is not one.
    """
    found = list(_STATED.finditer(text[-_TAIL:]))
    if not found:
        return None
    number, unit = float(found[-1][1]), found[-1][2] or ""
    digits = re.search(r"\d+", unit)
    most = 100 if unit == "%" else int(digits[0]) if digits else scale
    return number / most if most and number <= most else None


def without_confidence(text: str) -> str:
    """``text`` up to the last confidence that it states, so that a verifier reads the answer alone; what
    follows that where nothing is before it."""
    before, tail = text[:-_TAIL], text[-_TAIL:]
    found = list(_STATED.finditer(tail))
    if not found:
        return text.strip()
    # The mark before it may be the answer's own full stop.
    begin = found[-1].start()
    kept = begin + (tail[begin] in ".!?")
    return (before + tail[:kept]).strip() or tail[found[-1].end() :].strip()


def with_confidence(answer: str, level: int) -> str:
    """An answer with its confidence on a line of its own, as ``stated_confidence`` reads it."""
    return f"{answer}\nConfidence: {level}"


class VerbalisedConfidence(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes a conversation in which an answer is followed by the confidence that the samples bear out.

    That a stated confidence is trained towards an empirical accuracy is the idea of "Teaching Models to
    Express Their Uncertainty in Words" (arXiv 2205.14334), which has it by kind of question; here it is by
    question.
    """

    reads: ClassVar[type[Struct]] = Certainty
    writes: ClassVar[type[Struct]] = Demonstration
    needs: ClassVar[frozenset[Ability]] = frozenset()

    form: Form = _SYSTEM
    """How the question and the answer are put into turns; by default the system message asks for a
    confidence."""
    parts: Annotated[tuple[SplitPart, ...], Meta(min_length=1)] = ("train",)
    """The parts of the split that become data; the others are for evaluation."""
    confidence: Literal["correct", "agreement"] = "correct"
    """``correct`` gives the reference with 10 c / n for c right of n decided samples; ``agreement`` the most
    frequent answer with its share of all samples, for which no reference is needed. Both are rounded to whole
    numbers, halves up."""
    loss: Literal["all", "confidence"] = "all"
    """``confidence`` trains the number's line alone, so that no fact is taught with it; ``all`` the answer
    too."""

    def __post_init__(self) -> None:
        refuse_plain("verbalised_confidence", self.form)

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        return within("form", self.form.places)

    async def __call__(self, record: Certainty, context: Context) -> Sequence[Demonstration | Rejection]:
        """One record, or a ``Rejection`` with the reason why there is none."""
        if record.part not in self.parts:
            return [Rejection(record.id, f"not of the parts wanted: {record.part}")]
        answer, level = self._said(record)
        text = with_confidence(answer, level)
        spans = (Span(len(answer) + 1, len(text)),) if self.loss == "confidence" else ()
        turns = (
            *self.form.turns(("user", self.form.asked(record), False)),
            Turn("assistant", text, True, spans),
        )
        kind = f"confidence/{level}"
        return [
            Demonstration(f"{record.id}/confidence", record.id, record.problem, record.answer, kind, turns)
        ]

    def _said(self, record: Certainty) -> tuple[str, int]:
        if self.confidence == "correct":
            if not record.decided:
                raise RowRejected("no sample is decided")
            return self.form.answered(record), level_of(record.correct, record.decided)
        if not record.majority or not record.classes:
            raise RowRejected("has no majority among its answers")
        # Counted again: a share in floating point could round the other way.
        sizes = [record.classes.count(c) for c in set(record.classes) if c >= 0]
        return self.form.answered(record, record.majority), level_of(max(sizes), len(record.classes))

    def estimate(self, record: Certainty) -> Estimate:
        """It calls no engine."""
        return NOTHING


def level_of(count: int, total: int, scale: int = SCALE) -> int:
    """``scale`` count / total to the nearest whole number, halves up, in integers."""
    return (2 * scale * count + total) // (2 * total)


class ConfidencePairs(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes PPO-M's pairs: one answer with a high and with a low confidence (arXiv 2410.09724, section 3).

    To a right answer the high one is preferred, to a wrong answer the low one; both sides differ in the
    number only, so that only the confidence is learned. The authors' script takes the two sides of a
    preference data set for right and wrong; here a verdict says which answer is right.
    """

    reads: ClassVar[type[Struct]] = Certainty
    writes: ClassVar[type[Struct]] = Pair

    probe: ProbeKnowledge | None = None
    """The options of the stage that probed, whose samples are then the right and wrong answers; without it
    they are as in ``refusal_pairs``."""
    form: Form = _SYSTEM
    """How the question and the answer are put into turns; by default the system message asks for a
    confidence."""
    parts: Annotated[tuple[SplitPart, ...], Meta(min_length=1)] = ("train",)
    """The parts of the split that become data; the others are for evaluation."""
    high: tuple[Level, Level] = (7, 10)
    """The range from which the higher number is drawn by seed; the default is the authors'."""
    low: tuple[Level, Level] = (0, 3)
    """The range from which the lower number is drawn by seed; the default is the authors'."""
    limit: Annotated[int, Meta(ge=1)] = 1
    """The most pairs of a question for right answers, and as many for wrong ones."""

    def __post_init__(self) -> None:
        refuse_plain("confidence_pairs", self.form)
        if not self.low[0] <= self.low[1] < self.high[0] <= self.high[1]:
            raise RecipeError(
                f"confidence_pairs: low {list(self.low)} and high {list(self.high)} are not apart.",
                remedy="Give two ranges, low below high.",
            )

    @property
    def needs(self) -> frozenset[Ability]:
        """What the probe needs; nothing without one."""
        return needs_of(self.probe)

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        return within("form", self.form.places)

    async def __call__(self, record: Certainty, context: Context) -> Sequence[Pair | Rejection]:
        """The pairs of one question, or a ``Rejection`` where no answer is known to be right or wrong."""
        if record.part not in self.parts:
            return [Rejection(record.id, f"not of the parts wanted: {record.part}")]
        found = await answers(record, self.probe, self.form, context)
        listed = [(a, True) for a in found.right[: self.limit]]
        listed += [(a, False) for a in found.wrong[: self.limit]]
        if not listed:
            return [Rejection(record.id, "no pair: no answer known to be right or wrong")]
        prompt = self.form.prompt(record)
        return [self._pair(record, i, prompt, a, right, context) for i, (a, right) in enumerate(listed)]

    def _pair(
        self,
        record: Certainty,
        index: int,
        prompt: tuple[Message, ...],
        answer: str,
        right: bool,
        context: Context,
    ) -> Pair:
        answer = without_confidence(answer)
        drawn = context.seed_for(f"{record.id}/{index}", _CALL)
        width = self.high[1] - self.high[0] + 1
        high = self.high[0] + drawn % width
        low = self.low[0] + drawn // width % (self.low[1] - self.low[0] + 1)
        sides = [(Message("assistant", with_confidence(answer, level)),) for level in (high, low)]
        chosen, rejected = sides if right else reversed(sides)
        return Pair(
            f"{record.id}/confidence/{index}",
            record.id,
            f"confidence of a {'right' if right else 'wrong'} answer",
            prompt,
            chosen,
            rejected,
            meta=record.meta,
        )

    def estimate(self, record: Certainty) -> Estimate:
        """The probe's samples at most; nothing without a probe."""
        return cost_of(record, self.probe, 2 * self.limit)
