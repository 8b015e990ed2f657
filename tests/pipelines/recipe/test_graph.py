"""What can be wrong with a graph is one error when the recipe loads, with place and remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gristmill.core.errors import RecipeError
from gristmill.pipelines import run
from gristmill.pipelines.recipe.recipe import from_dict, to_dict

SOURCES = {
    "problems": {"path": "p.jsonl"},
    "others": {"path": "o.jsonl"},
    "pairs": {"path": "w.jsonl", "reads": "pairs"},
}
ENGINE = {"kind": "scripted", "replies": [{"texts": ["4"]}]}
SAMPLE = {"stage": "sample", "as": "draw"}


def recipe(*stages: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {"name": "t", "engine": ENGINE, "sources": SOURCES, "stages": list(stages), **keys}


WRONG: list[tuple[dict[str, Any], str, str]] = [
    (recipe(SAMPLE | {"from": "problem"}), "names no source and no stage", "Did you mean 'problems'"),
    (
        recipe(SAMPLE | {"from": "draw"}),
        "'from: draw' names a stage that does not come before it",
        "Put 'draw' first",
    ),
    (
        recipe(SAMPLE | {"from": "late"}, {"stage": "take", "as": "late", "rows": 1, "from": "problems"}),
        "'from: late' names a stage that does not come before it",
        "Put 'late' first",
    ),
    (recipe(SAMPLE | {"from": ["problems", "others"]}), "reads 1 input, and its 'from' names 2", "Name"),
    (
        recipe({"stage": "join", "from": "problems"}),
        "reads 2 or more inputs, and its 'from' names 1",
        "[FIRST, SECOND]",
    ),
    (
        recipe({"stage": "take", "rows": 1, "from": ["pairs", "others"]}),
        "reads 1 input, and its 'from' names 2",
        "Name",
    ),
    (
        recipe({"stage": "sample", "from": "pairs"}),
        "reads Problem records, but the source 'pairs'",
        "from: others",
    ),
    (
        recipe(SAMPLE, {"stage": "measure_pairs", "scores": {"n": "words"}}),
        "reads Pair records, but the stage 'draw' gives",
        "from: pairs",
    ),
    (recipe(SAMPLE, {"stage": "union", "from": ["draw", "pairs"]}), "'index'", "derive"),
    (recipe(SAMPLE, SAMPLE | {"from": "problems"}), "the name is already taken by stage 1", "as: NAME"),
    (recipe(SAMPLE | {"as": "pairs"}), "the name is already taken by a source", "as: NAME"),
    (recipe({"stage": "take", "rows": 1, "engine": "other"}), "asks no model", "'engine:'"),
    (recipe(SAMPLE | {"engine": "other"}), "wants the engine 'other'", "engines: {other:"),
    (recipe(SAMPLE | {"engines": ["a", "b"]}), "wants the engine 'a'", "engines: {a:"),
    (
        recipe(SAMPLE, {"stage": "verify", "verifier": "formats"}),
        "wants the verifier 'formats'",
        "verifiers:",
    ),
    (
        recipe(SAMPLE, {"stage": "verify", "verifier": "formats"}, verifiers={"format": {"kind": "format"}}),
        "wants the verifier 'formats'",
        "Did you mean 'format'",
    ),
    (
        recipe(SAMPLE, verifier={"kind": "maths"}),
        "'maths' is not a registered verifier",
        "Did you mean 'math'",
    ),
    (recipe(SAMPLE, {"stage": "where", "condition": "verdct = 'x'"}), "'verdct'", "Did you mean 'verdict'"),
    (
        recipe({"stage": "mix", "from": ["problems", "others"], "weights": {"a": 1}}),
        "mix: weights",
        "its name",
    ),
    (recipe(SAMPLE, exports=[{"format": "trl-dpo", "from": "draw"}]), "reads Pair records", "from: pairs"),
    (
        recipe(SAMPLE, exports=[{"format": "trl-dpo", "from": "pair"}]),
        "'pair' names no",
        "Did you mean 'pairs'",
    ),
    (recipe(SAMPLE, source={"path": "x"}), "both 'source' and 'sources'", "under 'sources'"),
]


@pytest.mark.parametrize(("data", "said", "remedy"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_with_a_graph_is_one_error(data: dict[str, Any], said: str, remedy: str) -> None:
    with pytest.raises(RecipeError) as caught:
        from_dict(data)
    assert said in caught.value.message, str(caught.value)
    assert remedy in caught.value.remedy, str(caught.value)


def test_a_graph_is_written_as_it_is_read() -> None:
    data = recipe(
        SAMPLE | {"from": "others", "engines": ["a", "b"]},
        {"stage": "join", "as": "both", "from": ["pairs", "draw"]},
        {"stage": "measure_pairs", "as": "measured", "scores": {"length": "characters"}},
        exports=[{"format": "trl-dpo", "from": "pairs"}],
        engines={"a": ENGINE, "b": ENGINE | {"model": "b"}},
        until={"stage": "both", "rows": 10},
    )
    once = to_dict(from_dict(data))
    assert to_dict(from_dict(once)) == once
    assert [stage["from"] for stage in once["stages"]] == ["others", ["pairs", "draw"], "both"]


def test_the_first_source_is_what_the_first_stage_reads() -> None:
    graph = from_dict(recipe(SAMPLE)).graph
    assert [graph.nodes[i].name for i in graph.nodes[3].inputs] == ["problems"]
    assert [graph.nodes[i].name for i in graph.sources] == ["problems", "others", "pairs"]


def test_a_recipe_whose_stages_ask_no_model_needs_no_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"problem": f"{i}?"}) + "\n" for i in range(5)))
    data = {"name": "t", "source": {"path": "p.jsonl"}, "stages": [{"stage": "take", "rows": 2}]}
    done = run(from_dict(data), quiet=True)
    assert done.rows().collect().height == 2 and done.summary.spent.requests == 0
    data["stages"] = [SAMPLE]
    with pytest.raises(
        RecipeError, match="stage 'draw' needs an engine that can chat, and the recipe names none"
    ):
        run(from_dict(data), quiet=True, resume=True)


@pytest.mark.parametrize(("form", "export"), [("pairwise", "trl-dpo-weighted"), ("pointwise", "trl-kto")])
def test_a_relation_may_write_a_plain_record_that_an_option_decides(form: str, export: str) -> None:
    stages = [{"stage": "ranking_curriculum", "as": "rows", "form": form, "from": "problems"}]
    found = from_dict(recipe(*stages, exports=[{"format": export, "from": "rows"}]))
    assert [entry.reads_from for entry in found.exports] == ["rows"]
    other = {"pairwise": "pointwise", "pointwise": "pairwise"}[form]
    with pytest.raises(RecipeError, match="but 'rows' writes"):
        from_dict(recipe(stages[0] | {"form": other}, exports=[{"format": export, "from": "rows"}]))
