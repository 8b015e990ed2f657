"""First and final answers of the loop ``self-correction`` on its held-out problems, over its seeds.

    gristmill loop self-correction --set seeds=3
    python benchmarks/self_correction_loop.py loops/self-correction/seed-*/round-1/after_sft

Takes runs of the stage ``self_correction_trial`` on the same problems: those behind another step are
``after_dpo`` and ``evaluate``. The change is that from the first to the final answer (95 %, bootstrap over
problems, a problem's seeds together).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from process_reward_loop import change

from gristmill.core.records import Exploration
from gristmill.core.schema import from_frame
from gristmill.pipelines.rundir.results import Run, open_run
from gristmill.synth.self_correction.trial import triple

Answers = Mapping[str, tuple[bool, bool]]
"""By problem, whether the first and the final answer are right."""


def answers(run: Run) -> Answers:
    """What the trial of one seed gave."""
    found = {}
    for trial in from_frame(run.rows("self_correction_trial").collect(), Exploration):
        first, said_correct, second = triple(trial)
        found[trial.id] = first, bool(second) if said_correct is False else first
    return found


def row(name: str, seeds: Sequence[Answers]) -> str:
    """A line of the table: shares, the change, and how many answers became right and wrong."""
    first, final = ({p: fmean(s[p][side] for s in seeds) for p in seeds[0]} for side in (0, 1))
    better = sum(not a and b for s in seeds for a, b in s.values())
    worse = sum(a and not b for s in seeds for a, b in s.values())
    shares = f"{fmean(first.values()):.3f} | {fmean(final.values()):.3f}"
    return f"| {name} | {shares} | {change(final, first)} | {better} | {worse} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="the run of each seed")
    paths = parser.parse_args().runs
    seeds = [answers(open_run(path)) for path in paths]
    print(f"| {len(seeds[0])} problems | first | final | change | to right | to wrong |")
    print("|---|---|---|---|---|---|")
    for path, seed in zip(paths, seeds, strict=True):
        print(row(str(path), [seed]))
    print(row("all", seeds))


if __name__ == "__main__":
    main()
