"""What can be wanted from a problem, what is still missing for it, and the chance of getting it.

Every kind of trajectory and pair is the same kind of wish about one first attempt: that it is right or
wrong, that certain verdicts were given on it, and that certain corrections of it are in hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from gristmill.core.records import Base, Evaluation, Judged

GoalName = Literal["D1", "D2", "D3", "M-D1", "M-D2", "M-D3w", "M-D3r"]


class Goal(Struct, frozen=True):
    """A wish about one first attempt.

    ``right``: the attempt's correctness. ``says``: verdicts needed (True: "correct"). ``outcomes``:
    corrections needed (True: a right one). ``exclusive``: an attempt may serve only one such goal.
    """

    right: bool
    says: frozenset[bool]
    outcomes: frozenset[bool]
    exclusive: bool


# arXiv 2502.19613: D1-D3 of section 3.1 (at most one a first attempt), and the preference pairs of the
# M-DPO stage. (wrong, "wrong", wrong) against (wrong, "correct") is deliberately no pair.
GOALS: dict[GoalName, Goal] = {
    "D1": Goal(False, frozenset({False}), frozenset({True}), True),
    "D2": Goal(True, frozenset({False}), frozenset({True}), True),
    "D3": Goal(True, frozenset({True}), frozenset(), True),
    "M-D1": Goal(False, frozenset({False}), frozenset({True, False}), False),
    "M-D2": Goal(True, frozenset({False}), frozenset({True, False}), False),
    "M-D3w": Goal(False, frozenset({True, False}), frozenset({True}), False),
    "M-D3r": Goal(True, frozenset({True, False}), frozenset({False}), False),
}

Count = Annotated[int, Meta(ge=0)]


class Want(Struct, frozen=True, forbid_unknown_fields=True):
    """How many of each goal are wanted from one problem; ``null`` for as many as the budget gives."""

    d1: Count | None = field(default=1, name="D1")
    """Trajectories of a wrong attempt that is judged wrong and corrected."""
    d2: Count | None = field(default=1, name="D2")
    """Trajectories of a right attempt that is judged wrong and comes out right again."""
    d3: Count | None = field(default=1, name="D3")
    """Trajectories of a right attempt that is judged correct."""
    m_d1: Count | None = field(default=0, name="M-D1")
    """Pairs of a right and a wrong correction of a wrong attempt."""
    m_d2: Count | None = field(default=0, name="M-D2")
    """Pairs of a right and a wrong correction of a right attempt."""
    m_d3w: Count | None = field(default=0, name="M-D3w")
    """Pairs of a wrong attempt: corrected, against judged correct."""
    m_d3r: Count | None = field(default=0, name="M-D3r")
    """Pairs of a right attempt: judged correct, against corrected to a wrong answer."""

    def limit(self, name: GoalName) -> int | None:
        """The number wanted of a goal, ``None`` for no limit."""
        value: int | None = getattr(self, name.lower().replace("-", "_"))
        return value


def right(judged: Judged) -> bool | None:
    """Whether an answer is right; ``None`` where that is not decided, or is so by unsound reasoning."""
    verdict = judged.verdict
    if not verdict.decided or (verdict.correct and not judged.sound):
        return None
    return verdict.correct


def attempt_right(base: Base) -> bool | None:
    """Whether the first attempt is right; one that is ``None`` serves no goal."""
    return right(base.attempt)


def usable(evaluation: Evaluation, truth: bool | None) -> bool | None:
    """The verdict of a self-evaluation, ``None`` where it fits the truth by unsound reasoning.

    Such a text would be trained on; a false verdict never is, so its reasoning does not matter.
    """
    said = evaluation.says_correct
    return None if said is truth and not evaluation.sound else said


def says(base: Base) -> set[bool]:
    """The usable verdicts that the self-evaluations of an attempt gave."""
    truth = attempt_right(base)
    return {said for e in base.evaluations if (said := usable(e, truth)) is not None}


def outcomes(base: Base) -> set[bool]:
    """The outcomes among the corrections of an attempt."""
    return {came for c in base.corrections if (came := right(c)) is not None}


def met(goal: Goal, base: Base) -> bool:
    """Whether an attempt has all that a goal needs."""
    return attempt_right(base) is goal.right and goal.says <= says(base) and goal.outcomes <= outcomes(base)


def assign(bases: Iterable[Base], want: Want) -> dict[int, list[GoalName]]:
    """Which goals each attempt serves, by its index, within the limits of ``want``.

    Attempts are taken in order. One that could be D2 or D3 becomes the one of which there are fewer
    (D3 in a tie), since an attempt gives at most one trajectory.
    """
    served: dict[int, list[GoalName]] = {}
    count: Counter[GoalName] = Counter()
    for base in bases:
        able = [n for n, g in GOALS.items() if met(g, base) and _below(count[n], want.limit(n))]
        exclusive = sorted((n for n in able if GOALS[n].exclusive), key=lambda n: (count[n], n != "D3"))
        chosen = exclusive[:1] + [n for n in able if not GOALS[n].exclusive]
        if chosen:
            served[base.index] = chosen
            count.update(chosen)
    return served


def missing(served: dict[int, list[GoalName]], want: Want) -> list[GoalName]:
    """The goals of which more are wanted than are served."""
    count = Counter(n for names in served.values() for n in names)
    return [n for n in GOALS if _below(count[n], want.limit(n))]


def _below(count: int, limit: int | None) -> bool:
    return limit is None or count < limit


class Beta(Struct, frozen=True):
    """A Beta distribution over an unknown rate."""

    a: float
    b: float

    def given(self, successes: int, failures: int) -> Beta:
        """The posterior after these observations."""
        return Beta(self.a + successes, self.b + failures)

    def any_of(self, trials: int) -> float:
        """Chance of at least one success in ``trials`` (beta-binomial: the rate is not known)."""
        none = 1.0
        for i in range(trials):
            none *= (self.b + i) / (self.a + self.b + i)
        return 1.0 - none


class Rates(Struct, frozen=True):
    """What one problem's samples so far say about its rates, over the recipe's prior.

    Only this problem's own samples are used: learning across problems would make a row depend on the
    order in which others finish, and two runs of one recipe would differ.
    """

    prior: Beta
    attempts: Counter[bool]
    says: dict[bool, Counter[bool | None]]
    outcomes: dict[bool, Counter[bool | None]]

    @classmethod
    def of(cls, bases: Iterable[Base], prior: Beta) -> Rates:
        """The rates of a problem whose samples are ``bases``."""
        attempts: Counter[bool] = Counter()
        said: dict[bool, Counter[bool | None]] = {True: Counter(), False: Counter()}
        came: dict[bool, Counter[bool | None]] = {True: Counter(), False: Counter()}
        for base in bases:
            truth = attempt_right(base)
            if truth is None:
                continue
            attempts[truth] += 1
            said[truth].update(usable(e, truth) for e in base.evaluations)
            came[truth].update(right(c) for c in base.corrections)
        return cls(prior, attempts, said, came)

    def attempt(self, right: bool, trials: int) -> float:
        """Chance that ``trials`` more attempts hold one that is right (or wrong)."""
        return self.prior.given(self.attempts[right], self.attempts[not right]).any_of(trials)

    def verdict(self, right: bool, said: bool, trials: int) -> float:
        """Chance that ``trials`` more evaluations of a right (wrong) attempt give this verdict once."""
        return self._any(self.says[right], said, trials)

    def outcome(self, right: bool, came: bool, trials: int) -> float:
        """Chance that ``trials`` more corrections of a right (wrong) attempt come out so once."""
        return self._any(self.outcomes[right], came, trials)

    def _any(self, seen: Counter[bool | None], value: bool, trials: int) -> float:
        return self.prior.given(seen[value], seen.total() - seen[value]).any_of(trials)
