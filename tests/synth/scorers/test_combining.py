"""Scores made of scores: ensembles, directions, attributes and features."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.records import Score
from gristmill.synth.scorers import (
    Attributes,
    Direction,
    Ensemble,
    EnsemblePairs,
    Features,
    of_pair,
    of_sample,
)
from gristmill.synth.scorers.base import unscored
from gristmill.synth.scorers.combining import direction_weights, ensemble, on_hundred, system_message
from gristmill.testing import check_scorer, context, pair, sampled


def held(**scores: float) -> tuple[Score, ...]:
    return tuple(Score(name, value) for name, value in scores.items())


def values(scorer: Any, record: Any) -> list[float | None]:
    answers = of_pair(record) if isinstance(scorer, EnsemblePairs) else (of_sample(record),)
    found = asyncio.run(scorer(*answers, context(), "s"))
    assert tuple(score.name for score in found) == scorer.names("s")
    return [score.value for score in found]


def test_the_rules_of_an_ensemble() -> None:
    five = (1.2, 0.8, -0.1, 0.9, 0.7)
    assert ensemble(five, "mean") == pytest.approx(0.7)
    assert ensemble(five, "median") == 0.8
    assert (ensemble(five, "worst"), ensemble(five, "best")) == (-0.1, 1.2)
    assert ensemble(five, "vote") == 0.8
    assert ensemble(five, "lower", k=2) == pytest.approx(0.7 - 2 * 0.43359, abs=1e-5)
    assert ensemble((1, 0, 0, -1, -1, -1), "vote") == 0.25, "a tie is no vote"
    for nothing in ((), (0.0, 0.0)):
        with pytest.raises(ValueError, match=r"no values|every value"):
            ensemble(nothing, "vote")


def test_an_ensemble_of_scores_on_other_scales() -> None:
    record = sampled(scores=held(a=3.0, b=70.0))
    alike = {"a": {"mean": 2.0}, "b": {"mean": 50.0, "deviation": 10.0}}
    scorer = msgspec.convert({"scores": ["a", "b"], "scales": alike, "rule": "worst"}, Ensemble)
    assert values(scorer, record) == [1.0, 0.5]
    check_scorer(scorer, [record])


def test_a_member_without_a_value_leaves_none_or_is_skipped() -> None:
    record = sampled(scores=(*held(a=1.0, b=3.0), unscored("c", "an empty text")))
    with pytest.raises(RowRejected, match="an empty text"):
        values(Ensemble(scores=("a", "b", "c")), record)
    assert values(Ensemble(scores=("a", "b", "c"), missing="skip"), record) == [2.0, 1.0]
    with pytest.raises(RowRejected) as raised:
        values(Ensemble(scores=("a", "c"), missing="skip"), record)
    assert raised.value.reason == "fewer than two members"
    with pytest.raises(RowRejected, match="the row has: a, b, c"):
        values(Ensemble(scores=("a", "d")), record)


def test_members_vote_on_a_pair() -> None:
    gaps = {"a": 1.2, "b": 0.8, "c": -0.1, "d": 0.9, "e": 0.7}
    sides = {f"chosen_{n}": g for n, g in gaps.items()} | {f"rejected_{n}": 0.0 for n in gaps}
    found = values(EnsemblePairs(scores=tuple(gaps)), pair(scores=held(**sides)))
    assert found == [0.8, pytest.approx(0.7), pytest.approx(0.43359, abs=1e-5)]
    tied = pair(scores=held(chosen_a=1.0, rejected_a=1.0, chosen_b=2.0, rejected_b=2.0))
    with pytest.raises(RowRejected) as raised:
        values(EnsemblePairs(scores=("a", "b")), tied)
    assert raised.value.reason == "every member has a tie"
    published = pair(scores=held(chosen=4.5, rejected=2.0, chosen_b=1.0, rejected_b=2.0))
    assert values(EnsemblePairs(scores=("", "b")), published)[:2] == [0.5, pytest.approx(0.75)]


@pytest.mark.parametrize(
    ("angle", "weights"), [(0, (100, 0)), (-15, (97, -26)), (30, (87, 50)), (45, (71, 71)), (-45, (71, -71))]
)
def test_the_weights_of_a_direction(angle: float, weights: tuple[int, int]) -> None:
    assert direction_weights(angle) == weights


def test_attributes_along_a_direction() -> None:
    record = sampled(scores=held(helpfulness=70.0, verbosity=40.0))
    assert values(Direction(angle=-15), record) == [pytest.approx(57.262046), 97.0, -26.0]
    graded = sampled(scores=held(helpfulness=3.0, verbosity=1.5))
    assert values(Direction(angle=-15, scale="helpsteer"), graded)[0] == pytest.approx(57.262046)
    assert (on_hundred(0), on_hundred(4)) == (10, 90)
    assert "helpfulness 97, verbosity -26" in system_message({"helpfulness": 97, "verbosity": -26})


def test_a_drawn_direction_is_the_problem_s_own_and_helpfulness_keeps_its_weight() -> None:
    records = [
        sampled(f"p{i}/{j}", problem_id=f"p{i}", scores=held(helpfulness=70.0, verbosity=40.0))
        for i in range(40)
        for j in range(2)
    ]
    drawn = [values(Direction(), record)[1:] for record in records]
    assert drawn[::2] == drawn[1::2], "all answers to a problem are compared along one direction"
    assert all(71 <= (first or 0) <= 100 for first, _ in drawn)
    assert len({tuple(weights) for weights in drawn}) > 20


def test_attributes_by_the_kind_of_prompt_without_their_share_of_length() -> None:
    scorer = Attributes(
        weights={"help": 1.0, "safe": 1.0},
        gates={"math": {"right": 2.0}},
        column="topic",
        length="words",
        penalties={"help": 0.1},
    )
    scores = held(help=3.0, safe=1.0, right=0.5, words=10.0)
    assert values(scorer, sampled(scores=scores)) == [3.0]
    assert values(scorer, sampled(scores=scores, meta='{"topic": "math"}')) == [1.0]
    for wrong in ({"gates": {"a": {"b": 1.0}}}, {"penalties": {"help": 1.0}}):
        with pytest.raises(RecipeError, match=r"go together|needs 'length'"):
            Attributes(weights={"help": 1.0}, **wrong)  # type: ignore[arg-type]


def test_features_of_a_domain() -> None:
    given = {
        "thanks": {"words": ["thank you", "thanks"], "weight": 2},
        "order": {"pattern": "#[0-9]{4}"},
        "brief": {"measure": "words", "range": [20, 10]},
        "grade": {"score": "judge", "range": [1, 5], "weight": -1},
        "known": {"column": "known"},
    }
    scorer = msgspec.convert({"features": given}, Features)
    record = sampled(
        completion="Thank you for order #1234. It left today, and it will be there by noon tomorrow.",
        scores=held(judge=2.0),
        meta='{"known": true}',
    )
    total, *parts = values(scorer, record)
    assert parts == [1.0, 1.0, 0.4, 0.25, 1.0]
    assert total == pytest.approx((2 + 1 + 0.4 - 0.25 + 1) / 6)
    with pytest.raises(RowRejected, match="None"):
        values(scorer, sampled(scores=held(judge=2.0)))


@pytest.mark.parametrize(
    ("feature", "said"),
    [
        ({}, "exactly one"),
        ({"words": ["a"], "measure": "words"}, "exactly one"),
        ({"pattern": "("}, "not a valid regular expression"),
        ({"measure": "words", "range": [1, 1]}, "no width"),
        ({"measure": "words", "weight": 0}, "every weight is 0"),
    ],
)
def test_a_feature_that_means_nothing_is_an_error(feature: dict[str, Any], said: str) -> None:
    with pytest.raises((RecipeError, msgspec.ValidationError), match=said):
        msgspec.convert({"features": {"x": feature}}, Features)
