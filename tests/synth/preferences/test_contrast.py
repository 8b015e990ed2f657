"""Prompts that change a little: checked to ask for something else, and what they say of a reward model."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from writers import JUDGE, by_words, prefers, reasons, work

from gristmill.core.engine import Completion
from gristmill.core.errors import RecipeError
from gristmill.core.records import Pair, Problem, Score
from gristmill.core.schema import to_frame
from gristmill.core.stages import REJECTED_REASON
from gristmill.synth import ContrastPrompts, PromptConsistency
from gristmill.testing.records import pair

ASK = Problem("p", "Name the largest city of France.", "Paris")
CHANGED = "Name the largest city of Italy."
STAGE = ContrastPrompts(judge=JUDGE, judge_engine="other")


def replies(changed: Any = CHANGED, first: Any = "It is Paris.", second: Any = "It is Rome.") -> Any:
    return by_words(Change_this=changed, France=first, Italy=second)


def fits(request: Any, index: int) -> str:
    return prefers("Paris" if "France" in request.messages[-1].content else "Rome")(request, index)


def test_both_prompts_give_a_pair_where_each_prefers_its_own_answer() -> None:
    made, engine = work(STAGE, ASK, replies(), fits)
    assert [type(one) for one in made] == [Pair, Pair] and engine.requests == 3
    assert [(p.prompt[-1].content, p.chosen[0].content, p.rejected[0].content) for p in made] == [
        (ASK.problem, "It is Paris.", "It is Rome."),
        (CHANGED, "It is Rome.", "It is Paris."),
    ]
    assert [p.id for p in made] == ["p/contrast/original", "p/contrast/changed"]
    assert {p.problem_id for p in made} == {"p"}, "a split keeps both on one side"
    meta = json.loads(made[1].meta)
    assert (meta["contrast"], meta["contrast_side"], meta["contrast_prompt"]) == ("p", "changed", ASK.problem)
    cost = STAGE.estimate(ASK)
    assert cost is not None and (cost.completions_max, cost.rows_max) == (3 + 2 * 2, 2)


@pytest.mark.parametrize(
    ("script", "judge", "reason"),
    [
        (replies(ASK.problem), fits, "contrast: the prompt is the same"),
        (replies("name the largest city of FRANCE!"), fits, "contrast: the prompt is the same"),
        (replies("Why is the sky blue, and since when?"), fits, "contrast: the prompts are not alike"),
        (
            replies("Sure! Here is a changed request: " + CHANGED * 3),
            fits,
            "contrast: the prompts are not alike",
        ),
        (replies(Completion(CHANGED, "length")), fits, "contrast: cut off"),
        (replies(first=Completion("It", "length")), fits, "contrast: no finished answer"),
        (replies(second="It is Paris. "), fits, "contrast: both answers are the same"),
        (replies(), prefers("Paris"), "contrast: the other side is better"),
        (replies(), prefers("It"), "contrast: no verdict"),
        (replies(), lambda r, i: "[[B]]", "contrast: neither side is better"),
    ],
)
def test_a_change_that_asks_for_the_same_or_cannot_be_told_gives_nothing(
    script: Any, judge: Any, reason: str
) -> None:
    made, _ = work(STAGE, ASK, script, judge)
    assert reasons(made) == [reason] and len(made) == 1 and made[0].id == "p"


def test_the_verifier_knows_the_original_alone() -> None:
    sums = Problem("p", "How much is 12 + 30, in words or digits?", "42")
    script = by_words(
        Change_this="How much is 12 + 31, in words or digits?", plus="", **{"12 + 30": "42", "12 + 31": "43"}
    )
    made, _ = work(ContrastPrompts(), sums, script)
    assert [(p.chosen[0].content, p.rejected[0].content) for p in made] == [("42", "43")]
    same, _ = work(
        ContrastPrompts(),
        sums,
        by_words(
            Change_this="How much is 30 + 12, in words or digits?",
            **{"12 + 30": "42", "30 + 12": "It is 42."},
        ),
    )
    assert reasons(same) == ["contrast: neither side is better"]
    with pytest.raises(RecipeError, match="no reference for the changed prompt"):
        ContrastPrompts(sides="both")
    with pytest.raises(RecipeError, match=r"least is 0\.9, more than most"):
        ContrastPrompts(least=0.9, most=0.8)
    with pytest.raises(RecipeError, match="names nothing of the row"):
        ContrastPrompts(change="Write something else.")


def scored(id: str, which: str, chosen: float | None, rejected: float | None) -> Pair:
    values = {"chosen_rm": chosen, "rejected_rm": rejected}
    scores = tuple(Score(name, None if v is None else float(v)) for name, v in values.items())
    meta = json.dumps({"contrast": id, "contrast_side": which})
    return pair(f"{id}/{which}", scores=scores, meta=meta)


def test_consistency_counts_responses_and_instructions_and_no_ties() -> None:
    """By hand: r(I, R) = 3, r(I, R') = 1, r(I', R') = 2, r(I', R) = 2.5 for ``a``."""
    pairs = [
        scored("a", "original", 3, 1),
        scored("a", "changed", 2, 2.5),
        scored("b", "original", 1, 1),
        scored("b", "changed", 2, 0),
        scored("c", "original", 5, 4),
        scored("d", "original", 5, None),
        scored("d", "changed", 5, 4),
        pair("other"),
    ]
    stage = PromptConsistency(score="rm")
    rows = stage([to_frame(pairs, Pair).lazy()], 0).collect()
    kept = rows.filter(pl.col(REJECTED_REASON).is_null())
    # a: 3 > 1 but not 2 > 2.5; by instruction 3 > 2.5 and 2 > 1. b: a tie and 2 > 0; 1 > 0 and 2 > 1.
    assert kept.select("id", "response", "instruction").rows() == [("a", 50, 100), ("b", 50, 100)]
    assert stage.measured(kept) == {
        "response consistency of rm, %": [50, 50],
        "instruction consistency of rm, %": [100, 100],
    }
    assert rows.filter(pl.col(REJECTED_REASON).is_not_null())["id"].to_list() == ["c", "d"]
