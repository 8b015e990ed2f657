"""A solver with hidden truth for OmegaPRM's tests: M words a solution, each right or wrong by chance."""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from gristmill.core.engine import Completion, Request
from gristmill.core.records import Problem
from gristmill.core.stages import Context
from gristmill.core.steps import Tree
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.log.store import CompletionLog
from gristmill.engines.options import EngineOptions
from gristmill.engines.scripted import ScriptedEngine
from gristmill.engines.session import Session
from gristmill.synth.tree_search.omega import OmegaPRM

PROBLEM = Problem("p", "What is 6 * 7?", "42")
_STEP = re.compile(r"step\d+(ok|BAD)")


async def verify(completion: str, reference: str) -> Verdict:
    """The verdict on the last box; none is unparseable."""
    found = re.findall(r"\\boxed\{(\w+)\}", completion)
    if not found:
        return Verdict(Outcome.UNPARSEABLE)
    return Verdict(Outcome.CORRECT if found[-1] == reference else Outcome.INCORRECT, extracted=found[-1])


class Solver:
    """Writes steps of one word each; a step is wrong with probability ``slip``, and no error is mended.

    The answer, 42 or 13, is in the last step's word. What is said is a pure function of the prompt, the
    prefix, and the seed plus the sample's index. ``asked`` counts the samples by their key.
    """

    def __init__(self, steps: int = 8, slip: float = 0.15) -> None:
        self.steps = steps
        self.slip = slip
        self.asked: Counter[tuple[str, str, int]] = Counter()

    def __call__(self, request: Request, index: int) -> str:
        seed = (request.seed or 0) + index
        self.asked[request.messages[-1].content, request.prefix, seed] += 1
        key = f"{request.messages[-1].content}|{request.prefix}|{seed}"
        rng = random.Random(hashlib.blake2b(key.encode()).digest())
        done = _STEP.findall(request.prefix)
        right = "BAD" not in done
        words = []
        for step in range(len(done) + 1, self.steps + 1):
            slipped = right and rng.random() < self.slip
            right = right and not slipped
            answer = f"\\boxed{{{42 if right else 13}}}" if step == self.steps else ""
            words.append(f"step{step}{'BAD' if slipped else 'ok'}{answer}")
        return (" " if request.prefix else "") + " ".join(words)


def grow(
    stage: OmegaPRM,
    solver: Callable[[Request, int], str | Completion],
    problem: Problem = PROBLEM,
    *,
    latency: float = 0.0,
    seed: int = 0,
) -> Tree:
    """The tree that the stage grows with that solver."""

    async def go() -> Tree:
        async with ScriptedEngine(solver, latency=latency) as engine:
            return (await stage(problem, Context(engine, verify, seed)))[0]

    return asyncio.run(go())


def grow_logged(stage: OmegaPRM, engine: ScriptedEngine, log: Path, problems: list[Problem]) -> list[Tree]:
    """The trees of some problems side by side, over a real completion log."""

    async def go() -> list[Tree]:
        options = EngineOptions(concurrency=engine.concurrency, tries=1)
        with CompletionLog(log) as opened:
            async with Session(engine, options, opened) as session:
                made = await asyncio.gather(*(stage(p, Context(session, verify, 0)) for p in problems))
        return [trees[0] for trees in made]

    return asyncio.run(go())
