"""Rows for reward models: answers with scores, and pairs for a model that answers in words."""

from __future__ import annotations

import pytest

from gristmill.core.engine import Message
from gristmill.core.errors import RowRejected
from gristmill.core.records import Score
from gristmill.pipelines.exports import FeedbackRows, ScoredAnswers
from gristmill.testing import check_export, pair, sampled

SCORES = (Score("help", 3.0), Score("length", 12.0), Score("unread", None))


def test_scored_answers_have_the_numbers_among_the_scores() -> None:
    [row] = ScoredAnswers().rows(sampled(scores=SCORES))
    assert [(s.name, s.value) for s in row.scores] == [("help", 3.0), ("length", 12.0)]
    assert row.completion == (Message("assistant", sampled().completion),)
    [named] = ScoredAnswers(names=("help",)).rows(sampled(scores=SCORES))
    assert [s.name for s in named.scores] == ["help"]
    check_export(ScoredAnswers(), [sampled(scores=SCORES)])


@pytest.mark.parametrize(
    ("fields", "reason"), [({}, "no scores"), ({"scores": SCORES, "finish_reason": "length"}, "cut off")]
)
def test_an_answer_without_scores_or_end_is_dropped(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(RowRejected) as raised:
        ScoredAnswers().rows(sampled(**fields))
    assert raised.value.reason == reason


def test_language_feedback_corrects_the_bad_answer_and_keeps_the_good_one() -> None:
    correct, keep = FeedbackRows(request="Better?").rows(pair())
    assert [m.content for m in correct.prompt] == ["What is 2 + 2?", "\\boxed{5}", "Better?"]
    assert [m.content for m in keep.prompt] == ["What is 2 + 2?", "\\boxed{4}", "Better?"]
    assert [m.role for m in correct.prompt] == ["user", "assistant", "user"]
    assert correct.completion == keep.completion and correct.completion[0].content == "\\boxed{4}"
    assert len({correct.id, keep.id}) == 2
    check_export(FeedbackRows(), [pair()])
