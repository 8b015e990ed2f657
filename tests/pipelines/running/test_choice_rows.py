"""Multiple choice in recipes: every stage that verifies judges by the options that a row's problem lists."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gristmill.pipelines import run

PROBLEM = "Which is the capital of Italy?\n(A) Paris\n(B) Rome\n(C) Berlin"
ENGINE: dict[str, Any] = {
    "kind": "scripted",
    "replies": [{"texts": ["It must be Rome.", "It is Paris.", "Paris or Rome."]}],
}


def test_answers_by_content_are_judged_with_the_problems_options(
    workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.path)
    rows = [{"id": f"q{i}", "problem": PROBLEM, "answer": "B"} for i in range(2)]
    (workspace.path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "name": "choice",
        "source": {"path": "rows.jsonl"},
        "engine": ENGINE,
        "verifier": {"kind": "choice", "workers": 1},
        "stages": [{"stage": "sample", "samples": 3, "verify": True}],
    }
    (workspace.path / "recipe.yaml").write_text(json.dumps(recipe))
    done = run(workspace.path / "recipe.yaml", quiet=True)
    made = done.rows("sample").collect()
    told = {
        (text, verdict["outcome"]) for text, verdict in zip(made["completion"], made["verdict"], strict=True)
    }
    right, wrong, hedge = ENGINE["replies"][0]["texts"]
    assert told == {(right, "correct"), (wrong, "incorrect"), (hedge, "incorrect")}
    assert made["answer"].to_list() == ["B"] * 6
