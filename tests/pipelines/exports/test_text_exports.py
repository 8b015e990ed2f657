from __future__ import annotations

import pytest

from gristmill.core.errors import RowRejected
from gristmill.core.records import Dialogue, Span, Turn
from gristmill.pipelines.exports.text import Text, TextCompletion, TextCompletionExport, TextExport

ASK, SURE = Turn("user", "Question: 2 + 2? Answer:", False), Turn("user", " Sure?", False)


def dialogue(*turns: Turn) -> Dialogue:
    return Dialogue("d", turns)


def test_turns_are_joined_as_they_are_and_what_is_trained_beside_them_is_told() -> None:
    record = dialogue(ASK, Turn("assistant", " 4.", True), SURE, Turn("assistant", " Yes.", True))
    assert TextExport().rows(record) == [Text("d", "Question: 2 + 2? Answer: 4. Sure? Yes.")]
    assert TextExport().remarks(record) == {"turns trained beside those marked": 2}
    assert TextExport(separator="\n").rows(dialogue(ASK, Turn("assistant", "4", True))) == [
        Text("d", "Question: 2 + 2? Answer:\n4")
    ]


def test_text_drops_what_it_would_train_against_the_marks() -> None:
    wrong = dialogue(ASK, Turn("assistant", " 5.", False), SURE, Turn("assistant", " No.", True))
    with pytest.raises(RowRejected, match="must not be trained"):
        TextExport().rows(wrong)
    [kept] = TextExport(untrained="keep").rows(wrong)
    assert kept.text.endswith(" 5. Sure? No.")
    part = dialogue(ASK, Turn("assistant", "4\nConfidence: 9", True, (Span(2, 15),)))
    for export in (TextExport(), TextCompletionExport()):
        with pytest.raises(RowRejected) as refused:
            export.rows(part)
        assert refused.value.reason == "has loss on a part of a turn"


def test_every_run_of_trained_turns_is_completed_once() -> None:
    record = dialogue(ASK, Turn("assistant", " 4.", True), SURE, Turn("assistant", " Yes.", True))
    assert TextCompletionExport().rows(record) == [
        TextCompletion("d#1", "Question: 2 + 2? Answer:", " 4."),
        TextCompletion("d#2", "Question: 2 + 2? Answer: 4. Sure?", " Yes."),
    ]
    run = dialogue(ASK, Turn("assistant", " 4.", True), Turn("user", " Sure?", True))
    assert TextCompletionExport(separator="|").rows(run) == [
        TextCompletion("d", "Question: 2 + 2? Answer:", "| 4.| Sure?")
    ]


def test_prompt_and_completion_are_the_text_again() -> None:
    record = dialogue(ASK, Turn("assistant", "4.", True), SURE, Turn("assistant", "Yes.", True))
    [whole] = TextExport(separator="\n").rows(record)
    *_, last = TextCompletionExport(separator="\n").rows(record)
    assert last.prompt + last.completion == whole.text


def test_a_record_with_nothing_to_train_or_no_prompt_is_dropped() -> None:
    with pytest.raises(RowRejected, match="no turn to train"):
        TextCompletionExport().rows(dialogue(ASK))
    with pytest.raises(RowRejected) as refused:
        TextCompletionExport().rows(dialogue(Turn("user", "Q", True)))
    assert refused.value.reason == "begins with a trained turn"
