"""What the stages of curation keep, turn and write."""

from __future__ import annotations

import numpy as np
import pytest
from pairs_of import of, scored, table
from table_rows import called, out, rejected, samples
from table_rows import sample as made_sample

from gristmill.core.errors import GristmillError, RecipeError
from gristmill.core.records import Pair, Score
from gristmill.core.schema import from_frame
from gristmill.core.stages import Filter, Relation
from gristmill.filters.preferences import (
    Agreement,
    Consistency,
    Hierarchy,
    HierarchyLevel,
    LabelNoise,
    PeerReview,
    Strength,
    Uncertainty,
    WeakAgainstStrong,
    WeakLabels,
    WeakSupervision,
)
from gristmill.filters.preferences.noise import chances
from gristmill.testing.records import CORRECT, INCORRECT

TEN = [scored(f"p{i}", {"a_margin": i - 3.0, "b_margin": i - 2.0}) for i in range(10)]
"""Pairs of strength -2.5, -1.5, ..., 6.5."""


def pairs(stage: Filter | Relation, *rows: Pair) -> dict[str, Pair]:
    return {one.id: one for one in from_frame(out(stage, table(*rows)), Pair)}


def test_strength_drops_flips_and_softens_the_weakest_and_signs_the_margin_anew() -> None:
    stage = Strength(scorers=["a_margin", "b_margin"], drop=0.1, flip=0.3, soften=0.5, drop_strongest=0.1)
    made = pairs(stage, *TEN)
    assert rejected(stage, table(*TEN)) == {
        "p0": "strength: among the weakest",
        "p9": "strength: among the strongest",
    }
    assert [one.id for one in made.values() if one.chosen != TEN[0].chosen] == ["p1", "p2"]
    assert [one.id for one in made.values() if one.flip] == ["p3", "p4"]
    assert of(made["p1"], "margin") == 1.5, "flipped: -1.5 becomes 1.5"
    assert (of(made["p5"], "margin"), of(made["p5"], "strength_spread")) == (2.5, 0.5)
    assert (of(made["p1"], "a_margin"), of(made["p1"], "b_margin")) == (2.0, 1.0)


def test_strength_by_sign_and_ties_at_the_edge() -> None:
    made = pairs(Strength(scorers=["a_margin"], flip="negative"), *TEN)
    assert [one.id for one in made.values() if one.chosen != TEN[0].chosen] == ["p0", "p1", "p2"]
    even = [scored(f"p{i}", {"m_margin": float(i > 6)}) for i in range(10)]
    assert len(pairs(Strength(scorers=["m_margin"], drop=0.5), *even)) == 10, "7 are equal: none of them goes"


def test_strength_needs_its_scorers() -> None:
    some = [scored("both", {"a_margin": 1.0, "b_margin": 2.0}), scored("one", {"a_margin": 1.0})]
    stage = Strength(scorers=["a_margin", "b_margin"])
    assert rejected(stage, table(*some)) == {"one": "strength: scored by fewer than 2 scorers"}
    assert len(pairs(Strength(scorers=["a_margin", "b_margin"], least=1), *some)) == 2
    with pytest.raises(RecipeError, match="least is 3"):
        Strength(scorers=["a", "b"], least=3)
    with pytest.raises(GristmillError, match="no row has the score 'c'"):
        pairs(Strength(scorers=["c"]), *some)


def test_agreement_is_being_on_one_side_of_a_half() -> None:
    rows = [
        scored("yes", {"j": 0.8, "chosen_r": 2.0, "rejected_r": 1.0}),
        scored("no", {"j": 0.2, "chosen_r": 1.0, "rejected_r": 2.0}),
        scored("mixed", {"j": 0.8, "chosen_r": 1.0, "rejected_r": 2.0}),
        scored("half", {"j": 0.5, "chosen_r": 2.0, "rejected_r": 1.0}),
        scored("missing", {"j": 0.8}),
    ]
    stage = Agreement(scorers=["j", "r"])
    assert rejected(stage, table(*rows)) == {
        "no": "agreement: the rejected side is better",
        "mixed": "agreement: the scorers disagree",
        "half": "agreement: the scorers disagree",
        "missing": "agreement: not scored by all",
    }
    turned = pairs(Agreement(scorers=["j", "r"], against="flip"), *rows)
    assert turned["no"].chosen == rows[1].rejected
    assert of(turned["no"], "j") == pytest.approx(0.8)
    close = Agreement(scorers=["j", "r"], most_divergence=0.001)
    assert rejected(close, table(rows[0])) == {"yes": "agreement: the scorers diverge"}


