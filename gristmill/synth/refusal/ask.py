"""Asks a model a question that it may decline, and how sure it is (R-Tuning, arXiv 2311.09677)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Completion, Message, Sampling
from gristmill.core.errors import RecipeError
from gristmill.core.knowledge import Certainty, Response
from gristmill.core.prompts import within
from gristmill.core.records import Problem
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.synth.refusal import sureness
from gristmill.synth.refusal import texts as t
from gristmill.synth.refusal.calibration import SCALE, stated_confidence, without_confidence
from gristmill.synth.refusal.data import NOTHING, SplitPart
from gristmill.synth.refusal.evidence import declines
from gristmill.synth.refusal.probe import ProbeKnowledge
from gristmill.synth.refusal.sureness import Sureness

_END = (".", "!", "?")
_REFUSED = Verdict(Outcome.UNPARSEABLE, rule="refused")
_UNANSWERABLE = Verdict(Outcome.INCORRECT, 0.0, rule="unanswerable")
_NO_ANSWER = "A"
"""What stands for the reference that an unanswerable question has not: no verifier sees it."""
# The paper's rule, with room for the longest refusal.
_PROBE = ProbeKnowledge(preset="r-tuning", sampling=Sampling(temperature=0.0, max_tokens=32))


class AskOrRefuse(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Asks each problem once, greedily, in the form of the training data, and how sure the model is.

    An answer that declines is ``unparseable`` under the rule ``refused``, even where it mentions the
    reference. A problem without an answer is a question that cannot be answered: any answer to it is
    ``incorrect`` under the rule ``unanswerable``, it counts as not known, and its response has an empty
    reference.
    """

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Response

    method: Literal["sure", "refusal", "plain"] = "sure"
    """``sure`` puts ``sure_question`` after the answer and reads the probability with which it goes on as in
    ``sure`` and not as in ``unsure`` (R-Tuning, and -U); ``refusal`` lets the words of the answer decide
    (R-Tuning-R); ``plain`` takes everything for an answer, whatever its words (the baseline)."""
    probe: ProbeKnowledge = _PROBE
    """How the question is put and its answer cut and judged, as for ``probe_knowledge``; of its ``sampling``
    the ``max_tokens`` and ``stop`` count. In plain text an answer ends with its first sentence unless
    ``probe.cut`` is set: nothing else ends it there."""
    refusals: tuple[str, ...] = (*t.REFUSALS, *t.ABSTENTIONS, *t.NOT_YET)
    """Beginnings of answers that decline, beside the phrases that ``evidence.declines`` knows."""
    confidence: bool = True
    """Whether the probabilities of the answer's tokens are asked for. Where the engine gives none, the
    response has no confidence."""
    sure_question: str = t.SURE_QUESTION
    """The question after the answer, whether the model is sure."""
    sure: str = t.SURE
    """What a model says to it that is sure."""
    unsure: str = t.UNSURE
    """What a model says to it that is not."""
    read: sureness.Read = "auto"
    """How the probability of ``sure`` is read: from the next ``tokens``, or by having the engine ``score``
    both; ``auto`` scores where the engine can. See ``sureness.sureness``."""
    stated: str | None = None
    """A system message that asks for a line ``Confidence: N``, such as ``texts.STATE_CONFIDENCE``; the answer
    is then not cut. ``null``: no confidence is asked for in words."""
    scale: Annotated[int, Meta(ge=1, le=100)] = SCALE
    """The highest confidence that may be stated."""

    def __post_init__(self) -> None:
        sureness.words_of(self.sure, self.unsure)
        if self.stated is not None and self.probe.form.kind == "plain":
            raise RecipeError(
                "stated: plain text has no system message to ask for a confidence.",
                remedy="Set probe.form.kind to conversation.",
            )

    @property
    def needs(self) -> frozenset[Ability]:
        """To chat, to give probabilities, and for that of "sure" to continue a turn or to score one."""
        needed = {Ability.CHAT}
        if self.confidence:
            needed.add(Ability.LOGPROBS)
        if self.method == "sure":
            needed |= {Ability.SCORE} if self.read == "score" else {Ability.CONTINUE, Ability.LOGPROBS}
        return frozenset(needed)

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        return within("probe", self.probe.places)

    async def __call__(self, problem: Problem, context: Context) -> Sequence[Response]:
        """The response to one problem. ``RowRejected`` where it lacks what the form needs."""
        unanswerable = problem.answer is None

        async def verify(text: str, reference: str) -> Verdict:
            answer = self._answer(text)
            if self._refuses(answer):
                context.count(_REFUSED)
                return _REFUSED
            if unanswerable:
                context.count(_UNANSWERABLE)
                return _UNANSWERABLE
            return await context.verify(answer, reference)

        asking = self.asking
        [known] = await asking(_answerable(problem), replace(context, verify=verify))
        assert known.greedy is not None
        said = known.greedy.completion
        answer = self._answer(said.text)
        refused = self._refuses(answer)
        found = Sureness(None, None)
        if self.method == "sure" and not refused:
            found = await self._sureness(known.messages, said.text.strip(), context)
        return [
            Response(
                id=problem.id,
                problem=problem.problem,
                answer="" if unanswerable else known.answer,
                meta=problem.meta,
                completion=answer,
                verdict=known.greedy.verdict,
                refused=refused,
                confidence=self._confidence(said, answer),
                sure=found.sure,
                stated=None if self.stated is None else stated_confidence(said.text, self.scale),
                mass=found.mass,
                known=False if unanswerable else None,
            )
        ]

    def estimate(self, problem: Problem) -> Estimate:
        """The probe's, and for the sure probability one completion for each beginning that is followed up
        (two where the engine scores)."""
        cost = self.asking.estimate(
            problem if problem.answer is not None else replace(problem, answer=_NO_ANSWER)
        )
        if self.method != "sure" or not cost.completions_max:
            return cost
        # A refusal in words is not asked whether it is sure.
        return replace(cost, completions_max=cost.completions_max + 1 + sureness.FOLLOWED)

    @property
    def asking(self) -> ProbeKnowledge:
        """The probe with what this stage sets: one greedy answer, with its tokens' probabilities."""
        probe, form = self.probe, self.probe.form
        sampling = probe.sampling or Sampling(max_tokens=probe.plan.max_tokens)
        if self.confidence and sampling.logprobs is None:
            sampling = replace(sampling, logprobs=0)
        cut = "sentence" if form.kind == "plain" and probe.cut is None else probe.cut
        if self.stated is not None:
            form, cut = replace(form, kind="system", system=self.stated), "none"
        return replace(probe, samples=0, greedy=True, sampling=sampling, form=form, cut=cut)

    def _answer(self, text: str) -> str:
        return text if self.stated is None else without_confidence(text)

    def _refuses(self, answer: str) -> bool:
        return self.method != "plain" and declines(answer, self.refusals)

    def _confidence(self, said: Completion, answer: str) -> float | None:
        if not self.confidence or said.logprobs is None:
            return None
        return sureness.confidence(said.logprobs, answer)

    async def _sureness(self, asked: tuple[Message, ...], answer: str, context: Context) -> Sureness:
        prefix, form = "", self.probe.form
        if form.kind == "plain":
            # One text, joined as the training text is: what asks and what answers goes on behind the answer.
            closed = answer if answer.endswith(_END) else answer + "."
            prefix = form.joint + closed + form.joint + self.sure_question + form.joint
        else:
            asked = (*asked, Message("assistant", answer), Message("user", self.sure_question))
        words = sureness.words_of(self.sure, self.unsure)
        return await sureness.sureness(context.engine, asked, prefix, words, read=self.read)


