"""``gristmill eval best-of-n``: what the scores of a run's samples are worth for choosing one of N."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

from msgspec import Struct

from gristmill.core.errors import RecipeError
from gristmill.core.records import Sampled
from gristmill.core.registry import suggest
from gristmill.core.shares import logistic
from gristmill.pipelines.evaluate.choices import (
    ChoiceOfN,
    answer_classes,
    choice_of_n,
    choice_table,
    most_common_size,
)
from gristmill.pipelines.rundir import parts
from gristmill.pipelines.rundir.results import Run, open_run
from gristmill.synth.step_values.aggregate import Rule
from gristmill.synth.step_values.selection import Candidate

_ALONE = "no score"


class BestOfN(Struct, frozen=True):
    """A table for each scorer. ``undecided`` samples have no decided verdict and are left out."""

    choices: tuple[ChoiceOfN, ...]
    undecided: int


def evaluate_best_of_n(
    run: Run | str | Path, *, stage: str | None = None, by: Sequence[str] = (), seed: int = 0
) -> BestOfN:
    """Choose one of 1, 2, 4, ... samples of each problem by each score, by votes, and by votes that the
    scores weigh. The samples are those of ``stage``, by default of the last that has verdicts and scores;
    ``by`` are names of scores, by default all. Exact over all subsets of the samples.

    Of a score that is outside [0, 1] the logistic function weighs votes; the order is its own. A problem
    counts for a score if each of its samples has one. Raises ``RecipeError`` where there is nothing to
    choose.
    """
    run = run if isinstance(run, Run) else open_run(Path(run))
    stage = stage or _last(run)
    problems: dict[str, list[Sampled]] = defaultdict(list)
    undecided = 0
    for sample in cast(Iterator[Sampled], parts.read(run.folder(stage), Sampled)):
        if sample.verdict is None or not sample.verdict.decided:
            undecided += 1
        else:
            problems[sample.problem_id].append(sample)
    names = list(dict.fromkeys(s.name for found in problems.values() for one in found for s in one.scores))
    if missing := [name for name in by if name not in names]:
        raise RecipeError(
            f"{run.path}:{stage} has no score {missing[0]!r}.",
            remedy=suggest(missing[0], names) if names else "Add a stage 'score' to its recipe.",
        )
    counts = Counter(len(found) for found in problems.values() if len(found) > 1)
    if not counts:
        raise RecipeError(
            f"{run.path}:{stage} has no problem with two samples that are right or wrong.",
            remedy="Sample more of each problem, with a verifier and answers.",
        )
    most = most_common_size(counts)
    made = [_choice(name, problems, most, seed) for name in by or names]
    if not made:
        made = [_choice(None, problems, most, seed)]
    return BestOfN(tuple(made), undecided)


def table(found: BestOfN) -> str:
    """The tables as text."""
    note = (
        f"\n\n{found.undecided:,} samples without a decided verdict are left out." if found.undecided else ""
    )
    return "\n\n".join(map(choice_table, found.choices)) + note


def _choice(name: str | None, problems: dict[str, list[Sampled]], most: int, seed: int) -> ChoiceOfN:
    """The table of one score; without one only pass@N and the majority."""
    weights: dict[str, list[Candidate]] = {}
    order: dict[str, list[Candidate]] = {}
    for problem, found in problems.items():
        values = [_score(sample, name) for sample in found]
        there = [value for value in values if value is not None]
        if len(found) < most or len(there) < len(found):
            continue
        right = [sample.verdict is not None and sample.verdict.correct for sample in found]
        classes = answer_classes([(s.verdict, good) for s, good in zip(found, right, strict=True)])
        places = {value: i / len(there) for i, value in enumerate(sorted(set(there)))}
        inside = all(0 <= value <= 1 for value in there)
        for into, turned in ((weights, None if inside else logistic), (order, places.__getitem__)):
            into[problem] = [
                Candidate((value if turned is None else turned(value),), good, classes.get(i))
                for i, (value, good) in enumerate(zip(there, right, strict=True))
            ]
    left = len(problems) - len(weights)
    rules: tuple[Rule, ...] = ("last",) if name else ()
    return choice_of_n(name or _ALONE, weights, most, seed, rules=rules, left_out=left, ordered=order)


def _score(sample: Sampled, name: str | None) -> float | None:
    """A sample's score: its value, or that of its verdict; without a name 0."""
    if name is None:
        return 0.0
    score = next((s for s in sample.scores if s.name == name), None)
    if score is None or score.value is not None or score.verdict is None or not score.verdict.decided:
        return None if score is None else score.value
    return float(score.verdict.correct)


def _last(run: Run) -> str:
    wanted = {"problem_id", "verdict", "scores", "completion"}
    for stage in reversed(run.stages):
        if wanted <= set(run.rows(stage).collect_schema().names()):
            return stage
    raise RecipeError(
        f"{run.path} has no stage with samples.", remedy=f"Its stages are: {', '.join(run.stages)}."
    )
