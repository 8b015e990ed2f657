"""Scorers that ask a judge: thin readings of the model verifiers, whose prompts and guards are theirs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import msgspec
from msgspec.structs import replace

from gristmill.core.engine import Ability, Completion, Engine, FinishReason
from gristmill.core.errors import RowRejected
from gristmill.core.records import Score
from gristmill.core.stages import Context, Estimate
from gristmill.core.verdicts import unfinished
from gristmill.synth.drawing import JUDGE_CALL
from gristmill.synth.scorers.base import NOTHING, Answered, PairScorer, Scorer, unscored
from gristmill.verifiers.evidence import decided, unparseable
from gristmill.verifiers.judges.base import Comparer, ModelVerifier, with_row
from gristmill.verifiers.judges.loading import load_comparer, load_model_verifier
from gristmill.verifiers.judges.principles import BinaryPrinciples
from gristmill.verifiers.judges.rubric import Checklist
from gristmill.verifiers.raters.attributes import AttributeRatings, PreferenceJudge
from gristmill.verifiers.raters.base import Rated
from gristmill.verifiers.raters.critiques import Critiques
from gristmill.verifiers.raters.reasoned import ReasonedJudge
from gristmill.verifiers.raters.segments import Segments
from gristmill.verifiers.raters.tooled import ToolJudge
from gristmill.verifiers.raters.weighted import WeightedRubric

_RIGHT = "RESPONSE is right in every step and in its result, and answers all that PROBLEM asks."


class AskingScore(Scorer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the scorers that ask a judge about one answer.

    The value is the verdict's score; an undecided verdict has none. A verdict with parts (dimensions,
    attributes, kinds of error) gives a score for each, as ``SCORE_PART``. An answer that was cut off is not
    asked about.
    """

    engine: str | None = None
    """The name of the engine that judges; ``null`` is the stage's own."""
    reference: Literal["answer", "none"] = "answer"
    """Whether the judge is given the row's reference answer, where it makes use of one."""

    @property
    @abstractmethod
    def judge(self) -> ModelVerifier:
        """The model verifier that is asked."""
        raise NotImplementedError

    @property
    def needs(self) -> frozenset[Ability]:
        """What the judge needs, if the stage's own engine judges."""
        return self.judge.needs if self.engine is None else frozenset()

    @property
    def uses(self) -> Mapping[str, frozenset[Ability]]:
        """The engine that is named."""
        return {} if self.engine is None else {self.engine: self.judge.needs}

    def names(self, score: str) -> tuple[str, ...]:
        """The score, and one for each part."""
        parts: tuple[str, ...] = getattr(self.judge, "part_names", ())
        return (score, *(f"{score}_{part}" for part in parts))

    def asked(self, answer: Answered, context: Context) -> Engine:
        """The engine that judges an answer."""
        return context.named(self.engine)

    async def __call__(self, answer: Answered, context: Context, score: str) -> Sequence[Score]:
        """The scores. ``RowRejected`` for a row that lacks what the judge reads from it."""
        rated = await self._rated(answer, context)
        verdict = rated.verdict
        context.count(verdict)
        parts = [
            unscored(f"{score}_{name}", verdict.rule) if value is None else Score(f"{score}_{name}", value)
            for name, value in rated.parts.items()
        ]
        value = verdict.score if rated.value is None else rated.value
        return [Score(score, value, verdict), *parts]

    async def _rated(self, answer: Answered, context: Context) -> Rated:
        judge: Any = self.judge
        parts = dict.fromkeys(getattr(judge, "part_names", ()))
        cut = unfinished(Completion(answer.completion, cast(FinishReason, answer.finish_reason)))
        if cut is not None:
            return Rated(cut, parts)
        judge = with_row(judge, answer.row)
        ask = getattr(judge, "rate", judge)
        found = await ask(
            answer.completion,
            self._reference(answer),
            problem=answer.problem,
            engine=self.asked(answer, context),
            seed=context.seed_for(answer.problem_id, JUDGE_CALL),
        )
        return found if isinstance(found, Rated) else Rated(found, parts)

    def _reference(self, answer: Answered) -> str:
        return answer.reference or "" if self.reference == "answer" else ""

    def estimate(self, answer: Answered) -> Estimate:
        """What the judge says; nothing for an answer that is not asked about."""
        judge: Any = self.judge
        if answer.finish_reason != "stop":
            return NOTHING
        try:
            judge = with_row(judge, answer.row)
        except RowRejected:
            return NOTHING
        cost: Estimate = judge.estimate(answer.completion, self._reference(answer), problem=answer.problem)
        return replace(cost, rows_max=1)


