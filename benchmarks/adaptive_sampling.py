"""Adaptive against fixed self-correction sampling on simulated solvers, at equal numbers of trajectories.

Each problem has its own success rates, drawn from Beta(0.6, 1.2) (mean 1/3): the share of right
attempts, and the shares of right corrections (the same rate, or drawn independently). Both schemes run
through the real ``explore_self_correction`` stage, so every completion is drawn as a real run would.

    python benchmarks/adaptive_sampling.py [--problems 400] [--seed 0]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import random
from types import TracebackType
from typing import Self

from msgspec import Struct

from gristmill.core.engine import Ability, Completion, Request
from gristmill.core.records import Exploration, Problem
from gristmill.core.stages import Context
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.synth.self_correction import Explore
from gristmill.synth.self_correction.goals import Want, assign

# Lengths in tokens of a published trajectory: solutions of a few hundred tokens, checks of about half.
ATTEMPT, EVALUATION, CORRECTION, PROMPT = 300, 150, 300, 120


class World(Struct, frozen=True):
    """How rates come about. ``tied``: corrections succeed as often as attempts do on that problem."""

    name: str
    tied: bool
    sees_wrong: float = 0.5
    sees_right: float = 0.85


class Solver:
    """A simulated model: answers are a pure function of problem, turn, seed and sample index."""

    model = "simulated"
    abilities = frozenset({Ability.CHAT, Ability.SEED, Ability.MANY})
    concurrency = 1

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.seed = seed
        self.generated = 0
        self.prompted = 0
        self.cached_prompted = 0

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        turn = sum(m.role == "assistant" for m in request.messages)
        problem = request.messages[1].content
        rates = random.Random(f"{self.seed}|{problem}")
        solve, fix_wrong, fix_right = (rates.betavariate(0.6, 1.2) for _ in range(3))
        right_before = "right" in request.messages[2].content if turn else False
        texts = []
        for i in range(first, first + n):
            u = _uniform(request.seed or 0, i, turn)
            # Unique texts, as free-form solutions are: no attempt is a duplicate of another.
            tag = f"{request.seed}-{i}"
            if turn == 0:
                texts.append(f"{'right' if u < solve else 'wrong'} {tag}")
            elif turn == 1:
                says_right = u < self.world.sees_right if right_before else u >= self.world.sees_wrong
                texts.append(f"{tag} [VERIFY] {'correct' if says_right else 'wrong'}.")
            else:
                rate = solve if self.world.tied else fix_right if right_before else fix_wrong
                texts.append(f"{'right' if u < rate else 'wrong'} again {tag}")
        length = (ATTEMPT, EVALUATION, CORRECTION)[turn]
        self.generated += length * n
        self.prompted += PROMPT + (0, ATTEMPT, ATTEMPT + EVALUATION)[turn]
        return [Completion(t, "stop", 0, length) for t in texts]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def _uniform(seed: int, index: int, turn: int) -> float:
    digest = hashlib.blake2b(f"{seed}|{index}|{turn}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


async def verify(completion: str, reference: str) -> Verdict:
    """The simulated text says by itself whether it is right."""
    return Verdict(Outcome.CORRECT if completion.startswith("right") else Outcome.INCORRECT, rule="simulated")


class Tally(Struct):
    """What a scheme kept and what it cost."""

    problems: int = 0
    kept: int = 0
    d1: int = 0
    d2: int = 0
    d3: int = 0
    generated: int = 0
    prompted: int = 0


async def collect(
    stage: Explore, world: World, seed: int, cap: Want, problems: int, target: int | None
) -> Tally:
    """Run ``stage`` over problems until ``target`` trajectories are kept (``None``: over ``problems``)."""
    solver = Solver(world, seed)
    context = Context(solver, verify, seed)
    tally = Tally()
    for number in itertools.count():
        if (tally.kept >= target) if target is not None else (number >= problems):
            break
        if number >= 50 * problems:
            raise RuntimeError(f"only {tally.kept} of {target} trajectories after {number} problems")
        found: Exploration = (await stage(Problem(f"p{number}", f"problem {number}", "x"), context))[0]
        tally.problems += 1
        for names in assign(found.bases, cap).values():
            tally.kept += 1
            tally.d1 += "D1" in names
            tally.d2 += "D2" in names
            tally.d3 += "D3" in names
    tally.generated, tally.prompted = solver.generated, solver.prompted
    return tally


WORLDS = (World("corrections as likely as attempts", True), World("all rates independent", False))
WANTS = {
    "every attempt may give one": Want(d1=None, d2=None, d3=None),
    "4 of each subset a problem": Want(d1=4, d2=4, d3=4),
    "1 of each subset a problem": Want(d1=1, d2=1, d3=1),
}


def compare(world: World, want: Want, problems: int, seed: int) -> tuple[Tally, Tally]:
    """Fixed 50/8/8/4 over ``problems``, then adaptive until as many trajectories are kept."""
    fixed = asyncio.run(collect(Explore(scheme="fixed", want=want), world, seed, want, problems, None))
    adaptive = asyncio.run(collect(Explore(want=want), world, seed, want, problems, fixed.kept))
    return fixed, adaptive


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    columns = ("rates", "kept per problem", "scheme", "problems", "kept (D1/D2/D3)")
    print("|", " | ".join((*columns, "generated tokens", "all tokens", "ratio generated", "ratio all")), "|")
    print("|---|---|---|---|---|---|---|---|---|")
    for world in WORLDS:
        for label, want in WANTS.items():
            fixed, adaptive = compare(world, want, args.problems, args.seed)
            for name, tally in (("fixed 50/8/8/4", fixed), ("adaptive", adaptive)):
                total, base = tally.generated + tally.prompted, fixed.generated + fixed.prompted
                print(
                    f"| {world.name} | {label} | {name} | {tally.problems} "
                    f"| {tally.kept} ({tally.d1}/{tally.d2}/{tally.d3}) | {tally.generated / 1e6:.2f}M "
                    f"| {total / 1e6:.2f}M | {tally.generated / fixed.generated:.1%} | {total / base:.1%} |"
                )


if __name__ == "__main__":
    main()
