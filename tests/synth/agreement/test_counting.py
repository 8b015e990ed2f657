"""The votes of a whole table are those of its problems, one by one."""

from __future__ import annotations

import random
from collections.abc import Sequence

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import convert
from msgspec.structs import replace
from table_rows import RIGHT, WRONG, sample, samples

from gristmill.core.errors import GristmillError
from gristmill.core.records import Sampled, Score
from gristmill.core.schema import to_frame
from gristmill.core.stages import REJECTED_REASON
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.synth.agreement import Voted, VoteShares, Voting
from gristmill.synth.agreement.answers import truth
from gristmill.synth.agreement.vote import Ballots, VoteClass
from gristmill.verifiers.rules.votes import Votes

VERDICTS = (RIGHT, WRONG, Verdict(Outcome.TIMEOUT), Verdict(Outcome.CORRECT, 0.9, "3", "backward vote"))
# Equal answers in other words, some that are equal to one of two others only, and some that cannot vote.
SAID = (
    "3",
    "6/2",
    "3.0",
    "4",
    "\\frac12",
    "0.5",
    "5",
    "5 cm",
    "5 kg",
    "x+y",
    "y + x",
    "the Seine",
    "...",
    "",
    None,
)
WEIGHTS = (None, float("nan"), 0.0, 0.1, 0.2, 0.3, 0.7, 1.0)
Row = tuple[str, str | None, float | None, Verdict | None, str, str | None]


def rows_by(seed: int) -> list[Row]:
    """60 samples of five problems, each of which has a few answers of its own."""
    draws = random.Random(seed)
    own = {problem: draws.sample(SAID, 5) for problem in "pqrst"}
    return [
        (
            problem := draws.choice("pqrst"),
            draws.choice(own[problem]),
            draws.choice(WEIGHTS),
            draws.choice((*VERDICTS, RIGHT, WRONG, None)),
            draws.choice(("stop", "stop", "stop", "length")),
            draws.choice(("m", "n", None)),
        )
        for _ in range(60)
    ]


def drawn(rows: Sequence[Row]) -> list[Sampled]:
    made = []
    for i, (problem, said, weight, verdict, finish, model) in enumerate(rows):
        # The verdict's answer is what the sample said; some have no verdict and so none.
        own = None if verdict is None else replace(verdict, extracted=said)
        row = sample(
            problem, i, completion=f"Way {i % 3}.", verdict=own, scores=(Score("w", weight),), model=model
        )
        made.append(
            replace(row, finish_reason=finish, answer=None if problem == "s" else "3", meta=f'{{"at":{i}}}')
        )
    return made


def row_of(stage: Voting, ballots: Ballots, votes: Votes) -> Voted:
    """The row of one problem, written down in Python."""
    equal = stage.equal or "math"
    labels = [ballots.casts[one[0]].answer or "" for one in votes.classes]
    right = [
        truth((ballots.casts[i].right for i in one), label, ballots.gold, equal)
        for one, label in zip(votes.classes, labels, strict=True)
    ]
    leader = None if stage.ties == "abstain" and votes.tied else votes.winner
    first = votes.winner or 0
    share = votes.shares[first] if votes.classes else 0.0
    return Voted(
        id=ballots.problem_id,
        problem=ballots.problem,
        answer=None if leader is None else labels[leader],
        level=None,
        meta=ballots.meta,
        gold=ballots.gold,
        right=None if leader is None else right[leader],
        share=share,
        margin=share - max((s for i, s in enumerate(votes.shares) if i != first), default=0.0),
        tied=bool(votes.tied),
        votes=sum(map(len, votes.classes)),
        undecided=len(votes.undecided),
        entropy=votes.entropy,
        credit=votes.credit(right),
        classes=tuple(
            VoteClass(label, len(one), total, known)
            for label, one, total, known in zip(labels, votes.classes, votes.totals, right, strict=True)
        ),
    )


def scores_of(stage: Voting, ballots: Ballots, votes: Votes) -> dict[int, tuple[float | None, float | None]]:
    """The share of each sample's class, and whether it is the label's, by the sample's row."""
    leader = None if stage.ties == "abstain" and votes.tied else votes.winner
    places = {i: place for place, one in enumerate(votes.classes) for i in one}
    return {
        cast.row: (None, None)
        if i not in places
        else (votes.shares[places[i]], None if leader is None else float(places[i] == leader))
        for i, cast in enumerate(ballots.casts)
    }


RULES = ("count", "sum", "mean", "log_odds", "borda", "models", "perplexity")


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32), ties=st.sampled_from(("abstain", "first")), text=st.booleans())
def test_a_table_has_the_votes_of_its_problems(rule: str, seed: int, ties: str, text: bool) -> None:
    options = {"rule": rule, "ties": ties, "answers": "verdict", "equal": "text" if text else "math"}
    if rule not in ("count", "models"):
        options["weight"] = "0 - scores.w" if rule == "perplexity" else "scores.w"
    rows = drawn(rows_by(seed))
    stage, frame = convert(options, Voting), samples(*rows)
    found = [(one, stage.votes(one)) for one in stage.ballots(frame)]
    expected = to_frame([row_of(stage, b, v) for b, v in found], Voted)
    made = stage.voted(frame)
    assert made.schema == expected.schema
    assert made.to_dicts() == expected.to_dicts(), "to the last bit, since floats are compared as they are"
    whole = stage([frame], 0).collect()
    kept = whole.filter(pl.col(REJECTED_REASON).is_null()).drop(REJECTED_REASON)
    assert kept.to_dicts() == expected.filter(pl.col("votes") > 0).to_dicts()
    assert sorted(whole["id"]) == sorted(expected["id"]), "kept and rejected are all problems"
    scores = {at: own for b, v in found for at, own in scores_of(stage, b, v).items()}
    shared = convert(options, VoteShares)([frame], 0).collect()
    named = [{s["name"]: s["value"] for s in row} for row in shared["scores"].to_list()]
    assert [(s["vote"], s["vote_label"]) for s in named] == [scores[i] for i in range(len(rows))]


def test_of_several_weights_that_cannot_be_used_the_first_problem_s_is_named() -> None:
    rows = [sample(p, 0, scores=(Score("w", w),)) for p, w in (("p", 0.5), ("q", 2.0), ("r", float("inf")))]
    rows[2] = replace(rows[2], finish_reason="length")
    for rule, message in (
        ("log_odds", "'q': the weight 2.0 is not a prob"),
        ("sum", "'r': the weight inf is"),
    ):
        stage = convert({"rule": rule, "weight": "scores.w", "answers": "verdict"}, Voting)
        with pytest.raises(GristmillError, match=message):
            stage([samples(*rows)], 0)


def test_a_verifier_is_asked_once_for_each_different_case(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def group(answers: Sequence[str]) -> list[list[int]]:
        asked.append(tuple(answers))
        return [[i] for i in range(len(answers))]

    monkeypatch.setattr("gristmill.synth.agreement.counting.grouping", lambda _: group)
    rows = [
        (p, said, 1.0, RIGHT, "stop", None) for p in map(str, range(50)) for said in ("a/b", "1/2", "a/b")
    ]
    Voting(answers="verdict")([samples(*drawn(rows))], 0)
    assert asked == [("a/b", "1/2")]