class JudgeScore(AskingScore, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The verdict of any model verifier on an answer; or, with ``against``, by how much it is better than
    another one, asked in both orders.

    With a known good answer in ``against`` it is the pairwise reward of Pairwise-RL (arXiv 2504.04950), with
    a strong model's translation there the comparison with an exemplar of ExTrans (arXiv 2505.12996); with the
    policy's own engine and no reference, the grade that it gives its own translation, as in SSR-Zero (arXiv
    2505.16637). Their training is not part of this.
    """

    by: dict[str, Any] = msgspec.field(default_factory=lambda: {"kind": "judge"})
    """``{kind: NAME, ...options}`` of a registered model verifier: judge, instructed_judge, checklist, ..."""
    against: str | None = None
    """The column with another answer (the reference answer, or that of a baseline) with which the model
    verifier compares this one. The value is then the share by which this one is better, 0 to 1, with 0.5 for
    orders that disagree; ``correct`` is better, a tie is undecided."""

    def __post_init__(self) -> None:
        kind, options = self._named()
        if self.against is None:
            load_model_verifier(kind, options)
        else:
            load_comparer(kind, options)

    def _named(self) -> tuple[str, dict[str, Any]]:
        options = dict(self.by)
        return str(options.pop("kind", "judge")), options

    @property
    def judge(self) -> ModelVerifier:
        """The model verifier that is asked."""
        return cast(ModelVerifier, self._comparer()) if self.against else load_model_verifier(*self._named())

    def _comparer(self) -> Comparer:
        return load_comparer(*self._named())

    def names(self, score: str) -> tuple[str, ...]:
        """The score, and one for each part unless it compares."""
        return (score,) if self.against else super().names(score)

    async def _rated(self, answer: Answered, context: Context) -> Rated:
        if self.against is None:
            return await super()._rated(answer, context)
        other = answer.row.get(self.against)
        if not isinstance(other, str) or not other.strip():
            raise RowRejected(f"has no {self.against!r}", "there is no other answer to compare with")
        found = await self._comparer().compare(
            answer.completion,
            other,
            problem=answer.problem,
            engine=self.asked(answer, context),
            seed=context.seed_for(answer.problem_id, JUDGE_CALL),
        )
        rule = f"compared with {self.against}"
        if found.winner is None:
            return Rated(unparseable(f"{rule}: not told", found.detail))
        ahead = found.first if found.first is not None else float(found.winner == "first")
        if found.winner == "tie":
            return Rated(unparseable(f"{rule}: a tie", found.detail), value=0.5)
        won = found.winner == "first"
        return Rated(decided(won, rule=rule, score=ahead, detail=found.detail))

    def estimate(self, answer: Answered) -> Estimate:
        """What the model verifier says."""
        if self.against is None or answer.finish_reason != "stop":
            return super().estimate(answer)
        other = str(answer.row.get(self.against) or "")
        cost = self._comparer().estimate_pair(answer.completion, other, problem=answer.problem)
        return replace(cost, rows_max=1)


class ChecklistScore(AskingScore, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The share of the questions of a checklist that get a yes (TICK, arXiv 2410.03608; ACE-RL, arXiv
    2509.04903, verifies the constraints of an instruction so)."""

    by: Checklist = Checklist()
    """The options of the model verifier ``checklist``."""

    @property
    def judge(self) -> ModelVerifier:
        """The checklist."""
        return self.by


