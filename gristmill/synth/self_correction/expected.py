"""What an adaptive exploration will cost, by its prior alone: problems are drawn from it and searched."""

from __future__ import annotations

import random
from collections.abc import Generator
from typing import Any, Protocol

from msgspec.structs import replace

from gristmill.core.engine import Completion
from gristmill.core.records import Base, Evaluation, Judged
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.synth.self_correction.goals import Beta, attempt_right

PROBLEMS = 32
"""Simulated problems. The mean of so many is within about a fifth of that of any number."""


class Simulated(Protocol):
    """What is needed of a search: its attempts so far, and what it would draw next."""

    bases: list[Base]
    texts: dict[str, int]

    def moves(self) -> Generator[Any, None, Any]:
        """See ``search.Search``."""
        ...

    def count(self, index: int, step: Any) -> int:
        """See ``search.Search``."""
        ...


def completions(search: Simulated, prior: Beta, draw: random.Random) -> int:
    """The completions that ``search``, which has drawn nothing yet, takes for a problem drawn from the prior.

    Each of its rates is drawn once: of right attempts, and by an attempt's correctness of each verdict and of
    right corrections.
    """
    rate = draw.betavariate(prior.a, prior.b)
    says = {(t, said): draw.betavariate(prior.a, prior.b) for t in (True, False) for said in (True, False)}
    right = {t: draw.betavariate(prior.a, prior.b) for t in (True, False)}

    def judged(chance: float, name: str) -> Judged:
        outcome = Outcome.CORRECT if draw.random() < chance else Outcome.INCORRECT
        return Judged(Completion(name), Verdict(outcome, float(outcome is Outcome.CORRECT)))

    def evaluation(truth: bool) -> Evaluation:
        at = draw.random()
        said = True if at < says[truth, True] else False if at > 1 - says[truth, False] else None
        return Evaluation(Completion("e"), said)

    total = 0
    for move in search.moves():
        if isinstance(move, int):
            for index in range(len(search.bases), len(search.bases) + move):
                search.texts[str(index)] = index
                search.bases.append(Base(index, judged(rate, str(index))))
            total += move
            continue
        for index, step in move:
            base, n = search.bases[index], search.count(index, step)
            truth = attempt_right(base) is True
            if step == "evaluate":
                new = tuple(evaluation(truth) for _ in range(n))
                search.bases[index] = replace(base, evaluations=base.evaluations + new)
            else:
                drawn = tuple(judged(right[truth], "c") for _ in range(n))
                search.bases[index] = replace(base, corrections=base.corrections + drawn)
            total += n
    return total
