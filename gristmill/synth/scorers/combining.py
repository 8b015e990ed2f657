"""Scores made of other scores that a row has already: ensembles, directions, attributes, features.

No model is asked. A member that has no value leaves the new score without one, and the verdict says which.
"""

from __future__ import annotations

import math
import random
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.records import Score
from gristmill.core.stages import Context, derive_seed
from gristmill.synth.scorers.base import Answered, PairScorer, Scorer

Name = Annotated[str, Meta(min_length=1)]
Joined = Literal["mean", "median", "worst", "best", "vote", "lower", "geometric"]


def value_of(answer: Answered, name: str) -> float:
    """The value of a score that the row has; of a side, ``SIDE_NAME``. ``RowRejected`` where it has none."""
    found = answer.held(name)
    if found is None:
        have = ", ".join(score.name for score in answer.scores) or "none"
        raise RowRejected(f"no score {name!r}", f"the row has: {have}")
    if found.value is None or not math.isfinite(found.value):
        raise RowRejected(f"no value of {name!r}", found.verdict.rule if found.verdict else "")
    return found.value


def ensemble(values: Sequence[float], rule: Joined, *, k: float = 1.0, threshold: float = 0.0) -> float:
    """One number of several scorers' (arXiv 2312.09244: mean, median, worst case, mean less deviation).

    ``lower`` is the mean less ``k`` population standard deviations; ``vote`` the share of values above
    ``threshold`` among those that are not equal to it; ``geometric`` the geometric mean, which of a user's
    and a model's welfare is GTAlign's reward (W = sqrt(U L), arXiv 2510.08872). ``ValueError`` where there
    is nothing to join.
    """
    if not values:
        raise ValueError("there are no values to join")
    if rule == "vote":
        clear = [v for v in values if v != threshold]
        if not clear:
            raise ValueError("every value is equal to the threshold")
        return sum(v > threshold for v in clear) / len(clear)
    if rule == "lower":
        return statistics.fmean(values) - k * statistics.pstdev(values)
    if rule == "mean":
        return statistics.fmean(values)
    if rule == "median":
        return statistics.median(values)
    if rule == "geometric":
        if min(values) < 0:
            raise ValueError(f"a value is below 0: {min(values):g}")
        return math.prod(values) ** (1 / len(values))
    return min(values) if rule == "worst" else max(values)


class Scale(Struct, frozen=True, forbid_unknown_fields=True):
    """The mean and deviation of a member over your data, by which scorers of other scales are made alike."""

    mean: float = 0.0
    """What is subtracted."""
    deviation: Annotated[float, Meta(gt=0)] = 1.0
    """What it is then divided by."""


