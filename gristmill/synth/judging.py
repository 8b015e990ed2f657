"""A model's verdicts on samples and on preference pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.prompts import RowValues
from gristmill.core.records import Pair, Sampled, Score, score_of, with_score
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.core.verdicts import Verdict
from gristmill.synth.scoring import VERDICT, ScoreName, cut_off, said, with_verdict
from gristmill.verifiers.evidence import decided, unparseable
from gristmill.verifiers.judges.base import Comparison, with_row
from gristmill.verifiers.judges.loading import load_comparer, load_model_verifier
from gristmill.verifiers.rules.combine import merge

COMPARISON = "comparison:"
"""What the rule of a verdict begins with that says which side of a pair is better."""
_CALL = 1_000_000
"""Seeds of a judge's questions are derived apart from those of the samples' turns, but from the problem as
well: equal answers to one problem are asked about once."""


class JudgeSamples(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Puts a model's verdict on every sample.

    A sample that was cut off is ``unparseable`` without being asked about. No sample is rejected: that is the
    task of a filter.
    """

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = Sampled

    verifier: dict[str, Any] = msgspec.field(default_factory=lambda: {"kind": "judge"})
    """``{kind: NAME, ...options}`` of a registered model verifier that judges one answer: judge, checklist,
    binary_principles, grounding_judge, option_shuffle."""
    reference: Literal["answer", "none"] = "answer"
    """What the answer is compared with: the sample's reference, or nothing, by which a judge grades instead
    of comparing."""
    score: ScoreName = VERDICT
    """The name of the score under which the verdict is kept; ``verdict`` is the sample's own verdict."""
    earlier: Literal["replace", "keep", "all", "any"] = "replace"
    """What becomes of the verdict that is under that name already: ``replace`` puts the model's in its place
    (the earlier one is still in the stage before, under the same id); ``keep`` asks only about samples whose
    verdict is undecided or missing; ``all`` and ``any`` join the two as ``combine`` does, with both in the
    detail."""

    def __post_init__(self) -> None:
        load_model_verifier(*named(self.verifier))  # so that a bad one is an error here and now

    @property
    def needs(self) -> frozenset[Ability]:
        """What the verifier needs."""
        return load_model_verifier(*named(self.verifier)).needs

    async def __call__(self, sample: Sampled, context: Context) -> Sequence[Sampled]:
        """The sample with its verdict."""
        if self._kept(sample):
            return [sample]
        found = cut_off(sample)
        if found is None:
            found = await self._asked(sample, context)
        context.count(found)
        held = self._held(sample)
        if held is not None and (self.earlier == "all" or self.earlier == "any"):
            found = merge({"earlier": held, self.verifier["kind"]: found}, self.earlier)
        return [with_verdict(sample, self.score, found)]

    async def _asked(self, sample: Sampled, context: Context) -> Verdict:
        """The model's verdict; undecided for a sample without the column that the verifier reads."""
        verifier: Any = load_model_verifier(*named(self.verifier))
        try:
            verifier = with_row(verifier, RowValues(sample))
        except RowRejected as error:
            return unparseable(error.reason, error.message)
        found: Verdict = await verifier(
            sample.completion,
            self._reference(sample),
            problem=sample.problem,
            engine=context.engine,
            seed=context.seed_for(sample.problem_id, _CALL),
        )
        return found

    def estimate(self, sample: Sampled) -> Estimate:
        """What the verifier says; nothing for a sample that is not asked about."""
        if self._kept(sample) or cut_off(sample) is not None:
            return Estimate(0, 0, 0, 0, rows_max=1)
        verifier = load_model_verifier(*named(self.verifier))
        cost = verifier.estimate(sample.completion, self._reference(sample), problem=sample.problem)
        return replace(cost, rows_max=1)

    def _held(self, sample: Sampled) -> Verdict | None:
        if self.score == VERDICT:
            return sample.verdict
        score = score_of(sample, self.score)
        return None if score is None else score.verdict

    def _kept(self, sample: Sampled) -> bool:
        held = self._held(sample)
        return self.earlier == "keep" and held is not None and held.decided

    def _reference(self, sample: Sampled) -> str:
        return sample.answer or "" if self.reference == "answer" else ""


class JudgePairs(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keeps the preference pairs whose chosen side a model finds the better one too.

    The problem is the prompt's last user turn; an answer is all that its side's assistant turns say. The
    other pairs are rejected, by what came of them: ``the rejected side is better``, ``a tie``, ``no
    verdict``.
    """

    reads: ClassVar[type[Struct]] = Pair
    writes: ClassVar[type[Struct]] = Pair

    verifier: dict[str, Any] = msgspec.field(default_factory=lambda: {"kind": "judge"})
    """``{kind: NAME, ...options}`` of a registered model verifier that compares two answers: judge (both
    orders always run), checklist, salmon."""
    score: ScoreName | None = None
    """The name of a score that says what came of it; then no pair is rejected. Its value is 1 where the
    chosen side is better, 0 where the rejected one is, 0.5 for a tie and null without a verdict. A judge that
    tells both orders writes NAME_shown_first and NAME_shown_second besides: its probability that the chosen
    side is better, where that is shown first and second."""

    def __post_init__(self) -> None:
        load_comparer(*named(self.verifier))

    @property
    def needs(self) -> frozenset[Ability]:
        """What the verifier needs."""
        return load_comparer(*named(self.verifier)).needs

    async def __call__(self, pair: Pair, context: Context) -> Sequence[Pair | Rejection]:
        """The pair, or its rejection."""
        problem, chosen, rejected = _texts(pair)
        found = await load_comparer(*named(self.verifier)).compare(
            chosen, rejected, problem=problem, engine=context.engine, seed=context.seed_for(pair.id)
        )
        if self.score is not None:
            context.measure(f"{self.score} without a value", int(found.winner is None))
            pair = with_score(pair, _compared(self.score, found))
            for place, value in zip(("first", "second"), found.orders or (), strict=False):
                pair = with_score(pair, Score(f"{self.score}_shown_{place}", value))
            return [pair]
        reasons = {"second": "the rejected side is better", "tie": "a tie", None: "no verdict"}
        if found.winner == "first":
            return [pair]
        return [Rejection(pair.id, reasons[found.winner], found.detail)]

    def estimate(self, pair: Pair) -> Estimate:
        """What the verifier says."""
        problem, chosen, rejected = _texts(pair)
        cost = load_comparer(*named(self.verifier)).estimate_pair(chosen, rejected, problem=problem)
        return replace(cost, rows_max=1)


def named(verifier: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The kind and the options of ``{kind: NAME, ...options}``."""
    kind = verifier.get("kind")
    if not isinstance(kind, str):
        raise RecipeError(
            f"the verifier {dict(verifier)!r} has no kind.", remedy="Write verifier: {kind: judge, ...}."
        )
    return kind, {key: value for key, value in verifier.items() if key != "kind"}


def _compared(name: str, found: Comparison) -> Score:
    """What came of a comparison of the chosen with the rejected side."""
    value = {"first": 1.0, "second": 0.0, "tie": 0.5, None: None}[found.winner]
    rule = f"{COMPARISON} {found.winner or 'no verdict'}"
    if found.winner in ("first", "second"):
        return Score(name, value, decided(value == 1.0, rule=rule, detail=found.detail))
    return Score(name, value, unparseable(rule, found.detail))


def _texts(pair: Pair) -> tuple[str, str, str]:
    """The problem and the two answers."""
    asked = next((m.content for m in reversed(pair.prompt) if m.role == "user"), "")
    return asked, said(pair.chosen), said(pair.rejected)
