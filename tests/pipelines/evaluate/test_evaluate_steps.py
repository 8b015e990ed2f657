"""``gristmill eval step-values``: on a run's stages, and on files in ProcessBench's form."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner
from written_runs import Stages, write_run

from gristmill.cli.main import app
from gristmill.core.engine import Completion
from gristmill.core.errors import InputError, RecipeError
from gristmill.core.records import Judged, Sampled
from gristmill.core.stages import Rejection
from gristmill.core.steps import ProcessRow, Step, ValuedSolution
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.pipelines.evaluate.processbench import evaluate_file
from gristmill.pipelines.evaluate.step_values import ChoiceOfN, ValuesEvaluation, evaluate_run, table

# Of each solution: problem, its answer (right if "2"), and right rollouts of 4 at each step.
SOLUTIONS = {
    "a/0": ("a", "2", [4, 3, 4]),
    "a/1": ("a", "3", [2, 0, 0]),
    "a/2": ("a", "\\frac{6}{2}", [3, 1, 0]),
    "b/0": ("b", "2", [2, 2, 2]),
    "b/1": ("b", "5", [1, 0, 1]),
    "b/2": ("b", "2", [1, 2, 3]),
    "c/0": ("c", "2", [4, 4, 4]),
}
IMPLICIT = {
    "a/0": [0.2, 0.1, -0.1],
    "a/1": [0.5, -2.0, 0.1],
    "a/2": [0.1, -0.3, 0.1],
    "b/0": [0.1, 0.1, 0.1],
    "b/1": [0.3, 0.2, 0.4],
    "b/2": [0.0, 0.1, 0.1],
    "c/0": [1.0, 1.0, 1.0],
}


def verdict(answer: str) -> Verdict:
    return Verdict(Outcome.CORRECT if answer == "2" else Outcome.INCORRECT, extracted=answer)


def row(name: str, kind: str, values: Sequence[float], decided: Sequence[int] | None = None) -> ProcessRow:
    problem, answer, _ = SOLUTIONS[name]
    n = len(values)
    row_id = f"{name}/{kind}" if decided else name
    return ProcessRow(
        row_id,
        problem,
        "q",
        (),
        ("s",) * n,
        tuple(values),
        (0,) * n,
        tuple(decided or (0,) * n),
        (0.0,) * n,
        (1.0,) * n,
        kind,
        answer == "2",
    )


def samples() -> list[Sampled]:
    return [
        Sampled(name, p, i, "q", "2", (), "text", "stop", 1, 1, verdict(a))
        for i, (name, (p, a, _)) in enumerate(SOLUTIONS.items())
    ]


def valued() -> list[ValuedSolution]:
    made = []
    for name, (problem, answer, counts) in SOLUTIONS.items():
        rollouts = [
            tuple(Judged(Completion("x"), verdict("2" if j < c else "0")) for j in range(4)) for c in counts
        ]
        steps = [Step("s", r) for r in (*rollouts[:-1], ())]  # the last step is the solution itself
        first = next((i for i, c in enumerate(counts[:-1]) if c == 0), 2 if answer != "2" else -1)
        made.append(
            ValuedSolution(
                name,
                problem,
                "q",
                "2",
                (),
                tuple(steps),
                verdict(answer),
                "fixed",
                "drawn",
                first_error=first,
            )
        )
    return made


def soft() -> list[ProcessRow]:
    rows = []
    for name, (_, answer, counts) in SOLUTIONS.items():
        values = [*(c / 4 for c in counts[:-1]), float(answer == "2")]
        rows.append(row(name, "soft", values, (4, 4, 0)))
    return rows


def judged() -> list[ProcessRow]:
    said = {"a/0": [1, 1, 1], "a/1": [1, 0], "a/2": [1, 1, 1], "b/0": [1, 0], "b/2": [1, 1, 1]}
    return [row(name, "judge", [float(v) for v in values]) for name, values in said.items()]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    implicit = [row(name, "implicit(0.05)", values) for name, values in IMPLICIT.items()]
    unread = [Rejection("b/1", "judge not readable"), Rejection("c/0", "engine error")]
    return write_run(
        tmp_path / "runs" / "r",
        {
            "sample": (Sampled, samples(), ()),
            "step_values": (ValuedSolution, valued(), ()),
            "process_labels": (ProcessRow, soft(), ()),
            "implicit_rewards": (ProcessRow, implicit, ()),
            "judge_steps": (ProcessRow, judged(), unread),
        },
    )


def choice(found: ValuesEvaluation, name: str) -> dict[str, tuple[float, ...]]:
    [one] = [c for c in found.choices if c.name == name]
    return {line.name: line.means for line in one.lines}


def test_values_of_right_solutions_are_ranked_against_those_of_wrong_ones(run: Path) -> None:
    found = {v.name: v for v in evaluate_run(run).values}
    assert list(found) == [
        "step_values: rollouts",
        "process_labels: soft",
        "implicit_rewards: implicit(0.05)",
        "judge_steps: judge",
    ]
    right = [c for _, a, counts in SOLUTIONS.values() if a == "2" for c in counts[:-1]]
    wrong = [c for _, a, counts in SOLUTIONS.values() if a != "2" for c in counts[:-1]]
    pairs = [(r > w) + (r == w) / 2 for r in right for w in wrong]
    for name in ("step_values: rollouts", "process_labels: soft"):
        # The last step's value is the verdict itself and has no say, whatever the row holds there.
        assert found[name].auc == pytest.approx(sum(pairs) / len(pairs))
        assert (found[name].right, found[name].wrong, found[name].unknown) == (4, 3, 0)
    within = found["implicit_rewards: implicit(0.05)"].auc_within
    assert within is not None and within != found["implicit_rewards: implicit(0.05)"].auc


def test_labels_are_counted_by_position(run: Path) -> None:
    found = {v.name: v.positions for v in evaluate_run(run).values}
    assert found["step_values: rollouts"] == ()
    assert found["process_labels: soft"] == ((7, 0), (5, 2), (4, 3))
    assert found["judge_steps: judge"] == ((5, 0), (3, 2), (3, 0))
    high = {v.name: v.positions for v in evaluate_run(run, threshold=0.5).values}
    assert high["process_labels: soft"] == ((3, 4), (2, 5), (4, 3))


def test_the_best_of_three_by_each_rule_against_votes_and_pass_at_n(run: Path) -> None:
    ways = choice(found := evaluate_run(run), "implicit_rewards: implicit(0.05)")
    [one] = [c for c in found.choices if c.name == "implicit_rewards: implicit(0.05)"]
    assert (one.problems, one.left_out, one.sizes) == (2, 1, (1, 2, 3))
    assert ways["pass@N"] == pytest.approx(((1 / 3 + 2 / 3) / 2, (2 / 3 + 1) / 2, 1.0))
    # Problem a: its two wrong answers, 3 and 6/2, are one class and outvote the right one; b: 2 of 3.
    assert ways["majority"][-1] == 0.5
    assert ways["majority"][0] == ways["best of N, min"][0] == 0.5
    # a: least -0.1 against -2 and -0.3, right; b: least 0.1 and 0.0 against 0.2, wrong.
    assert ways["best of N, min"][-1] == 0.5
    # a: last -0.1 against 0.1 and 0.1; b: 0.1 against 0.4.
    assert ways["best of N, last"][-1] == 0.0
    # By the sum of rewards: a 0.2 against -1.4 and -0.1; b 0.9 wins.
    assert ways["best of N, logits"][-1] == 0.5
    assert set(ways) >= {f"weighted majority, {rule}" for rule in ("min", "product", "logits")}


def test_a_choice_by_rollouts_does_not_see_the_answers_verdict(tmp_path: Path) -> None:
    # The last value is the verdict: with it, "last" and "min" would find the right solution.
    rows = [row("a/0", "soft", [0.5, 1.0], (4, 0)), row("a/1", "soft", [0.75, 0.0], (4, 0))]
    path = write_run(tmp_path / "mc", {"process_labels": (ProcessRow, rows, ())})
    ways = choice(evaluate_run(path), "process_labels: soft")
    assert ways["best of N, last"] == ways["best of N, min"] == (0.5, 0.0)


def test_what_a_filter_left_is_not_chosen_from(tmp_path: Path) -> None:
    rows = [row(name, "implicit(0.05)", values) for name, values in IMPLICIT.items()]
    other = [row(name, "implicit(0.05)", values[::-1]) for name, values in IMPLICIT.items()]
    stages = {"one": rows, "balanced": rows[:5], "two": other}
    path = write_run(tmp_path / "x", {name: (ProcessRow, made, ()) for name, made in stages.items()})
    found = evaluate_run(path)
    assert [v.name.partition(":")[0] for v in found.values] == ["one", "balanced", "two"]
    assert [c.name.partition(":")[0] for c in found.choices] == ["one", "two"]


def test_votes_need_the_answers(tmp_path: Path) -> None:
    implicit = [row(name, "implicit(0.05)", values) for name, values in IMPLICIT.items()]
    path = write_run(tmp_path / "alone", {"implicit_rewards": (ProcessRow, implicit, ())})
    ways = choice(evaluate_run(path), "implicit_rewards: implicit(0.05)")
    assert "pass@N" in ways and "majority" not in ways


def test_the_judge_is_held_against_the_rollouts(run: Path) -> None:
    [judge] = evaluate_run(run).judges
    assert judge.name == "judge_steps: judge"
    # Truths: a/0 -1, a/1 1, a/2 2, b/0 -1, b/2 -1, and b/1 (1), which could not be read.
    places = {p.index: (p.truth, p.said, p.both) for p in judge.found.places}
    assert places == {-1: (3, 3, 2), 1: (1, 2, 1), 2: (1, 0, 0)}
    assert (judge.found.read, judge.found.unread, judge.found.unknown) == (5, 1, 0)
    assert (judge.clean, judge.clean_right) == (3, 2)


def test_the_same_run_and_seed_give_the_same_table(run: Path) -> None:
    assert table(evaluate_run(run, seed=4)) == table(evaluate_run(run, seed=4))
    [one, *_] = evaluate_run(run).choices
    assert isinstance(one, ChoiceOfN)
    for line in one.lines:
        low, high = line.interval or (1.0, 0.0)
        assert low <= line.means[-1] <= high


def test_the_command_prints_tables(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parent.parent)
    outputs = []
    for what in ("r", str(run)):
        result = CliRunner().invoke(app, ["eval", "step-values", what])
        assert result.exit_code == 0, result.output
        outputs.append(result.output)
    assert outputs[0] == outputs[1]
    for line in (
        "2 problems; 1 with fewer solutions are left out.",
        "These values come from rollouts judged by the reference answer: no model could choose so.",
        "1 answers of the judge could not be read; 0 solutions have no location by rollouts.",
        "Of 3 solutions without an error by the judge, 0.667 have the right answer.",
        "implicit_rewards: implicit(0.05): N =",
        "best of N, geometric",
        "95 % interval",
    ):
        assert line in outputs[0]
    assert max(map(len, outputs[0].splitlines())) <= 120


def test_a_searchs_own_values_are_said_to_hold_the_verdicts(tmp_path: Path) -> None:
    rows = [row(name, "search(uct)", [0.5, float(a == "2")]) for name, (_, a, _) in SOLUTIONS.items()]
    stages: Stages = {"sample": (Sampled, samples(), ()), "tree_process": (ProcessRow, rows, ())}
    shown = table(evaluate_run(write_run(tmp_path / "r", stages)))
    assert "their AUC measures nothing" in shown
    assert "hold the verdicts of the solutions themselves" in shown


def test_a_run_without_values_says_what_is_missing(tmp_path: Path) -> None:
    path = write_run(tmp_path / "plain", {"sample": (Sampled, samples(), ())})
    with pytest.raises(RecipeError, match="no values of steps"):
        evaluate_run(path)


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def located(label: Any, prediction: Any = "absent", steps: int = 4, **more: Any) -> dict[str, Any]:
    said = {} if prediction == "absent" else {"prediction": prediction}
    return {"steps": ["s"] * steps, "label": label} | said | more


def test_process_bench_of_a_file(tmp_path: Path) -> None:
    rows: list[Any] = [located(2, 2), located(1, "\\boxed{1}"), located(3, 0), located(0, None)]
    rows += [located(-1, "-1"), located(-1, ["2", "02", -1, "?"]), located("-1", -1.0)]
    rows += [located(None, 1), located(4, 4), located(1), located(True, 1), [1]]
    found = evaluate_file(write(tmp_path / "p.jsonl", rows))
    assert (found.bench.error, found.bench.correct) == (0.5, 2 / 3)
    assert found.bench.f1 == pytest.approx(2 * 0.5 * (2 / 3) / (0.5 + 2 / 3))
    assert found.bench.unread == 1
    assert found.refused == {
        "no label": 2,
        "label beyond the steps": 1,
        "no prediction": 1,
        "row is not an object": 1,
    }
    assert found.auc is None and found.label_error is None


def test_values_in_a_file_stand_in_for_predictions(tmp_path: Path) -> None:
    rows = [located(2, values=[0.9, 0.6, 0.2, 0.1]), located(-1, values=[0.9, 0.8, 0.4, 0.9])]
    path = tmp_path / "p.parquet"
    pl.DataFrame(rows).write_parquet(path)
    found = evaluate_file(path, threshold=0.5)
    assert (found.bench.error, found.bench.correct) == (1.0, 0.0)
    assert found.label_error == 1 / 8
    assert found.auc == 1.0


def test_the_command_takes_a_file_too(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [located(2, 2), located(-1, 3)])
    result = CliRunner().invoke(app, ["eval", "step-values", str(path)])
    assert result.exit_code == 0, result.output
    assert "F1                           2  0.000" in result.output
    path = write(tmp_path / "q.jsonl", [located(2, 2)])
    result = CliRunner().invoke(app, ["eval", "step-values", str(path)])
    assert "F1                           1      -" in result.output


def test_a_file_without_the_columns_is_refused(tmp_path: Path) -> None:
    pl.DataFrame({"label": [1]}).write_parquet(path := tmp_path / "p.parquet")
    with pytest.raises(InputError, match="no column 'prediction'"):
        evaluate_file(path)
    with pytest.raises(InputError, match="no row has a label"):
        evaluate_file(write(tmp_path / "p.jsonl", [{"text": "x"}]))


def test_the_help_of_eval_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from gristmill.cli.main import app\n"
        "result = CliRunner().invoke(app, ['eval', 'step-values', '--help'])\n"
        "assert result.exit_code == 0, result.output\n"
        "print(sorted({'polars', 'sympy', 'torch', 'datasets'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
