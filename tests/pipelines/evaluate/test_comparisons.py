"""Best of N by scores, accuracy on pairs, and systems compared, on numbers worked by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner
from written_runs import write_run

from gristmill.cli.evaluate import app
from gristmill.core.engine import Message
from gristmill.core.errors import RecipeError
from gristmill.core.records import Pair, Sampled, Score
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.pipelines.evaluate import best_of_n, compare, rewards


def sample(problem: str, index: int, right: bool | None, answer: str = "", **scores: float | None) -> Sampled:
    outcome = Outcome.UNPARSEABLE if right is None else Outcome.CORRECT if right else Outcome.INCORRECT
    return Sampled(
        f"{problem}-{index}", problem, index, "p", "2", (Message("user", "p"),), answer, "stop", 1, 1,
        verdict=Verdict(outcome, extracted=answer or None),
        scores=tuple(Score(name, None if value is None else float(value)) for name, value in scores.items()),
        meta=f'{{"subset": "{problem[0]}"}}',
    )  # fmt: skip


def pair(id: str, prompt: str, chosen: str, rejected: str, *values: float, **meta: str) -> Pair:
    sides = [(Message("assistant", text),) for text in (chosen, rejected)]
    scores = tuple(
        Score(f"{side}_rm", float(v)) for side, v in zip(("chosen", "rejected"), values, strict=False)
    )
    keys = ", ".join(f'"{k}": "{v}"' for k, v in meta.items())
    return Pair(id, prompt, "k", (Message("user", prompt),), *sides, scores=scores, meta=f"{{{keys}}}")


def run_of(path: Path, rows: Sequence[Any]) -> Path:
    return write_run(path, {"rows": (type(rows[0]), rows, [])})


def lines(found: best_of_n.BestOfN, which: int = 0) -> dict[str, tuple[float, ...]]:
    return {line.name: line.means for line in found.choices[which].lines}


def test_the_best_by_a_score_is_exact_over_all_subsets(tmp_path: Path) -> None:
    rows = [
        sample("a", 0, True, "2", rm=1.0),
        sample("a", 1, False, "3", rm=5.0),
        sample("a", 2, True, "2", rm=80.0),
        sample("a", 3, None, "?", rm=90.0),
    ]
    found = best_of_n.evaluate_best_of_n(run_of(tmp_path / "r", rows))
    assert found.undecided == 1 and found.choices[0].sizes == (1, 2, 3)
    said = lines(found)
    # Of two: {1,5} wrong, {1,80} right, {5,80} right.
    assert said["best of N"] == pytest.approx((2 / 3, 2 / 3, 1.0))
    assert said["pass@N"] == pytest.approx((2 / 3, 1.0, 1.0))
    assert said["majority"] == pytest.approx((2 / 3, 2 / 3, 1.0))


def test_large_scores_keep_their_order_where_the_logistic_function_is_one(tmp_path: Path) -> None:
    rows = [sample("a", 0, False, "3", rm=50.0), sample("a", 1, True, "2", rm=51.0)]
    assert lines(best_of_n.evaluate_best_of_n(run_of(tmp_path / "r", rows)))["best of N"] == (0.5, 1.0)


def test_a_problem_that_lacks_a_score_is_left_out_for_it_alone(tmp_path: Path) -> None:
    rows = [sample(p, i, bool(i), str(i), rm=i, other=None if p == "b" else -i) for p in "ab" for i in (0, 1)]
    found = best_of_n.evaluate_best_of_n(run_of(tmp_path / "r", rows))
    assert [(c.name, c.problems, c.left_out) for c in found.choices] == [("rm", 2, 0), ("other", 1, 1)]
    assert lines(found, 1)["best of N"] == (0.5, 0.0)
    assert "rm: N =" in best_of_n.table(found)


def test_a_run_without_a_choice_says_what_it_lacks(tmp_path: Path) -> None:
    one = run_of(tmp_path / "one", [sample("a", 0, True, rm=1.0)])
    with pytest.raises(RecipeError, match="no problem with two samples"):
        best_of_n.evaluate_best_of_n(one)
    with pytest.raises(RecipeError, match=r"no score 'rn'.*Known: rm"):
        best_of_n.evaluate_best_of_n(one, by=["rn"])


PAIRS = [
    pair("1", "p", "right", "wrong", 3, 1, subset="Chat"),
    pair("2", "p", "right", "worse", 3, 2, subset="Chat"),
    pair("3", "q", "right", "wrong", 3, 1, subset="Chat"),
    pair("4", "q", "right", "worse", 3, 4, subset="Hard"),
    pair("5", "r", "one", "wrong", 3, 1, subset="Ties"),
    pair("6", "r", "two", "wrong", 3.5, 1, subset="Ties"),
    pair("7", "s", "one", "wrong", 3, 1, subset="Ties"),
    pair("8", "s", "two", "wrong", 9, 1, subset="Ties"),
    pair("9", "t", "one", "wrong", 2, 2, subset="Hard"),
    pair("10", "u", "one", "wrong", 2),
]


def test_accuracy_over_pairs_by_group_one_above_many_and_with_ties() -> None:
    [found] = rewards.evaluate_rewards(PAIRS, by="subset")
    assert (found.pairs.count, found.pairs.right, found.pairs.equal, found.unscored) == (9, 7, 1, 1)
    assert {n: (g.right, g.count) for n, g in found.groups.items()} == {
        "Chat": (3, 3),
        "Hard": (0, 2),
        "Ties": (4, 4),
    }
    assert found.macro == pytest.approx(2 / 3)
    # One above all: of p and q, and not of prompts with several right answers.
    assert (found.many.right, found.many.count, found.most) == (1, 2, 2)
    # 3 and 3.5 are nearer to each other than to 1; 3 and 9 are not.
    assert (found.ties.right, found.ties.count) == (1, 2)
    shown = rewards.table([found])
    assert "mean of the groups" in shown and "1 pairs lack a score" in shown


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=12))
def test_a_turned_pair_is_right_where_it_was_wrong(values: list[tuple[int, int]]) -> None:
    def measured(rows: list[tuple[int, int]]) -> rewards.WinCount:
        given = [pair(str(i), str(i), "a", "b", *row) for i, row in enumerate(rows)]
        return rewards.evaluate_rewards(given)[0].pairs

    found, turned = measured(values), measured([(b, a) for a, b in values])
    assert found.right + turned.right + found.equal == found.count and found.equal == turned.equal


def test_pairs_without_scores_are_refused() -> None:
    with pytest.raises(RecipeError, match="no pair has scores of both"):
        rewards.evaluate_rewards(PAIRS[-1:])
    with pytest.raises(RecipeError, match=r"by 'rn'.*Known: rm"):
        rewards.evaluate_rewards(PAIRS, scorers=["rn"])


def systems(tmp_path: Path) -> list[str]:
    """Before, and two seeds after: group a is won, group b is lost by one seed."""
    made = {}
    for name, right in {
        "before": lambda p, _: p == "b",
        "after0": lambda _, i: True,
        "after1": lambda p, i: p == "a" or i % 2 == 0,
    }.items():
        rows = [sample(f"{p}{i:02}", 0, right(p, i), "x") for p in "ab" for i in range(20)]
        made[name] = run_of(tmp_path / name, rows)
    return ["before", "after=after0,after1"]


def test_gain_and_tax_are_told_by_group_with_intervals(tmp_path: Path) -> None:
    given = compare.read_systems(systems(tmp_path), tmp_path)
    everything, a, b = compare.compare_systems(given, by="meta.subset")
    assert [g.name for g in (everything, a, b)] == ["all", "a", "b"]
    before, after = everything.systems
    assert before.mean == 0.5 and after.seeds == (1.0, 0.75) and after.change == pytest.approx(0.375)
    assert after.low is not None and after.high is not None and after.low < 0.375 < after.high
    assert a.systems[1].change == 1.0 and a.systems[1].low == a.systems[1].high == 1.0
    assert b.systems[1].change == pytest.approx(-0.25)
    assert compare.compare_systems(given, by="meta.subset") == [everything, a, b]


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    given = compare.read_systems(systems(tmp_path), tmp_path)
    with pytest.raises(RecipeError, match="'completion' is neither a number nor true or false"):
        compare.compare_systems(given, value="completion")
    with pytest.raises(RecipeError, match=r"solved == .* has no value in any row of .*--stage"):
        compare.compare_systems(given, value="solved == 'correct'", stage=None)
    other = run_of(tmp_path / "other", [sample("z", 0, True)])
    with pytest.raises(RecipeError, match="no problem in common"):
        compare.compare_systems([*given, *compare.read_systems([str(other)])])


def test_the_commands(tmp_path: Path) -> None:
    given = systems(tmp_path)
    told = CliRunner().invoke(app, ["compare", *given, "--by", "meta.subset", "--runs", str(tmp_path)])
    assert told.exit_code == 0 and "+0.375" in told.output and "-0.250" in told.output
    run_of(tmp_path / "pairs", PAIRS)
    told = CliRunner().invoke(app, ["rewards", "pairs", "--by", "subset", "--runs", str(tmp_path)])
    assert told.exit_code == 0 and "0.778" in told.output
    rows = [sample("a", i, bool(i), str(i), rm=i) for i in (0, 1)]
    run_of(tmp_path / "samples", rows)
    told = CliRunner().invoke(app, ["best-of-n", "samples", "--runs", str(tmp_path)])
    assert told.exit_code == 0 and "best of N" in told.output
