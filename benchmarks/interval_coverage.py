"""How often the 95 % intervals that evaluations print hold the truth, on simulated systems and problems.

``compare``: systems that are calibrated, sure of too much, or hardly ever right, each against the value of
the same measure on very many answers (the ECE has no interval). ``mean``: means of values in [0, 1], one
a problem, as ``gristmill eval step-values`` prints them.

    python benchmarks/interval_coverage.py --runs 300
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable

from gristmill.core.knowledge import Response
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


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 20, 50, 200])
    args = parser.parse_args()
    for name in MEANS:
        cells = (f"{of_mean(name, n, 10 * args.runs):.3f}" for n in args.sizes)
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    for name in SYSTEMS:
        for count in (n for n in args.sizes if n >= 50):
            found = of_system(name, count, args.runs)
            cells = (f"{metric} {'-' if c is None else f'{c:.3f}'}" for metric, c in found.items())
            print(f"| {name}, {count} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
