"""``--json`` and ``--track``: what schedulers and trackers are told."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from gristmill.core.errors import MissingExtraError, RecipeError
from gristmill.pipelines import run
from gristmill.pipelines.running.trackers import TRACKERS, tracked

ENGINE = {"kind": "scripted", "replies": [{"texts": ["x"]}]}


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_gets_the_numbers_and_is_finished(
    name: str, workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    module = SimpleNamespace(
        init=lambda **options: calls.append(options),
        log=calls.append,
        finish=lambda: calls.append("finished"),
    )
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.chdir(workspace.path)
    workspace.write_problems(3)
    with tracked(name, "mine") as watch:
        run(workspace.write_recipe(ENGINE), quiet=True, watch=watch)
    first, report, last = calls
    assert (first, last) == ({"project": "gristmill", "name": "mine"}, "finished")
    assert report["rows"] == 3 and "stage" not in report and None not in report.values()


def test_a_tracker_that_is_missing_or_unknown_is_said_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match="pip install wandb"), tracked("wandb", "mine"):
        pass
    with pytest.raises(RecipeError, match=r"'wandbb' is not a known tracker\. Did you mean 'wandb'"):
        tracked("wandbb", "mine").__enter__()


def test_the_command_writes_json_alone_to_standard_output(workspace: Any) -> None:
    workspace.write_problems(3)
    ran = workspace.gristmill("run", str(workspace.write_recipe(ENGINE)), "--json")
    assert ran.returncode == 0, ran.stderr
    assert [json.loads(line)["event"] for line in ran.stdout.splitlines()] == ["ended"]
