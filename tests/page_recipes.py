"""What a block of YAML is, a recipe, a loop or options of a part, and the rest that it needs to be whole."""

from __future__ import annotations

import contextlib
from importlib import import_module
from typing import Any

import msgspec

from gristmill.core.errors import MissingExtraError
from gristmill.core.registry import find, names
from gristmill.core.stages import Anything
from gristmill.engines import transformers, vllm
from gristmill.pipelines.loops.options import Loop
from gristmill.pipelines.recipe import from_dict
from gristmill.pipelines.recipe.entries import Plain
from gristmill.pipelines.sources.options import Source

ENGINE = {"kind": "scripted", "replies": [{"texts": ["\\boxed{4}"]}]}
TRAININGS = ("sft", "preference", "reward", "process_reward", "policy", "encoder")
TABLES = {
    **dict.fromkeys(("pairs", "votes"), "pairs"),
    **dict.fromkeys(("samples", "others", "drawn", "tuned", "base"), "samples"),
    "passages": "passages",
}
"""What is in a table that a page names without saying where it comes from; problems, if it is not here."""


def check(written: Any, before: dict[str, Any]) -> str:
    """Read a document as what reads it in earnest would, and say what it is; raises what that raises.

    ``before`` is what the page's recipes have said so far: a later block may name its sources.
    """
    if isinstance(written, list):
        written = {"stages": written}
    keys = set(written)
    if keys <= set(Plain.__struct_encode_fields__):
        with contextlib.suppress(MissingExtraError):  # it is all right up to a package that is not installed
            from_dict(completed(written, before))
        before.setdefault("sources", {}).update(written.get("sources", {}))
        return "recipe"
    if "steps" in keys:
        msgspec.convert(written, Loop)
        return "loop"
    if keys <= set(Source.__struct_encode_fields__):
        msgspec.convert({"path": "unseen.jsonl", **written}, Source)
        return "source"
    for kind in (vllm.Vllm, transformers.Transformers):
        if keys <= set(kind.__struct_encode_fields__):
            msgspec.convert({"model": "m", **written}, kind)
            return "engine"
    for name in TRAININGS:
        options = import_module(f"gristmill.train.{name}").OPTIONS
        if keys <= set(options.__struct_encode_fields__):
            msgspec.convert({"model": "m", "data": "d", "output": "o", **written}, options)
            return f"training {name}"
    raise AssertionError(f"nothing reads the keys {', '.join(sorted(keys))} together")


def completed(written: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """The recipe, with a name, engines, sources and a stage where it leaves them to the reader."""
    recipe: dict[str, Any] = {"name": "page", "engine": ENGINE, **written}
    recipe["engines"] = dict.fromkeys(
        ("small", "large", "judge", "big", "prm", "reviewer"), ENGINE
    ) | recipe.get("engines", {})
    if "budget" in recipe and "prices" in recipe:
        recipe["prices"] = {"scripted": {"input": 0, "output": 0}, **recipe["prices"]}
    counted = recipe.get("until", {}).get("stage", "rows")
    sampled = [{"stage": "sample"}, {"stage": "demonstrations"}]
    default = sampled if "exports" in recipe else [{"stage": "take", "as": counted, "rows": 1}]
    stages = recipe.setdefault("stages", default)
    sources = dict(recipe.pop("sources", {}))
    wanted = {name for stage in stages for name in _named(stage.get("from", ()))}
    sources |= {
        name: said for name, said in before.get("sources", {}).items() if name in wanted - set(sources)
    }
    if "source" in recipe:
        sources["source"] = recipe.pop("source")
    known = {*sources, *(stage.get("as", stage["stage"]) for stage in stages)}
    made = []
    for stage in stages:
        reads = find("stages", stage["stage"]).reads
        given = stage.get("from", [] if sources or stage is not stages[0] else "source")
        for name in _named(given):
            if name in known:
                continue
            known.add(name)
            if name in names("stages"):  # what that stage makes is not a record that a file can hold
                made += [{"stage": "sample", "from": "problems"}, {"stage": name}]
                sources["problems"] = {"path": "unseen.jsonl"}
                continue
            record = TABLES.get(name, "problems") if reads is Anything else _record(reads)
            sources[name] = {"path": "unseen.jsonl", "reads": record}
    return recipe | {"stages": [*made, *stages], "sources": sources}


def _named(given: Any) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _record(kind: type) -> str:
    """The name under which a source reads a record."""
    return next((name for name in names("records") if find("records", name) is kind), "problems")
