"""Actions of a trajectory against actions that do not serve its task."""

from __future__ import annotations

import json
from typing import Any

import pytest
from writers import JUDGE, by_words, prefers, reasons, work

from gristmill.core.engine import Completion
from gristmill.core.errors import RecipeError
from gristmill.core.records import Conversation, Pair, Turn
from gristmill.synth import TrajectoryPairs

SHOP = Conversation(
    "c",
    (
        Turn("user", "page: a shop", False),
        Turn("assistant", "search[red shoes]", True),
        Turn("user", "page: 3 results", False),
        Turn("assistant", "click[red shoes, 42]", True),
    ),
    meta='{"source": "made"}',
)
STAGE = TrajectoryPairs(judge=JUDGE, judge_engine="other")


def script(task: Any = "Buy red shoes of size 42.", action: Any = "click[blue hat]") -> Any:
    return by_words(Which_task=task, Write_another=action)


def test_an_action_is_preferred_to_one_that_does_not_serve_the_task() -> None:
    [made], engine = work(STAGE, SHOP, script(), prefers("shoes, 42"))
    assert isinstance(made, Pair) and made.kind == "trajectory" and engine.requests == 2
    assert [m.content for m in made.prompt] == [
        "Buy red shoes of size 42.",
        "page: a shop",
        "search[red shoes]",
        "page: 3 results",
    ]
    assert (made.chosen[0].content, made.rejected[0].content) == ("click[red shoes, 42]", "click[blue hat]")
    meta = json.loads(made.meta)
    assert meta == {"source": "made", "task": "Buy red shoes of size 42.", "turn": 3}
    both, _ = work(TrajectoryPairs(judge=JUDGE, judge_engine="other", each=5), SHOP, script(), prefers("red"))
    assert [p.id for p in both] == ["c/trajectory/1", "c/trajectory/3"]
    cost = STAGE.estimate(SHOP)
    assert cost is not None and (cost.completions_max, cost.rows_max) == (2 + 2, 1)


@pytest.mark.parametrize(
    ("replies", "judge", "reason"),
    [
        (script(action="Click [red shoes 42]."), prefers("shoes"), "action: it says the same"),
        (script(action=Completion("click", "length")), prefers("shoes"), "action: cut off"),
        (script(task=" "), prefers("shoes"), "task: nothing was written"),
        (script(), prefers("hat"), "trajectory: the other side is better"),
        (script(), lambda r, i: "[[A]]", "trajectory: neither side is better"),
        (script(), lambda r, i: "Who knows.", "trajectory: no verdict"),
        (lambda r, i: r.messages[-1].content, prefers("shoes"), "task: it repeats the prompt"),
    ],
)
def test_what_is_not_worse_is_rejected(replies: Any, judge: Any, reason: str) -> None:
    made, _ = work(STAGE, SHOP, replies, judge)
    assert reasons(made) == [reason]


def test_a_conversation_without_an_action_is_rejected() -> None:
    made, engine = work(STAGE, Conversation("c", SHOP.turns[:1]), script())
    assert reasons(made) == ["trajectory: no action in it"] and engine.requests == 0
    with pytest.raises(RecipeError, match=r"no place \{task\}"):
        TrajectoryPairs(negative="{action}")
