"""The recipes of docs/votes.md and docs/confidence.md load as they are written."""

from __future__ import annotations

import re

import pytest
import yaml
from paths import ROOT

from gristmill.pipelines.recipe import from_dict


@pytest.mark.parametrize("page", ["votes.md", "confidence.md"])
def test_the_recipes_of_a_page_load(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    for block in blocks:
        base = {
            "name": "page",
            "sources": {
                "problems": {"path": "rows.jsonl"},
                "samples": {"path": "s.jsonl", "reads": "samples"},
            },
            "engine": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m"},
        }
        loaded = from_dict(base | yaml.safe_load(block))
        assert len(loaded.stages) == len(yaml.safe_load(block)["stages"])
    assert len(blocks) >= 3
