"""Rewards that also look at how long an answer is. Lengths are in any one unit, tokens as a rule.

Each keeps two rules that published code breaks: a wrong answer is never paid for being short, and a group
without a right answer has rewards all the same.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean, pstdev, stdev
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from gristmill.core.shaping import Attempt, Rewards, Shape
from gristmill.core.shares import logistic

Difficulty = Literal["easy", "medium", "hard"]
Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


def difficulty(right: int, decided: int) -> Difficulty:
    """``easy`` where at least two thirds of the answers are right, ``medium`` from one third, else ``hard``.

    The one rule for choosing targets and for using them: LASER-D's code has ``<=`` in one and ``>=`` in the
    other, so that groups on a boundary got another group's target. Exact, in whole numbers.
    """
    if 3 * right >= 2 * decided:
        return "easy" if decided else "hard"
    return "medium" if 3 * right >= decided else "hard"


def laser_target(
    lengths: Sequence[float], candidates: Sequence[float], *, draws: int = 0, coverage: float = 0.0
) -> float:
    """The smallest of ``candidates`` that enough of ``lengths`` are within; the largest where none is.

    Enough by ``draws`` is LASER-D's rule (arXiv 2505.15612): int(share covered x draws) >= 1, with 5, 2 and 1
    draws of 8 for easy, medium and hard problems. One draw so demands that all are covered, which a single
    long answer decides; ``coverage`` names the share itself. ``lengths`` are those of right answers (the
    code took all, so that rambling wrong ones raised the target). ``ValueError`` unless one rule is given.
    """
    if not candidates or (draws > 0) == (coverage > 0):
        raise ValueError(f"{len(candidates)} candidates, draws {draws}, coverage {coverage}")
    for limit in sorted(candidates):
        covered = sum(length <= limit for length in lengths)
        # In whole numbers: int(covered / n * draws) >= 1.
        by_draws, by_share = covered * draws >= len(lengths), covered >= coverage * len(lengths)
        if lengths and (by_draws if draws else by_share):
            return limit
    return max(candidates)


def laser_targets(
    groups: Sequence[Sequence[Attempt]],
    candidates: Sequence[float],
    *,
    coverage: tuple[float, float, float] = (0.2, 0.5, 0.5),
) -> LaserD:
    """LASER-D with its targets chosen anew from monitored ``groups``.

    ``coverage`` are the shares of right answers, of easy, medium and hard problems, that must be within the
    target. The first two are what LASER-D's 5 and 2 draws of 8 come to; its 1 would demand all.
    """
    found: dict[Difficulty, list[float]] = {"easy": [], "medium": [], "hard": []}
    for group in groups:
        right = [a.length for a in group if a.right]
        found[difficulty(len(right), len(_decided(group)))] += right
    easy, medium, hard = (
        laser_target(lengths, candidates, coverage=share)
        for lengths, share in zip(found.values(), coverage, strict=True)
    )
    return LaserD(easy=easy, medium=medium, hard=hard)


class _Steps(Shape, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What LASER and LASER-D have in common."""

    measures: ClassVar[bool] = True

    correct: float = 1.0
    """A right answer of any length."""
    wrong: float = -0.5
    """A wrong answer of any length."""
    bonus: Annotated[float, Meta(ge=0)] = 0.5
    """Added to a right answer that is not longer than the target."""

    @property
    def lowest(self) -> float:
        """A wrong answer's."""
        return min(self.correct, self.wrong)

    def _reward(self, answer: Attempt, target: float) -> float | None:
        if answer.right is None:
            return None
        if not answer.right:
            return self.wrong
        return self.correct + self.bonus * (answer.length <= target)


class Laser(_Steps, frozen=True, kw_only=True, tag="laser"):
    """LASER (arXiv 2505.15612): a step in length. ``correct`` + ``bonus`` within ``target``, inclusive."""

    grouped: ClassVar[Any] = False

    target: Positive
    """The greatest length with the bonus."""

    def __call__(self, groups: Sequence[Sequence[Attempt]], seed: int = 0) -> list[Rewards]:
        """One of three numbers for each decided answer."""
        return [[self._reward(a, self.target) for a in group] for group in groups]


