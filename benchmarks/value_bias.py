"""How true values of steps and their intervals are, on simulated solvers whose success rates are known.

Wrong solutions of M steps with a hidden first error, uniform over the steps. Every right prefix, and the
question, succeeds with one true rate; what follows the error never does. The real stages run over a scripted
engine. "Naive" takes every rollout that a search without ``value_k`` drew; "evidence" is what the stages use:
the first ``value_k`` of each prefix, and from the question those behind the ones that screened it, all drawn
whatever came of them.

    python benchmarks/value_bias.py --solutions 2000
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import re
from collections.abc import Iterable, Iterator

import msgspec
from msgspec import Struct

from gristmill.core.engine import Message, Request
from gristmill.core.records import Judged, Sampled
from gristmill.core.shares import wilson
from gristmill.core.stages import Context
from gristmill.core.steps import ValuedSolution, tally
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.step_values.estimate import StepValues

STEPS = 8
_WRONG, _RIGHT = Verdict(Outcome.INCORRECT, 0.0, "13"), Verdict(Outcome.CORRECT, 1.0, "12")


class Reading(Struct, frozen=True):
    """Shares of right rollouts from ``states`` whose true rate is known: their mean, and how often their 95 %
    interval holds the rate."""

    mean: float
    coverage: float
    states: int


def solutions(stage: StepValues, rate: float, count: int, seed: int) -> list[ValuedSolution]:
    """``count`` wrong solutions through the real stage; those that it rejects are left out."""

    def answer(request: Request, index: int) -> str:
        number = int(request.messages[0].content.removeprefix("Problem "))
        taken = request.prefix.count("Step ")
        drawn = _uniform(f"{request.seed}/{index}") < (rate if taken < _error(number, seed) else 0.0)
        return f"Step {taken + 1}: the answer is {12 if drawn else 13}."

    async def verify(completion: str, reference: str) -> Verdict:
        return _RIGHT if re.findall(r"answer is (\d+)", completion)[-1:] == [reference] else _WRONG

    async def run() -> list[ValuedSolution]:
        context = Context(ScriptedEngine(answer), verify, seed)
        made = await asyncio.gather(
            *(stage(_sample(n), context) for n in range(count)), return_exceptions=True
        )
        return [record for records in made if isinstance(records, list) for record in records]

    return asyncio.run(run())


def _error(number: int, seed: int) -> int:
    """The first wrong step, in 1..M."""
    return 1 + int(_uniform(f"{seed}/error/{number}") * STEPS)


def _uniform(key: str) -> float:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64


def _sample(number: int) -> Sampled:
    text = "".join(f"Step {j}: so it goes.\n\n" for j in range(1, STEPS)) + f"Step {STEPS}: the answer is 13."
    asked = (Message("user", f"Problem {number}"),)
    return Sampled(f"p{number}", f"q{number}", 0, asked[0].content, "12", asked, text, "stop", 9, 40, _WRONG)


def right_prefixes(found: Iterable[ValuedSolution], seed: int) -> Iterator[tuple[ValuedSolution, int]]:
    """The prefixes (by the index of their last step) that are truly right."""
    for record in found:
        for index in range(_error(int(record.id[1:]), seed) - 1):
            yield record, index


def read(drawn: Iterable[tuple[Judged, ...]], rate: float) -> Reading:
    """What the rollouts of states with this true rate say; states without any are left out."""
    counts = [t for rollouts in drawn if (t := tally(rollouts)).decided]
    covered = [low <= rate <= high for low, high in (wilson(t.correct, t.decided) for t in counts)]
    if not counts:
        return Reading(0.0, 0.0, 0)
    return Reading(sum(t.mean or 0.0 for t in counts) / len(counts), sum(covered) / len(covered), len(counts))


def measure(options: dict[str, object], rate: float, count: int, seed: int) -> dict[str, Reading]:
    """The readings of one scheme: of right prefixes and of the question, naive and by the evidence."""
    search = {name: value for name, value in options.items() if name != "value_k"}
    plain = solutions(msgspec.convert(search, StepValues), rate, count, seed)
    found = solutions(msgspec.convert(options, StepValues), rate, count, seed)
    return {
        "steps, naive": read((r.steps[i].rollouts for r, i in right_prefixes(plain, seed)), rate),
        "steps, evidence": read((r.evidence(i) for r, i in right_prefixes(found, seed)), rate),
        "question, naive": read((r.start for r in plain), rate),
        "question, evidence": read((r.evidence(-1) for r in found), rate),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--solutions", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--value-k", type=int, default=16)
    args = parser.parse_args()
    print(
        "| scheme | true rate | of | mean | its 95 % intervals hold it | states |\n|---|---|---|---|---|---|"
    )
    screened = {"start": 32, "skip_certain": True, "value_k": args.value_k}
    for scheme in ("fixed", "binary", "adaptive"):
        for rate in (0.05, 0.2, 0.5):
            readings = measure({"scheme": scheme, **screened}, rate, args.solutions, args.seed)
            for name, r in readings.items():
                cells = (scheme, f"{rate}", name, f"{r.mean:.3f}", f"{r.coverage:.1%}", f"{r.states:,}")
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
