"""A server that refuses one turn: it costs the sample or attempt that the turn belongs to, and no other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from odd_server import Odd

from gristmill.core.engine import Ability, Request
from gristmill.core.errors import RowRejected
from gristmill.core.records import Exploration, Problem, Sampled
from gristmill.core.stages import Context, Rejection, RowStage
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.log.store import CompletionLog
from gristmill.engines.openai import OpenAI
from gristmill.engines.openai.options import AbilityName
from gristmill.engines.scripted import ABILITIES, ScriptedEngine
from gristmill.engines.session import Session
from gristmill.synth.sampling import Sample
from gristmill.synth.self_correction import Explore, Trial
from gristmill.synth.self_correction.goals import Want

PROBLEM = Problem("p", "What is 2 + 2?", "4")


async def verify(completion: str, reference: str) -> Verdict:
    right = f"boxed{{{reference}}}" in completion
    return Verdict(Outcome.CORRECT if right else Outcome.INCORRECT, extracted="4")


def through(odd: Odd, tmp_path: Path, stage: RowStage, *abilities: AbilityName) -> list[Any]:
    """What a stage makes over a session on the server that flags one follow-up."""

    async def main(log: CompletionLog) -> list[Any]:
        options = OpenAI(base_url=odd.url("one-turn-refused"), model="m", abilities=abilities)
        async with Session(options.open(), options, log) as session:
            return list(await stage(PROBLEM, Context(session, verify, 0)))

    with CompletionLog(tmp_path / "log.sqlite") as log:
        return asyncio.run(main(log))


def test_of_eight_conversations_seven_stay(odd: Odd, tmp_path: Path) -> None:
    made = through(odd, tmp_path, Sample(samples=8, follow_ups=("Sure?",)), "chat", "seed", "many")
    assert [m.id for m in made if isinstance(m, Sampled)] == [f"p/{i}" for i in range(8) if i != 3]
    [refused] = [m for m in made if isinstance(m, Rejection)]
    assert (refused.id, refused.reason) == ("p/3", "request refused")
    assert refused.detail.startswith("turn 2 of 2: HTTP 400") and "flagged by the content" in refused.detail


def test_in_self_correction_the_other_attempts_are_worked(odd: Odd, tmp_path: Path) -> None:
    explore = Explore(
        scheme="fixed", attempts=8, evaluations=1, corrections_of_right=0, corrections_of_wrong=0
    )
    found, *refused = through(odd, tmp_path, explore, "chat", "seed", "many")
    assert isinstance(found, Exploration) and len(found.bases) == 8
    assert [b.index for b in found.bases if b.evaluations] == [0, 1, 2, 4, 5, 6, 7]
    assert [(r.id, r.reason) for r in refused] == [("p/3", "request refused")]
    assert refused[0].detail.startswith("to evaluate attempt 3: HTTP 400")


def test_adaptive_sampling_goes_round_an_attempt_that_is_refused() -> None:
    asked: list[str] = []

    def model(request: Request, index: int) -> str:
        said = [m.content for m in request.messages if m.role == "assistant"]
        if not said:
            return f"try {index}: \\boxed{{4}}"
        asked.append(said[0])
        if said[0].startswith("try 0"):
            raise RowRejected("request refused", "flagged")
        return "[VERIFY] correct."

    stage = Explore(want=Want(d1=0, d2=0, d3=1))
    found, refused = asyncio.run(stage(PROBLEM, Context(ScriptedEngine(model), verify, 0)))
    assert isinstance(found, Exploration) and found.stopped == "wanted"
    assert isinstance(refused, Rejection) and refused.id == "p/0"
    assert asked.count("try 0: \\boxed{4}") == 1, "it is not asked again"


def test_a_trial_that_is_refused_is_no_trial() -> None:
    def model(request: Request, index: int) -> str:
        if any(m.role == "assistant" for m in request.messages):
            raise RowRejected("request refused", "flagged")
        return "\\boxed{4}"

    with pytest.raises(RowRejected, match="flagged"):
        asyncio.run(Trial()(PROBLEM, Context(ScriptedEngine(model), verify, 0)))


def test_a_first_answer_that_fails_costs_itself_where_each_is_a_request_of_its_own() -> None:
    def model(request: Request, index: int) -> str:
        if index in failing:
            raise RowRejected("request failed", f"no {index}")
        return str(index)

    stage, failing = Sample(samples=3, verify=False), {1}
    context = Context(ScriptedEngine(model, abilities=ABILITIES - {Ability.MANY}), verify, 0)
    made = asyncio.run(stage(PROBLEM, context))
    assert [(m.id, type(m)) for m in made] == [("p/0", Sampled), ("p/1", Rejection), ("p/2", Sampled)]
    failing |= {0, 2}
    with pytest.raises(RowRejected, match="no 0"):
        asyncio.run(stage(PROBLEM, context))
