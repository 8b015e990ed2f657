"""Choosing one of N solutions, by values or scores, beside votes and the best that is possible (pass@N)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from msgspec import Struct

from gristmill.core.stages import derive_seed
from gristmill.core.verdicts import Verdict
from gristmill.pipelines.rundir.summary import align, printable
from gristmill.synth.step_values import measures
from gristmill.synth.step_values.aggregate import RULES, Rule
from gristmill.synth.step_values.selection import Candidate, best_of, majority, pass_at
from gristmill.verifiers.rules.votes import vote


class Line(Struct, frozen=True):
    """A way to choose: the mean over problems at each size, and the interval of the last."""

    name: str
    means: tuple[float, ...]
    interval: tuple[float, float] | None


class ChoiceOfN(Struct, frozen=True):
    """Ways to choose one of so many solutions (``sizes``) by one kind of values, on ``problems`` problems;
    ``left_out`` have fewer solutions than the last size."""

    name: str
    problems: int
    left_out: int
    sizes: tuple[int, ...]
    lines: tuple[Line, ...]


def choice_of_n(
    name: str,
    problems: Mapping[str, Sequence[Candidate]],
    most: int,
    seed: int,
    *,
    rules: Sequence[Rule] = RULES,
    left_out: int = 0,
    ordered: Mapping[str, Sequence[Candidate]] | None = None,
) -> ChoiceOfN:
    """The ways to choose one of 1, 2, 4, ... ``most`` of the candidates of each problem, which has ``most``
    or more of them. ``rules`` make one value of those of a candidate's steps; of one rule no name is given.
    ``ordered`` are the same candidates with the values by which the best is chosen, where these are not the
    weights of votes."""
    sizes = (*(2**i for i in range(most.bit_length()) if 2**i < most), most)
    ways: dict[str, list[list[float]]] = defaultdict(list)
    voted = any(c.answer is not None for found in problems.values() for c in found)
    for problem, found in problems.items():
        draw = derive_seed(seed, problem)
        ways["pass@N"].append([pass_at(found, n) for n in sizes])
        if voted:
            ways["majority"].append([majority(found, n, seed=draw) for n in sizes])
        for rule in rules:
            of = f", {rule}" if len(rules) > 1 else ""
            order = found if ordered is None else ordered[problem]
            ways[f"best of N{of}"].append([best_of(order, rule, n) for n in sizes])
        for rule in rules if voted else ():
            of = f", {rule}" if len(rules) > 1 else ""
            ways[f"weighted majority{of}"].append([majority(found, n, seed=draw, rule=rule) for n in sizes])
    lines = [_line(way, scores) for way, scores in ways.items()]
    return ChoiceOfN(name, len(problems), left_out, sizes, tuple(lines))


def most_common_size(counts: Mapping[int, int]) -> int:
    """How many solutions most problems have (the larger number of two as common)."""
    return max(counts, key=lambda n: (counts[n], n))


def answer_classes(found: Sequence[tuple[Verdict | None, bool]]) -> dict[int, str]:
    """The class of equal answers that each solution of a problem is in, by its verdict and whether it is
    right. All right answers are one class, and wrong ones are of one if they are equal as mathematics; one
    without an answer that can be read is in none."""
    texts = [None if verdict is None or right else verdict.extracted for verdict, right in found]
    classes = {i: f"wrong {number}" for number, members in enumerate(vote(texts).classes) for i in members}
    return classes | {i: "right" for i, (verdict, right) in enumerate(found) if right and verdict is not None}


def choice_table(choice: ChoiceOfN) -> str:
    """The means at each size as text, with what was left out."""
    rows = [(f"{printable(choice.name)}: N =", *map(str, choice.sizes), "95 % interval")]
    for line in choice.lines:
        low, high = line.interval or (0.0, 0.0)
        rows.append((line.name, *(f"{m:.3f}" for m in line.means), f"{low:.3f} to {high:.3f}"))
    note = f"{choice.problems:,} problems; {choice.left_out:,} with fewer solutions are left out."
    return "\n".join([*align(rows), note])


def _line(name: str, scores: Sequence[Sequence[float]]) -> Line:
    means = tuple(sum(column) / len(column) for column in zip(*scores, strict=True))
    return Line(name, means, measures.interval([row[-1] for row in scores]))
