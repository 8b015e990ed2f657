"""Rewards from whether answers are right, alone or among the others of their problem."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from gristmill.core.shaping import Attempt, Rewards, Shape
from gristmill.core.shares import logistic
from gristmill.core.stages import derive_seed
from gristmill.filters.rewards.scored import Name

Share = Annotated[float, Meta(ge=0, le=1)]


def answer_entropy(answers: Sequence[str]) -> float:
    """The entropy of the classes of equal answers over the most it can be: 0 all alike, 1 all different."""
    if len(answers) < 2:
        return 0.0
    shares = [count / len(answers) for count in Counter(answers).values()]
    return max(0.0, -sum(p * math.log(p) for p in shares)) / math.log(len(answers))


class Copo(Shape, frozen=True, kw_only=True, tag="copo"):
    """COPO (arXiv 2508.04138): a signal also for groups whose answers are all right, or all wrong.

    w x local + (1 - w) x global. The local signal is (reward - mean) / deviation in the group, 0 where
    all are alike; the global one (mean of the group - mean of the means) / their deviation. The weight
    w = sigma(``sharpness`` x (entropy - ``middle``)), by the ``answer_entropy`` of the group: the more its
    answers agree, the more the comparison with other problems counts. Deviations are of the population.
    """

    sharpness: Annotated[float, Meta(gt=0)] = 10.0
    """How fast the weight turns from global to local."""
    middle: Share = 0.3
    """The entropy at which both count the same."""

    @property
    def lowest(self) -> None:
        """It has no bound."""
        return

    def __call__(self, groups: Sequence[Sequence[Attempt]], seed: int = 0) -> list[Rewards]:
        """A number for each decided answer."""
        means = {
            i: fmean(r)
            for i, group in enumerate(groups)
            if (r := [float(a.right) for a in group if a.right is not None])
        }
        middle = fmean(means.values()) if means else 0.0
        width = pstdev(means.values()) if means else 0.0
        made = []
        for i, group in enumerate(groups):
            between = (means[i] - middle) / width if i in means and width else 0.0
            made.append(self._group(group, between))
        return made

    def _group(self, group: Sequence[Attempt], between: float) -> Rewards:
        decided = [a for a in group if a.right is not None]
        rewards = [float(a.right is True) for a in decided]
        mean, width = (fmean(rewards), pstdev(rewards)) if rewards else (0.0, 0.0)
        # Without an answer that was read, right answers are one class and wrong ones another.
        entropy = answer_entropy([str(a.right) if a.extracted is None else a.extracted for a in decided])
        local = logistic(self.sharpness * (entropy - self.middle))
        made: Rewards = []
        for a in group:
            within = (float(a.right is True) - mean) / width if width else 0.0
            made.append(None if a.right is None else local * within + (1 - local) * between)
        return made


class Oreal(Shape, frozen=True, kw_only=True, tag="oreal"):
    """OREAL (arXiv 2502.06781): one right answer of the group to imitate, and wrong ones weighed to match.

    The right answer that best-of-n would draw, chosen by a seeded hash, is worth 1; the other right ones have
    no reward. A wrong one is worth -c / (n - 1), with c of n decided answers right: what it falls short of
    the others by (leave-one-out), one of the functions of the success rate that fit the paper's condition. In
    a group without a right answer that is 0: nothing is learned from a problem that is out of reach.
    """

    @property
    def lowest(self) -> float:
        """A wrong answer among right ones."""
        return -1.0

    def __call__(self, groups: Sequence[Sequence[Attempt]], seed: int = 0) -> list[Rewards]:
        """1, ``None`` or a number in [-1, 0]."""
        made: list[Rewards] = []
        for group in groups:
            right = [a for a in group if a.right]
            chosen = min(right, key=lambda a: (derive_seed(seed, f"oreal\x1f{a.id}"), a.id), default=None)
            count = sum(a.right is not None for a in group)
            wrong = -len(right) / (count - 1) if 0 < len(right) < count else 0.0
            made.append([wrong if a.right is False else 1.0 if a is chosen else None for a in group])
        return made


class TwoTurn(Shape, frozen=True, kw_only=True, tag="score"):
    """SCoRe's reward for the second of two turns (arXiv 2409.12917): r2 + alpha (r2 - r1).

    The bonus pays for the correction itself, so that a model does not learn to answer well at once and then
    leave it so. r1 is 1 or 0, or any number in [0, 1].
    """

    grouped: ClassVar[Any] = False

    first: Name
    """The score of the first turn."""
    alpha: Annotated[float, Meta(ge=0)] = 10.0
    """What progress counts. The paper's value is 10."""

    @property
    def lowest(self) -> float:
        """A right answer that became wrong."""
        return -self.alpha

    def __call__(self, groups: Sequence[Sequence[Attempt]], seed: int = 0) -> list[Rewards]:
        """A number in [-alpha, 1 + alpha] for each decided answer whose first turn has a score."""
        return [[self._one(a) for a in group] for group in groups]

    def _one(self, answer: Attempt) -> float | None:
        first = answer.values.get(self.first)
        if answer.right is None or first is None:
            return None
        return answer.right + self.alpha * (answer.right - first)


