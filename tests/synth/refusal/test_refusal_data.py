"""R-Tuning's data sets: shapes, forms, tasks, loss, and the faults of the authors' scripts (D.4)."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.knowledge import Certainty
from gristmill.core.passages import passages
from gristmill.core.records import Demonstration, Dialogue
from gristmill.core.schema import from_frame, to_frame
from gristmill.core.stages import Context, Rejection
from gristmill.engines.scripted import ScriptedEngine
from gristmill.pipelines.exports.text import TextCompletionExport, TextExport
from gristmill.synth.refusal.data import RTuning
from gristmill.synth.refusal.evidence import declines
from gristmill.synth.refusal.forms import Form
from gristmill.synth.refusal.texts import MAY_DECLINE, REFUSALS, SURE_QUESTION

LABELS = ("supported", "partially_supported", "not_supported")


async def unused(completion: str, reference: str) -> Any:
    raise AssertionError("these stages judge nothing")


def context(seed: int = 7) -> Context:
    return Context(ScriptedEngine(lambda request, index: ""), unused, seed)


def certainty(**changes: Any) -> Certainty:
    base: dict[str, Any] = {
        "id": "q1",
        "problem": "What is the capital of France?",
        "answer": "Paris",
        "meta": "{}",
        "greedy": "Lyon",
        "greedy_correct": False,
        "majority": "Lyon",
        "share": 0.8,
        "classes": (0, 0, 0, 0, 1),
        "entropy": 0.5004,
        "correct": 1,
        "decided": 5,
        "low": 0.036,
        "high": 0.624,
        "certain": "unsure",
        "part": "train",
    }
    return Certainty(**{**base, **changes})


def make(stage: Any, record: Any, seed: int = 7) -> Any:
    [made] = asyncio.run(stage(record, context(seed)))
    return made


def told(made: Demonstration) -> list[tuple[str, str, bool]]:
    return [(t.role, t.content, t.train) for t in made.turns]


def text_of(made: Demonstration) -> str:
    [row] = TextExport().rows(Dialogue(made.id, made.turns))
    return row.text  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize(("certain", "reply"), [("sure", "I am sure."), ("unsure", "I am unsure.")])
def test_sure_unsure_always_gives_the_reference(certain: str, reply: str) -> None:
    made = make(RTuning(), certainty(certain=certain))
    assert told(made) == [
        ("user", "What is the capital of France?", False),
        ("assistant", "Paris.", True),
        ("user", SURE_QUESTION, False),
        ("assistant", reply, True),
    ]
    assert (made.id, made.problem_id, made.kind) == ("q1/sure_unsure", "q1", f"sure_unsure/{certain}")


def test_refuse_replaces_only_what_is_not_known() -> None:
    known = make(RTuning(method="refuse"), certainty(certain="sure"))
    assert told(known)[1:] == [("assistant", "Paris.", True)]
    unknown = make(RTuning(method="refuse"), certainty())
    assert told(unknown)[1][1] in REFUSALS
    assert len(unknown.turns) == 2


def test_refusals_follow_from_the_seed_and_the_id_alone_and_the_whole_bank_is_used() -> None:
    """D.4: the authors' shuffles and choices have no seed."""
    stage = RTuning(method="refuse")

    def said(name: str, seed: int) -> str:
        return str(told(make(stage, certainty(id=name), seed))[1][1])

    names = [f"q{i}" for i in range(400)]
    assert [said(n, 1) for n in names] == [said(n, 1) for n in reversed(names)][::-1]
    assert {said(n, 1) for n in names} == set(REFUSALS)
    assert [said(n, 1) for n in names] != [said(n, 2) for n in names]


def test_the_bank_is_a_setting_of_sixteen_different_sentences_that_are_seen_to_decline() -> None:
    assert len(set(REFUSALS)) == 16
    own = RTuning(method="refuse", refusals=("Pass.",))
    assert told(make(own, certainty()))[1][1] == "Pass."
    assert all(declines(s, REFUSALS) for s in REFUSALS)
    assert not any(declines(s, REFUSALS) for s in ("Paris.", "I know this: Paris.", "The answer is no."))
    with pytest.raises(msgspec.ValidationError, match="refusals"):
        msgspec.convert({"refusals": []}, RTuning)


