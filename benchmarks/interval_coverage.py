"""How often the 95 % intervals that evaluations print hold the truth, on simulated systems and problems.

``compare``: systems that are calibrated, sure of too much, or hardly ever right, each against the value of
the same measure on very many answers (the ECE has no interval), and the change from a calibrated system to
one that is sure of too much on the same questions. ``mean``: means of values in [0, 1], one a problem, as
``gristmill eval step-values`` prints them. ``wilson``: shares of so many trials, computed and not simulated:
the mean and the least coverage over the shares .02 to .98, and for which part of them it is near .95 (.02).

    python benchmarks/interval_coverage.py --runs 300
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable

from gristmill.core.knowledge import Response
from gristmill.core.shares import wilson
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.synth.refusal.compare import METRICS, compare
from gristmill.synth.step_values.measures import interval

_RIGHT, _WRONG = Verdict(Outcome.CORRECT, 1.0), Verdict(Outcome.INCORRECT, 0.0)
SYSTEMS: dict[str, Callable[[float], float]] = {
    "calibrated": lambda score: score,
    "too sure": lambda score: score * score,
    "seldom right": lambda score: 0.15 * score,
}
"""The chance that an answer of a score is right."""
MEANS: dict[str, Callable[[random.Random], float]] = {
    "right or wrong, .7": lambda rng: float(rng.random() < 0.7),
    "right or wrong, .95": lambda rng: float(rng.random() < 0.95),
    "pass@8, Beta(.6, 1.2)": lambda rng: 1 - (1 - rng.betavariate(0.6, 1.2)) ** 8,
    "Beta(5, 2)": lambda rng: rng.betavariate(5, 2),
}


def responses(name: str, count: int, rng: random.Random) -> list[Response]:
    """Answers with uniform scores, of which a fifth is declined and three fifths were known before."""
    made = []
    for number in range(count):
        score, refused = rng.random(), rng.random() < 0.2
        right = rng.random() < SYSTEMS[name](score) and not refused
        verdict = _RIGHT if right else _WRONG
        known = rng.random() < 0.6
        made.append(Response(str(number), "?", "x", "{}", "x", verdict, refused, score, known=known))
    return made


def of_system(name: str, count: int, runs: int, draws: int = 200) -> dict[str, float | None]:
    """The coverage of each metric's interval; ``None`` where none is printed."""
    rng = random.Random(name)
    truth = compare({"": responses(name, 100_000, rng)}, draws=1).systems[0].measures.values
    held: dict[str, list[bool]] = {metric: [] for metric in METRICS}
    for run in range(runs):
        found = compare({"": responses(name, count, rng)}, draws=draws, seed=run).systems[0]
        for metric, bounds in found.intervals.items():
            true = truth[metric]
            if bounds is not None and true is not None:
                held[metric].append(bounds[0] <= true <= bounds[1])
    return {metric: sum(seen) / len(seen) if seen else None for metric, seen in held.items()}


def of_mean(name: str, count: int, runs: int) -> float:
    """The coverage of the interval of a mean of ``count`` values."""
    rng = random.Random(name)
    draw = MEANS[name]
    truth = sum(draw(rng) for _ in range(200_000)) / 200_000
    held = 0
    for _ in range(runs):
        low, high = interval([draw(rng) for _ in range(count)]) or (1.0, 0.0)
        held += low <= truth <= high
    return held / runs


def of_change(count: int, runs: int, draws: int = 200) -> dict[str, float]:
    """The coverage of the intervals of the change between two systems on the same questions."""
    rng = random.Random("change")

    def both(count: int) -> dict[str, list[Response]]:
        made: dict[str, list[Response]] = {"before": [], "after": []}
        for number in range(count):
            ease, luck = rng.random(), rng.random()
            for name, power in (("before", 1), ("after", 2)):
                score = min(max(ease + rng.gauss(0, 0.15), 0.001), 0.999)
                luck = luck if rng.random() < 0.6 else rng.random()
                verdict = _RIGHT if luck < score**power else _WRONG
                made[name].append(Response(str(number), "?", "x", "{}", "x", verdict, False, score))
        return made

    truth = {c.metric: c.value for c in compare(both(100_000), draws=1).changes["after"]}
    held: dict[str, list[bool]] = {}
    for run in range(runs):
        for change in compare(both(count), draws=draws, seed=run).changes["after"]:
            true = truth[change.metric]
            if change.interval is not None and true is not None:
                low, high = change.interval
                held.setdefault(change.metric, []).append(low <= true <= high)
    return {metric: sum(seen) / len(seen) for metric, seen in held.items()}


def of_wilson(count: int) -> tuple[float, float, float]:
    """The mean and the least coverage, and the share of shares for which it is within .02 of .95."""
    bounds = [wilson(k, count) for k in range(count + 1)]
    found = []
    for permille in range(20, 981, 5):
        share = permille / 1000
        chances = [math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(count + 1)]
        found.append(sum(c for c, (low, high) in zip(chances, bounds, strict=True) if low <= share <= high))
    near = sum(abs(coverage - 0.95) <= 0.02 for coverage in found)
    return sum(found) / len(found), min(found), near / len(found)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 20, 50, 200])
    args = parser.parse_args()
    for trials in (8, 16, 32, 64, 200):
        mean, least, near = of_wilson(trials)
        print(f"| Wilson's, {trials} | mean {mean:.3f} | least {least:.3f} | near {near:.2f} |", flush=True)
    for name in MEANS:
        cells = (f"{of_mean(name, n, 10 * args.runs):.3f}" for n in args.sizes)
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    for name in SYSTEMS:
        for count in (n for n in args.sizes if n >= 50):
            found = of_system(name, count, args.runs)
            cells = (f"{metric} {'-' if c is None else f'{c:.3f}'}" for metric, c in found.items())
            print(f"| {name}, {count} | {' | '.join(cells)} |", flush=True)
    for count in (n for n in args.sizes if n >= 50):
        cells = (f"{metric} {c:.3f}" for metric, c in of_change(count, args.runs).items())
        print(f"| change, {count} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
