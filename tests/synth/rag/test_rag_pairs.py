"""``rag_pairs`` and ``judge_metrics``: answers side by side, and which of them comes out as chosen."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from table_rows import RIGHT, out, rejected, sample, samples

from gristmill.core.engine import Message, Request
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.records import Pair, Sampled, Score, score_of
from gristmill.core.schema import from_frame
from gristmill.core.stages import Context, Rejection
from gristmill.core.verdicts import Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.rag import JudgeMetrics, RagPairs
from gristmill.synth.rag.metrics import METRICS

TOWER = {"source": "a", "title": "The tower", "text": "The tower is 34 metres tall. It has two doors."}
RULES = JudgeMetrics(judged=())
RIGHT_ONE, WRONG_ONE, SILENT = (
    "The tower is 34 metres tall [1].",
    "The tower is 51 metres tall [1].",
    "The passages do not say.",
)


async def unused(completion: str, reference: str) -> Verdict:
    raise AssertionError("no verifier of the recipe is called")


def pair(chosen: str, rejected: str, **meta: Any) -> Pair:
    told = {"passages": [TOWER], "gold": ["a"], "answer": "34 metres"} | meta
    return Pair(
        id="q/0+q/1",
        problem_id="q",
        kind="undecided",
        prompt=(Message("user", "How tall is the tower?"),),
        chosen=(Message("assistant", chosen),),
        rejected=(Message("assistant", rejected),),
        scores=(Score("chosen_words", 1.0), Score("rejected_words", 2.0)),
        meta=msgspec.json.encode(told | {"chosen_model": "m", "rejected_model": "n"}).decode(),
    )


def judged(
    stage: JudgeMetrics, given: Pair, answer: Any = None, measured: Counter[str] | None = None
) -> Pair | Rejection:
    def measure(name: str, value: int) -> None:
        if measured is not None:
            measured[f"{name}={value}"] += 1

    engine = ScriptedEngine(answer or (lambda request, index: "[[tie]]"))
    [made] = asyncio.run(stage(given, Context(engine, unused, 0, measure=measure)))
    assert isinstance(made, (Pair, Rejection))
    return made


def values(made: Pair | Rejection) -> dict[str, float | None]:
    assert isinstance(made, Pair)
    return {s.name: s.value for s in made.scores if s.name in (*METRICS, "abstention", "conflict")}


def said(made: Pair | Rejection) -> str:
    assert isinstance(made, Pair)
    return made.chosen[0].content


@pytest.mark.parametrize("order", [(RIGHT_ONE, WRONG_ONE), (WRONG_ONE, RIGHT_ONE)])
def test_the_grounded_answer_is_chosen_whichever_side_it_came_on(order: tuple[str, str]) -> None:
    made = judged(RULES, pair(*order))
    assert said(made) == RIGHT_ONE
    assert values(made) == {
        "hallucination": 1,
        "comprehensiveness": 1,
        "verbosity": 0.5,
        "attribution": 1,
    }
    assert isinstance(made, Pair)
    assert made.kind == "metrics"
    chosen, rejected = score_of(made, "chosen_grounding"), score_of(made, "rejected_grounding")
    assert chosen is not None and chosen.verdict is not None and chosen.verdict.correct
    assert rejected is not None and rejected.verdict is not None and rejected.verdict.correct is False


def test_what_belongs_to_a_side_goes_with_it() -> None:
    made = judged(RULES, pair(WRONG_ONE, RIGHT_ONE))
    assert isinstance(made, Pair)
    assert msgspec.json.decode(made.meta)["chosen_model"] == "n"
    held = score_of(made, "chosen_words")
    assert held is not None and held.value == 2


def test_an_abstention_decides_by_whether_the_passages_can_answer() -> None:
    loses = judged(RULES, pair(SILENT, WRONG_ONE))
    assert (said(loses), values(loses)) == (WRONG_ONE, {"abstention": 1})
    wins = judged(RULES, pair(WRONG_ONE, SILENT, gold=[], answer=None))
    assert (said(wins), values(wins)) == (SILENT, {"abstention": 1})
    unsaid = judged(replace(RULES, abstention=False), pair(WRONG_ONE, SILENT, gold=[], answer=None))
    assert unsaid == Rejection("q/0+q/1", "no metric could tell", unsaid.detail)  # type: ignore[union-attr]


def test_ties_and_what_nothing_can_tell_are_no_pairs() -> None:
    tie = judged(RULES, pair(WRONG_ONE, "The tower is 52 metres tall [1]."))
    assert isinstance(tie, Rejection)
    assert (tie.reason, "hallucination tie" in tie.detail) == ("a tie", True)
    both = judged(RULES, pair(SILENT, "I do not know.", gold=[], answer=None))
    assert isinstance(both, Rejection)
    assert both.reason == "no metric could tell"


def test_a_conflict_is_won_by_the_answer_that_tells_both_sides() -> None:
    letter = {"source": "b", "text": "The tower is 36 metres tall, says a letter."}
    meta = {
        "passages": [TOWER, letter],
        "gold": ["a", "b"],
        "answers": ["34 metres", "36 metres"],
        "answer": None,
    }
    both = "The passages differ: 34 metres [1] or 36 metres [2]."
    made = judged(RULES, pair(RIGHT_ONE, both, **meta))
    assert (said(made), values(made)) == (both, {"conflict": 1})
    assert isinstance(made, Pair)
    assert made.kind == "conflict"


def test_a_pair_without_passages_is_rejected_by_name() -> None:
    with pytest.raises(RowRejected) as caught:
        judged(RULES, pair(RIGHT_ONE, WRONG_ONE, passages=None))
    assert caught.value.reason == "has no 'passages'"


class _Asked:
    """A judge that finds the answer with a text better, by metric, and keeps what it was asked."""

    def __init__(self, better: dict[str, str], always: str = "") -> None:
        self.better, self.always, self.asked = better, always, 0

    def __call__(self, request: Request, index: int) -> str:
        self.asked += 1
        text = request.messages[-1].content
        assert "[1] The tower: The tower is 34 metres tall." in text
        if self.always:
            return f"[[{self.always}]]"
        for metric, wanted in self.better.items():
            if metric in text:
                first = text.index(wanted) < text.index("[BEGIN RESPONSE B")
                return "[[A]]" if first else "[[B]]"
        return "[[tie]]"


def test_a_judge_is_asked_about_each_metric_in_both_orders_and_the_majority_wins() -> None:
    judge = _Asked(
        {"fewer statements": "51 metres", "fewer words": "51 metres", "tied to": "34 metres tall [1]"}
    )
    made = judged(JudgeMetrics(), pair(RIGHT_ONE, WRONG_ONE), judge)
    assert judge.asked == 8
    assert said(made) == WRONG_ONE
    assert values(made) == {
        "hallucination": 1,
        "comprehensiveness": 0.5,
        "verbosity": 1,
        "attribution": 0,
    }


def test_a_judge_that_favours_a_place_makes_ties_and_is_reported() -> None:
    measured: Counter[str] = Counter()
    made = judged(JudgeMetrics(), pair(RIGHT_ONE, WRONG_ONE), _Asked({}, always="A"), measured)
    assert isinstance(made, Rejection)
    assert made.reason == "a tie"
    assert measured["hallucination: the two orders disagree, in %=100"] == 1


def test_metrics_that_are_not_judged_are_decided_by_rule() -> None:
    judge = _Asked({"gives more": "51 metres"})
    made = judged(JudgeMetrics(judged=("comprehensiveness",)), pair(RIGHT_ONE, WRONG_ONE), judge)
    assert judge.asked == 2
    assert values(made)["hallucination"] == 1
    assert values(made)["comprehensiveness"] == 0


def test_the_share_of_decisions_for_the_longer_answer_is_measured() -> None:
    measured: Counter[str] = Counter()
    judged(RULES, pair(RIGHT_ONE, WRONG_ONE + " It has nine doors."), None, measured)
    assert measured["hallucination: decided for the longer answer, in %=0"] == 1


def test_only_what_is_asked_is_paid_for() -> None:
    given = pair(RIGHT_ONE, WRONG_ONE)
    assert (RULES.needs, RULES.estimate(given).completions_max) == (frozenset(), 0)
    assert JudgeMetrics().estimate(given).completions_max == 8
    assert JudgeMetrics(weights={"verbosity": 0}).estimate(given).completions_max == 6
    with pytest.raises(RecipeError, match="all weights are 0"):
        JudgeMetrics(weights=dict.fromkeys(METRICS, 0.0))


def answers(*texts: str, problem: str = "q", **more: Any) -> list[Sampled]:
    return [replace(sample(problem, i, completion=text), **more) for i, text in enumerate(texts)]


def test_every_two_different_answers_to_a_prompt_are_a_pair() -> None:
    rows = samples(*answers("one", "two", "one ", "three"), *answers("alone", problem="p"))
    made = from_frame(out(RagPairs(), rows), Pair)
    assert [(p.id, p.chosen[0].content, p.rejected[0].content) for p in made] == [
        ("q/0+q/1", "one", "two"),
        ("q/0+q/3", "one", "three"),
        ("q/1+q/3", "two", "three"),
    ]
    assert rejected(RagPairs(), rows) == {
        "q/2": "rag_pairs: another sample says the same",
        "p/0": "rag_pairs: no other answer to its prompt",
    }


def test_answers_that_were_cut_off_or_say_nothing_or_to_other_prompts_are_not_paired() -> None:
    first, second = answers("one", "two")
    rows = samples(
        first,
        replace(second, messages=(Message("user", "else"),)),
        replace(first, id="q/2", finish_reason="length", completion="x"),
        replace(first, id="q/3", completion=" "),
    )
    assert out(RagPairs(), rows).is_empty()
    assert rejected(RagPairs(), rows)["q/2"] == "rag_pairs: ended by length"
    assert rejected(RagPairs(), rows)["q/3"] == "rag_pairs: empty"


def test_few_of_many_pairs_are_drawn_by_seed_and_scores_go_along() -> None:
    scored = answers(*"abcdef", scores=(Score("g", 0.5, RIGHT),), model="m")
    made = [out(RagPairs(per_prompt=2), samples(*scored), seed=s) for s in range(6)]
    assert {frame.height for frame in made} == {2}
    assert len({tuple(frame["id"]) for frame in made}) > 1
    [first, *_] = from_frame(made[0], Pair)
    assert {s.name for s in first.scores} == {"chosen_g", "rejected_g"}
    assert msgspec.json.decode(first.meta)["chosen_model"] == "m"
