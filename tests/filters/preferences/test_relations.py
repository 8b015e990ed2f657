"""Stages that make other rows, cycles, annotators, people's rulings, and what holds for every stage."""

from __future__ import annotations

import msgspec
import numpy as np
import polars as pl
import polars.testing
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pairs_of import of, scored, table
from table_rows import called, out, rejected

from gristmill.core.engine import Message
from gristmill.core.errors import GristmillError, RecipeError
from gristmill.core.records import Pair
from gristmill.core.schema import from_frame, to_frame
from gristmill.core.stages import REJECTED_REASON, Filter, Relation
from gristmill.filters.preferences import (
    Adjudicate,
    Agreement,
    Annotators,
    ConditionOnReward,
    Contradictions,
    Cycles,
    Disagreements,
    Hierarchy,
    HierarchyLevel,
    LabelNoise,
    PeerReview,
    Ruling,
    Strength,
    Uncertainty,
    WeakLabels,
)
from gristmill.filters.preferences.annotators import prototypes
from gristmill.pipelines.exports.feedback import PairQuestions
from gristmill.testing.records import pair


def between(id: str, winner: str, loser: str, margin: float = 0.0, problem: str = "q") -> Pair:
    sides = {"chosen": (Message("assistant", winner),), "rejected": (Message("assistant", loser),)}
    return scored(id, {"rm_margin": margin}, problem_id=problem, **sides)


def test_each_pair_becomes_two_for_the_goals_that_its_answers_meet() -> None:
    scores = {"chosen": 9.0, "rejected": 4.5}
    system = (Message("system", "Be brief."), Message("user", "?"))
    rows = [scored("p", scores), scored("s", scores, prompt=system), scored("none", {})]
    rows.append(scored("tie", {"chosen": 5.0, "rejected": 5.0}))
    made = {one.id: one for one in from_frame(out(ConditionOnReward(), table(*rows)), Pair)}
    assert list(made) == ["p/better", "p/worse", "s/better", "s/worse"]
    assert " 9 out of 10" in made["p/better"].prompt[0].content
    assert " 4.5 out of 10" in made["p/worse"].prompt[0].content
    assert made["p/worse"].prompt[1:] == made["p/better"].prompt[1:] == rows[0].prompt
    assert (made["p/better"].chosen, made["p/better"].rejected) == (rows[0].chosen, rows[0].rejected)
    assert (made["p/worse"].chosen, made["p/worse"].rejected) == (rows[0].rejected, rows[0].chosen)
    assert (of(made["p/worse"], "chosen"), of(made["p/worse"], "rejected")) == (4.5, 9.0)
    assert [m.role for m in made["s/worse"].prompt] == ["system", "user"]
    assert made["s/worse"].prompt[0].content.endswith("\n\nBe brief.")
    assert rejected(ConditionOnReward(), table(*rows)) == {
        "none": "condition_on_reward: no scores of both sides",
        "tie": "condition_on_reward: both sides have one score",
    }
    with pytest.raises(RecipeError, match="goal"):
        ConditionOnReward(system="Be good.")


CIRCLE = [
    between("ab", "A", "B", 3),
    between("bc", "B", "C", 1),
    between("ca", "C", "A", 2),
    between("ad", "A", "D", 9),
    between("xy", "A", "B", 1, "other"),
    between("yx", "B", "A", 2, "other"),
    between("cb", "C", "B", 0, "third"),
]


def test_pairs_that_go_round_in_a_circle_are_rejected() -> None:
    lost = rejected(Cycles(), table(*CIRCLE))
    assert lost == {
        **dict.fromkeys(["ab", "bc", "ca"], "cycles: in a circle of 3 answers"),
        **dict.fromkeys(["xy", "yx"], "cycles: in a circle of 2 answers"),
    }


