"""Which attempts adaptive self-correction keeps: a simulated model whose long attempts are harder to judge.

Every attempt is wrong; half of them are long. An evaluation finds a short one wrong in ``--short`` of cases
and a long one in ``--long``; a correction is right in half of them. Of each problem one D1 is wanted. Printed
are, by scheme, the share of long attempts among the D1 kept, the completions that a problem took, and what a
run's summary reports of the shift: the mean words of the attempts kept, and of the first that were drawn (a
long one has 30, a short one 10).

    python benchmarks/adaptive_shift.py --problems 600
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
from typing import NamedTuple

import msgspec

from gristmill.core.engine import Request
from gristmill.core.records import Problem
from gristmill.core.stages import Context
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.self_correction import Explore
from gristmill.synth.self_correction.goals import Want, assign

SCHEMES: dict[str, dict[str, object]] = {
    "fixed 50/8/8": {"scheme": "fixed"},
    "adaptive": {},
    "adaptive, unbiased": {"unbiased": True},
}


class Shift(NamedTuple):
    """The share of long attempts among the D1 kept, the completions that a problem took, and the mean words
    of the attempts kept and of the first that were drawn, as the stage measures them."""

    long: float
    completions: float
    kept: float
    drawn: float


def kept(options: dict[str, object], problems: int, short: float, long: float) -> Shift:
    """What a scheme keeps."""
    drawn = 0
    measured: dict[str, list[int]] = {}

    def answer(request: Request, index: int) -> str:
        nonlocal drawn
        drawn += 1
        uniform = _uniform(f"{request.seed}/{index}")
        said = [m.content for m in request.messages if m.role == "assistant"]
        if not said:
            size, words = ("long", 30) if uniform < 0.5 else ("short", 10)
            return f"{size} attempt {request.seed}-{index}" + " and so on" * ((words - 3) // 3) + " done"
        if len(said) == 1:
            seen = uniform < (long if "long" in said[0] else short)
            return f"check {index} [VERIFY] {'wrong' if seen else 'correct'}."
        return f"{'right' if uniform < 0.5 else 'wrong'} again {request.seed}-{index}"

    async def verify(completion: str, reference: str) -> Verdict:
        return Verdict(Outcome.CORRECT if completion.startswith("right") else Outcome.INCORRECT)

    async def run() -> list[bool]:
        want = Want(d1=1, d2=0, d3=0)
        stage = msgspec.structs.replace(msgspec.convert(options, Explore), want=want)
        context = Context(
            ScriptedEngine(answer),
            verify,
            0,
            measure=lambda name, value: measured.setdefault(name.split()[2], []).append(value),
        )
        found = []
        for number in range(problems):
            [record] = await stage(Problem(f"p{number}", f"Problem {number}", "1"), context)
            served = assign(record.bases, want)
            found += ["long" in b.attempt.completion.text for b in record.bases if b.index in served]
        return found

    long_ones = asyncio.run(run())
    means = {name: sum(values) / len(values) for name, values in measured.items()}
    return Shift(sum(long_ones) / len(long_ones), drawn / problems, means["an"], means["the"])


def _uniform(key: str) -> float:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", type=int, default=600)
    parser.add_argument("--short", type=float, default=0.5)
    parser.add_argument("--long", type=float, default=0.2)
    args = parser.parse_args()
    for name, options in SCHEMES.items():
        found = kept(options, args.problems, args.short, args.long)
        print(
            f"| {name} | {found.long:.2f} | {found.completions:.1f} | {found.kept:.1f} | {found.drawn:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
