"""The stages that put the scores of a scorer on samples and on preference pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability
from gristmill.core.errors import (
    RecipeError,
    RequestRefusedError,
    RowRejected,
    ServerRefusedError,
    TransientError,
)
from gristmill.core.prompts import within
from gristmill.core.records import Pair, Sampled, Score, with_score
from gristmill.core.stages import Context, Estimate, RowStage
from gristmill.synth.scorers.base import NOTHING, Answered, PairScorer, Scorer, of_pair, of_sample, unscored
from gristmill.synth.scorers.loading import Named, kind_of, load_scorer
from gristmill.synth.scoring import ScoreName

R = TypeVar("R", Sampled, Pair)
SIDES = ("chosen", "rejected")


class Scores(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the stages that apply a scorer."""

    scorer: Named
    """``NAME`` or ``{kind: NAME, ...options}`` of a registered scorer; ``gristmill list scorers`` shows
    them."""
    score: ScoreName | None = None
    """The name of the score, or the beginning of the names where the scorer writes several; ``null`` is the
    scorer's kind. A score of the same name is replaced."""

    def __post_init__(self) -> None:
        self.found()  # so that a bad one is an error here and now

    def found(self) -> Scorer | PairScorer:
        """The scorer with its options. ``RecipeError`` for one that there is not."""
        return load_scorer(self.scorer)

    @property
    def name(self) -> str:
        """The name of the score, or the beginning of the names."""
        return self.score or kind_of(self.scorer)

    @property
    def needs(self) -> frozenset[Ability]:
        """What the scorer needs of the stage's engine."""
        return frozenset(self.found().needs)

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """What the scorer needs of further engines."""
        return dict(self.found().uses)

    @property
    def verifiers(self) -> tuple[str, ...]:
        """The further verifiers that the scorer calls."""
        return tuple(self.found().verifiers)

    @property
    def verifies(self) -> bool:
        """Whether the scorer judges by the recipe's main verifier and the row's own answer."""
        return bool(self.found().verifies)

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the scorer's prompts want of the row."""
        return within("scorer", dict(self.found().places))

    def cautions(self) -> Sequence[str]:
        """What the scorer says of its options."""
        return self.found().cautions()


class ScoreSamples(Scores, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Puts the scores of a scorer on every sample.

    No sample is rejected for its score: that is the task of a filter. One that could not be scored has a
    score without a value, whose verdict says why.
    """

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = Sampled

    def found(self) -> Scorer:
        """The scorer. ``RecipeError`` for one that compares the two sides of a pair."""
        found = load_scorer(self.scorer)
        if isinstance(found, PairScorer):
            raise RecipeError(
                f"{kind_of(self.scorer)} scores pairs, not single answers.",
                remedy="Use it in the stage score_pairs.",
            )
        return found

    async def __call__(self, sample: Sampled, context: Context) -> Sequence[Sampled]:
        """The sample with its scores."""
        return [_put(sample, await scored(self.found(), sample, (of_sample(sample),), context, self.name))]

    def estimate(self, sample: Sampled) -> Estimate | None:
        """What the scorer says."""
        return _one_row(self.found().estimate(of_sample(sample)))


class ScorePairs(Scores, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Puts the scores of a scorer on every preference pair: those of both sides, as ``chosen_NAME`` and
    ``rejected_NAME``, or those of the pair where the scorer compares its sides.

    Scored is the last turn of each side. No pair is rejected for its score.
    """

    reads: ClassVar[type[Struct]] = Pair
    writes: ClassVar[type[Struct]] = Pair

    async def __call__(self, pair: Pair, context: Context) -> Sequence[Pair]:
        """The pair with its scores."""
        found = self.found()
        try:
            sides = of_pair(pair)
        except RowRejected as error:
            prefixes = [""] if isinstance(found, PairScorer) else [f"{side}_" for side in SIDES]
            names = [prefix + name for prefix in prefixes for name in found.names(self.name)]
            return [_put(pair, [unscored(name, error.reason, error.message) for name in names])]
        if isinstance(found, PairScorer):
            return [_put(pair, await scored(found, pair, sides, context, self.name))]
        for side in sides:
            scores = await scored(found, pair, (side,), context, self.name)
            pair = _put(pair, [replace(s, name=f"{side.side}_{s.name}") for s in scores])
        return [pair]

    def estimate(self, pair: Pair) -> Estimate | None:
        """What the scorer says, of one side or of both."""
        found = self.found()
        try:
            sides = of_pair(pair)
        except RowRejected:
            return NOTHING
        if isinstance(found, PairScorer):
            return _one_row(found.estimate(*sides))
        first, second = (found.estimate(side) for side in sides)
        return None if first is None or second is None else _one_row(_both(first, second))


async def scored(
    scorer: Any, record: R, answers: Sequence[Answered], context: Context, name: str
) -> Sequence[Score]:
    """The scores that ``scorer`` gives to the answer (of a pair scorer: to both).

    Where it raises ``RowRejected``, or the engine refuses the request, all of its scores say so. A request
    that only failed rejects the row, as in any stage: the same command tries it again.
    """
    names: Sequence[str] = scorer.names(name)
    try:
        scores: Sequence[Score] = await scorer(*answers, context.about(record), name)
    except RowRejected as error:
        if isinstance(error.__cause__, TransientError):
            raise
        scores = [unscored(one, error.reason, error.message) for one in names]
    except ServerRefusedError:
        raise
    except RequestRefusedError as error:
        scores = [unscored(one, "request refused", str(error)[:300]) for one in names]
    for one in scores:
        context.measure(f"{one.name} without a value", int(one.value is None))
    return scores


def _put(record: R, scores: Sequence[Score]) -> R:
    for score in scores:
        record = with_score(record, score)
    return record


def _both(first: Estimate, second: Estimate) -> Estimate:
    """Bounds on two calls: completions add up, the tokens of one are at most the larger's."""
    return Estimate(
        first.completions_min + second.completions_min,
        first.completions_max + second.completions_max,
        max(first.prompt_tokens, second.prompt_tokens),
        max(first.completion_tokens, second.completion_tokens),
    )


def _one_row(cost: Estimate | None) -> Estimate | None:
    return None if cost is None else replace(cost, rows_max=1)