class Patterns(Shape, frozen=True, kw_only=True, tag="patterns"):
    """The reasoning pattern reward, RPR (arXiv 2505.22653): ``each`` for every phrase that occurs.

    A phrase counts once, however often it is said, and ``most`` phrases at most, since a model soon learns to
    say them. With ``of`` it calibrates a noisy reward model as in the paper: an answer whose score is below
    ``threshold`` is raised by what its patterns are worth, the others keep their score.
    """

    grouped: ClassVar[Any] = False

    phrases: Annotated[tuple[Name, ...], Meta(min_length=1)]
    """The phrases, in any case, such as "first, I need to"."""
    each: Annotated[float, Meta(gt=0)] = 0.1
    """What a phrase is worth."""
    most: Annotated[int, Meta(ge=1)] = 10
    """The phrases that count, at most."""
    of: Name | None = None
    """The score to calibrate. An answer without one has no reward."""
    threshold: float = 0.5
    """With ``of``: the score below which patterns count."""

    @property
    def lowest(self) -> float | None:
        """No phrase; with ``of`` there is no bound."""
        return 0.0 if self.of is None else None

    def __call__(self, groups: Sequence[Sequence[Attempt]], seed: int = 0) -> list[Rewards]:
        """A number for each answer."""
        return [[self._one(a) for a in group] for group in groups]

    def _one(self, answer: Attempt) -> float | None:
        said = " ".join(answer.text.lower().split())
        found = sum(" ".join(phrase.lower().split()) in said for phrase in set(self.phrases))
        patterns = self.each * min(found, self.most)
        if self.of is None:
            return patterns
        score = answer.values.get(self.of)
        return score if score is None or score >= self.threshold else score + patterns


def phase_penalty(thinking: float, answer: float, alpha: float = 1.0) -> float:
    """max(0, entropy of the thinking - alpha * entropy of the answer), in nats: the excess of exploration for
    which PEAR (arXiv 2510.08026) lowers the reward of a right answer.

    The paper's summary says that thinking is penalised and the answer's entropy is allowed; the formula was
    reconstructed from that and not read in the paper."""
    return max(0.0, thinking - alpha * answer)


