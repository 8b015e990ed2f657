"""The stages that ask a model about a question's passages: what they make, and each reason to reject."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from rag_methods_asked import DUFF, HARROW, HELD, ISLAND, asked, by, made, meta_of, question, reason, sampled

from gristmill.core.engine import Completion, Message, Request, TokenLogprob
from gristmill.core.errors import RecipeError
from gristmill.core.records import Problem
from gristmill.core.stages import Rejection
from gristmill.synth.rag_methods import (
    AnswerMarginal,
    CandidateSummaries,
    PassageUtility,
    RankingLabels,
    SubQuestions,
)
from gristmill.synth.rag_methods.base import ndcg
from gristmill.synth.rag_methods.ranking import starts
from gristmill.synth.rag_methods.rewriting import log_marginal

BARE = question(passages=[])


def json(**reply: Any) -> str:
    return msgspec.json.encode(reply).decode()


def places(request: Request, *sources: dict[str, str]) -> list[int]:
    """The numbers under which passages stand in a prompt."""
    lines = asked(request).splitlines()
    return [int(line[1 : line.index("]")]) for one in sources for line in lines if line.endswith(one["text"])]


@pytest.mark.parametrize(
    "stage", [PassageUtility(), SubQuestions(), CandidateSummaries(), RankingLabels()], ids=lambda s: type(s)
)
def test_a_question_without_passages_is_rejected_and_costs_nothing(stage: Any) -> None:
    assert stage.estimate(BARE).completions_max == 0
    assert reason(stage, BARE) == "has no 'passages'"


# Utility


def test_a_passage_is_useful_by_its_share_of_the_votes_whatever_its_place() -> None:
    measured: dict[str, list[int]] = {}
    shown: set[str] = set()

    def says(request: Request, index: int) -> str:
        shown.add(asked(request))
        useful = [DUFF, ISLAND] if len(shown) == 1 else [DUFF, HARROW] if len(shown) < 5 else [DUFF]
        return json(answer="731 metres", useful=places(request, *useful))

    [record] = made(PassageUtility(), question(), says, measured=measured)
    meta = meta_of(record)
    assert [one["utility"] for one in meta["passages"]] == [0.2, 0.6, 1.0]
    assert [one["useful"] for one in meta["passages"]] == [False, True, True]
    assert meta["useful"] == ["p2", "p3"]
    assert len(shown) > 1
    assert measured == {
        "useful passages that are the question's own, in %": [100],
        "the question's own passages that are useful, in %": [100],
    }


def test_useless_passages_can_be_taken_away() -> None:
    stage = PassageUtility(samples=1, only_useful=True)
    [record] = made(stage, question(), lambda r, i: json(useful=places(r, DUFF)))
    assert [one["source"] for one in meta_of(record)["passages"]] == ["p3"]
    assert reason(stage, question(), json(useful=[])) == "passage_utility: no useful passage"


@pytest.mark.parametrize("reply", ["all", '{"useful": [4]}', '{"useful": [1, 1]}', '{"useful": ["1"]}', "[]"])
def test_utility_that_cannot_be_read_is_none(reply: str) -> None:
    assert reason(PassageUtility(), question(), reply) == "passage_utility: too few replies can be read"


# The reward of a rewrite


def test_the_marginal_is_the_sum_over_passages() -> None:
    # softmax(log 3, 0) = 3/4, 1/4; 3/4 * 1/2 + 1/4 * 1/8 = 13/32
    found = log_marginal([math.log(3), 0.0], [math.log(0.5), math.log(0.125)])
    assert math.exp(found) == pytest.approx(13 / 32)
    # A great temperature makes the passages count alike: (1/2 + 1/8) / 2.
    assert math.exp(log_marginal([9.0, 0.0], [math.log(0.5), math.log(0.125)], 1e9)) == pytest.approx(5 / 16)
    assert log_marginal([900.0, 900.0], [-800.0, -800.0]) == pytest.approx(-800.0)
    with pytest.raises(ValueError, match="no passage"):
        log_marginal([], [])


def likely(messages: tuple[Message, ...], text: str) -> Sequence[TokenLogprob]:
    chance = 0.5 if DUFF["text"] in messages[-1].content else 0.125
    return [TokenLogprob(text[:3], math.log(chance)), TokenLogprob(text[3:], 0.0)]


def test_a_rewrite_is_worth_what_its_passages_make_of_the_answer() -> None:
    near = [{**DUFF, "score": math.log(3)}, {**ISLAND, "score": 0.0}]
    [record] = made(AnswerMarginal(), sampled("height of Carn Duff", passages=near), score=likely)
    assert record.scores[0].name == "answer_marginal"
    assert record.scores[0].value == pytest.approx(math.log(13 / 32))
    [record] = made(AnswerMarginal(per="token"), sampled("Duff", passages=near[:1]), score=likely)
    assert record.scores[0].value == pytest.approx(math.log(0.5) / 2)


def test_the_answer_follows_the_question_and_not_the_rewrite() -> None:
    seen: list[str] = []

    def score(messages: tuple[Message, ...], text: str) -> Sequence[TokenLogprob]:
        seen.append(messages[-1].content + text)
        return [TokenLogprob(text, -1.0)]

    made(AnswerMarginal(), sampled("731 metres?!", passages=[{**DUFF, "score": 1}]), score=score)
    assert seen[0].endswith("731 metres") and question().problem in seen[0] and "?!" not in seen[0]


def test_a_rewrite_without_scores_or_an_answer_has_no_reward() -> None:
    stage = AnswerMarginal()
    assert reason(stage, sampled("x"), score=likely) == "answer_marginal: a passage without a score"
    bare = replace(sampled("x"), answer=None)
    assert reason(stage, bare, score=likely) == "answer_marginal: no reference answer"
    assert stage.estimate(sampled("x", passages=[])).completions_max == 0
    impossible = [TokenLogprob("x", -math.inf)]
    given = sampled("x", passages=[{**DUFF, "score": 1}])
    assert reason(stage, given, score=lambda m, t: impossible) == "no finite log-probability"


# Sub-questions

PARTS = [
    {"question": "Below which hill does the Harrow rise?", "answer": "Carn Duff"},
    {"question": "How high is Carn Duff?", "answer": "731 metres"},
]


def test_sub_questions_are_problems_with_answers_of_their_own() -> None:
    found = made(SubQuestions(), question(), json(sub_questions=PARTS))
    assert [(one.id, one.problem, one.answer) for one in found] == [
        ("q/sub/0", PARTS[0]["question"], "Carn Duff"),
        ("q/sub/1", PARTS[1]["question"], "731 metres"),
    ]
    assert all(meta_of(one)["sub_question_of"] == "q" for one in found)


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ({"question": "How high is the answer to the first one?"}, "one cannot be understood alone"),
        ({"question": "How high is #1?"}, "one cannot be understood alone"),
        ({"question": "Is Carn Duff 731 metres high?"}, "one says its own answer"),
        ({"question": PARTS[0]["question"].upper()}, "one repeats another one or the question"),
        ({"question": question().problem}, "one repeats another one or the question"),
        ({"answer": "812 metres"}, "an answer is in no passage"),
        ({"answer": "Vellan"}, "the last answer is not the reference"),
    ],
)
def test_a_sub_question_of_no_use_rejects_its_question(second: dict[str, str], why: str) -> None:
    parts = [PARTS[0], {**PARTS[1], **second}]
    assert reason(SubQuestions(), question(), json(sub_questions=parts)) == f"sub_questions: {why}"


@pytest.mark.parametrize("parts", [PARTS[:1], PARTS * 3, [{"question": " ", "answer": "x"}] * 2, "two"])
def test_sub_questions_that_cannot_be_read_are_none(parts: Any) -> None:
    why = reason(SubQuestions(), question(), json(sub_questions=parts))
    assert why == "sub_questions: the reply cannot be read"


# Candidate summaries


def summaries(valid: str = "[[yes]]", better: str = "[[A]]", candidates: Any = ("731 metres", "412")) -> Any:
    def says(request: Request, index: int) -> str:
        text = asked(request)
        if "Suppose that CANDIDATE" in text:
            return "Carn Duff has 731." if "731 metres\n[END CANDIDATE" in text else "The island has 412."
        if "Does SUMMARY" in text:
            return valid if "731" in text.split("CANDIDATE")[1] else "[[no]]"
        if "Both responses" in text:
            first = text.index("Carn Duff has 731") < text.index("The island has 412")
            return (
                better
                if first or better not in ("[[A]]", "[[B]]")
                else {"[[A]]": "[[B]]"}.get(better, "[[A]]")
            )
        return json(candidates=candidates)

    return says


def test_the_best_candidate_is_valid_and_wins_the_comparisons() -> None:
    measured: dict[str, list[int]] = {}
    first, second = made(CandidateSummaries(), question(), summaries(), measured=measured)
    assert (first.id, first.completion, first.reasoning) == (
        "q/candidate/0",
        "731 metres",
        "Carn Duff has 731.",
    )
    assert {s.name: s.value for s in first.scores} == {"validity": 1, "rank": 1, "sure": 2}
    assert {s.name: s.value for s in second.scores} == {"validity": 0, "rank": 0, "sure": 0}
    assert first.verdict.correct and not second.verdict.correct
    assert measured == {"the best candidate is right, in %": [100]}


def test_candidates_that_tie_have_half_a_point_and_no_best_one() -> None:
    measured: dict[str, list[int]] = {}
    stage = CandidateSummaries()
    found = made(stage, question(), summaries(valid="[[no]]", better="[[tie]]"), measured=measured)
    assert [one.scores[2].value for one in found] == [0.5, 0.5]
    assert measured == {}


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (summaries(candidates=["The 412", "412"]), "the candidates cannot be read"),
        (summaries(candidates=[]), "the candidates cannot be read"),
        (summaries(better="both"), "a comparison could not be read"),
        (summaries(valid="perhaps"), "a summary's validity could not be read"),
    ],
)
def test_candidates_about_which_something_is_unread_are_rejected(says: Any, why: str) -> None:
    assert reason(CandidateSummaries(), question(), says) == f"candidate_summaries: {why}"


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "a reply is cut off or empty"), ("I do not know.", "a reply declines")],
)
def test_a_summary_that_is_none_rejects_the_question(text: str, why: str) -> None:
    usual = summaries()

    def says(request: Request, index: int) -> Completion | str:
        return text if "Suppose" in asked(request) else usual(request, index)

    assert reason(CandidateSummaries(), question(), says) == why


# Rankings


def test_ndcg_and_where_windows_begin() -> None:
    assert ndcg([1, 0, 0]) == 1
    assert ndcg([0, 0, 1]) == pytest.approx(0.5)
    assert ndcg([1, 0, 1]) == pytest.approx(1.5 / (1 + 1 / math.log2(3)))
    assert ndcg([0] * 10 + [1]) == 0
    with pytest.raises(ValueError, match="no passage is relevant"):
        ndcg([0, 0])
    assert starts(5, 20, 10) == [0]
    assert starts(21, 20, 10) == [1, 0]
    assert starts(40, 20, 10) == [20, 10, 0]
    assert starts(35, 20, 10) == [15, 5, 0]


def ranks(*first: dict[str, str], useful: Sequence[dict[str, str]] = (DUFF,)) -> Any:
    """A judge that puts ``first`` first and finds ``useful`` relevant."""

    def says(request: Request, index: int) -> str:
        text = asked(request)
        if "Does PASSAGE say" in text:
            return "[[yes]]" if any(one["text"] in text for one in useful) else "[[no]]"
        top = places(request, *first)
        count = text.split("Put the ")[1].split()[0]
        rest = [n for n in range(1, int(count) + 1) if n not in top]
        return json(reason="The height is asked.", ranking=top + rest)

    return says


def test_a_ranking_is_a_row_with_its_reason() -> None:
    [row] = made(RankingLabels(), question(), ranks(DUFF, HARROW))
    assert row.completion == "[3] > [2] > [1]"
    assert row.reasoning == "The height is asked."
    assert row.scores[0].value == 1
    assert "[3] Carn Duff: Carn Duff is 731" in row.messages[0].content


def test_windows_slide_from_the_last_passage_to_the_first() -> None:
    stage = RankingLabels(window=2, stride=1)
    [row] = made(stage, question(), ranks(DUFF, HARROW))
    assert (row.completion, row.reasoning) == ("[3] > [1] > [2]", "")


def test_a_ranking_that_contradicts_the_labels_is_rejected() -> None:
    many = [{"source": f"x{n}", "text": f"Here {n} is told."} for n in range(10)]
    record = question(passages=[*many, DUFF])
    why = "ranking_labels: the order contradicts the labels"
    assert reason(RankingLabels(), record, ranks(*many)) == why
    assert len(made(RankingLabels(), record, ranks(DUFF))) == 1
    assert len(made(RankingLabels(threshold=0), record, ranks(*many))) == 1


def test_labels_may_come_from_the_question_or_from_utility() -> None:
    unasked = ranks(ISLAND, useful=())
    [row] = made(RankingLabels(labels="gold"), question(gold=["p1"]), unasked)
    assert row.scores[0].value == 1
    marked = [{**one, "useful": one is ISLAND} for one in HELD]
    assert made(RankingLabels(labels="useful"), question(passages=marked), unasked)[0].scores[0].value == 1
    why = reason(RankingLabels(labels="gold"), question(gold=None), unasked)
    assert why == "ranking_labels: the question names no passages"
    assert reason(RankingLabels(labels="useful"), question(), unasked) == (
        "ranking_labels: a passage is not labelled"
    )


def test_rankings_of_no_use_are_rejected() -> None:
    stage = RankingLabels()
    assert reason(stage, question(), ranks(useful=())) == "ranking_labels: no passage is relevant"
    assert reason(stage, question(passages=[DUFF]), ranks()) == "ranking_labels: only one passage"
    assert reason(stage, question(), "who knows") == "ranking_labels: a label cannot be read"
    short = by(Does_PASSAGE="[[yes]]", PASSAGES=json(ranking=[1, 2]))
    assert reason(stage, question(), short) == "ranking_labels: an order cannot be read"
    with pytest.raises(RecipeError, match="more than the window"):
        RankingLabels(window=2, stride=3)


def test_a_prompt_that_does_not_show_the_passages_is_an_error() -> None:
    for stage in (PassageUtility, SubQuestions):
        with pytest.raises(RecipeError, match=r"\{passages\}"):
            stage(prompt=(Message("user", "{problem}"),))


def test_ids_and_rejections_are_of_the_question() -> None:
    [found] = made(SubQuestions(), question(), "no")
    assert isinstance(found, Rejection) and found.id == "q" and found.detail
    assert isinstance(question(), Problem)