class RubricScore(AskingScore, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The points of a rubric with weights, in all and by dimension."""

    by: WeightedRubric
    """The options of the model verifier ``weighted_rubric``."""

    @property
    def judge(self) -> ModelVerifier:
        """The rubric."""
        return self.by


class PrincipleScore(AskingScore, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The share of principles that an answer satisfies (RLBFF, arXiv 2509.21319)."""

    by: BinaryPrinciples
    """The options of the model verifier ``binary_principles``: the principles, or the column with them."""

    @property
    def judge(self) -> ModelVerifier:
        """The principles."""
        return self.by


class AttributeScore(AskingScore, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ratings by HelpSteer2's attributes or others (arXiv 2406.08673), with the justification."""

    by: AttributeRatings = AttributeRatings()
    """The options of the model verifier ``ratings``."""

    @property
    def judge(self) -> ModelVerifier:
        """The attributes."""
        return self.by


class SegmentScore(AskingScore, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The share of an answer that is free of errors, in all and by kind of error, with the spans."""

    by: Segments = Segments()
    """The options of the model verifier ``segments``."""

    @property
    def judge(self) -> ModelVerifier:
        """The segments."""
        return self.by


class ToolScore(AskingScore, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The verdict of a judge that uses tools (Themis, arXiv 2310.01045), with its calls."""

    by: ToolJudge = ToolJudge()
    """The options of the model verifier ``tool_judge``."""

    @property
    def judge(self) -> ModelVerifier:
        """The judge."""
        return self.by


class CritiqueScore(AskingScore, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sum of sampled critiques' scores (SPCT, arXiv 2504.02495), with what they say."""

    by: Critiques = Critiques()
    """The options of the model verifier ``critiques``."""

    @property
    def judge(self) -> ModelVerifier:
        """The critiques."""
        return self.by


class ReasonedScore(AskingScore, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The verdict of a judge that writes a rubric or a solution first (RM-R1, arXiv 2505.02387), with the
    trace."""

    by: ReasonedJudge = ReasonedJudge()
    """The options of the model verifier ``reasoned_judge``."""

    @property
    def judge(self) -> ModelVerifier:
        """The judge."""
        return self.by


class SelfCheck(AskingScore, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether the model that wrote an answer finds it right when it is shown it anew (self-check of "Critique
    Ability of Large Language Models", arXiv 2310.04815).

    A sample with the name of an engine in ``model`` is shown to that engine, any other to ``engine``. To be
    trusted only as far as its agreement with verdicts goes; see ``docs/judges.md``.
    """

    by: BinaryPrinciples = BinaryPrinciples((_RIGHT,))
    """What is asked, as the options of the model verifier ``binary_principles``."""
    reference: Literal["none"] = "none"
    """The reference is never shown."""

    @property
    def judge(self) -> ModelVerifier:
        """What is asked."""
        return self.by

    def asked(self, answer: Answered, context: Context) -> Engine:
        """The engine that wrote the answer, if it is known."""
        wrote = answer.row.get("model")
        return context.named(wrote if isinstance(wrote, str) and wrote in context.engines else self.engine)


class PreferenceScore(PairScorer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How strongly a judge prefers the chosen side: from -3 to 3, below 0 where it prefers the rejected one,
    with its justifications (HelpSteer2-Preference, arXiv 2410.01257)."""

    by: PreferenceJudge = PreferenceJudge()
    """How it is asked, in both orders."""
    engine: str | None = None
    """The name of the engine that judges; ``null`` is the stage's own."""

    @property
    def needs(self) -> frozenset[Ability]:
        """To chat, if the stage's own engine judges."""
        return frozenset({Ability.CHAT}) if self.engine is None else frozenset()

    @property
    def uses(self) -> Mapping[str, frozenset[Ability]]:
        """The engine that is named."""
        return {} if self.engine is None else {self.engine: frozenset({Ability.CHAT})}

    async def __call__(
        self, chosen: Answered, rejected: Answered, context: Context, score: str
    ) -> Sequence[Score]:
        """The strength. The verdict is ``correct`` above 0, ``incorrect`` below, undecided at 0."""
        found = await self.by.prefer(
            chosen.completion,
            rejected.completion,
            problem=chosen.problem,
            engine=context.named(self.engine),
            seed=context.seed_for(chosen.problem_id, JUDGE_CALL),
        )
        if found.value is None:
            return [unscored(score, "preference: not told", found.why)]
        detail = msgspec.json.encode(found).decode()
        if not found.value:
            return [Score(score, 0.0, unparseable("preference: none", detail))]
        share = (found.value + 3) / 6
        return [
            Score(score, found.value, decided(found.value > 0, rule="preference", score=share, detail=detail))
        ]

    def estimate(self, chosen: Answered, rejected: Answered) -> Estimate:
        """A question for each order."""
        cost = self.by.estimate_pair(chosen.completion, rejected.completion, problem=chosen.problem)
        return replace(cost, rows_max=1)
