"""A scripted solver for the tests of tree search: adds numbers one step at a time, sometimes wrongly."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping

from gristmill.core.engine import Ability, Completion, Engine, Request, TokenLogprob
from gristmill.core.records import Problem
from gristmill.core.stages import Context
from gristmill.core.steps import Node, Tree
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ABILITIES, ScriptedEngine
from gristmill.synth.tree_search.mcts import TreeSearch

PROBLEM = Problem("p1", "Add 1, 2, 3 and 4.", "10")
NUMBERS = (1, 2, 3, 4)


async def verdict_of(completion: str, reference: str) -> Verdict:
    """Right where the box holds the reference; unparseable without a box."""
    found = re.findall(r"\\boxed\{(-?\d+)\}", completion)
    if not found:
        return Verdict(Outcome.UNPARSEABLE)
    return Verdict(Outcome.CORRECT if found[-1] == reference else Outcome.INCORRECT, extracted=found[-1])


def unit(*parts: object) -> float:
    """A number in [0, 1), a pure function of ``parts``."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def adder(wrong: float = 0.4) -> Callable[[Request, int], Completion | str]:
    """Continues "Sum: n" lines; each new sum is off by one with probability ``wrong``. With a stop string it
    writes one step, else all the rest."""

    def answer(request: Request, index: int) -> Completion | str:
        done = [int(n) for n in re.findall(r"Sum: (-?\d+)", request.prefix)]
        if "\\boxed{" in request.prefix:
            return ""
        texts: list[str] = []
        while True:
            if len(done) == len(NUMBERS):
                texts.append(f"So \\boxed{{{done[-1]}}}.")
            else:
                drawn = unit(request.prefix, len(done), (request.seed or 0) + index)
                total = (done[-1] if done else 0) + NUMBERS[len(done)] + (drawn < wrong)
                done.append(total)
                texts.append(f"Sum: {total}")
            if request.sampling.stop or "\\boxed{" in texts[-1]:
                return scored("\n\n".join(texts), request)

    return answer


def scored(text: str, request: Request) -> Completion:
    """With a log-probability of -0.5 for each word."""
    words = text.split()
    return Completion(
        text,
        completion_tokens=len(words),
        prompt_tokens=10,
        logprobs=tuple(TokenLogprob(w, -0.5) for w in words),
    )


def context(
    function: Callable[[Request, int], Completion | str],
    *,
    logprobs: bool = False,
    latency: float = 0.0,
    engines: Mapping[str, Engine] | None = None,
) -> Context:
    """A context over a scripted engine."""
    abilities = ABILITIES | {Ability.LOGPROBS} if logprobs else ABILITIES
    engine = ScriptedEngine(function, abilities=abilities, latency=latency)
    return Context(engine, verdict_of, 7, engines or {})


def grow(stage: TreeSearch, where: Context, problem: Problem = PROBLEM) -> Tree:
    """The stage's tree of one problem."""
    [tree] = asyncio.run(stage(problem, where))
    return tree


def right(answer: str = "10") -> Verdict:
    return Verdict(Outcome.CORRECT, extracted=answer)


def wrong(answer: str = "9") -> Verdict:
    return Verdict(Outcome.INCORRECT, extracted=answer)


def tree_of(*nodes: Node, algorithm: str = "uct") -> Tree:
    """A tree of nodes given without their root."""
    return Tree("p1", PROBLEM.problem, "10", (), (Node(0, -1, ""), *nodes), algorithm, "iterations")
