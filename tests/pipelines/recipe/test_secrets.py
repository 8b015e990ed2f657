"""Secrets in a recipe: refused, and not repeated."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gristmill.core.errors import RecipeError
from gristmill.pipelines.running.runner import run


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("engine.base_url", {"engine": {"kind": "openai", "model": "m", "base_url": "http://u:pass@h/v1"}}),
        ("source.path", {"source": {"path": "https://me:hunter2@example.org/rows.jsonl"}}),
        (
            "engines.judge.api_key_env",
            {"engines": {"judge": {"kind": "openai", "api_key_env": "sk-" + "a1" * 20}}},
        ),
    ],
)
def test_a_secret_anywhere_is_refused_before_anything_is_written(
    tmp_path: Path, place: str, change: dict[str, Any]
) -> None:
    recipe = {"name": "r", "source": {"path": "p.jsonl"}, "stages": [{"stage": "sample"}]} | change
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(recipe))
    with pytest.raises(RecipeError, match=rf"^{re.escape(place)}: this value") as caught:
        run(path, runs=tmp_path / "runs", log=tmp_path / "log.sqlite")
    assert not any(secret in str(caught.value) for secret in ("pass@", "hunter2", "a1a1"))
    assert [p.name for p in tmp_path.iterdir()] == ["recipe.yaml"]
