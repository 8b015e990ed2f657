"""``gristmill verify``: counts, a verdict for each row, and bad rows that do not stop it."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from gristmill.cli.main import app
from gristmill.core.errors import GristmillError, InputError
from gristmill.pipelines.evaluate.verify import table, verify_file
from gristmill.verifiers.pool.pool import Pool

ROWS: list[dict[str, object]] = [
    {"response": "So it is \\boxed{12}.", "answer": "12"},
    {"response": "\\boxed{13}", "answer": 12},
    {"response": "I do not know.", "answer": "12"},
    {"response": None, "answer": "12"},
    {"response": "\\boxed{0.5}", "answer": "1/2"},
]


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    path = tmp_path / "answers.jsonl"
    lines = [json.dumps(r) for r in ROWS]
    path.write_text("\n".join([*lines[:2], "{broken", *lines[2:]]) + "\n")
    return path


def test_verdicts_stand_in_row_order_with_their_row_numbers(answers: Path, tmp_path: Path) -> None:
    out = tmp_path / "verdicts.jsonl"
    with Pool("math", workers=2) as pool:
        counts = verify_file(answers, gold="answer", pred="response", pool=pool, out=out)
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(r["row"], r["outcome"]) for r in found] == [
        (1, "correct"),
        (2, "incorrect"),
        (4, "unparseable"),
        (6, "correct"),
    ]
    assert counts.outcomes == {"correct": 2, "incorrect": 1, "unparseable": 1}
    assert sum(counts.refused.values()) == 2
    assert "0.667  of the decided are correct; 1 undecided" in table(counts)
    assert list(tmp_path.glob(".*")) == []


def test_the_command(answers: Path) -> None:
    result = CliRunner().invoke(app, ["verify", str(answers), "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert "2  correct" in result.output
    wrong = CliRunner().invoke(app, ["verify", str(answers), "--kind", "maths"])
    assert isinstance(wrong.exception, GristmillError)
    assert "Did you mean 'math'?" in str(wrong.exception)


def test_a_verifier_gets_the_options_in_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "mmlu.jsonl"
    rows = [
        {"answer": "B", "response": "It is Rome.", "choices": ["Paris", "Rome"]},
        {"answer": "B", "response": "It is Rome.", "problem": "Capital?\n(A) Rome\n(B) Paris"},
        {"answer": "B", "response": "It is Rome."},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out.jsonl"
    command = ["verify", str(path), "--kind", "choice", "--workers", "1", "--out", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    found = [json.loads(line)["outcome"] for line in out.read_text().splitlines()]
    assert found == ["correct", "incorrect", "unparseable"]


def test_a_column_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"responses": ["1"], "answer": ["1"]}).write_parquet(path)
    with Pool("math", workers=1) as pool:
        with pytest.raises(InputError, match=r"no column 'response'\. Did you mean 'responses'"):
            verify_file(path, gold="answer", pred="response", pool=pool)
        lines = tmp_path / "a.jsonl"
        lines.write_text('{"responses": "1", "answer": "1"}\n')
        with pytest.raises(InputError, match="no row has both"):
            verify_file(lines, gold="answer", pred="response", pool=pool)


JUDGE = """
kind: scripted
replies:
  - {match: "good", texts: ["Yes. [[correct]]"]}
  - {match: "bad", texts: ["No. [[incorrect]]"]}
  - {texts: ["Cannot say."]}
"""
JUDGED = [{"question": "2 + 2?", "response": r, "answer": "4"} for r in ("good", "bad", "odd")]


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words of a command that has a judge decide."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRISTMILL_LOG", raising=False)
    (tmp_path / "engine.yaml").write_text(JUDGE)
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, [*JUDGED, {"response": "good"}])) + "\n")
    words = ["verify", "a.jsonl", "--kind", "judge", "--engine", "engine.yaml", "--problem", "question"]
    return [*words, "--option", "asking.read=text", "--out", "out.jsonl"]


def test_a_judge_decides_and_a_second_run_pays_nothing(judged: list[str], tmp_path: Path) -> None:
    first = CliRunner().invoke(app, judged)
    assert first.exit_code == 0, first.output
    lines = (tmp_path / "out.jsonl").read_text()
    found = [(r["row"], r["outcome"]) for r in map(json.loads, lines.splitlines())]
    assert found == [(1, "correct"), (2, "incorrect"), (3, "unparseable")]
    assert "1  refused: no text or number in 'response', 'answer' or 'question'" in first.output
    assert (tmp_path / ".gristmill/completions.sqlite").exists()
    # An engine that would answer otherwise is not asked.
    (tmp_path / "engine.yaml").write_text("{kind: scripted, replies: [{texts: ['[[incorrect]]']}]}")
    assert CliRunner().invoke(app, judged).exit_code == 0
    assert (tmp_path / "out.jsonl").read_text() == lines


def test_an_empty_gold_judges_without_a_reference(judged: list[str], tmp_path: Path) -> None:
    (tmp_path / "engine.yaml").write_text("{kind: scripted, replies: [{texts: ['[[5]]']}]}")
    result = CliRunner().invoke(app, [*judged, "--gold", ""])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])["rule"] == "judge: text, grade"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kind", "judge"], "judge asks a model. Give one: --engine"),
        (["--kind", "math", "--engine", "engine.yaml"], "math asks no model"),
        (["--kind", "math", "--gold", ""], "this verifier judges by references. Name"),
        (["--kind", "jugde"], "'jugde' is not a registered verifier. Did you mean 'judge'"),
        (["--kind", "salmon", "--engine", "engine.yaml"], "verifier Salmon"),
        (["--kind", "judge", "--engine", "no.yaml"], "no.yaml"),
    ],
)
def test_wrong_words_say_what_is_wrong(judged: list[str], words: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["verify", "a.jsonl", *words])
    assert isinstance(result.exception, GristmillError)
    assert message in str(result.exception)
