"""``gristmill report pairs``: what it says of files in published layouts, and of runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from gristmill.cli.main import app
from gristmill.core.engine import Message
from gristmill.core.errors import GristmillError
from gristmill.core.records import Pair, Score
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.pipelines.report.pairs import report
from gristmill.pipelines.report.reading import PairsRead
from gristmill.pipelines.report.text import table

ULTRAFEEDBACK = [
    {
        "source": "evol",
        "instruction": "Name a primary colour.",
        "completions": [
            {"model": "a", "response": "Red.", "overall_score": 9},
            {"model": "b", "response": "Perhaps grey, a nice one.", "overall_score": 3},
        ],
    },
    {
        "source": "flan",
        "instruction": "2+2?",
        "completions": [
            {"model": "a", "response": "five", "overall_score": 2},
            {"model": "b", "response": "4", "overall_score": 8},
        ],
    },
    {
        "source": "flan",
        "instruction": "3+3?",
        "completions": [{"response": "6", "overall_score": 8}, {"response": "six", "overall_score": 8}],
    },
]
HELPSTEER = [
    {"prompt": "2+2?", "response_1": "4", "response_2": "22", "preference_strength": -2},
    {"prompt": "3+3?", "response_1": "33", "response_2": "6", "preference_strength": 1},
    {"prompt": "4+4?", "response_1": "8", "response_2": "44", "preference_strength": -3},
]
REWARDBENCH = [
    {
        "id": 1,
        "prompt": "Say hi.",
        "chosen": "Hi!",
        "chosen_model": "m1",
        "rejected": "No.",
        "rejected_model": "m2",
        "subset": "chat-easy",
    }
]


def pair(chosen: str, rejected: str, *scores: Score, prompt: str = "?", name: str = "") -> Pair:
    sides = ((Message("assistant", text),) for text in (chosen, rejected))
    own = name or f"{prompt}{chosen}{rejected}"
    return Pair(own, f"of {prompt}", "made", (Message("user", prompt),), *sides, scores=scores)


def written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def judged(value: float | None, first: float, second: float) -> tuple[Score, ...]:
    verdict = Verdict(Outcome.CORRECT, rule="comparison: first")
    return (
        Score("judge", value, verdict),
        Score("judge_shown_first", first),
        Score("judge_shown_second", second),
    )


def test_ultrafeedback(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["report", "pairs", str(written(tmp_path, ULTRAFEEDBACK)), "--json"])
    found = json.loads(ran.output)
    assert (found["pairs"], found["prompts"], found["rejected"]) == (2, 2, {"tie": 1})
    assert found["sources"] == {"evol": 1, "flan": 1}
    assert found["chosen_models"] == {"a": 1, "b": 1}
    assert found["margins"]["score"] == {
        "pairs": 2,
        "mean": 6.0,
        "median": 6.0,
        "least": 6.0,
        "greatest": 6.0,
        "ties": 0,
        "backward": 0,
    }
    assert found["lengths"]["difference"] == (4 - 25 + 1 - 4) / 2 and found["lengths"]["longer"] == 0.0


def test_helpsteer_and_rewardbench(tmp_path: Path) -> None:
    found = report(PairsRead(str(written(tmp_path, HELPSTEER))))
    assert found.pairs == 3 and found.first_shown_preferred == pytest.approx(2 / 3)
    bench = report(PairsRead(str(written(tmp_path, REWARDBENCH))))
    assert (bench.sources, bench.chosen_models, bench.rejected_models) == (
        {"chat-easy": 1},
        {"m1": 1},
        {"m2": 1},
    )
    assert report(PairsRead(str(tmp_path / "rows.jsonl")), by="chosen_model").sources == {"m1": 1}


def test_margins_ties_and_labels_that_a_score_contradicts() -> None:
    rows = [
        pair("a", "b", Score("chosen_r", 3.0), Score("rejected_r", 1.0)),
        pair("c", "d", Score("chosen_r", 1.0), Score("rejected_r", 2.0)),
        pair("e", "f", Score("chosen_r", 1.0), Score("rejected_r", 1.0), Score("margin", 9.0)),
        pair("g", "h", Score("chosen_r", 1.0)),
    ]
    found = report(rows)
    margin = found.margins["r"]
    assert (margin.pairs, margin.ties, margin.backward) == (3, 1, 1)
    assert (margin.mean, margin.median) == (pytest.approx(1 / 3), 0.0)
    assert (found.scorers["r"].decided, found.scorers["r"].chosen) == (2, 0.5)
    assert set(found.scorers) == {"r"}


def test_position_and_length_bias_of_a_judge() -> None:
    rows = [
        pair("long", "s", *judged(1.0, 0.9, 0.7)),
        pair("longer", "s", *judged(0.5, 0.9, 0.3)),
        pair("s", "long", *judged(0.0, 0.4, 0.2)),
        pair("ab", "cd", *judged(1.0, 0.8, 0.8)),
    ]
    judge = report(rows).scorers["judge"]
    assert (judge.decided, judge.ties) == (3, 1)
    assert judge.longer == 1.0 and judge.longer_interval == pytest.approx((0.3424, 1.0), abs=1e-4)
    assert judge.shown_first == pytest.approx((0.2 + 0.6 + 0.2 + 0.0) / 4)
    assert judge.swayed == 0.25
    assert "judge" not in report(rows).margins


def test_agreement_of_scorers() -> None:
    def scored(a: float | None, b: float | None, name: str) -> Pair:
        sides = [
            Score(f"{side}_{scorer}", value if side == "chosen" else 0.0)
            for scorer, value in (("a", a), ("b", b))
            if value is not None
            for side in ("chosen", "rejected")
        ]
        return pair(f"x{name}", f"y{name}", *sides)

    rows = [
        scored(1, 2, "1"),
        scored(1, -1, "2"),
        scored(-1, -3, "3"),
        scored(1, 1, "4"),
        scored(1, None, "5"),
    ]
    found = report(rows)
    [one] = found.agreement
    # Together: + +, + -, - -, + +. By chance 3/4 * 1/2 + 1/4 * 1/2 = 1/2.
    assert (one.scorers, one.pairs, one.same, one.kappa) == (("a", "b"), 4, 0.75, 0.5)
    assert found.alpha["nominal"] == pytest.approx(1 - (2 / 8) / (2 * 5 * 3 / 56))
    assert found.alpha["interval"] == found.alpha["ordinal"] == found.alpha["nominal"]


def test_repeated_prompts_and_contradictions() -> None:
    rows = [
        pair("a", "b", prompt="1"),
        pair("b", "a", prompt="1"),
        pair("a", "b", prompt="2"),
        pair("b", "c", prompt="2"),
        pair("c", "a", prompt="2"),
        pair("a", "b", prompt="3"),
        pair("a", "b", prompt="3", name="again"),
        pair("a", "b", prompt="4"),
        pair("c", "a", prompt="5"),
    ]
    found = report(rows)
    assert (found.repeated_prompts, found.repeated_pairs) == (7, 1)
    assert msgspec.to_builtins(found.contradictions) == {
        "reversed": 1,
        "circles": 1,
        "problems": ("of 1", "of 2"),
    }


def test_no_pair_at_all_is_reported_as_such(tmp_path: Path) -> None:
    path = written(tmp_path, ULTRAFEEDBACK[2:])
    ran = CliRunner().invoke(app, ["report", "pairs", str(path)])
    assert ran.exit_code == 0 and "0 pairs of 0 prompts" in ran.output and "1  rejected: tie" in ran.output


def test_what_cannot_be_reported_on_is_an_error(tmp_path: Path) -> None:
    for what, said in (
        ("nothing", "holds no complete run"),
        (str(tmp_path / "no.jsonl"), "there is no such file"),
        (str(written(tmp_path, [{"x": 1}])), "the layout is not recognised"),
    ):
        with pytest.raises(GristmillError, match=said):
            report(PairsRead(what, runs=tmp_path))
    with pytest.raises(GristmillError, match="layout"):
        PairsRead(str(tmp_path / "rows.jsonl"), options={"layout": "ultra"})


def test_a_scorer_without_values_and_a_rejected_row_are_told(tmp_path: Path) -> None:
    unread = Verdict(Outcome.UNPARSEABLE, rule="comparison: no verdict")
    rows = [
        pair("a", "b", Score("judge", None, unread), Score("chosen_r", None), Score("rejected_r", None)),
        pair("c", "d", Score("judge", 1.0, Verdict(Outcome.CORRECT, rule="comparison: first"))),
    ]
    found = report(rows)
    assert found.without_value == {"judge": 1, "r": 1}
    assert "1  pairs without a value of judge" in table(found)
    battles = [
        {"model_a": "m1", "model_b": "m2", "prompt": "?", "response_a": "x", "response_b": "y", "winner": who}
        | {"source": ["s1", "s2"]}
        for who in ("model_a", "tie (bothbad)")
    ]
    read = report(PairsRead(str(written(tmp_path, battles))))
    assert (read.first_shown_preferred, read.sources) == (1.0, {"s1, s2": 1})
    assert "such as" in table(read) and "the winner is 'tie (bothbad)'" in table(read)