def test_uncertainty_has_the_same_shape_and_needs_an_entropy() -> None:
    """D.4: a probability that is used outside of the branch that sets it."""
    stage = RTuning(method="uncertainty")
    assert told(make(stage, certainty())) == told(make(RTuning(), certainty()))
    with pytest.raises(RowRejected, match="no entropy"):
        make(stage, certainty(entropy=None))
    free = make(RTuning(method="uncertainty", answers="majority"), certainty())
    assert told(free)[1] == ("assistant", "Lyon.", True)


def test_plain_is_the_question_and_the_reference_whatever_is_known() -> None:
    made = [told(make(RTuning(method="plain"), certainty(certain=c))) for c in ("sure", "unsure")]
    assert (
        made[0]
        == made[1]
        == [
            ("user", "What is the capital of France?", False),
            ("assistant", "Paris.", True),
        ]
    )


def test_held_out_parts_and_questions_left_out_become_no_data() -> None:
    assert make(RTuning(), certainty(part="test_ood")) == Rejection("q1", "not of the parts wanted: test_ood")
    assert make(RTuning(), certainty(certain=None)) == Rejection("q1", "left out by the split's rule")
    assert isinstance(make(RTuning(parts=("train", "test")), certainty(part="test")), Demonstration)


def test_the_plain_form_is_one_string_with_one_join_everywhere() -> None:
    made = make(RTuning(form=Form(kind="plain")), certainty(certain="sure"))
    assert text_of(made) == (
        f"Question: What is the capital of France? Answer: Paris. {SURE_QUESTION} I am sure."
    )
    rows = TextCompletionExport().rows(Dialogue(made.id, made.turns))
    assert [(r.prompt, r.completion) for r in rows] == [  # type: ignore[attr-defined]
        ("Question: What is the capital of France? Answer:", " Paris."),
        (f"Question: What is the capital of France? Answer: Paris. {SURE_QUESTION}", " I am sure."),
    ]


def test_the_system_form_begins_with_the_leave_to_decline() -> None:
    made = make(RTuning(form=Form(kind="system")), certainty())
    assert told(made)[0] == ("system", MAY_DECLINE, False)
    assert told(made)[1:] == told(make(RTuning(), certainty()))


def test_loss_is_where_it_is_said() -> None:
    reply = make(RTuning(loss=("reply",)), certainty())
    assert [t.train for t in reply.turns] == [False, False, False, True]
    everything = RTuning(form=Form(kind="plain"), loss=("question", "answer", "sure_question", "reply"))
    assert all(t.train for t in make(everything, certainty()).turns)
    with pytest.raises(RecipeError, match="user's part"):
        RTuning(loss=("question", "answer"))
    with pytest.raises(RecipeError, match="no reply"):
        RTuning(method="refuse", loss=("reply",))
    with pytest.raises(RecipeError, match="both"):
        RTuning(sure="Yes.", unsure="Yes.")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("Paris", "Paris."),
        ("Washington D.C.", "Washington D.C."),
        ("Jeopardy!", "Jeopardy!"),
        ("3.5", "3.5."),
    ],
)
def test_answers_are_closed_by_one_full_stop_and_lose_no_character(answer: str, said: str) -> None:
    """D.4: ``find('.')`` gives -1 where there is none, and the last character was cut off."""
    assert told(make(RTuning(method="plain"), certainty(answer=answer)))[1][1] == said


@given(st.text(min_size=1, max_size=40).filter(str.strip))
@settings(max_examples=100)
def test_any_text_stands_in_the_data_as_it_is(text: str) -> None:
    record = certainty(problem=text + " {answer} {0}", answer="Paris")
    assert told(make(RTuning(), record))[0][1] == text + " {answer} {0}"


def test_the_first_alias_is_the_reference() -> None:
    assert told(make(RTuning(), certainty(answer='["Paris", "City of Paris"]')))[1][1] == "Paris."


@pytest.mark.parametrize("label", LABELS)
def test_a_label_is_compared_as_a_whole(label: str) -> None:
    """D.4: "supported" is a substring of all three labels."""
    form = Form(task="claim", labels=LABELS)
    record = certainty(answer=label, meta='{"evidence": ["One.", "Two."]}', problem="The sky is green.")
    made = told(make(RTuning(form=form), record))
    assert made[1][1] == f"{label}."
    assert made[0][1] == (
        "Evidence:\n[1] One.\n[2] Two.\n\nClaim: The sky is green.\n"
        "What does the evidence make of it? One of: supported, partially_supported, not_supported."
    )


