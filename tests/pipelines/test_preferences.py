"""The shipped recipe that curates preference pairs: run, in Python, in tasks, and as its page has it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from distributed_parts import outputs
from paths import ROOT

from gristmill.cli.shipped import find
from gristmill.pipelines import Run, plan, run
from gristmill.pipelines.recipe.recipe import from_dict, load, to_dict

TEXT = (ROOT / "docs" / "pipelines.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def place(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(workspace.path)
    monkeypatch.delenv("GRISTMILL_LOG", raising=False)
    shutil.copy(ROOT / "data" / "preferences.jsonl", workspace.path)
    return workspace


def parts(done: Run) -> dict[str, bytes]:
    return {name: (done.path / "exports" / f"{name}.jsonl").read_bytes() for name in ("train", "test")}


def test_it_keeps_pairs_that_one_engine_gets_wrong_and_the_other_right(place: Any) -> None:
    done = run(find("preferences"), quiet=True)
    answers = done.rows("answers").collect()
    right = {
        (row["problem_id"], row["model"])
        for row in answers.iter_rows(named=True)
        if row["completion"].rstrip(".").lower() == row["answer"]
    }
    wanted = {
        f"q{i:02d}"
        for i in range(1, 41)
        if (f"q{i:02d}", "second") in right and (f"q{i:02d}", "learner") not in right
    }
    needed = done.rows("needed").collect()
    assert 5 < needed.height < 20 and set(needed["id"]) == wanted
    assert set(needed["learner"]) == {"Yes.", "No."}
    exported = {name: [json.loads(line) for line in text.splitlines()] for name, text in parts(done).items()}
    assert exported["test"] and len(exported["train"]) > len(exported["test"])
    assert {row["id"] for rows in exported.values() for row in rows} == wanted
    assert set(exported["test"][0]) == {"id", "prompt", "chosen", "rejected"}


def test_the_page_shows_the_recipe_that_is_shipped(place: Any) -> None:
    shown, shipped = to_dict(from_dict(yaml.safe_load(blocks("yaml")[0]))), to_dict(load(find("preferences")))
    for source in shipped["sources"].values():
        source["path"] = Path(source["path"]).name
    assert shown == shipped


def test_the_same_in_python_takes_under_20_lines(place: Any) -> None:
    code = blocks("python")[0]
    assert sum(bool(line.strip()) for line in code.splitlines()) < 20
    scope: dict[str, Any] = {}
    exec(compile(code, "pipelines.md", "exec"), scope)
    assert parts(scope["run"]) == parts(run(find("preferences"), quiet=True))


def test_classes_of_a_script_do_as_the_page_says(place: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """As a script, so that its verifier is one that no worker process can import."""
    import subprocess
    import sys

    (place.path / "script.py").write_text(blocks("python")[1])
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=place.path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "IS 7 ODD?" in done.stdout
    assert done.stderr.count("Warning") == 1 and "same_start" in done.stderr, done.stderr
    again = yaml.safe_load((place.path / "runs/shouted/recipe.yaml").read_text())
    assert (
        again["verifier"]["kind"] == "__main__:same_start" and again["stages"][0]["stage"] == "__main__:Shout"
    )


def test_the_until_of_the_page_is_one(place: Any) -> None:
    recipe = yaml.safe_load(blocks("yaml")[0]) | yaml.safe_load(blocks("yaml")[1])
    until = from_dict(recipe).until
    assert until is not None and (until.stage, until.rows, until.at_most, until.minutes) == (
        "train",
        5000,
        50000,
        30,
    )


def test_four_local_tasks_give_the_same_bytes(place: Any) -> None:
    pytest.importorskip(
        "datatrove", reason="datatrove is not installed: pip install 'gristmill[distributed]'"
    )
    one = run(find("preferences"), runs="one", log="one.sqlite", quiet=True)
    words = ["--executor", "local", "--tasks", "4", "--runs", "many", "--log", "many.sqlite", "--quiet"]
    many = place.gristmill("run", "preferences", *words)
    assert many.returncode == 0, many.stderr
    assert outputs(place.path / "many/preferences") == outputs(one.path)


def test_the_plan_sees_through_the_whole_graph_once_it_has_run(place: Any) -> None:
    done = run(find("preferences"), quiet=True)
    found = plan(find("preferences"))
    counted = {stage.name: stage.rows_in for stage in done.summary.stages}
    assert all(stage.known and stage.rows == stage.done for stage in found.stages)
    assert {s.name: s.rows for s in found.stages} == {s.name: counted[s.name] for s in found.stages}
    assert all(stage.completions_max == 0 for stage in found.stages)
