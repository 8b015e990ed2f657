"""Crome's augmentations: one attribute better or worse, and ties under another prompt, kept apart."""

from __future__ import annotations

import json
import math
from typing import Any

import polars as pl
import pytest
from writers import JUDGE, by_words, prefers, reasons, work

from gristmill.core.engine import Completion, Message
from gristmill.core.errors import RecipeError
from gristmill.core.records import Pair
from gristmill.core.schema import from_frame, gives, to_frame
from gristmill.core.stages import REJECTED_REASON
from gristmill.pipelines.exports import Ties
from gristmill.synth import CausalPairs, NeutralTies, Tie
from gristmill.synth.preferences.causal import read_attributes
from gristmill.synth.tree_search.pairs import conservative_loss
from gristmill.testing.records import pair, sampled

ANSWER = sampled(completion="Boil the egg for eight minutes, then cool it.", answer=None, verdict=None)
LIST = "Attributes:\n1. **Exact times**\n2) Safety.\n- exact times\n" + "prose " * 30
BETTER = "Boil the egg for exactly eight minutes, then cool it."
WORSE = "Boil the egg for some time, then cool it."
SCRIPT = by_words(PROBLEM_is_a_request=LIST, clearly_better=BETTER, clearly_worse=WORSE)
BY_JUDGE = CausalPairs(judge=JUDGE, judge_engine="other", attributes=1)


def exact(request: Any, index: int) -> str:
    """Finds "exactly eight" better than "eight", and "eight" than "some time"."""
    asked = request.messages[-1].content
    return prefers("exactly" if "exactly" in asked else "eight")(request, index)


def test_an_upgrade_is_preferred_to_the_sample_and_the_sample_to_a_degraded_one() -> None:
    made, engine = work(BY_JUDGE, ANSWER, SCRIPT, exact)
    assert [(p.kind, p.chosen[0].content, p.rejected[0].content) for p in made] == [
        ("upgrade", BETTER, ANSWER.completion),
        ("degrade", ANSWER.completion, WORSE),
    ]
    meta = json.loads(made[0].meta)
    assert (meta["attribute"], meta["change"], meta["sample_id"]) == ("Exact times", "upgrade", "p1/0")
    assert made[1].scores[0].name == "chosen_judge" and engine.requests == 3
    cost = BY_JUDGE.estimate(ANSWER)
    assert cost is not None and (cost.completions_max, cost.rows_max) == (3 + 2 * 2, 2)


def test_without_a_check_the_writer_is_believed_and_nobody_else_asked() -> None:
    stage = CausalPairs(attributes=2, each=2, check=False, changes=("degrade",))
    made, engine = work(stage, ANSWER, SCRIPT)
    assert {json.loads(p.meta)["attribute"] for p in made} == {"Exact times", "Safety"}
    assert all(isinstance(p, Pair) and p.scores == () for p in made) and engine.requests == 3


@pytest.mark.parametrize(
    ("reply", "judge", "reason"),
    [
        (ANSWER.completion, exact, "causal: the rewrite says the same"),
        ("No.", exact, "causal: the rewrite is another answer"),
        (Completion(BETTER, "length"), exact, "causal: cut off"),
        ("", exact, "causal: nothing was written"),
        (BETTER, lambda r, i: "[[A]]", "upgrade: neither side is better"),
        (BETTER, prefers("for eight"), "upgrade: the other side is better"),
        (BETTER, lambda r, i: "Well.", "upgrade: no verdict"),
    ],
)
def test_a_rewrite_that_is_not_found_better_is_rejected_by_itself(
    reply: Any, judge: Any, reason: str
) -> None:
    script = by_words(PROBLEM_is_a_request=LIST, clearly_better=reply, clearly_worse=WORSE)
    made, _ = work(BY_JUDGE, ANSWER, script, judge)
    assert len(made) == 2 and reasons(made)[0] == reason and made[0].id == "p1/0/causal/0"