def _answerable(problem: Problem) -> Problem:
    """The problem, with something in the place of the reference that it does not have."""
    return replace(problem, answer=_NO_ANSWER) if problem.answer is None else problem


class AskHeldOut(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Asks the questions of a split that are not for training (see ``AskOrRefuse``).

    A question is ``known`` where the split calls it sure, not where it calls it unsure, and undecided where
    its rule left it out. Questions of other parts than ``parts`` are rejected, as they need no answer.
    """

    reads: ClassVar[type[Struct]] = Certainty
    writes: ClassVar[type[Struct]] = Response

    ask: AskOrRefuse = AskOrRefuse()
    """The options of the stage ``ask_or_refuse``."""
    parts: Annotated[tuple[SplitPart, ...], Meta(min_length=1)] = ("test", "test_ood")
    """The parts of the split whose questions are asked."""

    @property
    def needs(self) -> frozenset[Ability]:
        """See ``AskOrRefuse.needs``."""
        return self.ask.needs

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        return within("ask", self.ask.places)

    async def __call__(self, record: Certainty, context: Context) -> Sequence[Response | Rejection]:
        """The response to one question, or its ``Rejection``."""
        if record.part not in self.parts:
            return [Rejection(record.id, f"not of the parts wanted: {record.part}")]
        known = None if record.certain is None else record.certain == "sure"
        found = await self.ask(_problem(record), context)
        return [replace(response, known=known, part=record.part) for response in found]

    def estimate(self, record: Certainty) -> Estimate:
        """See ``AskOrRefuse.estimate``; nothing for a question of another part."""
        return self.ask.estimate(_problem(record)) if record.part in self.parts else NOTHING


def _problem(record: Certainty) -> Problem:
    return Problem(record.id, record.problem, record.answer, meta=record.meta)
