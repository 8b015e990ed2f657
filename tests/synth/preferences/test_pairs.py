"""The stage ``pairs``: which samples become pairs, by which rule, and why a problem gives none."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import polars as pl
import pytest
from msgspec.structs import replace
from table_rows import RIGHT, WRONG, called, out, rejected, sample, samples

from gristmill.core.engine import Message
from gristmill.core.errors import GristmillError, RecipeError
from gristmill.core.records import Pair, Sampled, Score, score_of
from gristmill.core.schema import from_frame, to_frame
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.filters import GroupBy
from gristmill.synth import MakePairs
from gristmill.synth.preferences.rules import similarities

UNDECIDED = [Verdict(o) for o in (Outcome.UNPARSEABLE, Outcome.TIMEOUT, Outcome.ERROR)]


def rated(problem: str, *values: float | None, texts: tuple[str, ...] = ()) -> list[Sampled]:
    """Samples of a problem with the score "reward"; each says its number unless ``texts`` are given."""
    return [
        sample(problem, i, completion=texts[i] if texts else f"answer {i}", scores=(Score("reward", v),))
        for i, v in enumerate(values)
    ]


def made(stage: MakePairs, *rows: Sampled, seed: int = 0) -> list[Pair]:
    return from_frame(out(stage, samples(*rows), seed=seed), Pair)


def ids(pairs: list[Pair]) -> set[tuple[int, int]]:
    """The numbers of the chosen and the rejected sample of each pair of one problem."""
    return {tuple(int(side.rpartition("/")[2]) for side in p.id.split("/over/")) for p in pairs}  # type: ignore[misc]


def test_a_pair_holds_both_sides_with_their_scores_models_and_ids() -> None:
    long = replace(
        sample("p", 0, completion="It is 3.", scores=(Score("reward", 0.5),), model="big", meta='{"k": [1]}'),
        messages=(Message("system", "Be brief."), Message("user", "1 + 2?")),
        reasoning="One and two.",
    )
    short = replace(
        long, id="p/1", completion="It is 4.", verdict=WRONG, scores=(), model="small", reasoning=""
    )
    [pair] = made(MakePairs(), short, long)
    assert (pair.id, pair.problem_id, pair.kind, pair.weight) == ("p/0/over/p/1", "p", "best_worst", 1.0)
    assert pair.prompt == long.messages
    assert pair.chosen == (Message("assistant", "It is 3.", "One and two."),)
    assert pair.rejected == (Message("assistant", "It is 4."),)
    assert pair.scores == (
        Score("chosen_reward", 0.5),
        Score("chosen_verdict", 1.0, RIGHT),
        Score("rejected_verdict", 0.0, WRONG),
        Score("margin", 1.0),
    )
    assert msgspec.json.decode(pair.meta) == {
        "k": [1],
        "chosen_id": "p/0",
        "rejected_id": "p/1",
        "chosen_model": "big",
        "rejected_model": "small",
    }


RULES: list[tuple[dict[str, Any], set[tuple[int, int]]]] = [
    ({"rule": "best_worst"}, {(3, 0)}),
    ({"rule": "all"}, {(a, b) for a in range(6) for b in range(6) if a != b}),
    ({"rule": "all", "margin": 4.0}, {(3, 0), (3, 1), (2, 0), (4, 0), (5, 0)}),
    ({"rule": "threshold", "above": 6.0, "below": 1.5}, {(3, 0), (3, 1), (2, 0), (2, 1)}),
    ({"rule": "halves"}, {(a, b) for a in (3, 2, 5) for b in (4, 1, 0)}),
]
VALUES = (1.0, 1.5, 6.0, 7.0, 5.0, 5.5)


@pytest.mark.parametrize(("options", "wanted"), RULES, ids=lambda o: str(o)[:40])
def test_rules_over_six_scored_samples(options: dict[str, Any], wanted: set[tuple[int, int]]) -> None:
    found = ids(made(MakePairs(by="scores.reward", **options), *rated("p", *VALUES)))
    if options == {"rule": "all"}:
        wanted = {(a, b) for a, b in wanted if VALUES[a] > VALUES[b]}
        assert len(found) == 15
    if "margin" in options:
        wanted = {(a, b) for a in range(6) for b in range(6) if VALUES[a] - VALUES[b] >= 4}
    assert found == wanted


def test_halves_of_six_are_nine_of_fifteen_pairs_and_need_four() -> None:
    """UPO, arXiv 2409.11212 (section G.3 of the definitions)."""
    stage = MakePairs(rule="halves", by="scores.reward")
    assert len(made(stage, *rated("p", *VALUES))) == 9
    assert ids(made(stage, *rated("p", 1.0, 2.0, 3.0, 4.0, 5.0))) == {(4, 1), (4, 0), (3, 1), (3, 0)}
    assert rejected(stage, samples(*rated("p", 1.0, 2.0, 3.0))) == {"p": "no pair: no two samples fit halves"}


def test_best_random_takes_the_best_and_any_worse_one() -> None:
    stage = MakePairs(rule="best_random", by="scores.reward")
    pairs = made(stage, *(row for i in range(40) for row in rated(f"p{i}", *VALUES)))
    assert len(pairs) == 40
    assert ids(pairs) == {(3, i) for i in (0, 1, 2, 4, 5)}


def test_outcome_pairs_right_with_wrong() -> None:
    rows = [sample("p", i, completion=f"{i}", verdict=RIGHT if i < 2 else WRONG) for i in range(4)]
    assert ids(made(MakePairs(rule="outcome"), *rows)) == {(0, 2), (0, 3), (1, 2), (1, 3)}
    assert len(made(MakePairs(rule="outcome", pairs=3), *rows)) == 3
    assert len(made(MakePairs(rule="outcome", per_sample=1), *rows)) == 2


def test_hard_pairs_are_the_most_similar_texts_first() -> None:
    texts = ("The sum is 12.", "The sum is 13.", "I cannot say; it is perhaps a large number.")
    rows = [sample("p", i, completion=t, verdict=WRONG if i else RIGHT) for i, t in enumerate(texts)]
    [pair] = made(MakePairs(rule="hard", pairs=1), *rows)
    assert ids([pair]) == {(0, 1)}
    likeness = score_of(pair, "similarity")
    assert likeness is not None and likeness.value == pytest.approx(1 - 1 / 14)  # one letter of 14 differs
    assert len(made(MakePairs(rule="hard", similarity=0.9), *rows)) == 1
    assert similarities([], []) == []


def test_length_matched_pairs_say_what_the_difference_was_before() -> None:
    rows = [
        sample("p", 0, completion="a" * 100),
        sample("p", 1, completion="b" * 110, verdict=WRONG),
        sample("p", 2, completion="c" * 130, verdict=WRONG),
    ]
    [pair] = made(MakePairs(rule="length_matched"), *rows)
    assert ids([pair]) == {(0, 1)}
    before = score_of(pair, "length_before")
    assert before is not None and before.value == -20.0
    wide = made(MakePairs(rule="length_matched", length_ratio=2), *rows)
    assert [ids([p]).pop() for p in wide] == [(0, 1), (0, 2)]


def test_several_rules_share_a_problem_without_making_a_pair_twice() -> None:
    stage = MakePairs(rule={"best_worst": 1, "all": 3}, by="scores.reward")
    pairs = made(stage, *rated("p", 1.0, 2.0, 3.0))
    assert [p.kind for p in pairs] == ["best_worst", "all", "all"]
    assert len(ids(pairs)) == 3
    assert stage.rows_max([10]) == 40 and MakePairs(rule="all").rows_max([10]) is None


def test_several_keys_rank_one_after_another() -> None:
    rows = [
        replace(s, verdict=v) for s, v in zip(rated("p", 1.0, 9.0, 2.0), (RIGHT, WRONG, RIGHT), strict=True)
    ]
    assert ids(made(MakePairs(by=["verdict", "scores.reward"]), *rows)) == {(2, 1)}
    assert ids(made(MakePairs(by=["scores.reward"]), *rows)) == {(1, 0)}


def test_what_can_never_be_in_a_pair() -> None:
    """Undecided verdicts, cut-off and blank answers, and texts found right and wrong."""
    fine = [sample("p", 0, completion="3"), sample("p", 1, completion="4", verdict=WRONG)]
    bad = [sample("p", 2 + i, completion=f"u{i}", verdict=v) for i, v in enumerate(UNDECIDED)]
    bad += [
        replace(sample("p", 6, completion="cut"), finish_reason="length"),
        sample("p", 7, completion=" \n"),
        sample("p", 8, completion="both", verdict=RIGHT),
        sample("p", 9, completion=" both ", verdict=WRONG),
    ]
    assert ids(made(MakePairs(rule="all"), *fine, *bad)) == {(0, 1)}
    scored = [replace(s, scores=(Score("reward", float(i)),)) for i, s in enumerate([*fine, *bad])]
    assert ids(made(MakePairs(rule="all", by="scores.reward"), *scored)) == {(1, 0)}


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (
            [sample("p", 0), sample("p", 1, completion="x", verdict=UNDECIDED[0])],
            "fewer than two samples that are",
        ),
        (
            [sample("p", 0), sample("p", 1, completion="x", verdict=None)],
            "fewer than two samples with a value",
        ),
        ([sample("p", 0), sample("p", 1, completion=" three\n")], "all samples say the same"),
        ([sample("p", 0), sample("p", 1, completion="x")], "all samples are equally good"),
        (
            [sample("p", 0), replace(sample("p", 1, verdict=WRONG), messages=(Message("user", "other"),))],
            "all samples say the same",
        ),
        (
            [
                sample("p", 0),
                replace(sample("p", 1, completion="x", verdict=WRONG), messages=(Message("user", "other"),)),
            ],
            "no two different samples answer the same messages",
        ),
    ],
)
def test_a_problem_without_a_pair_is_rejected_with_the_reason(rows: list[Sampled], reason: str) -> None:
    found = rejected(
        MakePairs(), samples(*rows, sample("q", 0), sample("q", 1, completion="4", verdict=WRONG))
    )
    assert list(found) == ["p"] and found["p"].startswith(f"no pair: {reason}")
    assert rejected(MakePairs(margin=2), samples(*rated("p", 1.0))) != {}


def test_equal_texts_are_one_candidate_with_the_mean_of_their_values() -> None:
    rows = rated("p", 8.0, 0.0, 5.0, texts=("same", "same", "other"))
    [pair] = made(MakePairs(rule="all", by="scores.reward"), *rows)
    margin = score_of(pair, "margin")
    assert ids([pair]) == {(2, 0)} and margin is not None and margin.value == 1.0


def test_groups_of_samples_give_the_same_pairs_as_samples() -> None:
    rows = samples(*rated("p", 1.0, 2.0, 3.0), *rated("q", 3.0, 1.0))
    stage = MakePairs(rule="all", by="scores.reward")
    assert out(stage, GroupBy()([rows], 0)).equals(out(stage, rows))


def test_win_rates_of_scores_and_of_judged_pairs() -> None:
    rows = rated("p", 0.0, 10.0, 11.0, 11.0)
    found = made(MakePairs(rule="all", by="scores.reward", win_rate=True), *rows)
    margins = {ids([p]).pop(): score_of(p, "margin") for p in found}
    # 0 beats none of three, 10 one, the two at 11 beat two and tie with each other.
    assert {k: s and round(s.value or 0, 6) for k, s in margins.items()} == {
        (1, 0): 0.333333,
        (2, 0): 0.833333,
        (3, 0): 0.833333,
        (2, 1): 0.5,
        (3, 1): 0.5,
    }
    three = rated("p", 3.0, 2.0, 1.0)
    pairs = made(MakePairs(rule="all", by="scores.reward"), *three)
    said = {(0, 1): 0.0, (0, 2): 1.0, (1, 2): 0.5}  # 1 beats 0, 0 beats 2, 1 and 2 tie
    judged = [replace(p, scores=(Score("better", said[ids([p]).pop()]),)) for p in pairs]
    stage = MakePairs(rule="all", judged="better", margin=0.3)
    frame = out(stage, samples(*three), to_frame(judged, Pair).lazy())
    # Win rates: 0 has 1/2, 1 has 3/4, 2 has 1/4.
    assert ids(from_frame(frame, Pair)) == {(1, 2)}
    for frames in ([samples(*three)], [samples(*three), samples(*three)]):
        with pytest.raises(RecipeError):
            called(stage, *frames)


@pytest.mark.parametrize(
    "rule", ["best_worst", "best_random", "all", "hard", "length_matched", "halves", {"hard": 1, "all": 2}]
)
def test_no_tie_no_equal_sides_no_pair_twice_and_every_problem_is_accounted_for(rule: Any) -> None:
    chance = Random(7)
    rows = [
        sample(
            f"p{i}", j, completion=chance.choice("abcdef"), scores=(Score("reward", chance.randrange(3) / 2),)
        )
        for i in range(40)
        for j in range(chance.randrange(1, 7))
    ]
    stage = MakePairs(rule=rule, by="scores.reward", length_ratio=1.0)
    table = called(stage, samples(*rows), seed=3)
    kept = table.filter(pl.col("rejected_reason").is_null()).drop("rejected_reason")
    pairs = from_frame(kept, Pair)
    assert all(p.chosen != p.rejected for p in pairs)
    assert all((s := score_of(p, "margin")) and s.value and s.value > 0 for p in pairs)
    assert len({(p.prompt, p.chosen, p.rejected) for p in pairs}) == len(pairs) > 0
    none = set(table.filter(pl.col("rejected_reason").is_not_null())["id"])
    assert none | {p.problem_id for p in pairs} == {s.problem_id for s in rows}
    assert none and not none & {p.problem_id for p in pairs}
    assert called(stage, samples(*rows), seed=3).equals(table)


def test_a_choice_does_not_depend_on_the_order_of_the_samples_or_on_other_problems() -> None:
    mine, others = rated("p", 1.0, 2.0, 2.0, 2.0, 1.0), rated("q", 1.0, 2.0)
    stage = MakePairs(rule="all", by="scores.reward", pairs=2)
    alone = {p.id for p in made(stage, *mine)}
    assert {p.id for p in made(stage, *others, *mine[::-1]) if p.problem_id == "p"} == alone


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rule": "threshold"}, "do not fit rule: threshold"),
        ({"above": 1.0, "below": 0.0}, "do not fit rule: best_worst"),
        ({"rule": "threshold", "above": 1.0, "below": 1.0}, "is not less than above"),
        ({"rule": {}}, "rule is empty"),
        ({"rule": {"all": 1}, "pairs": 2}, "beside several rules"),
        ({"by": ["verdict", "scores.a"], "margin": 0.1}, "has no unit"),
        ({"rule": "outcome", "win_rate": True}, "a win rate is neither"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        MakePairs(**options)


def test_what_it_cannot_rank_by_is_refused_with_the_remedy() -> None:
    with pytest.raises(RecipeError, match="is not a number, a truth value or a verdict"):
        called(MakePairs(by="scores"), samples())
    with pytest.raises(GristmillError, match="'three' in some row, which is not the outcome"):
        called(MakePairs(by="completion"), samples(sample("p")))
    with pytest.raises(RecipeError, match="the rows that it reads are not samples"):
        called(MakePairs(), pl.LazyFrame(schema={"id": pl.String}))
