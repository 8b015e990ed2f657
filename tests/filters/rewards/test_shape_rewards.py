"""``shape_rewards`` puts what the shapes say among the scores."""

from __future__ import annotations

from typing import get_args

import msgspec
import polars as pl
import pytest
from msgspec.structs import replace
from paths import ROOT
from table_rows import RIGHT, WRONG, called, out, sample, samples

from gristmill.core.errors import RecipeError
from gristmill.core.options_doc import options
from gristmill.core.records import Sampled, Score, score_of
from gristmill.core.registry import find
from gristmill.core.schema import from_frame
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.filters.rewards import Laser, Par, Scored, ShapeRewards
from gristmill.filters.rewards.stage import AnyShape
from gristmill.pipelines.recipe.plain import builtins, convert

UNDECIDED = Verdict(Outcome.UNPARSEABLE)
ROWS = samples(
    sample("a", 0, completion="x" * 10, verdict=RIGHT, scores=(Score("rm", 2.0), Score("short", 9.0))),
    sample("b", 0, completion="x" * 10, verdict=WRONG),
    sample("a", 1, completion="x" * 20, verdict=RIGHT, scores=(Score("rm", 1.0), Score("rule", None, RIGHT))),
    sample("a", 2, completion="x", verdict=UNDECIDED),
    replace(sample("b", 1), verdict=None),
)


def test_rewards_become_scores_beside_and_in_place_of_others() -> None:
    stage = ShapeRewards(scores={"short": Laser(target=10), "par": Par(of="rm"), "own": Scored()})
    made = from_frame(out(stage, ROWS), Sampled)
    assert [s.id for s in made] == ["a/0", "b/0", "a/1", "a/2", "b/1"]
    values = [{s.name: s.value for s in m.scores} for m in made]
    assert [v.get("short") for v in values] == [1.5, -0.5, 1.0, None, None]
    assert [v.get("own") for v in values] == [1.0, 0.0, 1.0, None, None]
    assert values[0]["par"] + values[2]["par"] == pytest.approx(1)  # type: ignore[operator]
    assert [s.name for s in made[2].scores] == ["rm", "rule", "short", "par", "own"]
    assert score_of(made[2], "rule") == Score("rule", None, RIGHT)
    assert score_of(made[3], "short") is None  # undecided: no reward at all


def test_the_name_of_a_score_that_no_sample_has_is_an_error() -> None:
    with pytest.raises(RecipeError, match=r"par reads the score 'rn', which none of .* Known: rm"):
        out(ShapeRewards(scores={"par": Par(of="rn")}), ROWS)
    assert out(ShapeRewards(scores={"par": Par(of="rn")}), ROWS.head(0)).height == 0


def test_a_recipe_names_kinds_and_columns_that_come_along_stay() -> None:
    stage = msgspec.convert(
        {"scores": {"k": {"kind": "kimi"}, "n": {"kind": "noisy", "rate": 0}}, "length": "characters"},
        find("stages", "shape_rewards"),
    )
    frame = ROWS.with_columns(extra=pl.lit(1))
    made = called(stage, frame)
    assert made.columns == frame.collect_schema().names()
    with pytest.raises(msgspec.ValidationError, match="Invalid value 'lasr'"):
        msgspec.convert({"scores": {"k": {"kind": "lasr"}}}, ShapeRewards)


def test_a_group_is_what_by_says() -> None:
    both = ShapeRewards(scores={"par": Par(of="rm")}, by="answer")
    rows = samples(*(sample(p, scores=(Score("rm", v),)) for p, v in (("a", 1.0), ("b", 2.0))))
    values = [m.scores[-1].value for m in from_frame(out(both, rows), Sampled)]
    assert sum(v or 0 for v in values) == pytest.approx(1)
    assert from_frame(out(ShapeRewards(scores={"par": Par(of="rm")}), rows), Sampled)[0].scores == (
        Score("rm", 1.0),
    )


def test_a_recipe_says_which_kind_or_key_is_wrong_and_keeps_the_kind_when_it_is_written_down() -> None:
    stage = convert({"scores": {"k": {"kind": "kimi", "weight": 2.0}}}, ShapeRewards, "stages[0]")
    written = builtins(stage)
    assert written["scores"]["k"]["kind"] == "kimi"
    assert convert(written, ShapeRewards, "stages[0]") == stage
    with pytest.raises(RecipeError, match=r"stages\[0\]\.scores\.k\.kind: 'kimmi' is not known") as caught:
        convert({"scores": {"k": {"kind": "kimmi"}}}, ShapeRewards, "stages[0]")
    assert "kimi" in caught.value.remedy
    with pytest.raises(RecipeError, match=r"scores\.k\.kind: it is missing"):
        convert({"scores": {"k": {}}}, ShapeRewards, "stages[0]")
    with pytest.raises(RecipeError, match=r"scores\.k\.wieght: unknown key") as caught:
        convert({"scores": {"k": {"kind": "kimi", "wieght": 1}}}, ShapeRewards, "stages[0]")
    assert "weight" in caught.value.remedy
    for wrong, place in (
        ({"kind": "drpo"}, r"scores\.k: the key 'longest' is missing"),
        ({"kind": "laser", "target": "x"}, r"scores\.k\.target: 'x' is refused"),
    ):
        with pytest.raises(RecipeError, match=place):
            convert({"scores": {"a": {"kind": "kimi"}, "k": wrong}}, ShapeRewards, "stages[0]")


def test_the_page_names_every_option_that_a_reward_needs() -> None:
    page = (ROOT / "docs" / "rl-data.md").read_text(encoding="utf-8")
    for kind in get_args(AnyShape):
        tag = kind.__struct_config__.tag
        [row] = [line for line in page.splitlines() if line.startswith(f"| `{tag}` |")]
        assert [o.name for o in options(kind) if not o.default and f"`{o.name}`" not in row] == []
