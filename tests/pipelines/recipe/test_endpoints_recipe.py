"""``kind: endpoints`` in a recipe."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from gristmill.core import registry
from gristmill.core.errors import RecipeError
from gristmill.engines.log.store import CompletionLog
from gristmill.pipelines.recipe.recipe import from_dict
from gristmill.pipelines.recipe.schema import json_schema
from gristmill.pipelines.rundir.directory import changed_keys
from gristmill.pipelines.running.checks.claim import pacing
from gristmill.pipelines.running.sessions import Engines


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("endpoints", "gristmill.engines.endpoints.engine:Endpoints", "gristmill.engines")
    monkeypatch.setitem(registry._entries("engines"), "endpoints", entry)


def data(*endpoints: dict[str, Any], **options: Any) -> dict[str, Any]:
    engine = {"kind": "endpoints", "model": "m", "endpoints": list(endpoints), **options}
    return {"name": "t", "source": {"path": "x.jsonl"}, "engine": engine, "stages": [{"stage": "sample"}]}


ONE, TWO = ({"base_url": f"http://127.0.0.1:{port}/v1"} for port in (1, 2))


def test_it_can_be_written_in_a_recipe_and_read_back(tmp_path: Any) -> None:
    recipe = from_dict(data({**ONE, "weight": 3}, TWO, concurrency=100, initial_concurrency=10))
    assert from_dict(recipe.to_dict()).to_dict() == recipe.to_dict()
    with CompletionLog(tmp_path / "log.sqlite") as log:
        engines = Engines(recipe, log)
        members = recipe.engine.open().members
    assert [(m.limit.most, m.limit.limit) for m in members] == [(75, 8), (25, 2)]
    assert engines.main.stats.limit == 100, "the endpoints pace themselves; the session does not"
    assert "base_url" in str(json_schema())


def test_a_run_may_go_on_over_other_endpoints() -> None:
    before, after = from_dict(data(ONE, TWO)), from_dict(data({**TWO, "weight": 5}, drain_file="d.txt"))
    ignored = pacing(before)
    assert changed_keys(before.to_dict(), after.to_dict(), ignored) == []
    other = from_dict(data(ONE, extra={"top_a": 1}))
    assert changed_keys(before.to_dict(), other.to_dict(), ignored) == ["engine.extra.top_a"]


def test_an_endpoint_that_cannot_be_is_refused_with_its_place() -> None:
    with pytest.raises(RecipeError, match=r"engine\.endpoints\[0\]"):
        from_dict(data({"base_url": "node1:8000"}))
    with pytest.raises(RecipeError, match=r"engine"):
        from_dict(data())
