"""Accuracy of the rules of ``vote`` on simulated samples of which the truth is known.

    python benchmarks/votes.py

Each problem has a chance that a sample is right. Wrong samples give one popular wrong answer or, with the
rest of the probability, one of nine others. A sample's confidence is a mean log-probability: right samples
have a higher one by ``signal`` standard deviations on average. Three models draw the samples, of which the
second is as good as the first and the third knows half as much. Ties have fractional credit.
"""

from __future__ import annotations

import argparse
import math
import random
from typing import NamedTuple

from gristmill.synth.agreement.vote import Ballots, Cast, Rule, Voting

RULES: dict[str, tuple[Rule, float]] = {
    "count": ("count", 0),
    "sum": ("sum", 0),
    "mean": ("mean", 0),
    "log-odds": ("log_odds", 0),
    "Borda 0.5": ("borda", 0.5),
    "Borda 1.2": ("borda", 1.2),
    "perplexity": ("perplexity", 0),
    "RPC": ("rpc", 0),
    "models": ("models", 0),
}


class World(NamedTuple):
    """How the samples are: success rates from Beta(a, b), the share of the popular one among wrong answers,
    and how far the confidence of right samples is above that of wrong ones."""

    name: str
    a: float
    b: float
    popular: float
    signal: float


WORLDS = [
    World("middling, wrong answers scattered, no signal", 1.2, 1.2, 0.1, 0.0),
    World("middling, wrong answers scattered, signal 1", 1.2, 1.2, 0.1, 1.0),
    World("middling, one popular wrong answer, no signal", 1.2, 1.2, 0.8, 0.0),
    World("middling, one popular wrong answer, signal 1", 1.2, 1.2, 0.8, 1.0),
    World("hard, wrong answers scattered, signal 1", 1.0, 4.0, 0.1, 1.0),
    World("hard, one popular wrong answer, signal 1", 1.0, 4.0, 0.8, 1.0),
    World("hard, one popular wrong answer, signal -0.5", 1.0, 4.0, 0.8, -0.5),
]


def drawn(world: World, samples: int, draws: random.Random) -> Ballots:
    """The samples of one problem; its right answer is 0, the popular wrong one 1."""
    rate = draws.betavariate(world.a, world.b)
    casts = []
    for i in range(samples):
        model = i % 3
        right = draws.random() < (rate if model < 2 else rate / 2)
        answer = 0 if right else 1 if draws.random() < world.popular else draws.randint(2, 10)
        logprob = min(-0.01, draws.gauss(-1.0 + (0.3 * world.signal if right else 0.0), 0.3))
        casts.append(Cast(i, str(answer), logprob, str(model), str(i), right))
    return Ballots("p", "", None, "{}", casts)


def credit(rule: Rule, power: float, ballots: Ballots) -> float:
    """1, 0, or the right one's share of a tie."""
    weighed = rule in ("sum", "mean", "log_odds")
    voting = Voting(rule=rule, power=power, equal="text", weight="weight" if weighed else None)
    # Probabilities for the rules that want such, and the log-probability for the others.
    casts = [c._replace(weight=math.exp(c.weight or 0)) if weighed else c for c in ballots.casts]
    votes = voting.votes(ballots._replace(casts=casts))
    right = [casts[one[0]].answer == "0" for one in votes.classes]
    return votes.credit(right) or 0.0


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--problems", type=int, default=400)
    parser.add_argument("--samples", type=int, default=16)
    args = parser.parse_args()
    print(f"{args.samples} samples of each of {args.problems} problems; standard error at most 2.5 points")
    print("| | one sample | " + " | ".join(RULES) + " |")
    print("|---|" + "---|" * (len(RULES) + 1))
    for world in WORLDS:
        draws = random.Random(world.name)
        problems = [drawn(world, args.samples, draws) for _ in range(args.problems)]
        casts = [c for p in problems for c in p.casts]
        cells = [sum(bool(c.right) for c in casts) / len(casts)]
        cells += [sum(credit(*rule, p) for p in problems) / len(problems) for rule in RULES.values()]
        print(f"| {world.name} | " + " | ".join(f"{100 * cell:.1f}" for cell in cells) + " |")


if __name__ == "__main__":
    main()
