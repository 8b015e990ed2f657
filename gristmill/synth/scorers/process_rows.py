"""``process_rewards``: a process reward model's value of each step of a sample, as a process row."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from gristmill.core.engine import Ability
from gristmill.core.records import Sampled
from gristmill.core.stages import Context, Estimate, RowStage
from gristmill.core.steps import ProcessRow
from gristmill.synth.scorers.base import of_sample
from gristmill.synth.scorers.reward import ProcessReward


class ProcessRewards(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes a process row of a sample, with the values that a process reward model gives its steps.

    Nothing is sampled, so that counts are 0 and intervals reach from 0 to 1. What cannot be scored is
    rejected with the scorer's reason. ``solved`` is ``None`` where the sample's verdict is not decided.
    """

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = ProcessRow

    scorer: ProcessReward = ProcessReward()
    """The model, its tag and how steps are cut, as in the stage ``score``; its ``rule`` has no say here."""

    @property
    def needs(self) -> frozenset[Ability]:
        """What the scorer needs of the stage's own engine."""
        return self.scorer.needs

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """The engine that the scorer names."""
        return self.scorer.uses

    async def __call__(self, sample: Sampled, context: Context) -> list[ProcessRow]:
        """One row of kind ``reward``."""
        steps, values = await self.scorer.steps(of_sample(sample), context)
        verdict, count = sample.verdict, len(steps)
        return [
            ProcessRow(
                id=sample.id,
                problem_id=sample.problem_id,
                problem=sample.problem,
                prompt=sample.messages,
                steps=tuple(steps),
                values=tuple(values),
                correct=(0,) * count,
                decided=(0,) * count,
                low=(0.0,) * count,
                high=(1.0,) * count,
                kind="reward",
                solved=verdict.correct if verdict is not None and verdict.decided else None,
            )
        ]

    def estimate(self, sample: Sampled) -> Estimate:
        """One pass over conversation and answer."""
        return self.scorer.estimate(of_sample(sample))