def test_only_the_pairs_that_close_a_circle_go_from_the_strongest_on() -> None:
    lost = rejected(Cycles(remove="weakest", scorer="rm_margin"), table(*CIRCLE))
    assert set(lost) == {"bc", "xy"}
    with pytest.raises(RecipeError, match="together with a scorer"):
        Cycles(remove="weakest")


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)).filter(lambda e: e[0] != e[1]), max_size=14))
def test_what_is_kept_has_no_circle(edges: list[tuple[int, int]]) -> None:
    rows = [between(f"p{i}", f"A{a}", f"A{b}", i % 4) for i, (a, b) in enumerate(edges)]
    for stage in (Cycles(), Cycles(remove="weakest", scorer="rm_margin")):
        kept = from_frame(out(stage, table(*rows)), Pair) if rows else []
        after: dict[str, set[str]] = {}
        for one in kept:
            after.setdefault(one.chosen[0].content, set()).add(one.rejected[0].content)
        # Without a circle, answers that beat nothing can be taken away until none is left.
        while after and (ends := {b for bs in after.values() for b in bs} - set(after)):
            after = {a: left for a, bs in after.items() if (left := bs - ends)}
        assert after == {}


def test_a_row_for_each_vote_the_minority_included() -> None:
    rows = [
        scored("p", {"annotator_x": 1.0, "annotator_y": 0.0, "annotator_z": 0.5}),
        scored("none", {"annotator_z": 0.5}),
    ]
    made = out(Annotators(), table(*rows))
    assert made.select("id", "annotator", "group").rows() == [("p/x", "x", 0), ("p/y", "y", 0)]
    found = {one.id: one for one in from_frame(made.select(Pair.__struct_fields__), Pair)}
    assert found["p/y"].chosen == rows[0].rejected
    assert rejected(Annotators(), table(*rows)) == {"none": "annotators: no vote"}
    with pytest.raises(GristmillError, match="no score has a name that begins with 'who_'"):
        out(Annotators(prefix="who_"), table(*rows))


def test_groups_of_one_taste_are_found_and_label_by_their_majority() -> None:
    rng = np.random.default_rng(0)
    taste = rng.choice([-1, 1], size=(60, 2))
    member = [0, 0, 0, 1, 1, 1]
    votes = np.stack([taste[:, g] * np.where(rng.random(60) < 0.1, -1, 1) for g in member], axis=1)
    votes[rng.random(votes.shape) < 0.2] = 0
    found = prototypes(votes.astype(float), 2)
    assert len({(g, f) for g, f in zip(member, found.tolist(), strict=True)}) == 2
    rows = [
        scored(f"p{i}", {f"annotator_{a}": (v + 1) / 2 for a, v in enumerate(row) if v})
        for i, row in enumerate(votes)
    ]
    made = out(Annotators(groups=2, label="group"), table(*rows))
    assert made["annotator"].null_count() == made.height
    group = dict(zip(member, found.tolist(), strict=True))
    right = [
        (chosen[0]["content"] == rows[0].chosen[0].content) == (taste[int(id[1:].split("/")[0]), g] > 0)
        for g in (0, 1)
        for id, chosen in made.filter(pl.col("group") == group[g]).select("id", "chosen").rows()
    ]
    assert np.mean(right) > 0.93


def test_disagreements_and_agreements_have_each_pair_once() -> None:
    rows = table(
        scored("yes", {"a": 0.9, "b": 0.6}),
        scored("no", {"a": 0.1, "b": 0.2}),
        scored("mixed", {"a": 0.9, "b": 0.2}),
        scored("missing", {"a": 0.9}),
    )
    for with_label, agreeing in ((True, ["yes"]), (False, ["yes", "no"])):
        stages = [
            Disagreements(scorers=["a", "b"], with_label=with_label, keep=keep)  # type: ignore[arg-type]
            for keep in ("agreeing", "disagreeing")
        ]
        kept = [out(stage, rows)["id"].to_list() for stage in stages]
        assert kept[0] == agreeing
        assert sorted(kept[0] + kept[1]) == ["missing", "mixed", "no", "yes"]


def answered(rows: list[Pair], words: dict[str, str]) -> pl.LazyFrame:
    """The questions about the pairs, with what a person says of the texts ``4`` and ``5``."""
    made = []
    for one in rows:
        [question] = PairQuestions().rows(one)
        assert isinstance(question, Ruling)
        assert question.better == ""
        made.append(msgspec.structs.replace(question, better=words.get(one.id, "")))
    return to_frame(made, Ruling).lazy()


