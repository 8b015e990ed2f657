"""Replies in the forms of published judges: read rightly, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gristmill.core.engine import Completion
from gristmill.engines.scripted import ScriptedEngine
from gristmill.verifiers.judges.asking import Asking
from gristmill.verifiers.judges.judge import Judge
from gristmill.verifiers.judges.published import read_published
from gristmill.verifiers.judges.replies import Unread

SIDES = ("A", "B", "tie")
TEN = tuple(str(n) for n in range(1, 11))
FIVE = TEN[:5]
YES = ("yes", "no")

READ: list[tuple[Sequence[str], str, str]] = [
    # MT-Bench and Arena-Hard
    (SIDES, "A", "The first one has the date right. Final Verdict: [[A]]"),
    (SIDES, "tie", "Neither names the river.\n\n[[C]] for a tie."),
    (SIDES, "A", "## Verdict\nA cites its source.\n\nMy final verdict is: [[A>B]]"),
    (SIDES, "B", "My final verdict is that B is far better: [[B>>A]]"),
    (SIDES, "tie", "<think>[[A>B]] perhaps</think>\nMy final verdict is tie: [[A=B]]"),
    (TEN, "7", "It is short but right.\n\nRating: [[7]]"),
    (TEN, "6", "I would give this [[6]] in all."),
    # Prometheus
    (FIVE, "4", "Feedback: It names both causes, without dates. So the overall score is 4. [RESULT] 4"),
    (FIVE, "2", "Feedback: vague [RESULT] (2)"),
    (YES, "yes", "Feedback: the passage says so. [RESULT] (YES)"),
    (SIDES, "B", "Feedback: B is warmer. [RESULT] B"),
    # RM-R1
    (SIDES, "B", "<rubric>Truth (70%)</rubric><eval><quote_B>1815</quote_B></eval>\n<answer>[[B]]</answer>"),
    (SIDES, "A", "<think>Long.</think>\n<answer>A</answer>"),
    # SPCT, and what else boxes its numbers
    (TEN, "8", "Critique: sound.\nScore: \\boxed{8}"),
    (("-1", "0", "1"), "1", "It helped. \\boxed{+1}"),
    # JSON
    (SIDES, "A", '```json\n{"winner": "A", "reason": "It answers."}\n```'),
    (SIDES, "B", 'Here you are: {"better": "B", "score_A": 3, "score_B": 7} That is all.'),
    (TEN, "9", '{"feedback": "Right.", "score": "9"}'),
    (SIDES, "B", '{"final_verdict": "<answer>[[B]]</answer>", "reasoning": "x"}'),
    # UltraFeedback, and other lines with a name
    (FIVE, "4", "Rating: 4\nRationale: It does what was asked, but for the length."),
    (FIVE, "3", "Evaluation: fair\n**Total Rating:** 3"),
    (TEN, "8", "Final rating: 8/10"),
    (FIVE, "4", "SCORE: [4]\nREASON: Mostly right."),
    (YES, "no", "Verdict: no"),
    (YES, "yes", "Verdict: yes\nScore: 0.9"),
    (("correct", "incorrect"), "correct", '{"verdict": "correct", "score": 0.9}'),
    (TEN, "7", '{"verdict": "fair", "score": 7}'),
    # LLMBar, Auto-J, and other sentences
    (("A", "B"), "A", "Output (b) answers another question. Therefore, Output (a) is better."),
    (SIDES, "B", "Both are polite. So, the final decision is Response 2."),
    (SIDES, "tie", "So, the final decision is Tie."),
    (TEN, "7", "She has 5 years of it. The score is 7 out of 10."),
    (TEN, "9", "It has 3 parts. I rate it 9/10 for this."),
    # A word alone, or to begin with
    (YES, "yes", "**Yes**"),
    (YES, "yes", "Yes, the passage says so."),
    (("correct", "incorrect"), "incorrect", "Incorrect."),
    (("supported", "refuted"), "refuted", "REFUTED\nREASON: the passage gives another year"),
    (("supported", "refuted"), "supported", "The passage gives the year.\n\n**Supported**"),
    (TEN, "8", "Overall: 8 / 10, good but short"),
]
NOT_READ: list[tuple[Sequence[str], str]] = [
    (SIDES, "[[A>B]] ... no, [[B>A]]"),
    (TEN, "Rating: [[2]]. On reflection, Rating: [[8]]"),
    (TEN, "Rating: [[11]]"),
    (TEN, "Rating: [[0]]"),
    (TEN, "Rating: 8.5"),
    (TEN, "Score: 4/5"),
    (FIVE, "Rating: 5\nRationale: a\n\nRating: 4\nRationale: b"),
    (SIDES, '{"winner": "D"}'),
    (SIDES, '{"winner": "A", "better": "B"}'),
    (("A", "B"), "They are alike: [[C]]"),
    (SIDES, "This is not [[A]]"),
    (SIDES, "I cannot tell which is better."),
    (("supported", "refuted"), "Supported\nThough one could call it refuted."),
    (YES, "Yes and no."),
    (YES, "Yes, though one might say no."),
    (SIDES, "<think>[[A]]"),
    (SIDES, ""),
]


def test_replies_of_published_judges_are_read() -> None:
    wrong = [
        f"{text!r}: {said} instead of {wanted}"
        for labels, wanted, text in READ
        if (said := read_published(Completion(text), labels)) != wanted
    ]
    assert not wrong, "\n".join(wrong)


def test_what_is_not_clear_is_not_read() -> None:
    wrong = [
        f"{text!r}: {said}"
        for labels, text in NOT_READ
        if not isinstance(said := read_published(Completion(text), labels), Unread)
    ]
    assert not wrong, "\n".join(wrong)


def test_a_reply_that_was_cut_off_is_not_read() -> None:
    said = read_published(Completion("Rating: [[7]]", finish_reason="length"), TEN)
    assert isinstance(said, Unread) and said.why == "finish_reason length"


@pytest.mark.parametrize(("read", "winner"), [("published", "first"), ("text", None)])
def test_a_judge_reads_them_where_it_is_told_to(read: str, winner: str | None) -> None:
    def answer(request: object, index: int) -> str:
        prompt = request.messages[-1].content  # type: ignore[attr-defined]
        better = "A" if prompt.index("good") < prompt.index("bad") else "B"
        return f"My final verdict is: [[{better}>{'B' if better == 'A' else 'A'}]]"

    judge = Judge(asking=Asking(read=read))  # type: ignore[arg-type]
    engine = ScriptedEngine(answer)
    call = judge.compare("good news", "bad news", problem="News?", engine=engine, seed=1)
    assert asyncio.run(call).winner == winner
