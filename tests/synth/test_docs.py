"""The recipes of the pages on prompts, scores, data for RL and reward models load as they are written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from gristmill.pipelines.recipe import from_dict

ROOT = Path(__file__).parents[2]


PAGES = ["decoding.md", "encoder.md", "prompts.md", "rag.md", "rl-data.md", "scores.md", "scorers.md"]
PAGES += ["training-process-reward.md", "training-reward.md"]


@pytest.mark.parametrize("page", PAGES)
def test_the_recipes_of_a_page_load(page: str) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    for block in blocks:
        written = yaml.safe_load(block)
        keys = {"stages": written} if isinstance(written, list) else written
        base = {"name": "page", "engine": {"kind": "llamacpp"}}
        if "sources" not in keys:
            base |= {"source": {"path": "rows.jsonl"}}
        keys = {"stages": [{"stage": "sample"}]} | keys
        assert from_dict(base | keys).engine is not None
    assert blocks
