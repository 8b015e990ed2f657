"""The relatives of R-Tuning: passages, introspection, hard-looking questions, clues."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import polars as pl
import pytest

from gristmill.core.engine import Completion, Request
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.knowledge import Certainty
from gristmill.core.records import Demonstration, Problem
from gristmill.core.schema import from_frame, to_frame
from gristmill.core.stages import REJECTED_REASON, Context, Rejection
from gristmill.core.verdicts import Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.refusal.controls import Clues, HardLooking
from gristmill.synth.refusal.data import RTuning
from gristmill.synth.refusal.introspection import Introspection
from gristmill.synth.refusal.passages import PassageQuestions, SwapPassages, holds
from gristmill.synth.refusal.texts import HARD_LOOKING, I_CAN, I_CANNOT, NOT_YET
from gristmill.verifiers.judges.asking import Asking

TOWNS = ("Oslo", "Bergen", "Paris", "Lyon", "Rome", "Milan", "Cairo", "Lima", "Quito", "Osaka")


async def unused(completion: str, reference: str) -> Verdict:
    raise AssertionError("these stages judge nothing")


def run(stage: Any, record: Any, seed: int = 7, engine: Any = None) -> list[Any]:
    scripted = engine or ScriptedEngine(lambda request, index: "")
    return list(asyncio.run(stage(record, Context(scripted, unused, seed))))


def problem(town: str, **meta: Any) -> Problem:
    held = {"passage": f"The river of this story flows through {town}.", **meta}
    return Problem(f"id-{town}", f"Through which town does it flow? ({town[0]})", town, meta=json.dumps(held))


def certainty(**changes: Any) -> Certainty:
    base: dict[str, Any] = {
        "id": "q1", "problem": "Capital of France?", "answer": "Paris", "meta": "{}", "greedy": "Paris",
        "greedy_correct": True, "majority": "Paris", "share": 1.0, "classes": (0,) * 5, "entropy": 0.0,
        "correct": 5, "decided": 5, "low": 0.57, "high": 1.0, "certain": "sure", "part": "train",
    }  # fmt: skip
    return Certainty(**{**base, **changes})


def swap(stage: SwapPassages, rows: list[Problem], seed: int = 1) -> tuple[list[Problem], list[str | None]]:
    frame = stage(to_frame(rows, Problem).lazy(), seed).collect()
    return from_frame(frame, Problem), frame[REJECTED_REASON].to_list()


def test_a_passage_question_is_answered_or_declined() -> None:
    [told] = run(PassageQuestions(), problem("Oslo"))
    assert [(t.role, t.content, t.train) for t in told.turns] == [
        (
            "user",
            "The river of this story flows through Oslo.\n\n"
            "Using these passages, answer the question: Through which town does it flow? (O)",
            False,
        ),
        ("assistant", "Oslo.", True),
    ]
    [not_told] = run(PassageQuestions(), problem("Oslo", is_impossible=True))
    assert not_told.turns[1].content == "The passage does not say."
    assert (told.kind, not_told.kind) == ("passage/answerable", "passage/unanswerable")
    assert (told.answer, not_told.answer) == ("Oslo", None)


def test_answerability_is_said_once_and_clearly() -> None:
    nothing = Problem("n", "Where?", None, meta='{"passage": "Nowhere."}')
    assert run(PassageQuestions(), nothing)[0].kind == "passage/unanswerable"
    for meta, why in (
        ({"answerable": "no"}, "'answerable' is neither true nor false"),
        ({"answerable": True, "is_impossible": True}, "called answerable and unanswerable"),
    ):
        with pytest.raises(RowRejected) as refused:
            run(PassageQuestions(), problem("Oslo", **meta))
        assert refused.value.reason == why
    with pytest.raises(RowRejected, match="no reference"):
        run(PassageQuestions(), Problem("n", "?", None, meta='{"passage": "P.", "answerable": true}'))


def test_swapped_passages_do_not_hold_the_answer_and_the_record_says_so() -> None:
    rows = [problem(town) for town in TOWNS]
    made, reasons = swap(SwapPassages(share=0.4), rows)
    changed = [(a, b) for a, b in zip(rows, made, strict=True) if a != b]
    assert len(changed) == 4
    assert reasons == [None] * 10
    for before, after in changed:
        meta = json.loads(after.meta)
        donor = next(r for r in rows if r.id == meta["swapped_from"])
        assert meta["passage"] == json.loads(donor.meta)["passage"]
        assert not holds(meta["passage"], before.answer or "")
        assert (after.answer, meta["unswapped_answer"], meta["answerable"]) == (None, before.answer, False)
        assert (after.id, after.problem) == (before.id, before.problem)
        [data] = run(PassageQuestions(), after)
        assert data.kind == "passage/unanswerable"


def test_a_passage_that_holds_the_answer_is_passed_over() -> None:
    both = [
        Problem(f"b{i}", "?", '["Oslo", "Christiania"]', meta=json.dumps({"passage": text}))
        for i, text in enumerate(("In Oslo.", "Christiania is old.", "By OSLO we sat.", "In Bergen."))
    ]
    made, reasons = swap(SwapPassages(share=1.0), both)
    assert [json.loads(m.meta).get("swapped_from") for m in made] == ["b3", "b3", "b3", None]
    assert reasons == [None, None, None, "no other passage without the answer"]
    _, reasons = swap(SwapPassages(share=1.0, tries=1), both)
    assert sum(r is not None for r in reasons) > 1


def test_the_swap_depends_on_seed_and_ids_not_on_the_order_of_rows() -> None:
    """D.4: the authors' shuffles have no seed."""
    rows = [problem(town) for town in TOWNS]
    there, _ = swap(SwapPassages(), rows)
    back, _ = swap(SwapPassages(), rows[::-1])
    assert there == back[::-1]
    assert there != swap(SwapPassages(), rows, seed=2)[0]


