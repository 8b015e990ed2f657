"""Guiding turns that keep the answer to themselves, and answers that need the whole of a context."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pytest
from paths import ROOT, SHARED
from writers import JUDGE, always, by_words, prefers, reasons, work

from gristmill.core.engine import Ability, Completion
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.records import Pair, Problem
from gristmill.core.verdicts import Outcome
from gristmill.synth import LongContext, Sample, Scaffold
from gristmill.synth.preferences.long_context import stretches
from gristmill.synth.preferences.scaffold import names

TASK = Problem("p", "A shop sells 3 boxes of 14 eggs. How many eggs?", "42")


def tutor(guide: Any, direct: Any = "3 * 14 = \\boxed{42}") -> Any:
    return by_words(You_are_a_tutor=guide, A_shop=direct)


HINT = "Think of one box first. How many eggs are in two of them?"


def test_a_guiding_turn_is_preferred_to_the_direct_answer_under_the_plain_prompt() -> None:
    [made], engine = work(Scaffold(), TASK, tutor(HINT))
    assert isinstance(made, Pair) and made.kind == "scaffolding"
    assert [m.content for m in made.prompt] == [TASK.problem]
    assert (made.chosen[0].content, made.rejected[0].content) == (HINT, "3 * 14 = \\boxed{42}")
    assert json.loads(made.meta)["answer"] == "42" and engine.requests == 2
    assert Scaffold().estimate(TASK).completions_max == 2


@pytest.mark.parametrize(
    ("guide", "reason"),
    [
        ("The answer is 42. Do you see why?", "scaffold: it gives the answer away"),
        ("It is $\\boxed{42}$. But why? What is 3 + 4?", "scaffold: it gives the answer away"),
        ("Multiply: that makes 84/2. What would 4 boxes give?", "scaffold: it gives the answer away"),
        ("One box has 14 and 14 + 14 = 27. And three?", "scaffold: a false equation"),
        ("Count the eggs of one box.", "scaffold: it asks the learner nothing"),
        (Completion(HINT, "length"), "scaffold: cut off"),
        ("  ", "scaffold: nothing was written"),
        ("<think>42?", "scaffold: its reasoning is not closed"),
    ],
)
def test_a_turn_that_solves_the_task_or_asks_nothing_is_rejected(guide: Any, reason: str) -> None:
    made, _ = work(Scaffold(), TASK, tutor(guide))
    assert reasons(made) == [reason]


def test_other_numbers_do_not_give_the_answer_away() -> None:
    for guide in ("Is it more than 420?", "What is 14 + 14?", "Is 42.5 possible?", HINT):
        made, _ = work(Scaffold(), TASK, tutor(guide))
        assert isinstance(made[0], Pair), (guide, made)
    assert names("so 42, then", "42") and names("It is 42.", "42") and not names("142 or 4.42", "42")
    assert names("$42.00 in all", "42") and names("1,200 eggs", "1200") and not names("42nd", "42")
    assert names("that is 6 * 7 = $42", "42", result=True) and not names("42 = 6 * 7", "42", result=True)
    assert names("the ANSWER is Paris!", "paris") and not names("Parisian", "Paris")


def test_an_answer_that_the_problem_names_is_judged_by_the_whole_turn() -> None:
    task = Problem("p", "Is 3 or 5 the larger number?", "5")
    script = by_words(
        You_are_a_tutor="Where do 3 and 5 stand on a line? Which is further right?", Is="\\boxed{5}"
    )
    made, _ = work(Scaffold(), task, script)
    assert isinstance(made[0], Pair)


@pytest.mark.parametrize(
    ("task", "direct", "verify", "reason"),
    [
        (TASK, "\\boxed{41}", None, "scaffold: the direct answer is not right"),
        (TASK, "Many.", None, "scaffold: the direct answer is not right"),
        (TASK, Completion("3", "length"), None, "scaffold: the direct answer: no finished answer"),
        (TASK, "42", Outcome.TIMEOUT, "scaffold: no verdict on whether it gives the answer away"),
        (TASK, "42", Outcome.ERROR, "scaffold: no verdict on whether it gives the answer away"),
        (Problem("p", "A shop?", None), "42", None, "scaffold: no reference"),
    ],
)
def test_what_cannot_be_checked_or_is_wrong_is_rejected(
    task: Problem, direct: Any, verify: Outcome | None, reason: str
) -> None:
    more = {} if verify is None else {"verify": always(verify)}
    made, _ = work(Scaffold(), task, tutor(HINT, direct), **more)
    assert reasons(made) == [reason]


@pytest.mark.skipif(not SHARED.exists(), reason="the shared material is not there")
def test_solutions_by_people_give_the_answer_away_by_their_last_step() -> None:
    place = ROOT / "benchmarks" / "scaffold_hints.py"
    spec = importlib.util.spec_from_file_location("scaffold_hints", place)
    assert spec is not None and spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    found = benchmark.counts(SHARED / "data" / "math" / "gsm8k.jsonl", every=32, remainder=1)
    assert found.solutions > 35 and found.found == found.solutions
    assert len(found.flagged) <= found.solutions // 8


def test_a_learner_has_to_get_there() -> None:
    def script(learned: str) -> Any:
        return by_words(You_are_a_tutor=HINT, Follow_this_hint=learned, A_shop="\\boxed{42}")

    stage = Scaffold(tries=2)
    made, engine = work(stage, TASK, script("14 + 14 + 14 = 42"))
    assert isinstance(made[0], Pair) and engine.requests == 3
    lost, _ = work(stage, TASK, script("28"))
    assert reasons(lost) == ["scaffold: it leads no learner to the answer"]
    cut, _ = work(stage, TASK, by_words(You=HINT, Follow=Completion("42", "length"), A_shop="\\boxed{42}"))
    assert reasons(cut) == ["scaffold: it leads no learner to the answer"]
    assert stage.estimate(TASK).completions_max == 4
    assert Scaffold(tries=1, learner="other").uses == {"other": {Ability.CHAT}}
    assert not Scaffold(learner="other").uses


def test_the_tutors_prompt_must_name_the_row() -> None:
    with pytest.raises(RecipeError, match="names nothing of the row"):
        Scaffold(tutor="Give a hint.")


PIECES = [f"Station {i} was built in {1900 + i}." for i in range(8)]
ASK = Problem("q", "When was the last station built?", "1907", meta=json.dumps({"context": PIECES}))


def reader(request: Any, index: int) -> str:
    """Names the last year that it was shown."""
    shown = [piece for piece in PIECES if piece in request.messages[-1].content]
    return f"In {shown[-1][-5:-1]}."


async def last_year(completion: str, reference: str) -> Any:
    from gristmill.core.verdicts import Verdict

    return Verdict(Outcome.CORRECT if reference in completion else Outcome.INCORRECT, None)


def test_an_answer_that_needs_the_whole_context_is_preferred_to_that_of_a_part() -> None:
    stage = LongContext(judge=JUDGE, judge_engine="other", parts=4)
    made, _ = work(stage, ASK, reader, prefers("1907"))
    part = json.loads(made[0].meta).get("part") if isinstance(made[0], Pair) else 3
    if part == 3:  # the seed chose the stretch that has the answer
        assert reasons(made) == ["long context: both answers are the same"]
        ask = Problem("q2", ASK.problem, ASK.answer, meta=ASK.meta)
        made, _ = work(stage, ask, reader, prefers("1907"))
    [one] = made
    assert isinstance(one, Pair) and one.chosen[0].content == "In 1907."
    assert all(piece in one.prompt[-1].content for piece in PIECES), "both stand after the whole context"
    assert one.rejected[0].content != one.chosen[0].content and json.loads(one.meta)["parts"] == 4
    cost = stage.estimate(ASK)
    assert cost is not None and (cost.completions_max, cost.rows_max) == (4, 1)


def test_a_part_that_is_enough_or_a_judge_that_cannot_tell_gives_no_pair() -> None:
    made, _ = work(LongContext(), ASK, lambda r, i: "1907", verify=last_year)
    assert reasons(made) == ["long context: both answers are the same"]
    asks = [Problem(f"q{i}", ASK.problem, ASK.answer, meta=ASK.meta) for i in range(4)]
    stage = LongContext(judge=JUDGE, judge_engine="other")
    found = [reasons(work(stage, ask, reader, lambda r, i: "[[A]]")[0]) for ask in asks]
    assert ["long context: neither side is better"] in found
    cut, _ = work(LongContext(), ASK, lambda r, i: Completion("In", "length"))
    assert reasons(cut) == ["long context: no finished answer"]
    for context in ("One sentence.", [], ["one"], 7):
        ask = Problem("q", "What?", "1", meta=json.dumps({"context": context}))
        assert reasons(work(LongContext(), ask, reader)[0])[0].startswith("long context: "), context
    none, _ = work(LongContext(), Problem("q", "What?", "1"), reader)
    assert len(reasons(none)) == 1
    with pytest.raises(RecipeError, match=r"no place \{text\}"):
        LongContext(context="text")
    assert LongContext(context="text", sample=Sample(prompt="{text} {problem}")).places["sample.prompt"]


def test_a_context_is_cut_into_stretches_of_its_own_form() -> None:
    assert stretches(PIECES, 4) == [PIECES[:2], PIECES[2:4], PIECES[4:6], PIECES[6:]]
    assert stretches("\n\n".join(PIECES), 2) == ["\n\n".join(PIECES[:4]), "\n\n".join(PIECES[4:])]
    assert stretches("It rains. The sun shines.", 4) == ["It rains.", "The sun shines."]
    passages = [{"text": "a" * 500}, {"text": "b"}]
    assert stretches(passages, 2) in ([passages[:1], passages[1:]], [passages[1:], passages[:1]])
    long = ["x" * 1000, "y", "z"]
    assert sorted(p for s in stretches(long, 3) for p in s) == sorted(long)
    with pytest.raises(RowRejected, match="1 pieces"):
        stretches("One sentence.", 2)