def test_a_rewrite_that_repeats_the_prompt_is_rejected() -> None:
    def echo(request: Any, index: int) -> str:
        asked = str(request.messages[-1].content)
        return LIST if "PROBLEM is a request" in asked else asked

    made, _ = work(CausalPairs(check=False), ANSWER, echo)
    assert reasons(made) == ["causal: the rewrite repeats the prompt"] * 2


def test_attributes_are_lines_without_their_bullets() -> None:
    assert read_attributes(LIST, 5) == ["Exact times", "Safety"]
    assert read_attributes("• 中文\n– ...\n3. Clarity;\n", 5) == ["中文", "Clarity"]
    for text in ("", "Here they are:", "1.\n2.", "x" * 200):
        made, _ = work(BY_JUDGE, ANSWER, by_words(PROBLEM=text))
        assert len(reasons(made)) == 1, text
    made, _ = work(BY_JUDGE, sampled(finish_reason="length"), SCRIPT)
    assert reasons(made) == ["causal: the sample was cut off or is blank"]
    with pytest.raises(RecipeError, match=r"no place \{attribute\}"):
        CausalPairs(upgrade="{problem} {response}")


def asked(id: str, prompt: str) -> Pair:
    return pair(id, problem_id=id[0], prompt=(Message("user", prompt),), meta='{"attribute": "x"}')


PAIRS = [
    asked("a1", "How do I boil an egg?"),
    asked("a2", "How do I boil an egg?"),
    asked("b1", "Who wrote Faust, and when?"),
    asked("c1", "How do I boil two eggs?"),
]


def test_a_neutral_tie_stands_under_the_prompt_of_another_problem_that_is_unlike() -> None:
    frame = to_frame(PAIRS, Pair).lazy()
    rows = NeutralTies()([frame], 7).collect()
    assert rows.equals(NeutralTies()([frame], 7).collect())
    made = from_frame(rows, Tie)
    prompts = {tie.id: tie.prompt[0].content for tie in made}
    assert prompts == {
        "a1/neutral": "Who wrote Faust, and when?",
        "a2/neutral": "Who wrote Faust, and when?",
        "b1/neutral": prompts["b1/neutral"],
        "c1/neutral": "Who wrote Faust, and when?",
    }
    assert "boil" in prompts["b1/neutral"]
    tie = made[0]
    assert (tie.first, tie.second) == (PAIRS[0].chosen, PAIRS[0].rejected)
    assert json.loads(tie.meta) == {"attribute": "x", "pair_id": "a1", "neutral_problem_id": "b"}


def test_pairs_without_an_unlike_prompt_are_rejected_and_ties_are_no_pairs() -> None:
    rows = NeutralTies()([to_frame(PAIRS[:2] + PAIRS[3:], Pair).lazy()], 7).collect()
    assert rows[REJECTED_REASON].to_list() == ["neutral: no prompt that is unlike enough"] * 3
    assert not gives(Tie, Pair), "no export of pairs can read a tie"
    tie = Tie("t", "p", "neutral", PAIRS[0].prompt, PAIRS[0].chosen, PAIRS[0].rejected)
    [row] = Ties().rows(tie)
    assert row.first[0].content == "\\boxed{4}" and row.second[0].content == "\\boxed{5}"  # type: ignore[attr-defined]
    assert NeutralTies()([to_frame([], Pair).lazy()], 7).collect().filter(pl.col("id").is_null()).is_empty()


def test_the_losses_have_the_published_values() -> None:
    assert conservative_loss(2.0, 0.0, 1.0) == pytest.approx(0.126928, abs=1e-6)
    assert conservative_loss(0.0, 0.5, 1.0) == pytest.approx(0.693147, abs=1e-6)
    assert conservative_loss(1.0, 0.5, 1.0) == pytest.approx(0.813262, abs=1e-6)
    least = min(range(-30, 31), key=lambda d: conservative_loss(d / 10, 0.5, 1.0))
    assert least == 0 and conservative_loss(0.0, 0.5, 1.0) == pytest.approx(math.log(2))
