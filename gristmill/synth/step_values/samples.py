"""Rollouts used again: each is a whole sampled solution of its problem, already paid for and judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import ClassVar, Literal

from msgspec import Struct

from gristmill.core.engine import Ability
from gristmill.core.errors import RowRejected
from gristmill.core.records import Judged, Sampled
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.core.steps import ValuedSolution
from gristmill.synth.step_values.rollouts import begun


class RolloutSamples(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The policy's rollouts of a valued solution as samples: its messages, then prefix and rollout.

    Token counts are those of the rollout, without its prefix. Samples that begin alike are not independent:
    take no pass rate from them. The prover's rollouts are of another policy and left out.
    """

    reads: ClassVar[type[Struct]] = ValuedSolution
    writes: ClassVar[type[Struct]] = Sampled
    needs: ClassVar[frozenset[Ability]] = frozenset()

    only: Literal["right", "wrong", "all"] = "all"
    """Which rollouts are kept, by their verdicts."""
    start: bool = True
    """Whether those from the question alone are among them."""
    distinct: bool = False
    """Whether only the first of equal texts is kept."""

    async def __call__(self, record: ValuedSolution, context: Context) -> Sequence[Sampled | Rejection]:
        """Samples in the order of their prefixes (``index`` counts all), a ``Rejection`` for each other.
        ``RowRejected`` for a conversation with tools, whose rollouts are several turns."""
        if any(step.acted for step in record.steps):
            raise RowRejected(
                "rollouts of a conversation with tools", "they are several turns, not one text to train on"
            )
        made: list[Sampled | Rejection] = []
        texts: set[str] = set()
        for index, (place, prefix, rollout) in enumerate(self._rollouts(record)):
            sample = _sample(record, f"{record.id}/{place}", index, prefix, rollout)
            reason = self._against(rollout, sample.completion in texts)
            texts.add(sample.completion)
            made.append(Rejection(sample.id, reason) if reason else sample)
        return made

    def estimate(self, record: ValuedSolution) -> Estimate:
        """Nothing: the rollouts are there."""
        return Estimate(0, 0, 0, 0, rows_max=sum(1 for _ in self._rollouts(record)))

    def _rollouts(self, record: ValuedSolution) -> Iterator[tuple[str, str, Judged]]:
        """Each rollout with its place ("2.0": the first from the prefix of two steps) and its prefix."""
        prefixes = accumulate((s.text for s in record.steps), initial="")
        groups = [record.start if self.start else (), *(s.rollouts for s in record.steps)]
        for steps, (prefix, rollouts) in enumerate(zip(prefixes, groups, strict=True)):
            for i, rollout in enumerate(rollouts):
                yield f"{steps}.{i}", begun(prefix), rollout

    def _against(self, rollout: Judged, repeated: bool) -> str:
        if self.only != "all" and not rollout.verdict.decided:
            return "rollout without a verdict"
        if self.only != "all" and rollout.verdict.correct != (self.only == "right"):
            return "rollout is right" if rollout.verdict.correct else "rollout is wrong"
        return "rollout with the text of another" if self.distinct and repeated else ""


def _sample(record: ValuedSolution, name: str, index: int, prefix: str, rollout: Judged) -> Sampled:
    completion = rollout.completion
    return Sampled(
        id=name,
        problem_id=record.problem_id,
        index=index,
        problem=record.problem,
        answer=record.answer,
        messages=record.messages,
        completion=prefix + completion.text,
        finish_reason=completion.finish_reason,
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        reasoning=completion.reasoning,
        reasoning_tokens=completion.reasoning_tokens,
        verdict=rollout.verdict,
    )