class LaserD(_Steps, frozen=True, kw_only=True, tag="laser_d"):
    """LASER-D (arXiv 2505.15612): the target depends on how many answers of the group are right.

    ``laser_targets`` chooses the targets. With ``explore`` it is LASER-DE: a wrong answer that is longer than
    the target and does not repeat itself gets the bonus too.
    """

    easy: Positive
    """The target of groups with at least two thirds right."""
    medium: Positive
    """The target of groups with at least one third right."""
    hard: Positive
    """The target of all other groups."""
    explore: bool = False
    """Whether long wrong answers without repetition get the bonus."""

    def __call__(self, groups: Sequence[Sequence[Attempt]], seed: int = 0) -> list[Rewards]:
        """One of three numbers, or four, for each decided answer."""
        made = []
        for group in groups:
            right = sum(a.right is True for a in group)
            target: float = getattr(self, difficulty(right, len(_decided(group))))
            made.append([self._explored(a, target) for a in group])
        return made

    def _explored(self, answer: Attempt, target: float) -> float | None:
        reward = self._reward(answer, target)
        if self.explore and answer.right is False and answer.length > target and not repeats(answer.text):
            return self.wrong + self.bonus
        return reward


def repeats(text: str, *, words: int = 10, times: int = 3) -> bool:
    """Whether a run of so many ``words`` occurs so many ``times``; shorter texts never do."""
    split = text.split()
    runs = Counter(tuple(split[i : i + words]) for i in range(len(split) - words + 1))
    return max(runs.values(), default=0) >= times


class KimiLength(Shape, frozen=True, kw_only=True, tag="kimi"):
    """The length reward of Kimi k1.5 (arXiv 2501.12599): ``right`` or ``wrong``, and ``weight`` x lambda.

    lambda = 1/2 - (length - shortest) / (longest - shortest) over the decided answers of the group; of a
    wrong answer at most 0, and 0 where all are of one length.
    """

    measures: ClassVar[bool] = True

    right: float = 1.0
    """A right answer, before its length."""
    wrong: float = 0.0
    """A wrong answer, before its length."""
    weight: Annotated[float, Meta(ge=0)] = 1.0
    """What lambda is multiplied by."""

    @property
    def lowest(self) -> float:
        """The longest wrong answer's."""
        return min(self.right, self.wrong) - self.weight / 2

    def __call__(self, groups: Sequence[Sequence[Attempt]], seed: int = 0) -> list[Rewards]:
        """A number for each decided answer."""
        return [self._group(group) for group in groups]

    def _group(self, group: Sequence[Attempt]) -> Rewards:
        lengths = [a.length for a in _decided(group)]
        span = max(lengths, default=0.0) - min(lengths, default=0.0)
        made: Rewards = []
        for a in group:
            share = 0.5 - (a.length - min(lengths)) / span if span and a.right is not None else 0.0
            base = self.right + self.weight * share if a.right else self.wrong + self.weight * min(0.0, share)
            made.append(None if a.right is None else base)
        return made


class GrpoLambda(Shape, frozen=True, kw_only=True, tag="grpo_lambda"):
    """GRPO-lambda (arXiv 2505.18086): length counts only in the groups that are answered best.

    Of the groups ranked by their share of right answers, in the best ``share`` a right answer is worth
    1 - alpha x sigma((length - mean) / deviation), over the right answers of the group; 1 elsewhere. A wrong
    answer is worth 0 everywhere. A deviation of 0 (one right answer, or equal lengths) gives 1 - alpha / 2.
    """

    measures: ClassVar[bool] = True

    share: Share = 0.2
    """The share of groups, rounded up, in which length counts. Equal groups are ranked by their first id."""
    alpha: Share = 0.6
    """The most that a right answer loses."""
    deviation: Literal["population", "sample"] = "population"
    """Divided by n, or by n - 1. The paper does not say which."""

    def __call__(self, groups: Sequence[Sequence[Attempt]], seed: int = 0) -> list[Rewards]:
        """A number in [0, 1] for each decided answer."""

        def rank(at: int) -> tuple[float, str]:
            decided = _decided(groups[at])
            return -fmean(a.right is True for a in decided), min(a.id for a in decided)

        ranked = sorted((i for i, group in enumerate(groups) if _decided(group)), key=rank)
        best = set(ranked[: math.ceil(round(self.share * len(ranked), 9))])
        return [self._group(group, at in best) for at, group in enumerate(groups)]

    def _group(self, group: Sequence[Attempt], by_length: bool) -> Rewards:
        lengths = [a.length for a in group if a.right]
        if not by_length or not lengths:
            return [None if a.right is None else float(a.right) for a in group]
        spread = pstdev if self.deviation == "population" else stdev
        mean, width = fmean(lengths), spread(lengths) if len(lengths) > 1 else 0.0
        made: Rewards = []
        for a in group:
            away = (a.length - mean) / width if width else 0.0
            paid = 1 - self.alpha * logistic(away) if a.right else 0.0
            made.append(None if a.right is None else paid)
        return made


