"""What the loop ``rag-reward`` chose, and what became of the model that learned from it, over its seeds.

    gristmill loop rag-reward --set seeds=3
    python benchmarks/rag_loop.py loops/rag-reward/seed-*

Three tables, of rules alone: the held-out pairs that the reward model tells right, beside the longer side;
the answers with an unsupported claim by ``grounding``, all four of a question against the chosen one; and the
model's own answers to the last questions, before and after the round. Intervals are 95 %; that of a change is
a bootstrap over questions, a question's seeds together.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import polars as pl
from process_reward_loop import change

from gristmill.core.shares import wilson
from gristmill.pipelines.rundir.results import open_run
from gristmill.pipelines.running.runner import run

Shares = Mapping[str, float]
"""By question."""


def unsupported(made: Path) -> dict[str, bool]:
    """By answer, whether ``grounding`` finds a claim in it that its passage does not support."""
    recipe = {
        "name": "judged",
        "source": {"run": str(made.resolve()), "stage": "bare"},
        "verifier": {"kind": "grounding", "options": {"citations": "report"}},
        "stages": [{"stage": "verify", "as": "grounded", "reference": "passages"}],
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "judged.yaml")
        path.write_text(json.dumps(recipe))
        done = run(path, runs=Path(folder), log=Path(folder, "log.sqlite"), quiet=True)
        outcome = pl.col("verdict").struct.field("outcome") == "incorrect"
        return dict(done.rows("grounded").select("id", outcome).collect().iter_rows())


def choice(round_: Path) -> dict[str, tuple[Shares, Shares]]:
    """The share unsupported of a question's answers and of its chosen one, by whether it had pairs."""
    wrong = unsupported(round_ / "made")
    best = set(open_run(round_ / "chosen").rows("best").select("id").collect()["id"])
    trained = set(open_run(round_ / "parted").rows("train").select("problem_id").collect()["problem_id"])
    found: dict[str, tuple[dict[str, list[bool]], dict[str, list[bool]]]] = {
        name: (defaultdict(list), defaultdict(list)) for name in ("of training pairs", "others")
    }
    for answer, bad in wrong.items():
        question = answer.rpartition("/")[0]
        every, chosen = found["of training pairs" if question in trained else "others"]
        every[question].append(bad)
        if answer in best:
            chosen[question].append(bad)
    return {
        name: ({q: fmean(v) for q, v in every.items()}, {q: fmean(v) for q, v in chosen.items()})
        for name, (every, chosen) in found.items()
    }


def told(round_: Path) -> tuple[list[bool], list[bool]]:
    """Of the held-out pairs, which the reward model tells right, and which their lengths do."""
    done = open_run(round_ / "told")
    sides = (("rewarded", "reward"), ("longer", "length"))
    found = []
    for stage, name in sides:
        rows = done.rows(stage).select("scores").collect()["scores"].to_list()
        values = [{score["name"]: score["value"] for score in scores} for scores in rows]
        found.append([one[f"chosen_{name}"] > one[f"rejected_{name}"] for one in values])
    return found[0], found[1]


def counted(values: Sequence[bool]) -> str:
    low, high = wilson(sum(values), len(values))
    return f"{sum(values)} of {len(values)}: {fmean(values):.2f} [{low:.2f}, {high:.2f}]"


def together(seeds: Iterable[Shares]) -> Shares:
    """The means over seeds, of each question in those that have it."""
    held: dict[str, list[float]] = defaultdict(list)
    for seed in seeds:
        for question, value in seed.items():
            held[question].append(value)
    return {question: fmean(values) for question, values in held.items()}


def before_and_after(path: Path) -> dict[str, tuple[Shares, Shares]]:
    """By measure, its value for each question asked of the base model and of the trained one."""
    found: dict[str, list[Shares]] = defaultdict(list)
    for number in (0, 1):
        rows = open_run(path / f"round-{number}" / "evaluate").rows("grounded").collect()
        outcome = pl.col("verdict").struct.field("outcome")
        columns = {
            "grounded": outcome == "correct",
            "an unsupported claim": outcome == "incorrect",
            "cut off": pl.col("finish_reason") == "length",
        }
        for name, column in columns.items():
            shares = rows.select("problem_id", column.cast(pl.Float64).alias("value"))
            found[name].append(dict(shares.iter_rows()))
        answered = rows.drop_nulls("answer")
        holds = (
            pl.col("completion")
            .str.to_lowercase()
            .str.contains(pl.col("answer").str.to_lowercase(), literal=True)
        )
        shares = answered.select("problem_id", holds.cast(pl.Float64).alias("value"))
        found["holds the reference answer"].append(dict(shares.iter_rows()))
    return {name: (before, after) for name, (before, after) in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("loops", nargs="+", type=Path, help="the folder of each seed")
    paths = parser.parse_args().loops
    names, rounds = [path.name for path in paths], [path / "round-1" for path in paths]
    pairs = [told(one) for one in rounds]
    print("| held-out pairs | told right by the reward model | by length |\n|---|---|---|")
    for name, (by_model, by_length) in zip(names, pairs, strict=True):
        print(f"| {name} | {counted(by_model)} | {counted(by_length)} |")
    print(f"| all | {' | '.join(counted([right for seed in pairs for right in seed[i]]) for i in (0, 1))} |")

    print("\n| an unsupported claim | questions | all answers | the chosen one | change |")
    print("|---|---|---|---|---|")
    chosen = [choice(one) for one in rounds]
    for kind in chosen[0]:
        of_kind = [seed[kind] for seed in chosen]
        for name, every, best in [
            *((name, *sides) for name, sides in zip(names, of_kind, strict=True)),
            ("all", together(every for every, _ in of_kind), together(best for _, best in of_kind)),
        ]:
            shares = f"{fmean(every.values()):.2f} | {fmean(best.values()):.2f} | {change(best, every)}"
            print(f"| {kind}, {name} | {len(every)} | {shares} |")

    print("\n| the model's own answers | before | after | change |\n|---|---|---|---|")
    measures = [before_and_after(path) for path in paths]
    for measure in measures[0]:
        before, after = ([seed[measure][i] for seed in measures] for i in (0, 1))
        each = (" ".join(f"{fmean(seed.values()):.2f}" for seed in side) for side in (before, after))
        print(f"| {measure} | {' | '.join(each)} | {change(together(after), together(before))} |")


if __name__ == "__main__":
    main()