def test_an_answer_is_looked_for_as_whole_words() -> None:
    """D.4: matching by substring."""
    assert not holds("They held a party.", "art")
    assert holds("It is Art, they said.", "art")
    assert holds("They live in New York now.", '["NYC", "New York"]')
    assert not holds("New to York.", "New York")


def test_passages_may_come_from_the_same_group_only_and_none_is_a_rejection() -> None:
    rows = [problem(town, title="AB"[i % 2]) for i, town in enumerate(TOWNS)]
    made, reasons = swap(SwapPassages(share=1.0, within="title"), rows)
    assert reasons == [None] * 10
    for row in made:
        meta = json.loads(row.meta)
        donor = next(r for r in rows if r.id == meta["swapped_from"])
        assert json.loads(donor.meta)["title"] == meta["title"]
    alone, reasons = swap(SwapPassages(share=1.0, within="title"), [problem("Oslo", title="A"), *rows[1::2]])
    assert reasons[0] == "no other passage without the answer"
    assert alone[0].answer == "Oslo"
    same = [Problem(f"s{i}", "?", f"a{i}", meta='{"passage": "One and the same."}') for i in range(3)]
    assert set(swap(SwapPassages(share=1.0), same)[1]) == {"no other passage without the answer"}


def test_rows_without_passage_or_reference_do_not_count_in_the_share() -> None:
    rows = [
        *[problem(town) for town in TOWNS[:4]],
        Problem("none", "?", "x", meta="{}"),
        Problem("broken", "?", "x", meta="[]"),
        Problem("open", "?", None, meta='{"passage": "P."}'),
    ]
    made, reasons = swap(SwapPassages(), rows)
    assert reasons[4:] == ["has no 'passage'", "meta is not a JSON object", None]
    assert sum(a != b for a, b in zip(rows, made, strict=True)) == 2
    empty = SwapPassages()(to_frame([], Problem).lazy(), 1).collect()
    assert empty.height == 0 and empty.schema[REJECTED_REASON] == pl.String


def says(*votes: str) -> ScriptedEngine:
    def answer(request: Request, index: int) -> Completion | str:
        assert "Capital of France?" in request.messages[-1].content
        return votes[index]

    return ScriptedEngine(answer)


def judged(feasible: int, infeasible: int, unread: int = 0) -> ScriptedEngine:
    return says(*["I could. [[feasible]]"] * feasible, *["No. [[infeasible]]"] * infeasible, *["?"] * unread)


@pytest.mark.parametrize(
    ("votes", "kind"),
    [
        ((8, 0), "introspection/feasible"),
        ((6, 2), "introspection/feasible"),
        ((5, 3), None),
        ((4, 4), None),
        ((1, 7), "introspection/infeasible"),
        ((3, 1, 4), "introspection/feasible"),
        ((3, 0, 5), None),
    ],
)
def test_a_consensus_is_kept_and_anything_less_is_not(votes: tuple[int, ...], kind: str | None) -> None:
    [made] = run(Introspection(), certainty(), engine=judged(*votes))
    if kind is None:
        assert isinstance(made, Rejection) and made.reason == "no consensus on feasibility"
        assert made.detail
    else:
        assert isinstance(made, Demonstration) and made.kind == kind
        assert made.turns[1].content == (I_CAN if kind.endswith("/feasible") else I_CANNOT)
        assert made.turns[0].content.endswith("Capital of France?")
        assert [t.train for t in made.turns] == [False, True]


