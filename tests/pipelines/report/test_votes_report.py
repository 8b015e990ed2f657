"""``gristmill report votes``: accuracy by rule, share and budget."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from gristmill.cli.reports.report import app
from gristmill.core.errors import RecipeError, RunError
from gristmill.core.records import Sampled, Score
from gristmill.pipelines.report.budgets import Solved, compare, spending
from gristmill.pipelines.report.votes import report, table
from gristmill.testing.records import sampled


def samples(problem: str, said: str, **fields: Any) -> list[Sampled]:
    return [
        sampled(
            f"{problem}/{i}",
            problem_id=problem,
            index=i,
            problem=f"Problem {problem}",
            completion=f"Way {i}. The answer is {one}.",
            verdict=None,
            **fields,
        )
        for i, one in enumerate(said)
    ]


ROWS = [
    *samples("all", "4444"),
    *samples("most", "4445"),
    *samples("tie", "4455"),
    *samples("few", "4555"),
    *samples("none", "5556"),
    *samples("new", "4444", answer=None),
]


def written(tmp_path: Path, rows: list[Sampled]) -> str:
    path = tmp_path / "samples.jsonl"
    path.write_bytes(b"\n".join(msgspec.json.encode(row) for row in rows))
    return str(path)


def test_accuracy_by_rule_and_share(tmp_path: Path) -> None:
    found = report(written(tmp_path, ROWS), count=2)
    assert (found.problems, found.samples, found.without_gold, found.without_votes) == (6, 24, 1, 0)
    assert (found.single, found.any) == (10 / 20, 4 / 5)
    [count] = found.rules
    assert (count.rule, count.problems, count.accuracy, count.ties) == ("count", 5, 2.5 / 5, 1)
    assert [(b.low, b.high, b.accuracy) for b in found.calibration] == [(0.75, 0.75, 1 / 3), (1.0, 1.0, 1.0)]
    assert found.ece == pytest.approx(0.75 * (0.75 - 1 / 3))
    assert found.auroc == pytest.approx(0.75)
    assert [(s.solutions, s.votes) for s in found.spent] == [
        (1, pytest.approx(0.5, abs=0.1)),
        (2, pytest.approx(0.5, abs=0.1)),
        (4, 0.5),
    ]
    assert found.compared == ()
    assert "count" in table(found) and "1 of which" not in table(found)


def test_rules_are_there_for_which_the_samples_have_what_is_needed(tmp_path: Path) -> None:
    rows = [
        msgspec.structs.replace(
            row,
            scores=(Score("mean_logprob", -0.1 - row.index), Score("w", 1.0 + row.index)),
            model="ab"[row.index % 2],
        )
        for row in ROWS
    ]
    found = report(written(tmp_path, rows), weight="scores.w")
    assert [one.rule for one in found.rules] == [
        "count",
        "sum",
        "mean",
        "borda",
        "perplexity",
        "rpc",
        "models",
    ]
    assert {one.problems for one in found.rules} == {5}


def test_verifications_are_compared_at_equal_cost(tmp_path: Path) -> None:
    def checked(row: Sampled) -> Sampled:
        right = "is 4" in row.completion
        return msgspec.structs.replace(
            row, scores=(Score("check_0", float(right)), Score("check_1", float(right)))
        )

    path = written(tmp_path, [checked(row) for row in ROWS])
    found = report(path, verification="check", ratio=0.5)
    [at_most] = [s for s in found.spent if (s.solutions, s.verifications) == (4, 2)]
    assert (at_most.cost, at_most.best, at_most.weighted) == (8.0, 0.8, 0.8)
    last = found.compared[-1]
    assert (last.budget, last.verified) == (8.0, 0.8) and last.votes < 0.6
    with pytest.raises(RecipeError, match="no sample has a score 'nothing'"):
        report(path, verification="nothing")
    rows = [msgspec.structs.replace(ROWS[0], scores=(Score("check", 7.0),))]
    with pytest.raises(RecipeError, match=r"'all/0' is 7\.0, but a verification is in \[0, 1\]"):
        report(written(tmp_path, rows), verification="check")


def test_a_sample_that_nobody_verified_is_not_the_best_and_ties_are_shared() -> None:
    one = Solved("p", (0, 1, 1, None), (True, False), ((0.9,), (), (0.2,), ()))
    spent = {(s.solutions, s.verifications): s for s in spending([one], ratio=1.0, draws=4)}
    assert (spent[4, 0].votes, spent[4, 1].best, spent[4, 1].weighted) == (0.0, 1.0, 1.0)
    even = Solved("p", (0, 1), (True, False), ((0.5,), (0.5,)))
    spent = {(s.solutions, s.verifications): s for s in spending([even], ratio=1.0, draws=4)}
    assert (spent[2, 0].votes, spent[2, 1].best) == (0.5, 0.5)
    assert spending([], ratio=1.0) == [] and compare([]) == []


def test_the_command_writes_text_and_json_and_says_what_it_cannot_read(tmp_path: Path) -> None:
    path = written(tmp_path, ROWS)
    made = CliRunner().invoke(app, ["votes", path, "--json"], catch_exceptions=False)
    assert json.loads(made.output)["rules"][0]["accuracy"] == 0.5
    assert "any sample right" in CliRunner().invoke(app, ["votes", path], catch_exceptions=False).output
    with pytest.raises(RecipeError, match="not a way to read answers"):
        CliRunner().invoke(app, ["votes", path, "--answers", "maths"], catch_exceptions=False)
    with pytest.raises(RunError, match="holds no complete run"):
        report("no-such-run", runs=tmp_path)
    unknown = report(written(tmp_path, samples("new", "44", answer=None)))
    assert unknown.rules == () and "Nothing can be measured" in table(unknown)
