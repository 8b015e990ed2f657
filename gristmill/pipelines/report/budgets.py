"""More samples, or samples and verifications of them, at equal cost (When To Solve, When To Verify: arXiv
2504.01005).

One solution costs 1, one verification ``ratio``. Each sample of a budget is drawn without replacement from
those of a problem, by a seeded generator, as is each verification of a sample; the mean is over problems and
draws. Ties have fractional credit.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from gristmill.core.stages import derive_seed


class Solved(Struct, frozen=True):
    """The samples of a problem: the class of each one's answer (null without an answer), whether each class
    is right, and the verifications of each sample, in [0, 1]. One without any cannot be the best verified."""

    problem_id: str
    classes: tuple[int | None, ...]
    right: tuple[bool, ...]
    verifications: tuple[tuple[float, ...], ...]


class BudgetAccuracy(Struct, frozen=True):
    """What ``solutions`` with ``verifications`` of each are worth: the cost in solutions, and the accuracy of
    the vote, or of the sample with the best mean verification, or of the vote weighted by them."""

    solutions: int
    verifications: int
    cost: float
    votes: float | None = None
    best: float | None = None
    weighted: float | None = None


class BudgetComparison(Struct, frozen=True):
    """The most that votes and verifications reach within a budget, and with how many of each."""

    budget: float
    votes: float
    solutions: int
    verified: float
    verified_solutions: int
    verifications: int


def spending(
    solved: Sequence[Solved], *, ratio: float, draws: int = 20, seed: int = 0
) -> list[BudgetAccuracy]:
    """The accuracy at 1, 2, 4 ... solutions, as many as every problem has, alone and with 1, 2, 4 ...
    verifications of each. Nothing without problems."""
    if not solved:
        return []
    most = min(len(one.classes) for one in solved)
    checks = min((len(v) for one in solved for v in one.verifications if v), default=0)
    found = []
    for n in _powers(most):
        value = _mean(_voted(one, n, draw, seed) for one in solved for draw in range(draws))
        found.append(BudgetAccuracy(n, 0, float(n), votes=value))
        for v in _powers(checks):
            drawn = [_verified(one, n, v, draw, seed) for one in solved for draw in range(draws)]
            best, weighted = _mean(b for b, _ in drawn), _mean(w for _, w in drawn)
            found.append(BudgetAccuracy(n, v, n * (1 + ratio * v), best=best, weighted=weighted))
    return found


def compare(spent: Sequence[BudgetAccuracy]) -> list[BudgetComparison]:
    """At each cost that a verified budget has, the best that votes and verifications reach within it."""
    plain = [one for one in spent if one.votes is not None]
    checked = [one for one in spent if one.best is not None]
    found = []
    for budget in sorted({one.cost for one in checked}):
        votes = [one for one in plain if one.cost <= budget]
        verified = [one for one in checked if one.cost <= budget]
        if votes:
            a, b = max(votes, key=lambda s: s.votes or 0), max(verified, key=_reached)
            found.append(
                BudgetComparison(budget, a.votes or 0, a.solutions, _reached(b), b.solutions, b.verifications)
            )
    return found


def _reached(spent: BudgetAccuracy) -> float:
    return max(spent.best or 0, spent.weighted or 0)


def _powers(most: int) -> Iterator[int]:
    n = 1
    while n <= most:
        yield n
        n *= 2


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return math.fsum(known) / len(known)


def _drawn(one: Solved, n: int, draw: int, seed: int) -> list[int]:
    """``n`` samples; those of a smaller budget are among those of a larger one."""
    order = list(range(len(one.classes)))
    random.Random(derive_seed(seed, one.problem_id, draw)).shuffle(order)
    return order[:n]


def _voted(one: Solved, n: int, draw: int, seed: int) -> float:
    counts = Counter(c for i in _drawn(one, n, draw, seed) if (c := one.classes[i]) is not None)
    return _credit(one, counts)


def _verified(one: Solved, n: int, v: int, draw: int, seed: int) -> tuple[float, float]:
    best: dict[int, float] = {}
    weighted: dict[int, float] = {}
    for i in _drawn(one, n, draw, seed):
        answer, checks = one.classes[i], list(one.verifications[i])
        if answer is None or not checks:
            continue
        random.Random(derive_seed(seed, f"{one.problem_id}\x1f{i}", draw)).shuffle(checks)
        mean = math.fsum(checks[:v]) / v
        best[answer] = max(best.get(answer, 0.0), mean)
        weighted[answer] = weighted.get(answer, 0.0) + mean
    return _credit(one, best), _credit(one, weighted)


def _credit(one: Solved, totals: Mapping[int, float]) -> float:
    if not totals:
        return 0.0
    top = max(totals.values())
    leaders = [answer for answer, total in totals.items() if math.isclose(total, top, abs_tol=1e-9)]
    return sum(one.right[answer] for answer in leaders) / len(leaders)
