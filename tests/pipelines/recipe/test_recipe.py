from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from recipe_schema import validator

from gristmill.core.errors import RecipeError
from gristmill.engines.scripted import Scripted
from gristmill.pipelines.exports.base import TrlSft
from gristmill.pipelines.recipe.recipe import Recipe, from_dict, load, make_export, to_dict
from gristmill.synth.sampling import Sample

GOOD = """\
name: first
seed: 7
source: {path: problems.jsonl, columns: {problem: question}}
engine: {kind: scripted, replies: [{texts: ["4"]}], concurrency: 3}
stages:
  - {stage: explore_self_correction, as: explore}
  - {stage: self_correction_trajectories, as: curate}
  - {stage: sample, from: source, samples: 2, sampling: {temperature: 0.5}}
exports:
  - {format: trl-sft}
  - {format: axolotl-chat, from: curate, path: ax.parquet}
"""


def data(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(GOOD)
    return found | changes


def test_a_recipe_becomes_its_parts(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(GOOD)
    recipe = load(tmp_path / "r.yaml")
    assert (recipe.name, recipe.seed, recipe.limit, recipe.part_rows) == ("first", 7, None, 10_000)
    assert recipe.engine_kind == "scripted"
    assert isinstance(recipe.engine, Scripted) and recipe.engine.concurrency == 3
    assert (recipe.verifier.kind, recipe.verifier.workers, recipe.verifier.deadline) == ("math", None, 2.0)
    assert [(n.name, n.inputs) for n in recipe.graph.nodes] == [
        ("source", ()),
        ("explore", (0,)),
        ("curate", (1,)),
        ("sample", (0,)),
    ]
    stage = recipe.graph.nodes[3].stage
    assert isinstance(stage, Sample) and (stage.samples, stage.sampling.temperature) == (2, 0.5)
    assert [(e.format, e.reads_from, e.path) for e in recipe.exports] == [
        ("trl-sft", "curate", "trl-sft.jsonl"),
        ("axolotl-chat", "curate", "ax.parquet"),
    ]


def test_the_resolved_recipe_shows_every_default_and_is_the_same_recipe() -> None:
    recipe = from_dict(data())
    shown = to_dict(recipe)
    assert shown["source"]["max_chars"] == 100_000
    assert shown["verifier"] == {
        "kind": "math",
        "workers": None,
        "deadline": 2.0,
        "memory_mb": 1024,
        "options": {},
    }
    assert shown["stages"][2]["as"] == "sample"
    assert shown["stages"][2]["sampling"]["top_p"] == 1.0
    assert shown["exports"][0] == {
        "format": "trl-sft",
        "from": "curate",
        "path": "trl-sft.jsonl",
        "untrained": "drop",
        "reasoning": "strip",
        "tools": "drop",
        "columns": [],
        "with_config": False,
    }
    assert to_dict(from_dict(yaml.safe_load(yaml.safe_dump(shown)))) == shown
    validator().validate(shown)


def change(place: str, value: Any) -> dict[str, Any]:
    changed = data()
    *steps, last = [int(s) if s.isdecimal() else s for s in place.split(".")]
    target: Any = changed
    for step in steps:
        target = target[step]
    target[last] = value
    return changed


BAD = [
    ("stages.1.atempts", 1, r"stages\[1\]\.atempts: unknown key", "Known: .*from.*stage"),
    ("stages.2.smaples", 1, r"stages\[2\]\.smaples: unknown key", "Did you mean 'samples'?"),
    ("stages.2.form", "x", r"stages\[2\]\.form: unknown key", "Did you mean 'from'?"),
    ("stages.2.sampling.temprature", 1, r"stages\[2\]\.sampling\.temprature: unknown", "'temperature'"),
    ("engine.replies.0.text", "x", r"engine\.replies\[0\]\.text: unknown key", "Did you mean 'texts'?"),
    ("engine.concurency", 1, r"engine\.concurency: unknown key", "Did you mean 'concurrency'?"),
    ("source.columns.probelm", "x", "'probelm' is not a field of problems", "Did you mean 'problem'?"),
    ("sede", 1, "sede: unknown key", "Did you mean 'seed'?"),
    ("verifier", {"deadlien": 1}, r"verifier\.deadlien: unknown key", "Did you mean 'deadline'?"),
    ("exports.0.untraind", 1, r"exports\[0\]\.untraind: unknown key", "Did you mean 'untrained'?"),
    ("stages.2.samples", -4, r"stages\[2\]\.samples: -4 is refused: expected `int` >= 1", ""),
    ("stages.2.samples", "four", r"stages\[2\]\.samples: 'four' is refused: expected `int`, got `str`", ""),
    ("stages.2.samples", 1.5, r"stages\[2\]\.samples: 1\.5 is refused: expected `int`", ""),
    ("stages.2.sampling.top_p", 1.5, r"stages\[2\]\.sampling\.top_p: 1\.5 is refused: .*<= 1", ""),
    ("stages.2.sampling.top_p", "2e3", r"stages\[2\]\.sampling\.top_p: 2000\.0 is refused: .*<= 1", ""),
    ("engine.replies.0.texts", [], r"engine\.replies\[0\]\.texts: list is refused: .*length >= 1", ""),
    ("limit", -1, "limit: -1 is refused: expected `int` >= 1", ""),
    ("part_rows", 0, "part_rows: 0 is refused", ""),
    ("rows_in_flight", 0, "rows_in_flight: 0 is refused", ""),
    ("seed", "x", "seed: 'x' is refused", ""),
    ("verifier", {"options": {"x": 1}}, r"verifier\.options: the verifier \w+ has no option", ""),
    ("verifier", {"deadline": 0}, r"verifier\.deadline: 0 is refused: expected `float` > 0", ""),
    ("verifier", {"kind": "maths"}, r"verifier\.kind: 'maths'", "Did you mean 'math'?"),
    ("name", "../up", "name: '../up' is refused", ""),
    ("name", "up\n", r"name: 'up\\n' is refused", ""),
    ("name", "", "name: '' is refused", ""),
    ("source", {}, "source: dict is refused: give one of 'path', 'dataset' and 'run'", ""),
    ("source.answers", "loose", r"source\.answers: 'loose' is refused", ""),
    ("stages", [], "stages: list is refused: expected `array` of length >= 1", ""),
    ("stages.0", "sample", r"stages\[0\]: 'sample' is refused: expected `object`", ""),
    ("stages.0", {"stge": "sample"}, r"stages\[0\]: the key 'stage' is missing \(it has 'stge'\)", ""),
    ("stages.0.stage", "explore", r"stages\[0\]\.stage: unknown stage 'explore'", "explore_self_correction"),
    ("stages.0.as", "a/b", r"stages\[0\]\.as: 'a/b' is refused", ""),
    ("stages.1.from", "nowhere", "'from: nowhere' names no source and no stage", "Known"),
    (
        "stages.1.from",
        "source",
        "stage 2 .curate. reads Exploration records, but the source 'source' gives",
        "from: explore",
    ),
    ("stages.2.as", "curate", "the name is already taken by stage 2", "as: NAME"),
    ("engine.kind", "scriptde", r"engine\.kind: unknown engine 'scriptde'", "Did you mean 'scripted'?"),
    ("exports.0.format", "trl", r"exports\[0\]\.format: unknown export 'trl'", "Did you mean 'trl-sft'?"),
    ("exports.0.from", "curat", r"exports\[0\]\.from: 'curat' names no stage", "Did you mean 'curate'?"),
    (
        "exports.0.from",
        "sample",
        "trl-sft reads Dialogue records, but 'sample' writes Sampled",
        "curate",
    ),
    ("exports.0.format", "trl-dpo", "trl-dpo reads Pair records, and no stage writes them", "Add a stage"),
    ("exports.0.path", "../x.jsonl", r"exports\[0\]\.path: '\.\./x\.jsonl' is refused", ""),
    ("exports.0.path", "/x.jsonl", r"exports\[0\]\.path: '/x\.jsonl' is refused", ""),
    (
        "exports.0.path",
        "x.csv",
        r"path: 'x\.csv' is not a known kind",
        "Known: .jsonl, .parquet",
    ),
    ("exports.0.path", "AX.parquet", "two exports write 'ax.parquet'", "another 'path'"),
]


@pytest.mark.parametrize(("place", "value", "message", "remedy"), BAD)
def test_bad_recipes_are_refused_with_place_value_and_rule(
    place: str, value: Any, message: str, remedy: str
) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        from_dict(change(place, value))
    assert re.search(remedy.replace("?", r"\?"), caught.value.remedy), caught.value.remedy
    assert caught.value.remedy


@pytest.mark.parametrize("key", ["name", "source", "stages"])
def test_missing_keys_are_named(key: str) -> None:
    recipe = data()
    del recipe[key]
    with pytest.raises(RecipeError, match=f"the key '{key}' is missing"):
        from_dict(recipe)
    with pytest.raises(jsonschema.ValidationError):
        validator().validate(recipe)


def test_a_stage_out_of_order_is_refused() -> None:
    recipe = data()
    recipe["stages"].reverse()
    with pytest.raises(RecipeError, match="reads Exploration records, but the stage 'sample'"):
        from_dict(recipe)


def test_a_recipe_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").write_text(GOOD)
    with pytest.raises(RecipeError, match=r"no such recipe\. Did you mean 'quickstart\.yaml'"):
        load(tmp_path / "quickstrat.yaml")
    with pytest.raises(RecipeError, match="cannot be read"):
        load(tmp_path)


def test_overrides_reach_every_place(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(GOOD)
    overrides = [
        "seed=11",
        "engine.concurrency=8",
        "stages.2.samples=4",
        "stages[2].sampling.stop=['\\n']",
        "stages.curate.as=chosen",
        "exports.1.from=chosen",
        "verifier.deadline=5",
        "limit=",
        "source.answer_after='=='",
    ]
    recipe = load(tmp_path / "r.yaml", overrides)
    stage = recipe.stages[2].stage
    assert isinstance(stage, Sample)
    assert (recipe.seed, recipe.engine.concurrency, stage.samples) == (11, 8, 4)
    assert (stage.sampling.stop, recipe.stages[1].name) == (("\\n",), "chosen")
    assert (recipe.verifier.deadline, recipe.limit, recipe.sources["source"].answer_after) == (
        5.0,
        None,
        "==",
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "is not an assignment"),
        ("=1", "is not an assignment"),
        ("stages.3.samples=1", "stages has no item '3'.*Known: 0, 1, 2"),
        ("stages.explor.as=x", "stages has no item 'explor'.*Did you mean 'explore'"),
        ("seed.x=1", "seed is 7, which has no parts"),
        ("seed=[1", "line 1"),
        ("sede=1", "sede: unknown key"),
        ("stages.2.samples=-1", "-1 is refused"),
    ],
)
def test_bad_overrides_are_refused(override: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(GOOD)
    with pytest.raises(RecipeError, match=message):
        load(tmp_path / "r.yaml", [override])


def test_a_relative_source_is_looked_for_beside_the_recipe_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "r.yaml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    assert load("recipes/r.yaml").sources["source"].path == "problems.jsonl"
    (tmp_path / "recipes" / "problems.jsonl").write_text("{}")
    assert load("recipes/r.yaml").sources["source"].path == str(Path("recipes/problems.jsonl"))


def test_the_schema_knows_good_from_bad() -> None:
    known = validator()
    known.check_schema(known.schema)
    known.validate(data())
    text = json.dumps(known.schema)
    for name in ("openai", "scripted", "sample", "balance", "trl-dpo", "axolotl-chat"):
        assert f'{{"const": "{name}"}}' in text
    refused_by_types = [
        b for b in BAD if "unknown" in b[2] or ("refused" in b[2] and "give one of" not in b[2])
    ]
    assert len(refused_by_types) > 25
    for place, value, _, _ in refused_by_types:
        assert not known.is_valid(change(place, value)), (place, value)


def test_an_export_can_be_made_by_name() -> None:
    assert make_export("trl-sft", {"untrained": "keep"}) == TrlSft(untrained="keep")
    with pytest.raises(RecipeError, match=r"export\.untraind: unknown key.*'untrained'"):
        make_export("trl-sft", {"untraind": "keep"})


PLUGIN = """
from typing import ClassVar
from msgspec import Struct
from gristmill.core.exports import Export
from gristmill.core.records import Problem, Trajectory
from gristmill.core.stages import RowStage
from gristmill.engines.options import EngineOptions
from gristmill.pipelines.exports.base import MessagesRow

class Pass(RowStage, frozen=True):
    reads: ClassVar = Problem
    writes: ClassVar = Trajectory
    needs: ClassVar = frozenset()
    strength: int = 3

    async def __call__(self, record, context):
        return []

class Mine(Export, frozen=True):
    reads: ClassVar = Trajectory
    writes: ClassVar = MessagesRow
    suffix: ClassVar = ".parquet"

    def rows(self, record):
        return []

class Engine(EngineOptions, frozen=True):
    shards: int

    def open(self):
        raise AssertionError("a recipe opens no engine")

def broken():
    pass
"""
USE = """
import sys, jsonschema
from gristmill.core.errors import RecipeError
from gristmill.pipelines.recipe import recipe, schema
made = recipe.from_dict({
    "name": "x", "source": {"path": "a"}, "engine": {"kind": "mine", "shards": 2},
    "stages": [{"stage": "pass", "strength": 5}], "exports": [{"format": "mine"}],
})
loaded = set(sys.modules)
shown = recipe.to_dict(made)
assert shown["stages"][0] == {"stage": "pass", "as": "pass", "from": "source", "strength": 5}
assert shown["exports"][0]["path"] == "mine.parquet" and shown["engine"]["shards"] == 2
for name in ("torch", "xllamacpp", "aiohttp", "polars", "datasets", "sympy", "pyarrow",
             "gristmill.engines.openai", "gristmill.engines.scripted", "gristmill.synth.sampling"):
    assert name not in loaded, name
known = jsonschema.Draft202012Validator(schema.json_schema())
known.validate(shown)
shown["stages"][0]["strenght"] = 1
for check in (lambda: recipe.from_dict(shown), lambda: known.validate(shown)):
    try:
        check()
    except (RecipeError, jsonschema.ValidationError) as e:
        print(e)
for name in ("gone", "broken"):
    shown["stages"] = [{"stage": name}]
    try:
        recipe.from_dict(shown)
    except RecipeError as e:
        print(e)
"""


def test_a_plug_in_of_another_package_works_the_same_and_nothing_else_is_imported(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(PLUGIN)
    (tmp_path / "other-1.0.dist-info").mkdir()
    (tmp_path / "other-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: other\nVersion: 1.0\n"
    )
    (tmp_path / "other-1.0.dist-info" / "entry_points.txt").write_text(
        "[gristmill.stages]\npass = other:Pass\ngone = absent_package:Stage\nbroken = other:broken\n"
        "[gristmill.exports]\nmine = other:Mine\n[gristmill.engines]\nmine = other:Engine\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", USE],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "stages[0].strenght: unknown key. Did you mean 'strength'?" in done.stdout
    assert "is not valid under any of the given schemas" in done.stdout
    assert "stages[0].stage: 'gone' cannot be imported (No module named 'absent_package')" in done.stdout
    assert (
        "stages[0].stage: stage 'broken' (other:broken): it inherits none of RowStage, Filter and Relation"
        in done.stdout
    )


def test_a_recipe_can_be_written_in_python() -> None:
    assert isinstance(from_dict(data()), Recipe)
