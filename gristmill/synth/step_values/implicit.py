"""Implicit process rewards: what a policy has learnt over its reference, token by token.

Implicit PRM (arXiv 2412.01981): a model trained on outcomes alone is a process reward model too, by the
reward beta * log(policy / reference) of each token; a step's is the sum over its tokens. PRIME (arXiv
2502.01456) uses them in reinforcement learning. Nothing is sampled: both engines score the same text.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from gristmill.core.engine import Ability, Completion, TokenLogprob, score_request
from gristmill.core.errors import RowRejected
from gristmill.core.records import Sampled
from gristmill.core.stages import Context, Estimate, RowStage
from gristmill.core.steps import ProcessRow
from gristmill.synth.step_values.labels import settled
from gristmill.synth.step_values.steps import Split

_CHARS_PER_TOKEN = 4
"""For estimates only."""
_EPSILON = 1e-6
"""What PRIME's code adds to the divisor."""

Values = Literal["step", "cumulative"]
Baseline = Literal["leave_one_out", "prime"]


class ImplicitRewards(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Implicit process rewards of samples, from a policy and its reference.

    Both must be able to score given text, and have the same tokenizer: a sample whose tokens differ is
    rejected. A token that straddles the boundary of two steps counts for the one in which it begins. A sample
    that was cut off is scored as it is; its ``solved`` says that it did not come to a right answer.
    """

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = ProcessRow

    reference: str
    """The name of the reference model's engine."""
    policy: str | None = None
    """The name of the policy's engine; ``null`` is the stage's own."""
    beta: Annotated[float, Meta(gt=0)] = 0.05
    """The factor of the log-ratios; the default is the paper's."""
    values: Values = "step"
    """``step``: each step's own reward; ``cumulative``: the sum up to and with it (the paper's Q value, of
    which best of N takes the minimum)."""
    split: Split = Split()
    """How the completion is cut into steps."""

    @property
    def needs(self) -> frozenset[Ability]:
        """Of the stage's own engine, where it is the policy: that it can score."""
        return frozenset({Ability.SCORE}) if self.policy is None else frozenset()

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """The engines that are named, which must be able to score."""
        named = [name for name in (self.policy, self.reference) if name is not None]
        return dict.fromkeys(named, frozenset({Ability.SCORE}))

    async def __call__(self, sample: Sampled, context: Context) -> list[ProcessRow]:
        """One row of kind ``implicit(beta)`` or ``implicit(beta), cumulative``."""
        steps = self.split(sample.completion)
        if not steps:
            raise RowRejected("no steps", "the completion is empty")
        request = score_request(sample.messages, sample.completion)
        engines = context.named(self.policy), context.named(self.reference)
        [policy], [reference] = await asyncio.gather(*(engine.generate(request) for engine in engines))
        tokens = log_ratios(policy, reference)
        if tokens is None:
            raise RowRejected(
                "tokens differ",
                "policy and reference cut the completion into other tokens; use models of one tokenizer",
            )
        sums = step_sums(tokens, steps)
        rewards = [self.beta * s for s in sums]
        cumulative = self.values == "cumulative"
        n = len(steps)
        row = ProcessRow(
            id=sample.id,
            problem_id=sample.problem_id,
            problem=sample.problem,
            prompt=sample.messages,
            steps=tuple(steps),
            values=tuple(itertools.accumulate(rewards) if cumulative else rewards),
            correct=(0,) * n,
            decided=(0,) * n,
            low=(0.0,) * n,
            high=(1.0,) * n,
            kind=f"implicit({self.beta:g})" + (", cumulative" if cumulative else ""),
            solved=None if sample.verdict is None else settled(sample.verdict),
        )
        return [row]

    def estimate(self, sample: Sampled) -> Estimate:
        """Two scores of prompt and completion; nothing is generated."""
        chars = sum(len(m.content) for m in sample.messages) + len(sample.completion)
        return Estimate(2, 2, chars // _CHARS_PER_TOKEN, 0, rows_max=1)


def log_ratios(policy: Completion, reference: Completion) -> list[TokenLogprob] | None:
    """The tokens of a scored text with log(policy / reference); ``None`` where the two cut it otherwise."""
    ours, theirs = policy.logprobs or (), reference.logprobs or ()
    if not ours or [t.token for t in ours] != [t.token for t in theirs]:
        return None
    return [TokenLogprob(a.token, a.logprob - b.logprob) for a, b in zip(ours, theirs, strict=True)]


def step_sums(tokens: Sequence[TokenLogprob], steps: Sequence[str]) -> list[float]:
    """The sum of the tokens' numbers for each step; a token counts for the step in which it begins.

    ``ValueError`` unless tokens and steps join to the same text, of which no step is empty.
    """
    if "".join(t.token for t in tokens) != "".join(steps) or not all(steps):
        raise ValueError("the tokens and the steps are not of the same text")
    ends = list(itertools.accumulate(len(s) for s in steps))
    parts: list[list[float]] = [[] for _ in steps]
    at = step = 0
    for token in tokens:
        while step < len(ends) - 1 and at >= ends[step]:
            step += 1
        parts[step].append(token.logprob)
        at += len(token.token)
    return [math.fsum(part) for part in parts]


def outcome_loss(log_ratio: float, label: bool, beta: float = 0.05) -> float:
    """Cross-entropy of sigma(beta * log ratio of the whole answer) and its outcome (arXiv 2412.01981, 3)."""
    logit = beta * log_ratio if label else -beta * log_ratio
    # -log sigma(x) = log(1 + exp(-x)), of which the exponential must not overflow.
    return max(-logit, 0.0) + math.log1p(math.exp(-abs(logit)))


def scaled(scores: Sequence[Sequence[float]]) -> list[list[float]]:
    """A group's process scores over the greatest |sum from a token to the end| + 1e-6, as PRIME has it."""
    greatest = 0.0
    for row in scores:
        sums = itertools.accumulate(reversed(row))
        greatest = max(greatest, *map(abs, sums), 0.0)
    return [[score / (greatest + _EPSILON) for score in row] for row in scores]


def rloo(rewards: Sequence[float]) -> list[float]:
    """Each reward less the mean of the others: r n / (n - 1) - sum / (n - 1). ``ValueError`` for fewer
    than two, of which there is no other."""
    n, total = _several(rewards), math.fsum(rewards)
    return [r * n / (n - 1) - total / (n - 1) for r in rewards]


def process_rloo(
    scores: Sequence[Sequence[float]], baseline: Baseline = "leave_one_out"
) -> list[list[float]]:
    """Scores of the tokens (or steps) of a group's answers, less a baseline from their means.

    ``leave_one_out`` takes the mean of the *other* answers' means. ``prime`` is what the authors' code
    computes, r n / (n - 1) - (sum of all means) / (n - 1), which is more by (r - own mean) / (n - 1).
    An answer without tokens has the mean 0.
    """
    n = _several(scores)
    means = [math.fsum(row) / len(row) if row else 0.0 for row in scores]
    total = math.fsum(means)
    if baseline == "prime":
        return [[r * n / (n - 1) - total / (n - 1) for r in row] for row in scores]
    return [[r - (total - own) / (n - 1) for r in row] for row, own in zip(scores, means, strict=True)]


def _several(answers: Sequence[object]) -> int:
    if len(answers) < 2:
        raise ValueError(f"a group of {len(answers)} answers has no others to compare with")
    return len(answers)