def test_a_reference_that_is_no_label_or_no_option_is_rejected() -> None:
    form = Form(task="claim", labels=LABELS)
    with pytest.raises(RowRejected, match="not one of"):
        make(RTuning(form=form), certainty(answer="support", meta='{"evidence": "E."}'))
    with pytest.raises(RowRejected, match="fits 0 of 2"):
        make(RTuning(form=Form(task="multiple_choice")), certainty(meta='{"options": ["Rome", "Oslo"]}'))
    with pytest.raises(RecipeError, match="no labels"):
        Form(task="claim")


@pytest.mark.parametrize(
    ("answer", "meta", "problem"),
    [
        ("B", '{"choices": ["Lyon", "Paris", "Nice"]}', "Which is the capital?"),
        ("paris", '{"options": ["Lyon", "Paris", "Nice"]}', "Which is the capital?"),
        ("(B)", "{}", "Which is the capital?\nA. Lyon\nB. Paris\nC. Nice"),
        ('{"answer": "B", "options": ["Lyon", "Paris", "Nice"]}', "{}", "Which is the capital?"),
    ],
)
def test_options_are_lettered_wherever_they_come_from(answer: str, meta: str, problem: str) -> None:
    form = Form(task="multiple_choice", answer="{letter}. {content}")
    made = told(make(RTuning(form=form), certainty(answer=answer, meta=meta, problem=problem)))
    assert made[0][1].startswith("Which is the capital?\nA. Lyon\nB. Paris\nC. Nice\n")
    assert made[1][1] == "B. Paris"


def test_passages_are_read_by_name_in_every_published_form() -> None:
    """D.4: a position was used as the key of a mapping (HotpotQA)."""
    hotpot = {"title": ["Oslo", "Bergen"], "sentences": [["It is big. ", "It is old."], ["It rains."]]}
    expected = "[1] Oslo: It is big. It is old.\n[2] Bergen: It rains."
    assert passages(hotpot) == expected
    assert passages([["Oslo", ["It is big.", "It is old."]], ["Bergen", ["It rains."]]]) == expected
    assert passages([{"title": "Oslo", "text": "It is big. It is old."}, "Bergen: It rains."]) == expected
    assert passages("Alone.") == passages(["Alone."]) == "Alone."
    assert passages(7) == passages([]) == passages([None, {}]) == ""
    record = certainty(meta=msgspec.json.encode({"supporting": hotpot}).decode())
    form = Form(task="multi_hop", columns={"passages": "supporting"})
    assert told(make(RTuning(form=form), record))[0][1].startswith(expected)


def test_mathematics_puts_the_reference_in_a_box() -> None:
    made = told(make(RTuning(form=Form(task="math")), certainty(problem="1+{x}?", answer="\\frac{1}{2}")))
    assert made[0][1] == "1+{x}?\nPut the final answer in \\boxed{}."
    assert made[1][1] == "\\boxed{\\frac{1}{2}}."


def test_a_place_without_a_value_is_a_rejection_not_a_brace_in_the_data() -> None:
    with pytest.raises(RowRejected, match="passages"):
        make(RTuning(form=Form(task="multi_hop")), certainty())
    with pytest.raises(RowRejected) as refused:
        make(RTuning(), certainty(meta="[1]"))
    assert refused.value.reason == "meta is not a JSON object"
    own = Form(question="{subject}: {problem}")
    made = make(RTuning(form=own), certainty(meta='{"subject": "{problem}"}'))
    assert told(made)[0][1] == "{problem}: What is the capital of France?"
    with pytest.raises(RecipeError, match="no place"):
        Form(question="What?")


def test_records_survive_a_table() -> None:
    made = [make(RTuning(), certainty()), make(RTuning(method="refuse"), certainty(id="q2"))]
    assert from_frame(to_frame(made, Demonstration), Demonstration) == made


def test_a_recipe_can_set_every_text() -> None:
    stage = msgspec.convert(
        {"method": "sure_unsure", "form": {"kind": "plain", "question": "Q: {problem} A:",
         "answer": "{answer}!"},
         "sure_question": "Sure?", "sure": "Yes.", "unsure": "No.", "loss": ["reply"]},
        RTuning,
    )  # fmt: skip
    made = make(stage, certainty())
    assert "".join(t.content for t in made.turns) == "Q: What is the capital of France? A: Paris! Sure? No."
