"""A recipe with another engine and on other data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gristmill.core.errors import RecipeError
from gristmill.pipelines.methods.choosing import check_needs, choose
from gristmill.pipelines.methods.gallery import METHODS, entries
from gristmill.pipelines.recipe import load

RAFT = METHODS / "raft.yaml"


def chosen(path: Path, *given: Any) -> dict[str, Any]:
    return {
        place: json.loads(value) for place, _, value in (one.partition("=") for one in choose(path, *given))
    }


def test_an_engine_takes_the_place_of_all_but_reward_models(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    engines = {"judge": {"kind": "scripted"}, "rm": {"kind": "reward-server"}}
    recipe.write_text(json.dumps({"name": "r", "engines": engines, "source": {"path": "a.jsonl"}}))
    own = tmp_path / "engine.yaml"
    own.write_text("kind: openai\nmodel: m\n")
    engine = {"kind": "openai", "model": "m"}
    assert chosen(recipe, str(own)) == {"engine": engine, "engines.judge": engine}
    assert chosen(recipe, "embedded")["engines.judge"] == {"kind": "llamacpp"}
    with pytest.raises(RecipeError, match="no scripted answers"):
        choose(recipe, "scripted")
    with pytest.raises(RecipeError, match=r"'embeded' is neither.*Did you mean 'embedded'"):
        choose(recipe, "embeded")


def test_other_data_and_given_answers_are_runs_of_their_own(tmp_path: Path) -> None:
    assert chosen(RAFT, None, ["my rows.jsonl"]) == {
        "source": {"path": "my rows.jsonl"},
        "name": "raft-my-rows",
    }
    assert chosen(RAFT, "scripted", ["a.jsonl"])["name"] == "raft-scripted-a"
    several = next(e.path for e in entries() if len(chosen_sources(e.path)) > 1)
    with pytest.raises(RecipeError, match="reads several sources"):
        choose(several, None, ["a.jsonl"])


def chosen_sources(path: Path) -> dict[str, Any]:
    import yaml

    return yaml.safe_load(path.read_text()).get("sources") or {}


def test_data_without_answers_is_refused_where_they_are_needed(tmp_path: Path) -> None:
    data = tmp_path / "mine.jsonl"
    data.write_text('{"problem": "1 + 1?"}\n{"problem": "1 + 2?"}\n')
    with pytest.raises(RecipeError, match="raft needs right answers, and none of the first 2 rows"):
        check_needs(RAFT, load(RAFT, choose(RAFT, "scripted", [str(data)])).sources)
    data.write_text('{"problem": "1 + 1?"}\n{"problem": "1 + 2?", "answer": "3"}\n')
    check_needs(RAFT, load(RAFT, choose(RAFT, "scripted", [str(data)])).sources)
