"""What the loop ``process-reward`` chose, against chance and the majority, over its seeds.

    gristmill loop process-reward --set seeds=3
    python benchmarks/process_reward_loop.py loops/process-reward/seed-*

Two tables: the share of held-out problems that the best of 8 by each model answers right, with differences
paired by problem (95 %, bootstrap over problems, a problem's seeds together); and how well each model's value
tells right solutions from wrong ones (AUC), over pairs of one problem and over all pairs. A solution without
a readable answer is not right, and neither is a problem whose solutions all lack one.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import fsum
from pathlib import Path
from statistics import fmean

from gristmill.core.records import Sampled
from gristmill.core.schema import from_frame
from gristmill.pipelines.rundir.results import Run, open_run
from gristmill.synth.step_values.measures import auc, auc_within, share

MODELS = {"hard": "hard", "soft": "soft", "er_minus2": "er-prm(-2)", "er_plus2": "er-prm(2)"}
RANDOM, MAJORITY, ANY = "one at random", "majority of 8", "any of 8"
Shares = dict[str, dict[str, float]]
"""By way of choosing and problem, the share that is right."""


def chosen(held: Run, scored: Run) -> Shares:
    """What each way of choosing makes of the problems of one seed."""
    right = defaultdict(list)
    for one in from_frame(held.rows("sample").collect(), Sampled):
        right[one.problem_id].append(one.verdict is not None and one.verdict.correct)
    votes = dict(scored.rows("voted").select("id", "credit").collect().iter_rows())
    found: Shares = {
        RANDOM: {problem: fmean(all_) for problem, all_ in right.items()},
        MAJORITY: {problem: float(votes.get(problem) or 0) for problem in right},
    }
    for model, name in MODELS.items():
        best = from_frame(scored.rows(f"best_{model}").collect(), Sampled)
        good = {one.problem_id for one in best if one.verdict is not None and one.verdict.correct}
        found[f"best of 8, {name}"] = {problem: float(problem in good) for problem in right}
    return found | {ANY: {problem: float(any(all_)) for problem, all_ in right.items()}}


def valued(scored: Run, model: str) -> Iterator[tuple[list[float], list[float]]]:
    """The model's values of right and of wrong solutions, by problem."""
    problems: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for one in from_frame(scored.rows("by_er_plus2").collect(), Sampled):
        wrong = one.verdict is None or not one.verdict.correct
        problems[one.problem_id][wrong].extend(
            s.value for s in one.scores if s.name == model and s.value is not None
        )
    yield from problems.values()


def change(of: Mapping[str, float], to: Mapping[str, float], draws: int = 2000) -> str:
    """The mean difference over problems with its interval."""
    differences = [of[problem] - to[problem] for problem in sorted(of)]
    rng, count = random.Random(0), len(differences)
    means = sorted(fsum(rng.choices(differences, k=count)) / count for _ in range(draws))
    return f"{fmean(differences):+.3f} [{means[draws // 40]:+.3f}, {means[-draws // 40 - 1]:+.3f}]"


def each(values: Sequence[float | None]) -> str:
    """The mean and each seed's value."""
    known = [v for v in values if v is not None]
    return f"{share(fmean(known) if known else None)} ({' '.join(map(share, values))})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("loops", nargs="+", type=Path, help="the folder of each seed")
    rounds = [folder / "round-1" for folder in parser.parse_args().loops]
    runs = [(open_run(one / "held"), open_run(one / "scored")) for one in rounds]
    seeds = [chosen(*pair) for pair in runs]
    over = {way: {p: fmean(s[way][p] for s in seeds) for p in seeds[0][way]} for way in seeds[0]}
    print(f"| {len(over[RANDOM])} problems | right | against one at random | against the majority |")
    print("|---|---|---|---|")
    for way, found in over.items():
        others = ["" if way == other else change(found, over[other]) for other in (RANDOM, MAJORITY)]
        print(f"| {way} | {each([fmean(s[way].values()) for s in seeds])} | {' | '.join(others)} |")
    print("\n| AUC | of one problem | of all |\n|---|---|---|")
    for model, name in MODELS.items():
        sides = [list(valued(scored, model)) for _, scored in runs]
        of_all = [auc((v for r, _ in one for v in r), (v for _, w in one for v in w)) for one in sides]
        print(f"| {name} | {each([auc_within(one) for one in sides])} | {each(of_all)} |")


if __name__ == "__main__":
    main()
