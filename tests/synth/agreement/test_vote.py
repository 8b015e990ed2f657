"""The stage ``vote``: rows of problems, scores of samples, labels for training."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import convert
from msgspec.structs import replace
from table_rows import RIGHT, WRONG, out, rejected, sample, samples

from gristmill.core.errors import GristmillError, RecipeError
from gristmill.core.records import Sampled, Score
from gristmill.core.schema import from_frame
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.synth.agreement import (
    CrossVotes,
    PseudoLabels,
    Voted,
    VoteShares,
    Voting,
    calibrate,
    cross_rewards,
    group_advantages,
)
from gristmill.synth.agreement.labels import Block, block_of


def cast(problem: str, index: int, said: str, **fields: Any) -> Sampled:
    return sample(problem, index, completion=f"The answer is {said}.", **{"verdict": None, **fields})


def drawn(problem: str, *said: str) -> list[Sampled]:
    return [cast(problem, i, one) for i, one in enumerate(said)]


def voted(stage: Voting, *rows: Sampled) -> list[Voted]:
    return from_frame(out(stage, samples(*rows)), Voted)


def test_a_row_for_each_problem_says_what_won_and_by_how_much() -> None:
    cut = replace(cast("p", 5, "3"), finish_reason="length")
    nothing = sample("q", 0, completion="Who knows.", verdict=None)
    rows = [
        *drawn("p", "3", "4", "6/2", "5"),
        sample("p", 4, completion="Who knows.", verdict=None),
        cut,
        nothing,
    ]
    [row] = voted(Voting(), *rows)
    assert (row.id, row.answer, row.gold, row.right) == ("p", "3", "3", True)
    assert (row.share, row.margin, row.votes, row.undecided, row.tied) == (0.5, 0.25, 4, 2, False)
    assert [(c.label, c.votes, c.total, c.right) for c in row.classes] == [
        ("3", 2, 2.0, True),
        ("4", 1, 1.0, False),
        ("5", 1, 1.0, False),
    ]
    assert rejected(Voting(), samples(*rows)) == {"q": "vote: no sample has an answer"}


def test_a_tie_has_no_label_unless_the_first_is_asked_for() -> None:
    [row] = voted(Voting(), *drawn("p", "4", "3"))
    assert (row.answer, row.right, row.tied, row.credit, row.margin) == (None, None, True, 0.5, 0)
    [row] = voted(Voting(ties="first"), *drawn("p", "4", "3"))
    assert (row.answer, row.right, row.tied) == ("4", False, True)


def test_samples_get_the_share_of_their_class_and_keep_their_other_scores() -> None:
    rows = [cast("p", i, s, scores=(Score("reward", 0.5), Score("vote", 9.0))) for i, s in enumerate("3344")]
    rows += [*drawn("q", "1", "1", "2"), sample("q", 3, completion="Who knows.", verdict=None)]
    made = from_frame(out(VoteShares(), samples(*rows)), Sampled)
    assert [[(s.name, s.value) for s in row.scores] for row in made] == [
        *[[("reward", 0.5), ("vote", 0.5), ("vote_label", None)]] * 4,
        *[[("vote", 2 / 3), ("vote_label", 1.0)]] * 2,
        [("vote", 1 / 3), ("vote_label", 0.0)],
        [("vote", None), ("vote_label", None)],
    ]
    assert [replace(a, scores=()) for a in made] == [replace(a, scores=()) for a in rows]


def weighed(rule: str, weights: list[float | None], said: str = "79973", **options: Any) -> Voted:
    rows = [
        cast("p", i, s, scores=(Score("w", w), Score("mean_logprob", w)))
        for i, (s, w) in enumerate(zip(said, weights, strict=True))
    ]
    rows = [replace(r, completion=f"Way {r.index}. {r.completion}") for r in rows]
    if rule in ("sum", "mean", "log_odds"):
        options["weight"] = "scores.w"
    [row] = voted(convert({"rule": rule, **options}, Voting), *rows)
    return row


def test_the_rules_name_their_winners() -> None:
    weights: list[float | None] = [0.9, 0.5, 0.3, 0.1, 0.7]
    assert weighed("sum", weights).answer == "7"
    assert weighed("mean", weights).answer == "3"
    assert weighed("log_odds", weights).answer == "3"
    assert weighed("borda", weights, weight="scores.w", power=1).classes[0].total == 5 + 1
    logprobs: list[float | None] = [-0.4, -0.2, -1.5, -0.9, -2.0]
    assert weighed("perplexity", logprobs).answer == "7"
    assert [c.total for c in weighed("rpc", logprobs).classes] == pytest.approx(
        [0.67032, 0.818731, 0], abs=1e-6
    )
    assert weighed("sum", [None, 0.5, 0.3, float("nan"), 0.7]).undecided == 2


def test_models_vote_by_how_much_they_agree_with_themselves() -> None:
    said = zip("11122213", ["m"] * 4 + ["n"] * 4, strict=True)
    [row] = voted(Voting(rule="models"), *(cast("p", i, s, model=m) for i, (s, m) in enumerate(said)))
    assert [c.total for c in row.classes] == [2.75, 1.75, 0.5]


def test_a_class_is_right_by_its_verdicts_unless_they_contradict_each_other() -> None:
    unsure = Verdict(Outcome.TIMEOUT)
    [row] = voted(Voting(), cast("p", 0, "7", verdict=RIGHT), cast("p", 1, "7", verdict=unsure))
    assert row.right is True, "the verifier's word counts before the reference"
    [row] = voted(Voting(), cast("p", 0, "7", verdict=RIGHT), cast("p", 1, "7", verdict=WRONG))
    assert row.right is None
    solution = "She sells 16 - 3 - 4 = <<16-3-4=9>>9 eggs.\nShe makes 9 * 2 = $<<9*2=18>>18."
    [row] = voted(Voting(), replace(cast("p", 0, "7"), answer=solution))
    assert row.right is None, "a reference that is not an answer says nothing of one"
    backward = Verdict(Outcome.CORRECT, 0.9, "7", "backward vote")
    [row] = voted(Voting(), cast("p", 0, "7", verdict=backward))
    assert row.right is False, "what won a backward vote need not be right"


def test_backward_votes_weigh_in_by_their_probability() -> None:
    backed = [
        Verdict(Outcome.INCORRECT, 0.35, "4", "backward vote"),
        Verdict(Outcome.CORRECT, 0.65, "3", "backward vote"),
    ]
    rows = [
        cast("p", i, v.extracted or "", verdict=v) for i, v in enumerate([backed[0], backed[0], backed[1]])
    ]
    [row] = voted(Voting(rule="mean", weight="verdict.score"), *rows)
    assert (row.answer, [c.total for c in row.classes]) == ("3", pytest.approx([0.35, 0.65]))


def test_answers_of_other_kinds() -> None:
    rows = [
        sample("p", i, completion=f"The answer is {w}.", verdict=None)
        for i, w in enumerate(["the Seine", "Seine", "Rhine"])
    ]
    [row] = voted(Voting(answers="short"), *rows)
    assert (row.answer, row.share) == ("the Seine", 2 / 3)
    [row] = voted(Voting(answers="verdict"), sample("p", 0), sample("p", 1, verdict=WRONG), sample("p", 2))
    assert (row.answer, row.right) == ("3", True)


@pytest.mark.parametrize(
    ("options", "message"), [({"rule": "sum"}, "has no weight"), ({"weight": "index"}, "uses no weight")]
)
def test_weights_that_do_not_fit_the_rule(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Voting(**options)
    with pytest.raises(GristmillError, match=r"problem 'p': the weight 4\.0 is not a probability"):
        weighed("log_odds", [4.0], "7")


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("pq"), st.sampled_from("1234")), min_size=1, max_size=10),
    st.randoms(use_true_random=False),
)
def test_the_order_of_rows_decides_no_label(rows: list[tuple[str, str]], draws: random.Random) -> None:
    made = [cast(p, i, s) for i, (p, s) in enumerate(rows)]
    made = [replace(m, id=str(i)) for i, m in enumerate(made)]
    other = list(made)
    draws.shuffle(other)
    one, two = (
        {r.id: (r.answer, r.share, r.tied) for r in voted(Voting(), *these)} for these in (made, other)
    )
    assert one == two


def test_each_side_is_labelled_by_the_other() -> None:
    assert cross_rewards(["4", "4", "5", "4", None], "5") == [0, 0, 1, 0, 0]
    assert cross_rewards(["4"], None) is None
    assert group_advantages([0, 0, 1, 0]) == pytest.approx([-0.5, -0.5, 1.5, -0.5])
    assert group_advantages([1, 1, 1]) == [0, 0, 0]
    assert group_advantages([1]) == [0]


def test_paraphrases_label_their_problem_and_it_labels_them() -> None:
    origin = '{"paraphrase_of": "p"}'
    ours = [*drawn("p", "4", "4", "5", "4"), *drawn("tie", "1", "1")]
    theirs = [cast("p/paraphrase/0", i, "5", meta=origin) for i in range(2)]
    theirs += [cast("p/paraphrase/1", 0, "4", meta=origin)]
    theirs += [cast("tie/paraphrase/0", i, s, meta='{"paraphrase_of": "tie"}') for i, s in enumerate("12")]
    made = from_frame(out(CrossVotes(), samples(*ours), samples(*theirs)), Sampled)
    rewards = {row.id: {s.name: s.value for s in row.scores} for row in made}
    assert [rewards[f"p/{i}"]["co_reward"] for i in range(4)] == [0, 0, 1, 0]
    assert rewards["p/2"]["co_advantage"] == pytest.approx(1.5)
    assert [rewards[f"p/paraphrase/{i}"]["co_reward"] for i in ("0/0", "0/1", "1/0")] == [0, 0, 1]
    assert rewards["tie/paraphrase/0/0"]["co_reward"] == 1, "the tie labels nothing, but is labelled"
    reasons = rejected(CrossVotes(), samples(*ours), samples(*theirs))
    assert reasons == dict.fromkeys(["tie/0", "tie/1"], "cross_votes: the other side has no label")


def test_isotonic_blocks_rise_and_bins_have_equal_mass() -> None:
    scores, right = [0.2, 0.4, 0.4, 0.6, 0.8, 1.0], [False, True, False, False, True, True]
    assert calibrate(scores, right, method="isotonic") == [
        Block(0.2, 0, 1),
        Block(0.4, 1, 3),
        Block(0.8, 2, 2),
    ]
    assert calibrate(scores, right, method="binned", count=2) == [Block(0.2, 1, 3), Block(0.6, 2, 3)]
    blocks = calibrate(scores, right, method="isotonic")
    assert [block_of(blocks, s).low for s in (0.1, 0.4, 0.79, 1.0)] == [0.2, 0.4, 0.4, 0.8]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30),
    st.randoms(use_true_random=False),
)
def test_confidence_never_falls_and_keeps_the_mean(
    rows: list[tuple[int, bool]], draws: random.Random
) -> None:
    other = list(rows)
    draws.shuffle(other)
    one, two = (calibrate([s for s, _ in r], [t for _, t in r], method="isotonic") for r in (rows, other))
    assert one == two
    shares = [block.share for block in one]
    assert shares == sorted(shares) and sum(b.right for b in one) == sum(t for _, t in rows)


def test_pseudo_labels_have_the_confidence_that_the_gold_rows_teach() -> None:
    rows = [s for i in range(20) for s in drawn(f"sure{i}", "3", "3", "3", "4")]
    rows += [s for i in range(20) for s in drawn(f"unsure{i}", *("3" if i < 5 else "7",) * 2, "4", "5")]
    rows += [replace(s, answer=None) for s in drawn("new", "8", "8", "9", "1")] + drawn("tie", "1", "2")
    frame = Voting()([samples(*rows)], 0).filter(pl.col("rejected_reason").is_null()).drop("rejected_reason")
    made = out(PseudoLabels(), frame)
    [new] = made.filter(pl.col("id") == "new").to_dicts()
    assert (new["answer"], new["right"], new["confidence"]) == ("8", None, 0.25)
    assert new["low"] < 0.25 < new["high"]
    reasons = rejected(PseudoLabels(minimum=0.5), frame)
    assert (
        reasons["new"] == "pseudo_labels: confidence below 0.5"
        and reasons["tie"] == "pseudo_labels: no label"
    )
    assert out(PseudoLabels(minimum=0.5), frame)["confidence"].to_list() == [1.0] * 20
    assert out(PseudoLabels(minimum=0.9, bound="low"), frame).is_empty(), (
        "20 of 20 are not yet 0.9 for certain"
    )
    with pytest.raises(GristmillError, match="40 of 42 labels are known"):
        PseudoLabels(gold=50)([frame], 0)
