from __future__ import annotations

import json

import polars as pl
import pytest

from gristmill.core.verdicts import Outcome, Verdict
from gristmill.verifiers.grounding import Grounding, span_columns, unsupported_spans

PASSAGE = "Kestrel Town beat Ardmore United in the final. The ground holds 9,000 people."
ANSWER = (
    "Ardmore United beat Kestrel Town in the final. The ground, built in 1931, holds 9,000 people in Rome."
)


def test_spans_name_the_place_in_the_answer_and_the_one_in_the_passage() -> None:
    verdict = Grounding()(ANSWER, json.dumps([PASSAGE]))
    roles, facts = unsupported_spans(ANSWER, verdict)
    assert (roles.text, roles.reason, roles.passage) == (ANSWER[:46], "roles", 1)
    assert PASSAGE[roles.passage_start : roles.passage_end] == PASSAGE[:46]
    assert (ANSWER[facts.start : facts.end], facts.reason) == (facts.text, "facts")
    assert [ANSWER[a:b] for a, b in facts.marks] == ["1931", "Rome"]


def test_a_wrong_citation_is_a_reason_of_its_own() -> None:
    answer = "The ground holds 9,000 people [2]."
    [span] = unsupported_spans(answer, Grounding()(answer, json.dumps([PASSAGE, "The sea is blue."])))
    assert (span.reason, span.status) == ("citation", "unsupported")


def test_columns_make_a_table_with_a_row_for_each_span() -> None:
    verdict = Grounding()(ANSWER, json.dumps([PASSAGE]))
    table = pl.DataFrame(span_columns(unsupported_spans(ANSWER, verdict)))
    assert table["span_reason"].to_list() == ["roles", "facts"]
    assert table.columns[:3] == ["span_start", "span_end", "span_text"]


def test_undecided_spans_are_given_on_demand() -> None:
    answer = "The players were happy."
    verdict = Grounding()(answer, json.dumps([PASSAGE]))
    assert unsupported_spans(answer, verdict) == ()
    [span] = unsupported_spans(answer, verdict, ["unsupported", "undecided"])
    assert (span.status, span.passage, span.passage_start) == ("undecided", None, None)


def test_a_verdict_without_a_report_has_no_spans_and_one_on_another_text_is_refused() -> None:
    assert unsupported_spans("x", Verdict(Outcome.ERROR, detail="reference unparseable")) == ()
    verdict = Grounding()(ANSWER, json.dumps([PASSAGE]))
    with pytest.raises(ValueError, match="longer answer"):
        unsupported_spans("short", verdict)
