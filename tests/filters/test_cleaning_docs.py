"""The recipes of docs/duplicates.md and docs/contamination.md work, and their tables name every option."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from table_rows import called, problems, sample, samples

from gristmill.core.records import Score
from gristmill.core.registry import find

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {"dedupe": "duplicates.md", "decontaminate": "contamination.md"}
TEXTS = {stage: (DOCS / page).read_text(encoding="utf-8") for stage, page in PAGES.items()}
STAGES = [
    entry
    for text in TEXTS.values()
    for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    for entry in yaml.safe_load(block)["stages"]
]


@pytest.mark.parametrize("entry", STAGES, ids=lambda entry: entry["as"])
def test_every_stage_of_a_page_runs(entry: dict[str, Any]) -> None:
    tables = {
        "problems": problems("a", "b"),
        "samples": samples(*(sample(p, i, scores=(Score("reward", 0.5),)) for p in "ab" for i in range(2))),
    }
    options = {key: value for key, value in entry.items() if key not in ("stage", "as", "from")}
    stage = msgspec.convert(options, find("stages", entry["stage"]))
    assert called(stage, tables[entry["from"]]).height == tables[entry["from"]].collect().height


@pytest.mark.parametrize("stage", PAGES)
def test_a_page_has_a_row_for_every_option(stage: str) -> None:
    rows = "\n".join(line.split("|")[1] for line in TEXTS[stage].splitlines() if line.startswith("| `"))
    assert [name for name in find("stages", stage).__struct_fields__ if f"`{name}`" not in rows] == []