def test_consistency_by_problem_and_of_all_data() -> None:
    first, second = [0.9, 0.5, 0.1, 0.3, 0.7], [0.8, 0.6, 0.2, 0.1, 0.4]
    answers = [
        made_sample("q", i, scores=(Score("now", a), Score("before", b)))
        for i, (a, b) in enumerate(zip(first, second, strict=True))
    ]
    # A sample without one of the scores comes between: the others keep their own.
    answers.insert(2, made_sample("q", 9, scores=(Score("now", 5.0),)))
    answers += [made_sample("r", i, scores=(Score("now", i), Score("before", -i))) for i in range(2)]
    rows = table(*(scored(f"p-{q}", {}, problem_id=q) for q in ("q", "r", "s")))
    each = Consistency(scorers=["now", "before"], over="problem")
    made = {one.id: one for one in from_frame(out(each, rows, samples(*answers)), Pair)}
    assert {name: one.flip for name, one in made.items()} == pytest.approx({"p-q": 0.2, "p-r": 1.0})
    assert rejected(each, rows, samples(*answers)) == {
        "p-s": "consistency: fewer than two samples have both scores"
    }
    mean = out(Consistency(scorers=["now", "before"]), rows, samples(*answers))
    assert mean["flip"].to_list() == pytest.approx([0.6, 0.6, 0.6])
    with pytest.raises(GristmillError, match="no problem has two samples"):
        out(Consistency(scorers=["now", "before"]), rows, samples(answers[0]))


def test_uncertainty_writes_repaired_labels_and_weights_of_mean_one() -> None:
    passes = [(0.9, 0.99), (0.8, 0.02), (0.7, 0.9), (0.95, 0.1)]
    rows = [scored(f"p{i}", {f"t{t}": p[i] for t, p in enumerate(passes)}) for i in range(2)]
    made = pairs(Uncertainty(passes=["t0", "t1", "t2", "t3"]), *rows)
    assert [one.flip for one in made.values()] == pytest.approx([0.025302, 0.354963], abs=1e-6)
    weights = [one.weight for one in made.values()]
    assert sum(weights) == pytest.approx(2)
    assert weights[0] / 2 == pytest.approx(0.655145, abs=1e-6)
    assert max(one.flip for one in made.values()) <= 0.5
    few = Uncertainty(passes=["t0", "t1", "t2", "t3"], drop=0.5, weigh=False)
    assert rejected(few, table(*rows)) == {"p1": "uncertainty: among the most uncertain"}
    assert pairs(few, *rows)["p0"].weight == 1.0
    turned = scored("w", {"t0": 0.1, "t1": 0.2})
    assert rejected(Uncertainty(passes=["t0", "t1"]), table(turned)) == {
        "w": "uncertainty: the rejected side is better"
    }


def test_peer_review_keeps_what_both_find_easy_the_easiest_first() -> None:
    rows = [scored(f"p{i}", {"a_margin": float(i), "b_margin": float(-abs(i - 6))}) for i in range(10)]
    stage = PeerReview(scorers=["a_margin", "b_margin"], share=0.5)
    assert list(pairs(stage, *rows)) == ["p6", "p7", "p8", "p5"]
    assert set(rejected(stage, table(*rows)).values()) == {"peer_review: hard for one of them"}
    either = PeerReview(scorers=["a_margin", "b_margin"], share=0.5, select="either", curriculum=False)
    assert list(pairs(either, *rows)) == ["p4", "p5", "p6", "p7", "p8", "p9"]


def test_the_first_score_that_tells_the_sides_apart_decides() -> None:
    levels = [HierarchyLevel("right", 0.5), HierarchyLevel("length", 10, lower_is_better=True)]
    rows = [
        scored("first", {"chosen_right": 1, "rejected_right": 0, "chosen_length": 90, "rejected_length": 5}),
        scored("second", {"chosen_right": 1, "rejected_right": 1, "chosen_length": 5, "rejected_length": 90}),
        scored("against", {"chosen_length": 90, "rejected_length": 5}),
        scored("tie", {"chosen_right": 1, "rejected_right": 1, "chosen_length": 9, "rejected_length": 5}),
    ]
    stage = Hierarchy(levels=levels)
    made = pairs(stage, *rows)
    assert {name: of(one, "hierarchy_margin") for name, one in made.items()} == {"first": 1, "second": 85}
    assert rejected(stage, table(*rows)) == {
        "against": "hierarchy: the rejected side is better",
        "tie": "hierarchy: a tie in all scores",
    }
    flipped = pairs(Hierarchy(levels=levels, against="flip"), *rows)["against"]
    assert (flipped.chosen, of(flipped, "hierarchy_margin")) == (rows[2].rejected, 85)
    unread = scored("unread", {"b_margin": 1.0})
    some = [unread, scored("read", {"a_margin": 1.0})]
    assert rejected(Hierarchy(levels=[HierarchyLevel("a_margin")]), table(*some)) == {
        "unread": "hierarchy: not scored"
    }