class Members(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of what joins several scores."""

    scores: Annotated[tuple[str, ...], Meta(min_length=2)]
    """The names of the scores to join; of a pair without ``chosen_`` and ``rejected_``, and empty for the
    scores ``chosen`` and ``rejected`` that sources write."""
    scales: dict[str, Scale] = field(default_factory=dict)
    """The mean and deviation of a score, by its name; others are taken as they are."""
    missing: Literal["unscored", "skip"] = "unscored"
    """What becomes of a row in which a member has no value: the joined score has none either, or is that of
    the others (at least two)."""

    def values(self, answer: Answered) -> dict[str, float]:
        """The members' values. ``RowRejected`` where one is missing, or too many are."""
        found, missed = dict[str, float](), list[str]()
        for name in self.scores:
            try:
                scale = self.scales.get(name, Scale())
                found[name] = (value_of(answer, name) - scale.mean) / scale.deviation
            except RowRejected as error:
                if self.missing == "unscored":
                    raise
                missed.append(f"{error.reason}: {error.message}")
        if len(found) < 2:
            raise RowRejected("fewer than two members", "; ".join(missed))
        return found


class Ensemble(Scorer, Members, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Several named scores joined to one (Helping or Herding?, arXiv 2312.09244).

    Ensembles reduce over-optimisation and do not end it: members that share a fault (length, style) vote
    for it together.
    """

    rule: Joined = "mean"
    """``mean``, ``median``, ``worst``, ``best``, ``vote`` (the share above ``threshold``), ``lower`` (the
    mean less ``k`` deviations) or ``geometric`` (the geometric mean of values that are not below 0)."""
    k: Annotated[float, Meta(ge=0)] = 1.0
    """Deviations to subtract by ``lower``."""
    threshold: float = 0.0
    """Where ``vote`` counts a value as being for the answer; a value equal to it does not vote."""

    def names(self, score: str) -> tuple[str, ...]:
        """The joined score, and ``SCORE_deviation``, the members' population standard deviation."""
        return (score, f"{score}_deviation")

    async def __call__(self, answer: Answered, context: Context, score: str) -> Sequence[Score]:
        """The joined score and the deviation."""
        values = list(self.values(answer).values())
        try:
            joined = ensemble(values, self.rule, k=self.k, threshold=self.threshold)
        except ValueError as error:
            why = "no votes" if self.rule == "vote" else "the scores cannot be joined"
            raise RowRejected(why, str(error)) from error
        return [Score(score, joined), Score(f"{score}_deviation", statistics.pstdev(values))]


class EnsemblePairs(PairScorer, Members, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The members' votes on a pair, and the strength of the preference over them (arXiv 2401.06080).

    ``NAME`` is the share of the members with an opinion that put the chosen side first, ``NAME_strength``
    the mean and ``NAME_deviation`` the population standard deviation of chosen - rejected.
    """

    def names(self, score: str) -> tuple[str, ...]:
        """The share, the strength and the deviation."""
        return (score, f"{score}_strength", f"{score}_deviation")

    async def __call__(
        self, chosen: Answered, rejected: Answered, context: Context, score: str
    ) -> Sequence[Score]:
        """The votes. ``RowRejected`` where every member has a tie."""
        ours, theirs = self.values(chosen), self.values(rejected)
        gaps = [ours[name] - theirs[name] for name in ours if name in theirs]
        if len(gaps) < 2:
            raise RowRejected("fewer than two members", "a member has a value on one side only")
        try:
            share = ensemble(gaps, "vote")
        except ValueError as error:
            raise RowRejected("every member has a tie", str(error)) from error
        numbers = (share, statistics.fmean(gaps), statistics.pstdev(gaps))
        return [Score(name, value) for name, value in zip(self.names(score), numbers, strict=True)]


def direction_weights(angle: float) -> tuple[int, int]:
    """The weights of two attributes at an angle in degrees, as DPA writes them: round(100 * (cos, sin)).

    (arXiv 2402.18571) 0 is (100, 0), -15 is (97, -26), 45 is (71, 71).
    """
    return round(100 * math.cos(math.radians(angle))), round(100 * math.sin(math.radians(angle)))


def on_hundred(helpsteer: float) -> float:
    """A grade of HelpSteer's scale (0 to 4) on DPA's of 10 to 90, by score = 20 * grade + 10; the inverse is
    (score - 10) / 20."""
    return 20 * helpsteer + 10


class Direction(Scorer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Two attributes along a direction that a user prefers: v * r with v = (cos, sin) of an angle (DPA,
    arXiv 2402.18571).

    The best answers by it, with the weights in the system message, are DPA's training data: the weights are
    the scores ``NAME_ATTRIBUTE``, ``system_message`` words them.
    """

    attributes: tuple[Name, Name] = ("helpfulness", "verbosity")
    """The names of the two scores; the second is the one whose weight may be negative."""
    angle: Annotated[float, Meta(ge=-90, le=90)] | None = None
    """The direction in degrees, the same for all rows. ``null``: one is drawn for each problem."""
    angles: tuple[float, float] = (-45.0, 45.0)
    """The range from which a direction is drawn, evenly. 45 degrees to either side give the first attribute
    the weights 71 to 100 that the paper advises."""
    scale: Literal["hundred", "helpsteer"] = "hundred"
    """The scale of the scores: 0 to 100, or HelpSteer's 0 to 4, which becomes 10 to 90."""

    def names(self, score: str) -> tuple[str, ...]:
        """The score, and the weight of either attribute as a whole number, -100 to 100."""
        return (score, *(f"{score}_{name}" for name in self.attributes))

    async def __call__(self, answer: Answered, context: Context, score: str) -> Sequence[Score]:
        """The score along the direction, and its weights."""
        angle = self.angle
        if angle is None:
            seed = derive_seed(context.seed, f"direction {answer.problem_id}")
            angle = random.Random(seed).uniform(*self.angles)
        weights = direction_weights(angle)
        rewards = [value_of(answer, name) for name in self.attributes]
        if self.scale == "helpsteer":
            rewards = [on_hundred(reward) for reward in rewards]
        turn = math.radians(angle)
        total = math.cos(turn) * rewards[0] + math.sin(turn) * rewards[1]
        numbers = (total, *map(float, weights))
        return [Score(name, value) for name, value in zip(self.names(score), numbers, strict=True)]


def system_message(weights: Mapping[str, int]) -> str:
    """The system message that gives a model the weights of attributes, in words of our own."""
    wanted = ", ".join(f"{name} {weight}" for name, weight in weights.items())
    return f"Answer so that it scores highest by these weights, from -100 to 100: {wanted}."


class Attributes(Scorer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Several named scores joined by weights, which may depend on the kind of prompt (ArmoRM, arXiv
    2406.12845, whose gating network is learnt; here the weights are given).

    As there, a share of a length score can be taken off each attribute first, so that none is a measure of
    length.
    """

    weights: Annotated[dict[Name, float], Meta(min_length=1)]
    """The weight of each score, by its name."""
    gates: dict[str, dict[Name, float]] = field(default_factory=dict)
    """Other weights for rows of a kind, ``{KIND: {NAME: weight}}``; other rows have ``weights``."""
    column: str | None = None
    """The field or column that says of which kind a row is; it goes with ``gates``."""
    length: Name | None = None
    """The score that measures length, of which ``penalties`` are taken off."""
    penalties: dict[Name, float] = field(default_factory=dict)
    """How much of ``length`` is taken off a score, by its name: attribute - penalty * length."""

    def __post_init__(self) -> None:
        if bool(self.gates) != (self.column is not None):
            raise RecipeError(
                "attributes: 'gates' and 'column' go together.", remedy="Give both, or leave both out."
            )
        if self.penalties and self.length is None:
            raise RecipeError(
                "attributes: 'penalties' needs 'length'.", remedy="Name the score that measures length."
            )

    async def __call__(self, answer: Answered, context: Context, score: str) -> Sequence[Score]:
        """The weighted sum."""
        kind = answer.row.get(self.column) if self.column is not None else None
        weights = self.gates.get(str(kind), self.weights)
        length = value_of(answer, self.length) if self.penalties and self.length is not None else 0.0
        total = math.fsum(
            weight * (value_of(answer, name) - self.penalties.get(name, 0.0) * length)
            for name, weight in weights.items()
        )
        return [Score(score, total)]


Measured = Literal["words", "characters", "sentences", "lines", "numbers"]
_MEASURES: dict[Measured, re.Pattern[str]] = {
    "words": re.compile(r"\S+"),
    "characters": re.compile(r".", re.DOTALL),
    "sentences": re.compile(r"[.!?](?=\s|$)"),
    "lines": re.compile(r"[^\n]+"),
    "numbers": re.compile(r"\d+(?:[.,]\d+)*"),
}


class Feature(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that an expert looks for in an answer: exactly one of ``words``, ``pattern``, ``measure``,
    ``score`` and ``column``."""

    weight: float = 1.0
    """Its share in the score; below 0 for what an answer should not have."""
    words: tuple[Name, ...] = ()
    """Words or phrases that are counted, whole and whatever their case."""
    pattern: str | None = None
    """A regular expression of which the matches are counted."""
    measure: Measured | None = None
    """What is counted of the answer."""
    score: Name | None = None
    """A score that the row has."""
    column: str | None = None
    """A column with a number (or true and false)."""
    range: tuple[float, float] = (0.0, 1.0)
    """The value that counts as 0 and the one that counts as 1; between them it is linear, beyond them it
    stays. ``[0, 1]`` asks of a count whether there is any."""

    def __post_init__(self) -> None:
        if sum((bool(self.words), *(v is not None for v in self._named()))) != 1:
            raise RecipeError(
                "features: a feature is one of words, pattern, measure, score and column.",
                remedy="Give exactly one of them.",
            )
        if self.range[0] == self.range[1]:
            raise RecipeError(
                f"features: the range {list(self.range)} has no width.", remedy="Give two different numbers."
            )
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise RecipeError(
                    f"features: {self.pattern!r} is not a valid regular expression: {error}.",
                    remedy="Correct it, or give the phrases under 'words'.",
                ) from error

    def _named(self) -> tuple[str | None, ...]:
        return (self.pattern, self.measure, self.score, self.column)

    def value(self, answer: Answered) -> float:
        """The feature, in [0, 1]. ``RowRejected`` where the row has no such score or column."""
        low, high = self.range
        return min(1.0, max(0.0, (self._raw(answer) - low) / (high - low)))

    def _raw(self, answer: Answered) -> float:
        if self.score is not None:
            return value_of(answer, self.score)
        if self.column is not None:
            found = answer.row.get(self.column)
            if not isinstance(found, (bool, int, float)):
                raise RowRejected(f"no number in {self.column!r}", f"it is {found!r}"[:200])
            return float(found)
        if self.words:
            text = "|".join(map(re.escape, self.words))
            return float(len(re.findall(rf"(?<!\w)(?:{text})(?!\w)", answer.completion, re.IGNORECASE)))
        pattern = self.pattern if self.measure is None else _MEASURES[self.measure]
        assert pattern is not None
        return float(sum(1 for _ in re.finditer(pattern, answer.completion)))


class Features(Scorer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A weighted sum of what an expert of the domain looks for (Leveraging Domain Knowledge for Efficient
    Reward Modelling, arXiv 2402.15473): the score is a mean of features in [0, 1] by their weights.

    With weights below 0 it is the sum over the weights' absolute values, so that it stays in [-1, 1].
    """

    features: Annotated[dict[Name, Feature], Meta(min_length=1)]
    """The features by their names."""

    def __post_init__(self) -> None:
        if not any(feature.weight for feature in self.features.values()):
            raise RecipeError("features: every weight is 0.", remedy="Give one of them a weight.")

    def names(self, score: str) -> tuple[str, ...]:
        """The score, and ``SCORE_FEATURE`` for each feature."""
        return (score, *(f"{score}_{name}" for name in self.features))

    async def __call__(self, answer: Answered, context: Context, score: str) -> Sequence[Score]:
        """The score and its features."""
        values = {name: feature.value(answer) for name, feature in self.features.items()}
        total = math.fsum(self.features[name].weight * value for name, value in values.items())
        size = math.fsum(abs(feature.weight) for feature in self.features.values())
        return [Score(score, total / size), *(Score(f"{score}_{n}", v) for n, v in values.items())]