def test_a_question_shows_no_label_and_a_ruling_finds_its_side() -> None:
    rows = [pair(f"p{i}") for i in range(20)]
    firsts = [PairQuestions().rows(one)[0].first for one in rows]  # type: ignore[attr-defined]
    assert 4 < firsts.count("\\boxed{4}") < 16
    ruled = answered(rows, {one.id: "first" for one in rows})
    made = {one.id: one for one in from_frame(out(Adjudicate(), table(*rows), ruled), Pair)}
    assert [made[one.id].chosen[0].content for one in rows] == firsts


def test_rulings_that_settle_nothing_have_their_reasons() -> None:
    rows = [pair(name) for name in ("open", "tie", "odd", "both", "other")]
    ruled = answered(rows, {"tie": " Tie ", "odd": "left", "both": "first", "other": "first"})
    more = ruled.filter(pl.col("id") == "both").with_columns(pl.lit("second").alias("better"))
    moved = pl.when(pl.col("id") == "other").then(pl.lit("?")).otherwise("first").alias("first")
    ruled = pl.concat([ruled.with_columns(moved), more])
    assert rejected(Adjudicate(), table(*rows), ruled) == {
        "open": "adjudicate: no ruling",
        "tie": "adjudicate: a tie",
        "odd": "adjudicate: the ruling is not first, second or tie",
        "both": "adjudicate: rulings contradict each other",
        "other": "adjudicate: the texts of the ruling are not the pair's",
    }
    assert out(Adjudicate(without="keep"), table(*rows), ruled)["id"].to_list() == ["open"]


SCORERS = ["a", "b_margin", "c"]
STAGES: list[Filter | Relation] = [
    Strength(scorers=SCORERS, drop="negative", soften=0.3),
    Strength(scorers=SCORERS, least=1, flip="negative"),
    Agreement(scorers=SCORERS),
    Agreement(scorers=SCORERS, against="flip"),
    Uncertainty(passes=["a", "c"]),
    Hierarchy(levels=[HierarchyLevel("c", 0.3), HierarchyLevel("a")], against="flip"),
    WeakLabels(scorer="a"),
    PeerReview(scorers=["a", "c"], select="either"),
    Disagreements(scorers=SCORERS),
    Cycles(),
    Contradictions(scorer="c", lowest=0, highest=1),
    LabelNoise(rate=0.3),
]
AGAIN = [s for s in STAGES if not isinstance(s, LabelNoise | PeerReview)]
"""Stages that find nothing more to do in what they have kept."""
number = st.integers(0, 8).map(lambda x: x / 8)
scores = st.fixed_dictionaries(
    {"a": number, "b_margin": number.map(lambda x: x - 0.5), "chosen_c": number, "rejected_c": number}
)
tables = st.lists(scores, min_size=1, max_size=8).map(
    lambda rows: [scored(f"p{i}", one, problem_id=f"q{i % 3}") for i, one in enumerate(rows)]
)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: type(stage).__name__)
@settings(max_examples=5, deadline=None)
@given(rows=tables)
def test_every_pair_is_kept_or_rejected_and_order_does_not_matter(stage: Relation, rows: list[Pair]) -> None:
    made = called(stage, table(*rows))
    assert sorted(made["id"]) == sorted(one.id for one in rows)
    back = called(stage, table(*reversed(rows)))
    assert made.sort("id").drop("scores").equals(back.sort("id").drop("scores"))
    kept = made.filter(pl.col(REJECTED_REASON).is_null())
    assert kept.select("chosen", "rejected").filter(pl.col("chosen") == pl.col("rejected")).is_empty()


@pytest.mark.parametrize("stage", AGAIN, ids=lambda stage: type(stage).__name__)
@settings(max_examples=5, deadline=None)
@given(rows=tables)
def test_applied_twice_is_applied_once(stage: Relation, rows: list[Pair]) -> None:
    once = out(stage, table(*rows))
    if once.is_empty():
        return
    twice = out(stage, once.lazy())
    if isinstance(stage, Strength):  # a share of fewer pairs is softened; the choice of pairs is the same
        once, twice = once.drop("flip"), twice.drop("flip")
    pl.testing.assert_frame_equal(twice.drop("scores"), once.drop("scores"))


def test_inputs_in_another_order_are_refused_with_what_to_do() -> None:
    rows, ruled = table(pair("p")), answered([pair("p")], {})
    with pytest.raises(RecipeError, match="the first table lacks the column 'problem_id'") as caught:
        out(Adjudicate(), ruled, rows)
    assert "in order" in str(caught.value.remedy)
