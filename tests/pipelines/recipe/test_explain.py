"""``gristmill explain`` prints what the schema says, in words."""

from __future__ import annotations

import pytest

from gristmill.core.errors import RecipeError
from gristmill.pipelines.recipe.explain import _entries, explained
from gristmill.pipelines.recipe.schema import json_schema


def test_a_part_is_told_with_its_options() -> None:
    lines = explained("demonstrations").splitlines()
    assert lines[0].startswith("stages.demonstrations: mapping")
    assert any(line.startswith("  from: ") for line in lines)
    assert explained("trl-dpo").startswith("exports.trl-dpo: mapping\n  ")
    assert explained("openai-batch").startswith("engine.openai-batch: mapping\n  ")


def test_a_key_is_told_with_type_range_default_and_words() -> None:
    assert explained("sample.samples") == (
        "stages.sample.samples: whole number, at least 1 = 1\n  The number of conversations with each engine."
    )
    lines = explained("until").splitlines()
    assert lines[:2] == ["until: mapping or null = null", "  When to end before the source does."]
    assert "  rows: whole number, at least 1 or null = null" in lines
    assert explained("budget.usd").startswith(
        "budget.usd: number, above 0 or null = null\n  The most US dollars"
    )
    assert explained("scripted.model") == (
        "engine.scripted.model: text = scripted\n  The name under which the completions are kept in the log."
    )
    assert explained("openai.base_url").startswith("engine.openai.base_url: text (required)\n")


def test_what_is_the_same_in_many_parts_is_told_once() -> None:
    first = explained("max_backoff").splitlines()[0]
    assert first.startswith("engine.") and "engine.openai.max_backoff" in first
    assert len(explained("max_backoff").splitlines()) == 2


def test_an_unknown_word_is_answered_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"'max_backof' is neither.*Did you mean 'max_backoff'"):
        explained("max_backof")
    with pytest.raises(RecipeError, match=r"'sample\.nothing' is neither"):
        explained("sample.nothing")


def test_every_entry_of_the_schema_can_be_explained() -> None:
    schema = json_schema()
    paths = {entry.path for entry in _entries(schema, schema)}
    assert {"name", "engine.openai.model", "stages.sample.sampling.top_p", "exports.text.from"} <= paths


def test_the_kinds_of_a_mappings_values_are_named_and_explained() -> None:
    assert "Kinds: laser, laser_d, kimi" in explained("shape_rewards.scores")
    said = explained("shape_rewards.scores.drpo")
    assert said.startswith("stages.shape_rewards.scores.drpo: mapping") and "longest: number, above 0" in said
