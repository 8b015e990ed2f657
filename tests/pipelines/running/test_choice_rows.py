"""Multiple choice in recipes: every stage that verifies judges by the options of its row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gristmill.pipelines import run

ROWS: dict[str, dict[str, Any]] = {
    "the problem's text": {"problem": "Which is the capital of Italy?\n(A) Paris\n(B) Rome\n(C) Berlin"},
    "a list": {"problem": "Which is the capital of Italy?", "choices": ["Paris", "Rome", "Berlin"]},
    "a column each": {"problem": "Which is the capital of Italy?", "A": "Paris", "B": "Rome", "C": "Berlin"},
}
ENGINE: dict[str, Any] = {
    "kind": "scripted",
    "replies": [{"texts": ["It must be Rome.", "It is Paris.", "Paris or Rome."]}],
}


@pytest.mark.parametrize("where", ROWS)
def test_answers_by_content_are_judged_with_the_problems_options(
    where: str, workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.path)
    rows = [{"id": f"q{i}", "answer": "B", **ROWS[where]} for i in range(2)]
    (workspace.path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "name": "choice",
        "source": {"path": "rows.jsonl"},
        "engine": ENGINE,
        "verifier": {"kind": "choice", "workers": 1},
        "stages": [
            {"stage": "sample", "samples": 12, "verify": True},
            {"stage": "tree_search", "from": "source", "iterations": 2},
            {"stage": "explore_self_correction", "from": "source"},
        ],
    }
    (workspace.path / "recipe.yaml").write_text(json.dumps(recipe))
    done = run(workspace.path / "recipe.yaml", quiet=True)
    made = done.rows("sample").collect()
    told = {
        (text, verdict["outcome"]) for text, verdict in zip(made["completion"], made["verdict"], strict=True)
    }
    right, wrong, hedge = ENGINE["replies"][0]["texts"]
    assert told == {(right, "correct"), (wrong, "incorrect"), (hedge, "incorrect")}
    assert made["answer"].to_list() == ["B"] * 24
    for stage in done.summary.stages[1:]:  # each judged some right and some wrong by their content
        assert stage.verdicts.keys() >= {"correct", "incorrect"}, stage
