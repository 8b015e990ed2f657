"""What ``gristmill run`` and ``export`` tell of what they made: by their status and in the closing lines."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from gristmill.pipelines import open_run

RIGHT = {"kind": "scripted", "replies": [{"texts": ["\\boxed{1}"]}]}
WRONG = {"kind": "scripted", "replies": [{"texts": ["\\boxed{2}"]}]}
KEEP = {"stage": "where", "condition": "verdict == 'correct'"}
SAMPLE = {"stage": "sample"}


@pytest.fixture
def place(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(workspace.path)
    monkeypatch.delenv("GRISTMILL_LOG", raising=False)
    workspace.write_problems(6, answer="1")
    return workspace


def refusing(text: str) -> dict[str, Any]:
    """An engine that has no answer to prompts with this text."""
    others = [{"texts": ["\\boxed{1}"], "match": f"problem {i}"} for i in range(6) if f"problem {i}" != text]
    return {"kind": "scripted", "replies": others}


@pytest.mark.parametrize(
    ("engine", "stages", "expected", "line"),
    [
        (RIGHT, [SAMPLE, KEEP], 0, "Complete: every row was tried."),
        (refusing("problem 3"), [SAMPLE, KEEP], 3, "1 row was lost to failures"),
        (WRONG, [SAMPLE, KEEP], 4, "where: no row was kept."),
    ],
    ids=["all", "some", "none"],
)
def test_the_status_says_what_was_made(
    engine: Any, stages: Any, expected: int, line: str, place: Any, status: Any, capsys: Any
) -> None:
    place.write_recipe(engine, stages=stages)
    assert status("run", "test.yaml") == expected
    assert line in capsys.readouterr().out


def test_a_stage_that_keeps_nothing_says_so(place: Any, status: Any, capsys: Any) -> None:
    nothing = KEEP | {"as": "kept", "condition": "verdict == 'incorrect'"}
    stages = [SAMPLE, nothing, SAMPLE | {"as": "other", "from": "source"}]
    place.write_recipe(RIGHT, stages=stages)
    assert status("run", "test.yaml") == 0
    assert "kept: no row was kept." in capsys.readouterr().out


def test_a_run_that_stopped_itself_has_a_status_of_its_own(place: Any, status: Any, server: Any) -> None:
    place.write_problems(60, answer="1")
    place.write_recipe({"kind": "openai", "base_url": f"{server.address}/nothing/here", "model": "m"})
    assert status("run", "test.yaml", "--quiet") == 5


def test_the_three_commonest_rejections_have_an_example(place: Any, status: Any, capsys: Any) -> None:
    rows = [{"id": f"p{i}", "problem": f"problem {i}", "answer": "1"} for i in range(4)]
    bad = [{"id": "p0", "problem": "again"}] * 3 + [{"x": 1}] * 2 + [{"problem": ""}, {"problem": 5}]
    Path("problems.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows + bad))
    place.write_recipe(RIGHT)
    assert status("run", "test.yaml") == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("rejected:")
    assert [line.split()[0] for line in lines[at + 1 : at + 8]] == [
        "3",
        "such",
        "2",
        "such",
        "1",
        "such",
        "1",
    ]
    assert lines[at + 2].strip() == "such as p0: problems.jsonl, row 5: the id 'p0' came before."


def test_rows_without_answers_are_told_at_the_start_and_counted(
    place: Any, status: Any, capsys: Any, caplog: Any
) -> None:
    with Path("problems.jsonl").open("a") as file:
        file.write('{"id": "x", "problem": "problem x"}\n')
    place.write_recipe(RIGHT, stages=[SAMPLE])
    assert status("run", "test.yaml") == 0
    assert "source: 1 of the first 7 rows have no reference answer" in caplog.text
    assert "source: 1 of 7 rows have no reference answer." in capsys.readouterr().out
    caplog.clear()
    place.write_recipe(RIGHT, name="unjudged", stages=[SAMPLE | {"verify": False}])
    assert status("run", "unjudged.yaml") == 0
    assert "reference answer" not in caplog.text + capsys.readouterr().out


def test_several_samples_at_temperature_0_are_warned_of(place: Any, status: Any, caplog: Any) -> None:
    cold = SAMPLE | {"samples": 4, "sampling": {"temperature": 0}}
    place.write_recipe(RIGHT, stages=[cold])
    status("run", "test.yaml", "--quiet")
    assert "4 draws at temperature 0 are most likely 4 times the same answer" in caplog.text
    caplog.clear()
    status("run", "test.yaml", "--quiet", "--resume", "--set", "stages.0.samples=1")
    assert "temperature 0" not in caplog.text


def test_a_limit_below_a_complete_run_asks(place: Any, status: Any, monkeypatch: Any, capsys: Any) -> None:
    place.write_recipe(RIGHT)
    assert status("run", "test.yaml", "--quiet") == 0
    assert status("run", "test.yaml", "--quiet", "--limit", "2") == 1
    error = capsys.readouterr().err
    assert (
        "runs/test holds a complete run of 6 rows; with the limit it would be replaced by one of 2." in error
    )
    assert "--set name=NAME" in error and "--replace" in error
    assert open_run(Path("runs/test")).summary.stages[0].rows_out == 6
    assert status("run", "test.yaml", "--quiet", "--limit", "6") == 0
    asked: list[str] = []

    def answer(text: str, err: bool) -> bool:
        asked.append(text)
        return len(asked) > 1

    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", answer)
    assert status("run", "test.yaml", "--quiet", "--limit", "2") == 1
    assert status("run", "test.yaml", "--quiet", "--limit", "2") == 0
    assert len(asked) == 2 and asked[0].endswith("Replace it?")
    assert status("run", "test.yaml", "--quiet", "--limit", "1", "--replace") == 0


def test_export_keeps_to_its_own_files_and_is_recorded(place: Any, status: Any, capsys: Any) -> None:
    place.write_recipe(RIGHT, stages=[SAMPLE, {"stage": "demonstrations"}], exports=[{"format": "trl-sft"}])
    assert status("run", "test.yaml", "--quiet") == 0
    own = Path("runs/test/exports/trl-sft.jsonl").read_bytes()
    assert status("export", "test", "--format", "trl-sft", "--option", "untrained=keep") == 0
    assert capsys.readouterr().out == "6 rows: runs/test/exports/trl-sft.demonstrations.jsonl\n"
    assert Path("runs/test/exports/trl-sft.jsonl").read_bytes() == own
    same = ("export", "test", "--format", "text", "--out", "runs/test/exports/trl-sft.jsonl")
    assert status(*same) == 1
    assert "is a file that the recipe makes" in capsys.readouterr().err
    assert status("export", "test", "--format", "trl-sft", "--option", "untrained=some") == 2
    assert "it must be one of 'drop', 'keep'" in capsys.readouterr().err
    made = open_run(Path("runs/test")).summary.exported["trl-sft.demonstrations.jsonl"]
    assert (made.format, made.stage, made.rows, made.options) == (
        "trl-sft",
        "demonstrations",
        6,
        {"untrained": "keep"},
    )
    status("show", "test")
    assert "exported by hand: trl-sft.demonstrations.jsonl, 6 rows\n" in capsys.readouterr().out
    assert status("run", "test.yaml", "--limit", "3", "--replace") == 0
    assert "6 rows; older than the rows of demonstrations: export it again" in capsys.readouterr().out


def test_an_unfinished_directory_takes_a_changed_recipe(place: Any, status: Any, server: Any) -> None:
    place.write_problems(60, answer="1")
    place.write_recipe({"kind": "openai", "base_url": f"{server.address}/nothing/here", "model": "m"})
    assert status("run", "test.yaml", "--quiet") == 5
    place.write_recipe(RIGHT, seed=7)
    assert status("run", "test.yaml", "--quiet") == 0


def test_what_mixes_no_rows_is_continued_and_said(
    place: Any, status: Any, capsys: Any, caplog: Any, odd: Any
) -> None:
    engine = {"kind": "openai", "base_url": odd.url("plain"), "model": "m"}
    place.write_recipe(engine, stages=[SAMPLE])
    assert status("run", "test.yaml", "--quiet") == 0
    place.write_recipe(
        engine | {"base_url": f"{odd.url('plain')}/", "api_key_env": "OTHER"},
        stages=[SAMPLE, {"stage": "demonstrations"}],
        exports=[{"format": "text"}],
    )
    assert status("run", "test.yaml", "--quiet") == 0
    [said] = [r.getMessage() for r in caplog.records if "continuing with changes" in r.getMessage()]
    for key in ("exports", "engine.base_url", "engine.api_key_env", "stages.demonstrations"):
        assert key in said
    place.write_recipe(engine, stages=[SAMPLE | {"samples": 2}])
    assert status("run", "test.yaml", "--quiet") == 1
    assert "changed: stages.sample.samples, stages.demonstrations." in capsys.readouterr().err


def test_a_run_of_a_version_without_tools_is_continued(
    place: Any, status: Any, capsys: Any, odd: Any
) -> None:
    engine = {"kind": "openai", "base_url": odd.url("plain"), "model": "m"}
    place.write_recipe(engine, stages=[SAMPLE])
    assert status("run", "test.yaml", "--quiet") == 0
    kept = place.path / "runs" / "test" / "recipe.yaml"
    kept.write_text(former := kept.read_text().replace("  - tools\n", ""))
    assert "many\n" in former and "tools" not in former
    assert status("run", "test.yaml", "--quiet") == 0
    kept.write_text(former.replace("  - many\n", ""))
    assert status("run", "test.yaml", "--quiet") == 1
    assert "changed: engine.abilities." in capsys.readouterr().err
