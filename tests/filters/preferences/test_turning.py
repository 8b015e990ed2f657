"""Named scores as numbers, and what becomes of a pair that is turned round."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pairs_of import scored, table

from gristmill.core.errors import GristmillError
from gristmill.core.records import Pair, Score
from gristmill.core.schema import from_frame
from gristmill.core.stages import REJECTED_REASON
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.filters.preferences.scores import curated, read_scores, swapped_meta
from gristmill.testing.records import pair

META = '{"chosen_model":"a","rejected_model":"b","chosen":1,"other":2}'


def turned(one: Pair) -> Pair:
    made = curated(table(one), turned=np.array([True])).drop(REJECTED_REASON).collect()
    [found] = from_frame(made, Pair)
    return found


def test_sides_scores_and_meta_are_turned_together() -> None:
    scores = {"chosen_rm": 2.0, "rejected_rm": 1.0, "judge": 0.9, "margin": 1.0, "rm_margin": 3.0}
    scores |= {"strength_spread": 0.5, "chosen": 8.0, "rejected": 3.0}
    one = scored("p", scores, meta=META)
    back = turned(one)
    assert (back.chosen, back.rejected) == (one.rejected, one.chosen)
    found = {score.name: score.value for score in back.scores}
    assert found == pytest.approx(
        {
            "rejected_rm": 2.0,
            "chosen_rm": 1.0,
            "judge": 0.1,
            "margin": -1.0,
            "rm_margin": -3.0,
            "strength_spread": 0.5,
            "rejected": 8.0,
            "chosen": 3.0,
        }
    )
    assert back.meta == '{"rejected_model":"a","chosen_model":"b","rejected":1,"other":2}'


def test_what_scorers_of_pairs_say_besides_is_turned_by_its_name() -> None:
    one = scored("p", {"i_divergence": 0.1, "i_agree": 1.0, "e_deviation": 2.5, "e_strength": 3.0, "e": 0.75})
    found = {score.name: score.value for score in turned(one).scores}
    assert found == {"i_divergence": 0.1, "i_agree": 1.0, "e_deviation": 2.5, "e_strength": -3.0, "e": 0.25}


def test_the_verdict_of_a_comparison_is_turned_and_that_of_a_side_moves() -> None:
    right = Verdict(Outcome.CORRECT, 1.0, rule="comparison: first")
    tie = Verdict(Outcome.UNPARSEABLE, rule="comparison: tie")
    scores = (Score("judge", 1.0, right), Score("chosen_math", None, right), Score("second", 0.5, tie))
    judge, side, second = turned(pair(scores=scores)).scores
    assert judge.verdict == Verdict(Outcome.INCORRECT, 0.0, rule="comparison: first")
    assert (side.name, side.verdict) == ("rejected_math", right)
    assert (second.value, second.verdict) == (0.5, tie)


def test_a_score_that_is_neither_a_side_nor_a_probability_is_refused_with_what_to_do() -> None:
    with pytest.raises(GristmillError, match=r"its score 'rm' is 3\.2") as caught:
        turned(scored("p", {"rm": 3.2}))
    assert "'rm_margin'" in str(caught.value.remedy)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["chosen_a", "rejected_a", "a", "a_margin", "a_spread", "chosen", "rejected"]),
            st.integers(0, 64),
        ),
        unique_by=lambda item: item[0],
    )
)
def test_turning_twice_gives_the_pair_back(scores: list[tuple[str, int]]) -> None:
    one = scored("p", {name: value / 64 for name, value in scores}, meta=META)
    assert turned(turned(one)) == one


def test_turned_meta_keeps_what_only_begins_like_a_side() -> None:
    assert swapped_meta('{"chosenness":1,"rejected":2}') == '{"chosenness":1,"chosen":2}'


def test_scores_of_sides_of_pairs_and_of_verdicts() -> None:
    right, open_ = Verdict(Outcome.CORRECT), Verdict(Outcome.TIMEOUT)
    wrong = Verdict(Outcome.INCORRECT, 0.25)
    rows = table(
        scored("sides", {"chosen_rm": 2.0, "rejected_rm": 0.5, "rm": 0.0}),
        scored("pair", {"rm": 0.75}),
        scored("half", {"chosen_rm": 2.0}),
        scored("none", {}),
        pair("verdicts", scores=(Score("chosen_rm", None, right), Score("rejected_rm", None, wrong))),
        pair("undecided", scores=(Score("chosen_rm", None, right), Score("rejected_rm", None, open_))),
    )
    found = read_scores(rows, ["rm"], "test")
    np.testing.assert_allclose(found.margin("rm"), [1.5, 0.5, np.nan, np.nan, 0.75, np.nan])
    expected = [1 / (1 + np.exp(-3)), 0.75, np.nan, np.nan, 1 / (1 + np.exp(-1.5)), np.nan]
    np.testing.assert_allclose(found.probability("rm", beta=2.0), expected)


def test_rows_are_read_in_blocks_and_keep_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gristmill.filters.preferences.scores._BLOCK", 3)
    rows = table(*(scored(f"p{i}", {"rm_margin": float(i)} if i % 3 else {}) for i in range(8)))
    margin = read_scores(rows, ["rm_margin"], "test").margin("rm_margin")
    np.testing.assert_allclose(margin, [np.nan, 1, 2, np.nan, 4, 5, np.nan, 7])


def test_a_scorer_of_which_there_is_nothing_is_named_with_the_nearest() -> None:
    with pytest.raises(GristmillError, match="no row has the score 'reword'") as caught:
        read_scores(table(scored("p", {"chosen_reward": 1.0})), ["reword"], "test")
    assert caught.value.remedy == "Did you mean 'reward'?"
    with pytest.raises(GristmillError, match="no row has the score 'reward'") as caught:
        read_scores(table(scored("p", {"chosen_reward": 1.0})), ["reward"], "test")
    assert "Did you mean" not in str(caught.value.remedy), "not itself"


def test_a_scorer_that_is_there_without_a_value_says_nothing() -> None:
    unread = pair("p", scores=(Score("judge", None), Score("chosen_r", None), Score("rejected_r", None)))
    for scorer in ("judge", "r"):
        assert np.isnan(read_scores(table(unread), [scorer], "test").margin(scorer)).all()


def test_new_scores_replace_those_of_their_names() -> None:
    rows = table(scored("p", {"margin": 1.0, "other": 0.5}))
    made = curated(rows, scores={"margin": np.array([2.0])}, seen=["margin"]).collect()
    assert [s["name"] for s in made["scores"][0]] == ["other", "margin"]
    assert made.schema["scores"] == rows.collect_schema()["scores"]


def test_the_first_reason_counts() -> None:
    marks = [(np.array([False, True, True]), "one"), (np.array([False, False, True]), "two")]
    made = curated(table(*(scored(f"p{i}", {}) for i in range(3))), reasons=marks).collect()
    assert made[REJECTED_REASON].to_list() == [None, "one", "one"]
    assert made.drop(REJECTED_REASON).columns == pl.DataFrame(made).drop(REJECTED_REASON).columns
