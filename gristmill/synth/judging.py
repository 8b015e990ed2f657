"""A model's verdicts on samples and on preference pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Message
from gristmill.core.errors import RecipeError
from gristmill.core.records import Pair, Sampled
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.verifiers.judges.loading import load_comparer, load_model_verifier
from gristmill.verifiers.rules.combine import merge

_NOTHING = Estimate(0, 0, 0, 0)
_CALL = 1_000_000
"""Seeds of a judge's questions are derived apart from those of the samples' turns, but from the problem as
well: equal answers to one problem are asked about once."""


class JudgeSamples(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Puts a model's verdict on every sample.

    ``verifier`` is ``{kind: NAME, ...options}`` of a registered model verifier that judges one answer:
    judge, checklist, binary_principles, grounding_judge, option_shuffle. Its reference is the sample's
    answer, or with ``reference: none`` nothing, by which a judge grades instead of comparing. A sample
    that was cut off is ``unparseable`` without being asked about.

    ``earlier`` says what becomes of the verdict that a sample has already: ``replace`` puts the model's
    in its place (the earlier one stands on in the stage before, under the same id); ``keep`` asks only
    about samples whose verdict is undecided or missing; ``all`` and ``any`` join the two as ``combine``
    does, with both in the detail. No sample is dropped: that is a filter's part.
    """

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = Sampled

    verifier: dict[str, Any] = msgspec.field(default_factory=lambda: {"kind": "judge"})
    reference: Literal["answer", "none"] = "answer"
    earlier: Literal["replace", "keep", "all", "any"] = "replace"

    def __post_init__(self) -> None:
        load_model_verifier(*_named(self.verifier))  # so that a bad one is an error here and now

    @property
    def needs(self) -> frozenset[Ability]:
        """What the verifier needs."""
        return load_model_verifier(*_named(self.verifier)).needs

    async def __call__(self, sample: Sampled, context: Context) -> Sequence[Sampled]:
        """The sample with its verdict."""
        if self._kept(sample):
            return [sample]
        found = _unfinished(sample)
        if found is None:
            found = await load_model_verifier(*_named(self.verifier))(
                sample.completion,
                self._reference(sample),
                problem=sample.problem,
                engine=context.engine,
                seed=context.seed_for(sample.problem_id, _CALL),
            )
        context.count(found)
        if sample.verdict is not None and (self.earlier == "all" or self.earlier == "any"):
            found = merge({"earlier": sample.verdict, self.verifier["kind"]: found}, self.earlier)
        return [replace(sample, verdict=found)]

    def estimate(self, sample: Sampled) -> Estimate:
        """What the verifier says; nothing for a sample that is not asked about."""
        if self._kept(sample) or _unfinished(sample) is not None:
            return _NOTHING
        verifier = load_model_verifier(*_named(self.verifier))
        return verifier.estimate(sample.completion, self._reference(sample), problem=sample.problem)

    def _kept(self, sample: Sampled) -> bool:
        return self.earlier == "keep" and sample.verdict is not None and sample.verdict.decided

    def _reference(self, sample: Sampled) -> str:
        return sample.answer or "" if self.reference == "answer" else ""


class JudgePairs(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keeps the preference pairs whose chosen side a model finds the better one too.

    ``verifier`` is ``{kind: NAME, ...options}`` of a registered model verifier that compares two answers:
    judge (both orders always run), checklist, salmon. The problem is the prompt's last user turn; an answer
    is all that its side's assistant turns say. The other pairs are rejected, by what came of them: ``the
    rejected side is better``, ``a tie``, ``no verdict``.
    """

    reads: ClassVar[type[Struct]] = Pair
    writes: ClassVar[type[Struct]] = Pair

    verifier: dict[str, Any] = msgspec.field(default_factory=lambda: {"kind": "judge"})

    def __post_init__(self) -> None:
        load_comparer(*_named(self.verifier))

    @property
    def needs(self) -> frozenset[Ability]:
        """What the verifier needs."""
        return load_comparer(*_named(self.verifier)).needs

    async def __call__(self, pair: Pair, context: Context) -> Sequence[Pair | Rejection]:
        """The pair, or its rejection."""
        problem, chosen, rejected = _texts(pair)
        found = await load_comparer(*_named(self.verifier)).compare(
            chosen, rejected, problem=problem, engine=context.engine, seed=context.seed_for(pair.id)
        )
        reasons = {"second": "the rejected side is better", "tie": "a tie", None: "no verdict"}
        if found.winner == "first":
            return [pair]
        return [Rejection(pair.id, reasons[found.winner], found.detail)]

    def estimate(self, pair: Pair) -> Estimate:
        """What the verifier says."""
        problem, chosen, rejected = _texts(pair)
        return load_comparer(*_named(self.verifier)).estimate_pair(chosen, rejected, problem=problem)


def _named(verifier: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The kind and the options of ``{kind: NAME, ...options}``."""
    kind = verifier.get("kind")
    if not isinstance(kind, str):
        raise RecipeError(
            f"the verifier {dict(verifier)!r} has no kind.", remedy="Write verifier: {kind: judge, ...}."
        )
    return kind, {key: value for key, value in verifier.items() if key != "kind"}


def _unfinished(sample: Sampled) -> Verdict | None:
    if sample.finish_reason == "stop":
        return None
    detail = f"finish_reason {sample.finish_reason}"
    return Verdict(Outcome.UNPARSEABLE, rule="unfinished", detail=detail)


def _texts(pair: Pair) -> tuple[str, str, str]:
    """The problem and the two answers."""
    asked = next((m.content for m in reversed(pair.prompt) if m.role == "user"), "")
    return asked, _said(pair.chosen), _said(pair.rejected)


def _said(messages: Sequence[Message]) -> str:
    return "\n\n".join(m.content for m in messages if m.role == "assistant")
