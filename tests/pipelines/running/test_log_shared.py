"""Whole runs whose log is shared, emptied, lost or poisoned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gristmill.cli.main import app
from gristmill.core.errors import LogError, RunError
from gristmill.engines.log.tools import stats
from gristmill.pipelines import run
from gristmill.pipelines.running.work import Work

SCRIPTED = {"kind": "scripted", "replies": [{"texts": ["4"]}]}


@pytest.fixture
def place(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(workspace.path)
    monkeypatch.delenv("GRISTMILL_LOG", raising=False)
    workspace.write_problems(10)
    return workspace


def _engine(odd: Any, name: str) -> dict[str, Any]:
    return {"kind": "openai", "base_url": odd.url(name), "model": "m", "concurrency": 8}


def _gristmill(*words: str) -> Any:
    """A command in this process."""
    return CliRunner().invoke(app, words)


def _parts(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*.parquet"))}


def test_two_runs_at_once_share_what_they_pay_for(place: Any, odd: Any) -> None:
    place.write_problems(200)
    names = ("one", "two")
    for name in names:
        place.write_recipe(_engine(odd, "never-twice"), name=name)
    for process in [place.start("run", f"{name}.yaml", "-q") for name in names]:
        _, err = process.communicate(timeout=100)
        assert process.returncode == 0, err
    asked = sum(visit.path == "chat/completions" for visit in odd.visits)
    assert 200 <= asked <= 200 + 2 * 8
    before = [_parts(place.path / "runs" / name) for name in names]
    assert before[0] == before[1]
    for name in names:
        assert run(f"{name}.yaml", quiet=True).summary.spent.requests == 0
    assert [_parts(place.path / "runs" / name) for name in names] == before


def test_a_complete_run_asks_before_it_pays_anew(place: Any) -> None:
    recipe = place.write_recipe(SCRIPTED)
    run(recipe, quiet=True)
    Path(".gristmill/completions.sqlite").unlink()
    with pytest.raises(RunError, match=r"none of the 10 completions.*--pay-again"):
        run(recipe, quiet=True)
    questions: list[str] = []
    with pytest.raises(RunError, match="--pay-again"):
        run(recipe, quiet=True, confirm=lambda question: bool(questions.append(question)))
    assert "pays for them anew" in questions[0]
    assert run(recipe, quiet=True, confirm=lambda _: True).summary.spent.requests == 10
    assert run(recipe, quiet=True).summary.spent.requests == 0
    # The log of another model is as empty, for this run.
    other = place.write_recipe({**SCRIPTED, "model": "other"}, name="other")
    run(other, quiet=True, log="other.sqlite")
    with pytest.raises(RunError, match="--pay-again"):
        run(recipe, quiet=True, log="other.sqlite")
    assert run(recipe, quiet=True, log="other.sqlite", pay_again=True).summary.spent.requests == 10


def test_the_command_says_how_to_pay_again(place: Any) -> None:
    place.write_recipe(SCRIPTED)
    run("test.yaml", quiet=True)
    again = ("run", "test.yaml", "-q", "--log", "new.sqlite")
    assert "--pay-again" in str(_gristmill(*again).exception)
    assert _gristmill(*again, "--pay-again").exit_code == 0


def test_a_log_that_is_lost_stops_the_run(place: Any, odd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write_problems(100)
    recipe = place.write_recipe(_engine(odd, "never-twice"))
    path = Path(".gristmill/completions.sqlite")
    emit = Work.emit

    async def losing(self: Work, *given: Any) -> None:
        path.unlink(missing_ok=True)
        await emit(self, *given)

    monkeypatch.setattr(Work, "emit", losing)
    with pytest.raises(LogError, match="deleted, renamed or replaced"):
        run(recipe, quiet=True)
    assert sum(visit.path == "chat/completions" for visit in odd.visits) < 50


def test_a_poisoned_count_spoils_no_run(place: Any, odd: Any) -> None:
    recipe = place.write_recipe(_engine(odd, "poisoned-count"))
    for asked in (10, 0):
        done = run(recipe, quiet=True)
        assert done.summary.spent.requests == asked and done.rows().collect().height == 10
    assert stats(".gristmill/completions.sqlite").models[0].completion_tokens == 50


def test_a_larger_max_tokens_asks_only_for_what_was_cut_off(place: Any) -> None:
    place.write_recipe(SCRIPTED, stages=[{"stage": "sample", "sampling": {"max_tokens": 64}}])
    run("test.yaml", quiet=True)
    place.write_recipe(SCRIPTED, stages=[{"stage": "sample", "sampling": {"max_tokens": 640}}])
    assert run("test.yaml", quiet=True, resume=True).summary.spent.requests == 0


def test_the_commands_of_a_damaged_log(place: Any) -> None:
    run(place.write_recipe(SCRIPTED), quiet=True)
    log = Path(".gristmill/completions.sqlite")
    assert _gristmill("log", "check").stdout == f"{log}: 10 completions are sound\n"
    data = bytearray(log.read_bytes())
    data[data.index(b'{"text":"4"') + 9] ^= 1
    log.write_bytes(data)
    found = _gristmill("log", "check")
    assert found.exit_code == 1 and "1 completions are damaged" in found.stdout
    assert f"gristmill log repair --log {log}" in found.stdout
    exported = _gristmill("log", "export", "out.jsonl")
    assert "9 completions, 1 damaged ones left out" in exported.stdout
    assert "9 completions kept, 1 lost" in _gristmill("log", "repair").stdout
    assert "nothing is damaged among 9 completions" in _gristmill("log", "repair").stdout
    lines = Path("out.jsonl").read_text().splitlines()
    Path("in.jsonl").write_text("\n".join([*lines, json.dumps({"model": "m"})]))
    done = _gristmill("log", "import", "in.jsonl", "--log", "new.sqlite")
    assert done.exit_code == 1 and "9 completions added, 0 were there" in done.stdout
    assert "in.jsonl, line 10: " in done.stdout
    pruned = _gristmill("log", "prune", "--finish", "stop", "--log", "new.sqlite")
    assert "deleted 9 completions" in pruned.stdout