class PhaseEntropy(Shape, frozen=True, kw_only=True, tag="pear"):
    """PEAR (arXiv 2510.08026): a right answer is worth 1 - ``phase_penalty``, a wrong one 0.

    The entropies are the scores that ``sample`` gives with ``confidence: [entropy]``: ``entropy`` of the
    answer and ``thinking_entropy`` of what was thought before it. A right answer that lacks one has no
    reward. Never below 0, so that no right answer is worth less than a wrong one.
    """

    grouped: ClassVar[Any] = False

    alpha: Annotated[float, Meta(ge=0)] = 1.0
    """How much entropy of the answer makes up for."""
    thinking: Name = "thinking_entropy"
    """The score with the entropy of the thinking."""
    answer: Name = "entropy"
    """The score with the entropy of the answer."""

    @property
    def named(self) -> tuple[str, ...]:
        """The two entropies."""
        return (self.thinking, self.answer)

    def __call__(self, groups: Sequence[Sequence[Attempt]], seed: int = 0) -> list[Rewards]:
        """A number in [0, 1] for each decided answer whose entropies are known."""
        return [[self._one(a) for a in group] for group in groups]

    def _one(self, answer: Attempt) -> float | None:
        thinking, said = answer.values.get(self.thinking), answer.values.get(self.answer)
        if not answer.right:
            return None if answer.right is None else 0.0
        if thinking is None or said is None:
            return None
        return max(0.0, 1 - phase_penalty(thinking, said, self.alpha))


class Noisy(Shape, frozen=True, kw_only=True, tag="noisy"):
    """1 or 0, of which a share is the wrong way round: label noise for experiments (arXiv 2505.22653).

    What is flipped follows a seeded hash, so that a greater ``rate`` flips what a smaller one does, and more.
    The verdicts stay as they are.
    """

    rate: Share
    """The share of rewards that are flipped."""
    per: Literal["answer", "problem"] = "answer"
    """Whether each answer is flipped on its own, or all of a problem together."""

    @property
    def grouped(self) -> bool:
        """Whether a problem's answers are flipped together."""
        return self.per == "problem"

    def __call__(self, groups: Sequence[Sequence[Attempt]], seed: int = 0) -> list[Rewards]:
        """0 or 1 for each decided answer."""

        def flipped(key: str) -> bool:
            return derive_seed(seed, f"noise\x1f{key}") < self.rate * 2**31

        made = []
        for group in groups:
            whole = min((a.id for a in group), default="")
            made.append(
                [
                    None
                    if a.right is None
                    else float(a.right != flipped(whole if self.per == "problem" else a.id))
                    for a in group
                ]
            )
        return made


def difficulty_scale(hardness: float, gap: float, strength: float = 1.0) -> float:
    """The factor of DR-IRL's GRPO-S (arXiv 2503.18991): 1 + strength x hardness x responsiveness.

    ``hardness`` in [0, 1] is the data's; ``gap`` the distance between the rewards of a reference and of the
    model's own answer, from which its responsiveness is sigma(gap): a problem that is hard and that the model
    still does badly counts most. The paper measures hardness by embeddings; the form of the product is ours.
    """
    return 1 + strength * hardness * logistic(gap)


class DifficultyScaled(Shape, frozen=True, kw_only=True, tag="difficulty_scaled"):
    """Rewards that count more on hard problems, after DR-IRL (arXiv 2503.18991); see ``difficulty_scale``.

    The hardness of a problem is the share of its decided answers that are wrong, the gap the distance from
    its mean reward to its best one.
    """

    of: Name | None = None
    """The score to scale; ``null``: 1 for right and 0 for wrong."""
    strength: Annotated[float, Meta(gt=0)] = 1.0
    """How much more the hardest problem counts."""

    @property
    def lowest(self) -> float | None:
        """Of right and wrong: 0."""
        return 0.0 if self.of is None else None

    def __call__(self, groups: Sequence[Sequence[Attempt]], seed: int = 0) -> list[Rewards]:
        """The scaled reward of each answer that is decided and has one."""
        return [self._group(group) for group in groups]

    def _group(self, group: Sequence[Attempt]) -> Rewards:
        rewards = [self._base(a) for a in group]
        there = [(a, r) for a, r in zip(group, rewards, strict=True) if r is not None]
        if not there:
            return rewards
        hardness = 1 - fmean(a.right is True for a, _ in there)
        gap = max(r for _, r in there) - fmean(r for _, r in there)
        scale = difficulty_scale(hardness, gap, self.strength)
        return [None if r is None else r * scale for r in rewards]

    def _base(self, answer: Attempt) -> float | None:
        if answer.right is None:
            return None
        return float(answer.right) if self.of is None else answer.values.get(self.of)