def test_a_share_that_is_reached_exactly_is_enough() -> None:
    stage = Introspection(consensus=0.7, asking=Asking(read="text", votes=10, sampling=hot()))
    assert isinstance(run(stage, certainty(), engine=judged(7, 3))[0], Demonstration)
    assert isinstance(run(stage, certainty(), engine=judged(6, 4))[0], Rejection)


def hot() -> Any:
    return Introspection().asking.sampling


def test_a_consensus_against_the_evidence_is_kept_only_if_truth_is_ignored() -> None:
    wrong = certainty(certain="unsure", correct=0)
    assert isinstance(run(Introspection(), wrong, engine=judged(8, 0))[0], Demonstration)
    [made] = run(Introspection(truth="agree"), wrong, engine=judged(8, 0))
    assert made.reason == "the consensus contradicts the evidence"
    assert made.detail == "feasible 8, infeasible 0; 0 of 5 answers are right"
    assert isinstance(run(Introspection(truth="agree"), wrong, engine=judged(0, 8))[0], Demonstration)
    [held_out] = run(Introspection(), certainty(part="test"), engine=says())
    assert held_out.reason == "not of the parts wanted: test"


def test_introspection_needs_more_than_one_vote_and_tells_its_cost() -> None:
    with pytest.raises(RecipeError, match="not a consensus"):
        Introspection(asking=Asking())
    cost = Introspection().estimate(certainty())
    assert (cost.completions_min, cost.completions_max) == (8, 8)


def test_controls_are_known_questions_in_other_words() -> None:
    made = run(HardLooking(each=2), certainty(problem="Capital of {France}?"))
    assert [m.id for m in made] == ["q1/hard0", "q1/hard1"]
    texts = [m.problem for m in made]
    assert len(set(texts)) == 2
    assert set(texts) <= {t.replace("{problem}", "Capital of {France}?") for t in HARD_LOOKING}
    assert all((m.certain, m.correct, m.answer) == ("sure", 5, "Paris") for m in made)
    [data] = run(RTuning(method="refuse"), made[0])
    assert data.turns[1].content == "Paris."


def test_controls_leave_out_what_is_not_known_and_follow_the_seed() -> None:
    assert run(HardLooking(), certainty(certain="unsure")) == [Rejection("q1", "not known, so no control")]
    assert run(HardLooking(), certainty(certain=None)) == [Rejection("q1", "not known, so no control")]
    assert isinstance(run(HardLooking(), certainty(part="test"))[0], Rejection)
    assert isinstance(run(HardLooking(parts=("test",)), certainty(part="test"))[0], Certainty)
    by_seed = [run(HardLooking(), certainty(), seed)[0].problem for seed in range(40)]
    assert by_seed == [run(HardLooking(), certainty(), seed)[0].problem for seed in range(40)]
    assert {run(HardLooking(), certainty(id=f"q{i}"))[0].problem for i in range(60)} == {
        t.replace("{problem}", "Capital of France?") for t in HARD_LOOKING
    }
    with pytest.raises(RecipeError, match="7 of each from 6"):
        HardLooking(each=7)
    with pytest.raises(RecipeError, match="no place"):
        HardLooking(templates=("Hard!",))


def test_clues_come_one_by_one() -> None:
    record = Problem(
        "qb", "unused", "Oslo", 3, json.dumps({"clues": ["It is cold. ", "A capital."], "era": "x"})
    )
    one, two = run(Clues(), record)
    assert [one.id, two.id] == ["qb/clues1", "qb/clues2"]
    assert one.problem == "It is cold.\nWho or what is it?"
    assert two.problem == "It is cold. A capital.\nWho or what is it?"
    assert json.loads(two.meta) == {"era": "x", "question_id": "qb", "clue": 2, "clue_count": 2}
    assert (two.answer, two.level) == ("Oslo", 3)
    text = Problem("t", "It has a fjord. It was Kristiania. It is the capital of Norway.", "Oslo")
    assert [p.id for p in run(Clues(least=2), text)] == ["t/clues2", "t/clues3"]


def test_a_question_without_clues_is_rejected() -> None:
    for meta in ({"clues": ["One."]}, {"clues": "One. Two."}, {"clues": [1, 2]}):
        with pytest.raises(RowRejected):
            run(Clues(), Problem("qb", "Alone.", "Oslo", meta=json.dumps(meta)))


def test_what_the_model_knows_at_a_clue_decides_between_answering_and_waiting() -> None:
    stage = RTuning(method="refuse", refusals=NOT_YET)
    early = run(stage, certainty(id="qb/clues1", certain="unsure"))[0]
    late = run(stage, certainty(id="qb/clues2"))[0]
    assert [early.turns[1].content, late.turns[1].content] == [NOT_YET[0], "Paris."]