class Drpo(Shape, frozen=True, kw_only=True, tag="drpo"):
    """DRPO (arXiv 2510.04474): the length signal is shared out among the right answers alone.

    A right answer weighs exp((1 - length / longest) / temperature), scaled to a mean of 1 over the right ones
    of its group, so that the longest of them is still above every wrong one, which is worth 0. These are the
    weights of the paper's positive distribution; its discriminative loss is a trainer's matter.
    """

    measures: ClassVar[bool] = True

    longest: Positive
    """The length that counts as 1, such as the limit of tokens."""
    temperature: Positive = 0.5
    """Small: only the shortest count. Large: all right answers weigh the same."""

    def __call__(self, groups: Sequence[Sequence[Attempt]], seed: int = 0) -> list[Rewards]:
        """A number of at least 0 for each decided answer."""
        return [self._group(group) for group in groups]

    def _group(self, group: Sequence[Attempt]) -> Rewards:
        # Relative to the shortest, which leaves the shares as they are and cannot overflow.
        shortest = min((a.length for a in group if a.right), default=0.0)
        scale = self.longest * self.temperature
        weights = [math.exp((shortest - a.length) / scale) if a.right else 0.0 for a in group]
        right = [w for a, w in zip(group, weights, strict=True) if a.right]
        mean = fmean(right) if right else 1.0
        return [None if a.right is None else w / mean for a, w in zip(group, weights, strict=True)]


def conciseness_labels(
    group: Sequence[Attempt], ratio: float, judge: str | None = None
) -> list[Literal["concise", "verbose"] | None]:
    """Which right answers are concise: at most ``ratio`` times as long as the shortest right one.

    With ``judge``, the name of a value that is at least 0.5 where a judge finds an answer concise, both have
    to say the same. ``None``: wrong, undecided, or the two disagree, or the judge says nothing.
    """
    shortest = min((a.length for a in group if a.right), default=0.0)
    made: list[Literal["concise", "verbose"] | None] = []
    for a in group:
        by_rule = a.length <= ratio * shortest
        said = by_rule if judge is None else a.values.get(judge, math.nan)
        agreed = not math.isnan(said) and (said >= 0.5) is by_rule
        made.append(("concise" if by_rule else "verbose") if a.right and agreed else None)
    return made


class Conciseness(Shape, frozen=True, kw_only=True, tag="conciseness"):
    """A bonus for right answers that are concise, after "Efficient Reasoning via Reward Model" (2511.09158).

    Outcome first: 0 for a wrong answer however short, 1 for a right one, 1 + ``bonus`` where
    ``conciseness_labels`` calls it concise. The paper trains a model of conciseness; here a rule and, where
    there is one, a judge give the labels.
    """

    measures: ClassVar[bool] = True

    ratio: Annotated[float, Meta(ge=1)] = 1.5
    """How many times as long as the shortest right answer of its group a concise one may be."""
    judge: str | None = None
    """The score of a judge of conciseness, at least 0.5 for yes, that has to agree with the rule."""
    bonus: Positive = 0.5
    """Added to a concise answer."""

    def __call__(self, groups: Sequence[Sequence[Attempt]], seed: int = 0) -> list[Rewards]:
        """0, 1 or 1 + ``bonus`` for each decided answer."""
        return [
            [
                None if a.right is None else a.right * (1.0 + self.bonus * (label == "concise"))
                for a, label in zip(group, conciseness_labels(group, self.ratio, self.judge), strict=True)
            ]
            for group in groups
        ]


class ExplorationReward(Shape, frozen=True, kw_only=True, tag="rlsp"):
    """RLSP's exploration reward (arXiv 2502.06773): alpha x right + (1 - alpha) x min(length / longest, 1).

    Length stands for effort, so it also pays for padding; ``repeats`` takes that part from answers that
    repeat themselves. ``alpha`` above one half keeps every right answer above every wrong one.
    """

    measures: ClassVar[bool] = True

    grouped: ClassVar[Any] = False

    alpha: Annotated[float, Meta(gt=0.5, le=1)] = 0.8
    """The share of the outcome."""
    longest: Positive
    """The length from which more is not paid for."""

    def __call__(self, groups: Sequence[Sequence[Attempt]], seed: int = 0) -> list[Rewards]:
        """A number in [0, 1] for each decided answer."""

        def effort(a: Attempt) -> float:
            return 0.0 if repeats(a.text) else min(a.length / self.longest, 1.0)

        return [
            [None if a.right is None else self.alpha * a.right + (1 - self.alpha) * effort(a) for a in group]
            for group in groups
        ]


def _decided(group: Sequence[Attempt]) -> list[Attempt]:
    return [a for a in group if a.right is not None]
