"""What judges wrote as training data: traces, labels, principles out of feedback, refined instructions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gristmill.core.engine import Request, Sampling
from gristmill.core.errors import InputError, RecipeError
from gristmill.core.records import Demonstration, Score, with_score
from gristmill.core.stages import Rejection
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.pipelines.exports import JudgePrompts, PrincipleRows, SegmentRows, VerifierRows
from gristmill.synth.judged import (
    AgreedLabels,
    ExtractPrinciples,
    JudgePairTraces,
    JudgeTraces,
    PrincipleRow,
    RefineJudgePrompt,
    SegmentScore,
    VerifierRow,
)
from gristmill.synth.judged.principles import said_in
from gristmill.synth.judged.refine import parted, read_examples
from gristmill.testing import (
    CORRECT,
    INCORRECT,
    check_export,
    check_row_stage,
    context,
    pair,
    problem,
    sampled,
)
from gristmill.verifiers.raters import InstructedJudge, JudgePrompt, ReasonedJudge

OPEN = Verdict(Outcome.UNPARSEABLE, rule="none")


def says(*texts: str) -> Callable[[Request, int], str]:
    return lambda request, index: texts[index % len(texts)]


def test_traces_that_agree_with_the_known_verdict_are_kept() -> None:
    judge = ReasonedJudge(samples=3, sampling=Sampling(temperature=1.0))
    drawn = says("Wrong. [[incorrect]]", "Solution: 4.\n[[correct]]", "Rubric: truth.\n[[correct]]")
    [first] = check_row_stage(JudgeTraces(judge=judge), [sampled()], context(drawn))
    assert isinstance(first, Demonstration)
    assert (first.id, first.kind, first.answer) == ("p1/0/trace/0", "judge trace", "correct")
    assert [(t.role, t.train) for t in first.turns] == [
        ("system", False),
        ("user", False),
        ("assistant", True),
    ]
    assert first.turns[-1].content == "Solution: 4.\n[[correct]]"
    both = check_row_stage(JudgeTraces(judge=judge, most=None), [sampled()], context(drawn))
    assert len(both) == 2
    [wrong] = check_row_stage(JudgeTraces(judge=judge), [sampled(verdict=INCORRECT)], context(drawn))
    assert isinstance(wrong, Demonstration) and wrong.turns[-1].content == "Wrong. [[incorrect]]"


@pytest.mark.parametrize(
    ("record", "reply", "reason"),
    [
        (sampled(verdict=OPEN), "[[correct]]", "no verdict is known"),
        (sampled(verdict=None), "[[correct]]", "no verdict is known"),
        (sampled(), "[[incorrect]]", "no trace agrees"),
        (sampled(), "Hm.", "no trace could be read"),
        (sampled(finish_reason="length"), "[[correct]]", "nothing to judge"),
    ],
)
def test_other_samples_are_rejected_with_the_reason(record: Any, reply: str, reason: str) -> None:
    [found] = check_row_stage(JudgeTraces(), [record], context(says(reply)))
    assert isinstance(found, Rejection) and found.reason == reason


def test_the_chosen_side_is_in_either_place() -> None:
    def knows(request: Request, index: int) -> str:
        prompt = request.messages[-1].content
        return "[[A]]" if prompt.index("\\boxed{4}") < prompt.index("\\boxed{5}") else "[[B]]"

    pairs = [pair(f"p{i}#0", problem_id=f"p{i}") for i in range(12)]
    found = check_row_stage(JudgePairTraces(), pairs, context(knows))
    golds = [one.answer for one in found if isinstance(one, Demonstration)]
    assert len(golds) == 12 and set(golds) == {"A", "B"}
    always = check_row_stage(JudgePairTraces(), pairs, context(says("[[A]]")))
    assert sum(isinstance(one, Demonstration) for one in always) == golds.count("A")


def judged(said: Verdict | None, **fields: Any) -> Any:
    record = sampled(**fields)
    return record if said is None else with_score(record, Score("judge", said.score, said))


@pytest.mark.parametrize(
    ("record", "came"),
    [
        (judged(CORRECT), True),
        (judged(INCORRECT, verdict=INCORRECT), False),
        (judged(INCORRECT), "the verdicts differ"),
        (judged(OPEN), "a verdict is not decided"),
        (judged(None), "a verdict is not decided"),
        (judged(CORRECT, answer=None), "no reference"),
    ],
)
def test_labels_are_kept_where_rule_and_judge_agree(record: Any, came: bool | str) -> None:
    [found] = check_row_stage(AgreedLabels(), [record])
    if isinstance(found, Rejection):
        assert found.reason == came
    else:
        assert isinstance(found, VerifierRow) and found.label is came
        assert (found.question, found.reference) == ("What is 2 + 2?", "4")
        check_export(VerifierRows(), [found])


FEEDBACK = "All facts are right, but it is far too long. The tone is okay, I guess."


def principle(name: str, satisfied: str, words: str) -> dict[str, str]:
    return {"principle": name, "satisfied": satisfied, "words": words}


def test_principles_are_taken_out_of_feedback() -> None:
    reply = json.dumps(
        {
            "principles": [
                principle("states facts rightly", "yes", "all facts are right"),
                principle("is as short as it can be", "no", "it is far  too long"),
                principle("has a fitting tone", "partly", "The tone is okay"),
                principle("cites sources", "no", "it cites nothing"),
            ]
        }
    )
    record = sampled(meta=json.dumps({"feedback": FEEDBACK}))
    found = check_row_stage(ExtractPrinciples(), [record], context(says(reply)))
    rows = [one for one in found if isinstance(one, PrincipleRow)]
    assert [(r.principle, r.satisfied) for r in rows] == [
        ("states facts rightly", True),
        ("is as short as it can be", False),
    ]
    dropped = [one.reason for one in found if isinstance(one, Rejection)]
    assert dropped == ["partly satisfied", "its words are not in the feedback"]
    check_export(PrincipleRows(), rows)
    for row, said, reason in (
        (sampled(), reply, "no feedback"),
        (record, "Hm.", "no principles could be read"),
        (record, '{"principles": []}', "the feedback names no principle"),
    ):
        [one] = check_row_stage(ExtractPrinciples(), [row], context(says(said)))
        assert isinstance(one, Rejection) and one.reason == reason


def test_words_are_looked_for_as_words() -> None:
    assert said_in("too long", "It is TOO,\nlong!")
    assert not said_in("long", "It goes along.") and not said_in("", "x") and not said_in("?", "x?")


def test_marked_spans_are_exported() -> None:
    reply = json.dumps({"segments": [{"kind": "untrue", "quote": "= 4", "why": "No."}]})
    [score, *_] = _scored(reply)
    [row] = check_export(SegmentRows(), [with_score(sampled(), score)])
    assert [(s.kind, row.completion[s.start : s.end]) for s in row.segments] == [("untrue", "= 4")]
    with pytest.raises(Exception, match="no decided verdict"):
        SegmentRows().rows(sampled())


def _scored(reply: str) -> list[Score]:
    from gristmill.testing import check_scorer

    return check_scorer(SegmentScore(), [sampled()], context(says(reply)), score="segments")


def examples(path: Path, count: int = 12) -> str:
    """Sums, of which the odd ones are wrong; a judge that is told to add finds out."""
    rows = [
        {"problem": f"{i} + {i}?", "response": f"The sum is {2 * i + i % 2}.", "label": i % 2 == 0}
        for i in range(count)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def adds(rewrites: list[str]) -> Callable[[Request, int], str]:
    """A judge that finds everything right until it is told to add, and a writer with these rewrites."""
    left = iter(rewrites)
    known: dict[str, str] = {}

    def answer(request: Request, index: int) -> str:
        prompt = request.messages[-1].content
        if "[BEGIN MISTAKES" in prompt:
            key = repr(request)
            known.setdefault(key, next(left, "Judge well."))
            return json.dumps({"reason": "So.", "instructions": known[key]})
        if "Add the numbers" not in prompt:
            return "[[correct]]"
        first = int(prompt.split("[BEGIN PROBLEM")[1].split("\n")[1].split(" +")[0])
        said = int(prompt.split("The sum is ")[1].split(".")[0])
        return "[[correct]]" if said == 2 * first else "[[incorrect]]"

    return answer


def refined(stage: RefineJudgePrompt, say: Callable[[Request, int], str]) -> JudgePrompt:
    import asyncio

    [made] = asyncio.run(stage(problem(problem="Say whether it looks right."), context(say)))
    assert isinstance(made, JudgePrompt)
    return made


def test_instructions_are_kept_if_accuracy_rises(tmp_path: Path) -> None:
    stage = RefineJudgePrompt(examples=examples(tmp_path / "known.jsonl"))
    made = refined(stage, adds(["Judge by the style.", "Add the numbers yourself."]))
    assert made.instructions == "Add the numbers yourself."
    assert (made.accepted, made.tried, made.chosen, made.tested) == (1, 2, 1.0, 1.0)
    assert made.first_tested is not None and made.first_tested < 1.0
    assert made.begun_with == "Say whether it looks right."
    worse = refined(stage, adds(["Judge by the style."]))
    assert worse.instructions == worse.begun_with and (worse.accepted, worse.tried) == (0, 4)
    assert (worse.tested, worse.chosen) == (worse.first_tested, worse.first_chosen)


def test_instructions_that_quote_a_mistake_are_not_tried(tmp_path: Path) -> None:
    path = tmp_path / "known.jsonl"
    long = "This is a long answer that goes on and on about sums."
    rows = [
        {"problem": f"{i} + {i}?", "response": f"{long} The sum is {i}.", "label": False} for i in range(9)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    quote = f"Add the numbers. {long} is wrong."
    made = refined(RefineJudgePrompt(examples=str(path), rounds=1), adds([quote]))
    assert (made.accepted, made.instructions) == (0, made.begun_with)


def test_the_parts_share_no_example_and_are_drawn_by_the_seed(tmp_path: Path) -> None:
    rows = read_examples(examples(tmp_path / "known.jsonl", 13))
    parts = parted(rows, 5)
    assert sorted(map(len, parts)) == [4, 4, 5]
    assert sorted(repr(one) for part in parts for one in part) == sorted(map(repr, rows))
    assert parted(rows, 5) == parts != parted(rows, 6)


def test_bad_examples_are_refused_with_the_row(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="8 examples are too few"):
        RefineJudgePrompt(examples=examples(tmp_path / "few.jsonl", 8))
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"problem": "a", "response": "b", "label": "yes"}\n')
    with pytest.raises(InputError, match=r"bad.jsonl, row 1: the row has another form"):
        RefineJudgePrompt(examples=str(bad))


def test_exported_instructions_are_what_a_judge_reads(tmp_path: Path) -> None:
    prompts = [JudgePrompt("sums", "Add the numbers yourself."), JudgePrompt("style", "Mind the style.")]
    rows = check_export(JudgePrompts(), prompts)
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(json.dumps({"id": r.id, "instructions": r.instructions}) for r in rows))
    assert InstructedJudge(file=str(file), name="style").text == "Mind the style."
    with pytest.raises(InputError, match="2 rows fit the name None"):
        InstructedJudge(file=str(file))
    with pytest.raises(RecipeError, match="has no instructions"):
        InstructedJudge()
