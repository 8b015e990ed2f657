"""Data files that a recipe names are looked for beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gristmill.pipelines.recipe.recipe import look_beside


def test_a_data_file_in_the_options_of_a_stage_is_looked_for_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "known.jsonl").touch()
    given = {"examples": "known.jsonl", "by": [{"passages": "../known.jsonl"}], "prompt": "Name known.jsonl"}
    recipe: dict[str, Any] = {"stages": [given | {"other": "unknown.jsonl"}]}
    look_beside(recipe, tmp_path)
    [stage] = recipe["stages"]
    # What is not there stays as it is written, and so does a text that only ends like a file.
    assert stage == given | {"examples": str(tmp_path / "known.jsonl"), "other": "unknown.jsonl"}
    (tmp_path / "below").mkdir()
    recipe = {"stages": [given]}
    look_beside(recipe, tmp_path / "below")
    assert recipe["stages"][0]["by"] == [{"passages": str(tmp_path / "below" / ".." / "known.jsonl")}]
