"""``gristmill verify``: counts, a verdict for each row, and bad rows that do not stop it."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from gristmill.core.errors import GristmillError, InputError
from gristmill.pipelines.cli import app
from gristmill.pipelines.verify import table, verify_file
from gristmill.verifiers.isolation import Pool

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
