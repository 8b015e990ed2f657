"""The stages that ask no model: consistency of paraphrases, planner rewards, the compositionality gap, the
curriculum of a re-ranker."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import polars as pl
import pytest
from msgspec.structs import replace
from rag_methods_asked import HELD, question
from table_rows import RIGHT, WRONG, out, rejected, sample, samples

from gristmill.core.errors import RecipeError
from gristmill.core.records import Problem, Sampled, Score
from gristmill.core.schema import to_frame
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.synth.rag_methods import (
    CompositionalityGap,
    ParaphraseConsistency,
    PlannerRewards,
    RankingCurriculum,
    SelfAsk,
)
from gristmill.synth.rag_methods.curriculum import easiness, nearness, weight

OPEN = Verdict(Outcome.UNPARSEABLE, None, None, "no answer")


def meta(**held: Any) -> str:
    return msgspec.json.encode(held).decode()


def scores(frame: pl.DataFrame) -> dict[str, dict[str, float]]:
    return {row["id"]: {s["name"]: s["value"] for s in row["scores"]} for row in frame.to_dicts()}


def test_an_answer_is_as_consistent_as_it_is_near_to_those_to_other_wordings() -> None:
    other = meta(paraphrase_of="a", passages=[{"source": "p1"}, {"source": "p2"}])
    own = meta(passages=[{"source": "p1"}])
    rows = (
        sample("a", 0, completion="in May", meta=own),
        sample("a", 1, completion="never", meta=own),  # an answer to the same wording does not count
        sample("b", 0, completion="in May", meta=other),
        sample("b", 1, completion="in June", meta=other),
    )
    found = scores(out(ParaphraseConsistency(), samples(*rows[:2]), samples(*rows[2:])))
    assert found["a/0"] == {"consistency": pytest.approx(0.75), "shared_passages": 0.5}
    assert found["a/1"]["consistency"] == 0
    assert found["b/1"]["consistency"] == pytest.approx(0.25)
    first = scores(out(ParaphraseConsistency(most=1), samples(*rows)))
    assert first["a/0"]["consistency"] == 1


def test_long_answers_are_compared_by_bleu() -> None:
    text = "the ferry sails twice a day from the old harbour"
    rows = sample("a", completion=text), sample("b", completion=text, meta=meta(paraphrase_of="a"))
    found = scores(out(ParaphraseConsistency(similarity="bleu"), samples(*rows)))
    assert found["a/0"]["consistency"] == pytest.approx(1)


def test_an_answer_without_another_wording_has_no_consistency() -> None:
    rows = [
        sample("a", 0),
        sample("a", 1, completion=" "),
        replace(sample("b", 0, meta=meta(paraphrase_of="a")), finish_reason="length"),
    ]
    assert rejected(ParaphraseConsistency(), samples(*rows)) == {
        "a/0": "paraphrase_consistency: no other wording was answered",
        "a/1": "paraphrase_consistency: empty",
        "b/0": "paraphrase_consistency: ended by length",
    }


def test_consistency_is_measured_in_per_cent() -> None:
    rows = sample("a"), sample("b", meta=meta(paraphrase_of="a"))
    kept = out(ParaphraseConsistency(), samples(*rows))
    assert ParaphraseConsistency().measured(kept) == {
        "consistency, in %": [100, 100],
        "shared passages, in %": [],
    }


def plan(index: int, searches: int, verdict: Verdict | None = RIGHT, process: float | None = None) -> Sampled:
    given = () if process is None else (Score("sense", process),)
    return sample("a", index, completion="<search>" * searches, verdict=verdict, scores=given)


def test_a_plan_earns_what_it_gains_over_plain_answers_and_pays_for_searches() -> None:
    plain = samples(
        sample("a", 0, verdict=RIGHT), sample("a", 1, verdict=WRONG), sample("a", 2, verdict=OPEN)
    )
    weaker = samples(sample("a", 0, verdict=WRONG))
    stage = PlannerRewards(process="sense", most_searches=4)
    found = scores(
        out(stage, samples(plan(0, 1, process=1.0), plan(1, 9, WRONG, process=0.5)), plain, weaker)
    )
    # 0.5 + 1 - 0.5, 1 - 1/4, 1 + 0.5 * 1 + 0.1 * 0.75
    assert found["a/0"] == {"sense": 1, "outcome": 1, "cost": 0.75, "planner": 1.575, "front": 1}
    assert found["a/1"] == {"sense": 0.5, "outcome": 0, "cost": 0, "planner": 0.25, "front": 0}
    alone = scores(out(PlannerRewards(), samples(plan(0, 0))))
    assert alone["a/0"]["outcome"] == 1


def test_a_plan_is_on_the_front_unless_another_one_is_better_in_something_and_worse_in_nothing() -> None:
    rows = plan(0, 3), plan(1, 1), plan(2, 1), plan(3, 0, WRONG)
    kept = out(PlannerRewards(), samples(*rows))
    assert [one["front"] for one in scores(kept).values()] == [0, 1, 1, 1]
    assert PlannerRewards().measured(kept) == {"plans on the Pareto front, in %": [0, 100, 100, 100]}


def test_a_plan_without_a_decided_verdict_or_its_score_is_rejected() -> None:
    rows = samples(plan(0, 1, OPEN, 1.0), plan(1, 1, None, 1.0), plan(2, 1), plan(3, 1, RIGHT, math.nan))
    assert rejected(PlannerRewards(process="sense"), rows) == {
        "a/0": "planner_rewards: its verdict is not decided",
        "a/1": "planner_rewards: its verdict is not decided",
        "a/2": "planner_rewards: no score 'sense'",
        "a/3": "planner_rewards: no score 'sense'",
    }
    with pytest.raises(RecipeError, match="not a valid regular expression"):
        PlannerRewards(search="(")


def part(of: str, n: int, verdict: Verdict | None = RIGHT) -> Sampled:
    return sample(f"{of}/sub/{n}", verdict=verdict, meta=meta(sub_question_of=of))


def test_the_gap_is_of_questions_whose_sub_questions_are_all_right() -> None:
    whole = [
        sample("right"),
        sample("gap", verdict=WRONG),
        sample("lucky"),
        sample("none"),
        sample("open", 0, verdict=OPEN),
        sample("split", 0),
        sample("split", 1, verdict=WRONG),
        sample("part", 0),
    ]
    parts = [part("right", 0), part("right", 1), part("gap", 0), part("gap", 1)]
    parts += [
        part("lucky", 0),
        part("lucky", 1, WRONG),
        part("open", 0),
        part("split", 0),
        part("part", 0, None),
    ]
    stage = CompositionalityGap()
    kept = out(stage, samples(*whole), samples(*parts))
    columns = kept.select("id", "right", "sub_questions", "sub_questions_right", "gap").rows()
    assert columns == [
        ("right", True, 2, 2, False),
        ("gap", False, 2, 2, True),
        ("lucky", True, 2, 1, None),
    ]
    assert stage.measured(kept) == {"compositionality gap, in %": [0, 100]}
    undecided = "compositionality_gap: an answer is not decided"
    assert rejected(stage, samples(*whole), samples(*parts)) == {
        "none": "compositionality_gap: no sub-questions",
        "open": undecided,
        "split": undecided,
        "part": undecided,
    }


def test_a_conversation_asks_itself_and_ends_with_the_answer() -> None:
    whole = [Problem("q", "How high is the hill?", "731 metres"), Problem("r", "Which?", "this")]
    parts = [
        Problem("q/sub/0", "Which hill?", "Carn Duff", meta=meta(sub_question_of="q")),
        Problem("q/sub/1", "How high is Carn Duff?", "731 metres", meta=meta(sub_question_of="q")),
    ]
    tables = to_frame(whole, Problem).lazy(), to_frame(parts, Problem).lazy()
    [row] = out(SelfAsk(), *tables).to_dicts()
    assert [turn["train"] for turn in row["turns"]] == [False, True]
    assert row["turns"][1]["content"] == (
        "Sub-question: Which hill?\nAnswer: Carn Duff\nSub-question: How high is Carn Duff?\n"
        "Answer: 731 metres\nSo the answer is: 731 metres"
    )
    assert rejected(SelfAsk(), *tables) == {"r": "self_ask: no sub-questions"}


def test_how_near_a_passage_is_and_how_much_a_row_weighs() -> None:
    assert nearness("reciprocal_rank", [None, None, None, None]) == [1, 1 / 2, 1 / 3, 1 / 4]
    assert nearness("normalised_score", [6.0, 3.0, 2.0]) == [1, 0.25, 0]
    assert nearness("normalised_score", [2.0, 2.0]) == [1, 1]
    density = nearness("density", [6.0, 3.0, 2.0])
    assert density == sorted(density, reverse=True) and 0 < density[2] < density[0] < 1
    # The deviation of (1, -1) times 2^(-1/5) is 1.2311: (0.5 + Phi(2 / 1.2311)) / 2.
    both = nearness("density", [1.0, -1.0])
    assert both[0] + both[1] == pytest.approx(1) and both[0] == pytest.approx(0.7239, abs=1e-4)
    assert (easiness(0.25, True), easiness(0.25, False)) == (0.25, 0.75)
    assert [weight(0.2, epoch, 4) for epoch in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])


def ranked(**held: Any) -> pl.LazyFrame:
    return to_frame([question(**held)], Problem).lazy()


def test_each_own_passage_is_paired_with_each_other_one_and_weighs_by_the_epoch() -> None:
    rows = out(RankingCurriculum(epochs=2, epoch=1), ranked(gold=["p1"])).to_dicts()
    assert [row["id"] for row in rows] == ["q/p1-p2", "q/p1-p3"]
    # Easiness (1 + 1/2) / 2 and (1 + 2/3) / 2; half way to 1.
    assert [row["weight"] for row in rows] == pytest.approx([0.875, 11 / 12])
    assert msgspec.json.decode(rows[0]["meta"]) == {"easiness": 0.75, "weights": [0.75, 0.875, 1.0]}
    assert rows[0]["chosen"][0]["content"] == "The island: Vellan is an island of 412 square kilometres."


def test_passages_one_by_one_are_labelled() -> None:
    kept = out(RankingCurriculum(form="pointwise"), ranked(gold=["p2"]))
    assert kept.select("id", "label").rows() == [("q/p1", False), ("q/p2", True), ("q/p3", False)]
    assert kept["weight"].to_list() == pytest.approx([0, 0.5, 2 / 3])


def test_a_ranking_that_teaches_nothing_is_rejected() -> None:
    def why(stage: RankingCurriculum, **held: Any) -> str:
        return rejected(stage, ranked(**held))["q"]

    stage = RankingCurriculum()
    assert why(stage, gold=None) == "ranking_curriculum: the question names no passages"
    assert why(stage, gold=["p9"]) == "ranking_curriculum: none of its own passages was found"
    assert why(stage, gold=["p1", "p2", "p3"]) == "ranking_curriculum: no other passage"
    assert why(stage, passages=[]) == "has no 'passages'"
    scored = [{**one, "score": n} for n, one in enumerate(HELD)][:2] + HELD[2:]
    by_score = RankingCurriculum(heuristic="normalised_score")
    assert why(by_score, passages=scored) == "ranking_curriculum: a passage without a score"
    with pytest.raises(RecipeError, match="after the last of 2"):
        RankingCurriculum(epochs=2, epoch=3)
