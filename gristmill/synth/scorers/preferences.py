"""Probabilities that a pair's chosen side is the better one: a judge's, and those of a model's own rewards.

The judge is asked in both orders and read by the probabilities of its words.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta
from msgspec.structs import replace

from gristmill.core.engine import Ability
from gristmill.core.errors import RowRejected
from gristmill.core.records import Score
from gristmill.core.shares import logistic
from gristmill.core.stages import Context, Estimate
from gristmill.filters.preferences.agreement import jensen_shannon
from gristmill.synth.scorers.base import Answered, PairScorer, tokens_of
from gristmill.synth.scorers.likelihood import SCORES, log_ratio
from gristmill.verifiers.judges.asking import Asking
from gristmill.verifiers.judges.judge import Judge

_BY_PROBABILITIES = Judge(asking=Asking(read="probabilities"))


def logit(p: float, most: float = math.inf) -> float:
    """log(p / (1 - p)), cut off at ``most`` to either side."""
    if p in (0.0, 1.0):
        return most if p else -most
    return min(max(math.log(p) - math.log1p(-p), -most), most)


def agree(*chances: float) -> bool:
    """Whether all put the same side first; exactly one half puts none first."""
    return all(p > 0.5 for p in chances) or all(p < 0.5 for p in chances)


async def judged_chance(
    judge: Judge, chosen: Answered, rejected: Answered, context: Context, engine: str | None
) -> float:
    """The judge's chance that the chosen side is better, the mean of both orders. ``RowRejected`` where it
    could not be read."""
    found = await judge.compare(
        chosen.completion,
        rejected.completion,
        problem=chosen.problem,
        engine=context.named(engine),
        seed=context.seed_for(chosen.problem_id),
    )
    if found.first is None:
        raise RowRejected("the judge could not be read", found.detail)
    return found.first


def _judge_cost(judge: Judge, chosen: Answered, rejected: Answered) -> Estimate:
    return judge.estimate_pair(chosen.completion, rejected.completion, problem=chosen.problem)


class Logits(PairScorer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Soft labels of a pair from annotators' logits (iREPO, arXiv 2405.15230).

    ``NAME`` is the logit of the mean chance that the chosen side is better, over the annotators and both
    orders: what iREPO regresses the difference of implicit rewards on. ``NAME_chance`` is that chance.
    """

    annotators: tuple[str, ...] = ()
    """The names of the engines that judge; none: the stage's own."""
    judge: Judge = _BY_PROBABILITIES
    """How they are asked: by default read by token probabilities."""
    most: Annotated[float, Meta(gt=0)] = 10.0
    """The largest absolute logit, since annotators that are sure have an infinite one."""

    @property
    def needs(self) -> frozenset[Ability]:
        """Of the stage's own engine, where it judges."""
        return frozenset() if self.annotators else self.judge.needs

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """The engines that are named."""
        return dict.fromkeys(self.annotators, self.judge.needs)

    def names(self, score: str) -> tuple[str, ...]:
        """The logit and the chance."""
        return (score, f"{score}_chance")

    async def __call__(
        self, chosen: Answered, rejected: Answered, context: Context, score: str
    ) -> Sequence[Score]:
        """The logit and the chance."""
        engines: Sequence[str | None] = self.annotators or (None,)
        chances = await asyncio.gather(
            *(judged_chance(self.judge, chosen, rejected, context, engine) for engine in engines)
        )
        mean = math.fsum(chances) / len(chances)
        return [Score(score, logit(mean, self.most)), Score(f"{score}_chance", mean)]

    def estimate(self, chosen: Answered, rejected: Answered) -> Estimate:
        """Two questions for each annotator."""
        cost, count = _judge_cost(self.judge, chosen, rejected), max(len(self.annotators), 1)
        least, most = cost.completions_min * count, cost.completions_max * count
        return replace(cost, completions_min=least, completions_max=most, rows_max=1)


class InternalJudge(PairScorer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model's two judgements of a pair: by its implicit reward and as a judge (SCIR, arXiv 2502.08922).

    ``NAME_implicit`` is sigma(beta * difference of log-ratios), ``NAME_judge`` the chance that it gives the
    chosen side when asked in both orders, ``NAME`` their mean, ``NAME_divergence`` the Jensen-Shannon
    divergence of the two, and ``NAME_agree`` 1 where both put the same side first, 0 otherwise. SCIR trains
    on pairs on which they agree; where they agree on the rejected side, ``NAME`` is below 0.5.
    """

    reference: str
    """The name of the reference model's engine."""
    policy: str | None = None
    """The name of the engine that is policy and judge; ``null`` is the stage's own."""
    beta: Annotated[float, Meta(gt=0)] = 0.1
    """The factor of the log-ratio, as the policy was trained with."""
    judge: Judge = _BY_PROBABILITIES
    """How it is asked as a judge."""

    @property
    def needs(self) -> frozenset[Ability]:
        """Of the stage's own engine, where it is the policy."""
        return SCORES | self.judge.needs if self.policy is None else frozenset()

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """The engines that are named."""
        policy = {} if self.policy is None else {self.policy: SCORES | self.judge.needs}
        return {self.reference: SCORES, **policy}

    def names(self, score: str) -> tuple[str, ...]:
        """The mean, both chances, the divergence and the agreement."""
        return (score, *(f"{score}_{what}" for what in ("implicit", "judge", "divergence", "agree")))

    async def __call__(
        self, chosen: Answered, rejected: Answered, context: Context, score: str
    ) -> Sequence[Score]:
        """The chances. ``RowRejected`` where one is missing."""
        import numpy as np

        engines = self.policy, self.reference
        ours, theirs, judged = await asyncio.gather(
            log_ratio(chosen, context, engines, "answer"),
            log_ratio(rejected, context, engines, "answer"),
            judged_chance(self.judge, chosen, rejected, context, self.policy),
        )
        implicit = logistic(self.beta * (ours - theirs))
        divergence = float(jensen_shannon(np.array(implicit), np.array(judged)))
        agreed = float(agree(implicit, judged))
        numbers = ((implicit + judged) / 2, implicit, judged, divergence, agreed)
        return [Score(name, value) for name, value in zip(self.names(score), numbers, strict=True)]

    def estimate(self, chosen: Answered, rejected: Answered) -> Estimate:
        """Four scores of given text and two questions."""
        cost = _judge_cost(self.judge, chosen, rejected)
        tokens = max(cost.prompt_tokens, tokens_of(chosen), tokens_of(rejected))
        least, most = cost.completions_min + 4, cost.completions_max + 4
        return replace(cost, completions_min=least, completions_max=most, prompt_tokens=tokens, rows_max=1)