def test_weak_labels_are_kept_where_they_are_confident() -> None:
    rows = [scored(str(p), {"weak": p}) for p in (0.9, 0.1, 0.6, 0.5)]
    made = pairs(WeakLabels(scorer="weak"), *rows)
    assert list(made) == ["0.9", "0.1"]
    assert made["0.1"].chosen == rows[1].rejected
    lost = rejected(WeakLabels(scorer="weak", confidence=0.5), table(*rows))
    assert lost == {"0.5": "weak_labels: a tie"}


def test_the_table_of_weak_against_strong() -> None:
    both = [(0.55, 0.1), (0.55, 0.4), (0.95, 0.9), (0.05, 0.1), (0.5, 0.9)]
    rows = table(*(scored(f"p{i}", {"weak": w, "strong": s}) for i, (w, s) in enumerate(both)))
    made = called(WeakAgainstStrong(weak="weak", strong="strong", bins=2), rows)
    assert made.rows() == [
        ("0.5 to 0.75", 2, 1.0, 0.5),
        ("0.75 to 1", 2, 0.0, 0.0),
        ("undecided", 1, None, None),
    ]


def test_tuned_answers_are_preferred_to_those_of_the_base_model() -> None:
    tuned = [made_sample("q", i, completion=f"tuned {i}", verdict=None) for i in range(2)]
    tuned += [made_sample("right", verdict=CORRECT), made_sample("wrong", verdict=INCORRECT)]
    tuned += [made_sample("same", completion="x", verdict=None), made_sample("alone")]
    tuned[0] = made_sample("q", 0, completion="tuned 0", verdict=None, scores=(Score("rm", 2.0),))
    base = [made_sample("q", i, completion=f"base {i}", scores=(Score("rm", 1.0),)) for i in (5, 6)]
    base += [made_sample("right", 5, completion="b", verdict=INCORRECT)]
    base += [made_sample("wrong", 5, completion="b", verdict=CORRECT)]
    base += [made_sample("same", 5, completion="x", verdict=None)]
    stage = WeakSupervision(per_problem=3)
    made = {one.id: one for one in from_frame(out(stage, samples(*tuned), samples(*base)), Pair)}
    assert list(made) == ["q/0>q/5", "q/0>q/6", "q/1>q/5", "right/0>right/5"]
    assert made["q/0>q/5"].chosen[0].content == "tuned 0"
    assert {score.name for score in made["q/0>q/5"].scores} == {"chosen_rm", "rejected_rm"}
    lost = rejected(stage, samples(*tuned), samples(*base))
    assert set(lost) == {"wrong/0", "same/0", "alone/0"}


def test_noise_follows_from_the_ids_and_has_its_rate() -> None:
    rows = table(*(scored(f"p{i}", {"rm_margin": i / 100}) for i in range(400)))
    made = [from_frame(out(LabelNoise(rate=0.25), rows, seed=s), Pair) for s in (0, 0, 1)]
    flips = [{one.id for one in some if one.chosen != TEN[0].chosen} for some in made]
    assert flips[0] == flips[1] != flips[2]
    assert 70 < len(flips[0]) < 130
    back = out(LabelNoise(rate=0.25), rows.reverse())
    assert {one.id for one in from_frame(back, Pair) if one.chosen != TEN[0].chosen} == flips[0]


def test_noise_by_instance_is_where_margins_are_small() -> None:
    distance = np.arange(100) / 10
    found = chances(distance, 0.1)
    assert found.mean() == pytest.approx(0.1)
    assert (np.diff(found) <= 0).all()
    assert chances(np.array([np.nan]), 0.3).tolist() == [0.3]
    with pytest.raises(GristmillError, match="cannot be reached"):
        chances(np.zeros(4), 0.1)
    rows = table(*(scored(f"p{i}", {"rm_margin": i / 10}) for i in range(300)))
    made = from_frame(out(LabelNoise(rate=0.1, kind="instance", scorer="rm_margin"), rows), Pair)
    turned = [i for i, one in enumerate(made) if one.chosen != TEN[0].chosen]
    assert turned
    assert np.mean(turned) < 75


def test_noise_by_annotator() -> None:
    rows = table(*(scored(f"p{i}", {}, kind=("a", "b")[i % 2]) for i in range(40)))
    made = from_frame(out(LabelNoise(rate=0, kind="annotator", by="kind", rates={"a": 1.0}), rows), Pair)
    assert [one.chosen != TEN[0].chosen for one in made] == [i % 2 == 0 for i in range(40)]
    with pytest.raises(RecipeError, match="scorer is None"):
        LabelNoise(kind="instance")
    with pytest.raises(RecipeError, match="Leave out 'by'"):
        LabelNoise(by="kind")
