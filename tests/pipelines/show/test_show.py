"""What ``gristmill show`` picks out of a stage's rows."""

import polars as pl

from gristmill.core.engine import Message
from gristmill.core.records import Pair, Sampled, Score
from gristmill.core.schema import to_frame
from gristmill.pipelines.rundir.summary import StageCounts, Summary, table
from gristmill.pipelines.show.terminal import _one_of_each, render
from gristmill.testing import sampled, trajectory
from gristmill.verifiers.grounding import Grounding


def test_some_of_each_kind_is_shown_and_all_are_counted() -> None:
    rows = pl.LazyFrame({"id": list("abcdef"), "subset": ["D2", "D2", "D3", "D2", "D1", "D3"]})
    picked, counts = _one_of_each(rows, "subset", 4)
    assert picked["id"].to_list() == ["e", "a", "c", "b"]
    assert counts == "D1 1, D2 3, D3 2"
    assert picked.columns == ["id", "subset"]


def test_what_was_thought_stands_before_what_was_said() -> None:
    row = to_frame([sampled(reasoning="Two and [bold]two.")], type(sampled())).to_dicts()[0]
    shown = render(row).plain
    assert "[assistant]\nthought: Two and [bold]two.\n2 + 2 = 4." in shown
    assert "\nreasoning: " not in shown
    plain = to_frame([trajectory()], type(trajectory())).to_dicts()[0]
    assert "thought:" not in render(plain).plain


def test_the_table_counts_by_finish_reason_where_not_all_is_finished() -> None:
    stage = StageCounts("sample", finish_reasons={"stop": 5})
    assert "ended by" not in table(Summary("n", 0, "m", [stage]))
    stage.finish_reasons |= {"length": 2, "refusal": 1}
    stage.tokens_reasoning = 1200
    told = table(Summary("n", 0, "m", [stage]))
    assert "completions ended by: length 2, refusal 1, stop 5" in told
    assert "tokens out for reasoning: 1,200" in told


def test_what_no_passage_supports_is_marked_in_samples_and_in_both_sides_of_a_pair() -> None:
    right, wrong = "The tower is 34 metres tall.", "It has nine doors [bold]. The tower is 34 metres tall."
    reference = '["The tower is 34 metres tall."]'
    verdicts = [Grounding()(text, reference) for text in (right, wrong)]
    answers = [(Message("assistant", text),) for text in (right, wrong)]
    sides = ("chosen_grounding", "rejected_grounding")
    scores = tuple(Score(name, None, verdict) for name, verdict in zip(sides, verdicts, strict=True))
    pair = Pair("p", "p", "metrics", (), *answers, scores=scores)
    shown = render(to_frame([pair], Pair).to_dicts()[0]).plain
    assert f"chosen\n[assistant] trained\n{right}\n" in shown
    assert shown.endswith("[It has nine doors [bold].] (facts) The tower is 34 metres tall.")
    sample = sampled(completion=wrong, verdict=verdicts[1])
    assert "[It has nine doors [bold].] (facts)" in render(to_frame([sample], Sampled).to_dicts()[0]).plain


def test_a_verdict_on_another_text_marks_nothing() -> None:
    verdict = Grounding()("It has nine doors. It has nine doors.", '["The tower is tall."]')
    sample = sampled(completion="Short.", verdict=verdict)
    assert "[assistant]\nShort.\n" in render(to_frame([sample], Sampled).to_dicts()[0]).plain
