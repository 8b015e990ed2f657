"""The recipes of docs/tools.md and docs/dialogues.md run as they stand, with given answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from paths import ROOT

from gristmill.pipelines import run


def ran(page: str, rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The first recipe of a page, run over ``rows``."""
    [text, *_] = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    recipe = {"name": "page", **yaml.safe_load(text)}
    monkeypatch.chdir(tmp_path)
    Path(recipe["source"]["path"]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return run(tmp_path / "recipe.yaml")


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_recipe_of_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran("tools.md", [{"id": "p1", "problem": "What is 17 * 23?", "answer": "391"}], tmp_path, monkeypatch)
    exports = tmp_path / "runs" / "page" / "exports"
    [trl, *_] = lines(exports / "trl-sft.jsonl")
    calls = [m["tool_calls"][0]["function"]["name"] for m in trl["messages"] if m["tool_calls"]]
    assert calls == ["calculator"] and trl["messages"][2] == {
        "role": "tool",
        "content": "391",
        "tool_calls": None,
        "tool_call_id": "c1",
    }
    [row, *_] = lines(exports / "llamafactory-sharegpt.jsonl")
    assert [m["from"] for m in row["conversations"]] == ["human", "function_call", "observation", "gpt"]
    [axolotl, *_] = lines(exports / "axolotl-chat.jsonl")
    assert [m["train"] for m in axolotl["messages"]] == [False, True, False, True]


def test_the_recipe_of_dialogues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = {"city": "Oslo", "diet": "vegan"}
    row = {"id": "d1", "problem": "a place to eat tonight", "profile": profile}
    ran("dialogues.md", [row], tmp_path, monkeypatch)
    [talk] = lines(tmp_path / "runs" / "page" / "exports" / "axolotl-chat.jsonl")
    assert [(m["role"], m["train"]) for m in talk["messages"]] == [("user", False), ("assistant", True)] * 2
