"""Scores of reward models and of process reward models, by engines that give rewards to given answers."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gristmill.core.engine import Ability, Engine, Message, score_request
from gristmill.core.errors import RowRejected
from gristmill.core.records import Score
from gristmill.core.stages import Context, Estimate
from gristmill.synth.scorers.base import Answered, Scorer, tokens_of
from gristmill.synth.scorers.likelihood import SCORES
from gristmill.synth.step_values.aggregate import Rule, aggregate
from gristmill.synth.step_values.implicit import log_ratios, step_sums
from gristmill.synth.step_values.steps import Split

REWARDS = frozenset({Ability.REWARD})
_decode = msgspec.json.Decoder(list[list[float]]).decode


async def rewards(engine: Engine, messages: Sequence[Message], text: str) -> list[list[float]]:
    """What a reward model says of ``text`` as the answer to ``messages``: one row of numbers, or one for each
    of its step tags. ``RowRejected`` for an empty text, or numbers that are not finite."""
    if not text.strip():
        raise RowRejected("an empty text", "there is nothing to reward")
    [answer] = await engine.generate(score_request(messages, text))
    try:
        rows = _decode(answer.text)
    except msgspec.DecodeError as error:
        raise RowRejected("no finite reward", f"{error}: {answer.text[:200]}") from error
    if not rows or not all(row and all(map(math.isfinite, row)) for row in rows):
        raise RowRejected("no finite reward", answer.text[:200])
    return rows


async def one_reward(engine: Engine, messages: Sequence[Message], text: str) -> float:
    """The only number that a reward model gives. ``RowRejected`` where it gives several."""
    rows = await rewards(engine, messages, text)
    if [len(row) for row in rows] != [1]:
        shape = f"{len(rows)} rows of {len(rows[0])}"
        raise RowRejected("not one reward", f"the model gives {shape}; name them in 'outputs', or 'use' one")
    return rows[0][0]


class RewardScorer(Scorer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the scorers that ask a reward model."""

    engine: str | None = None
    """The name of the reward model's engine (kind ``reward-server`` or ``transformers-reward``); ``null`` is
    the stage's own."""

    @property
    def needs(self) -> frozenset[Ability]:
        """Of the stage's own engine, where it is asked: that it gives rewards."""
        return REWARDS if self.engine is None else frozenset()

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """The engine that is named."""
        return {} if self.engine is None else {self.engine: REWARDS}

    def estimate(self, answer: Answered) -> Estimate:
        """One pass over conversation and answer."""
        return Estimate(1, 1, tokens_of(answer), 0, rows_max=1)


class RewardModel(RewardScorer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The reward that a model with a sequence classification head gives to the conversation with its answer.

    Its scale is the model's own; only differences between answers to one problem mean anything.
    """

    outputs: tuple[Annotated[str, Meta(min_length=1)], ...] = ()
    """Names of the model's outputs, in their order, for one with several (ArmoRM's objectives, or classes):
    each is a score ``SCORE_OUTPUT``. Empty for a model with one output."""

    def names(self, score: str) -> tuple[str, ...]:
        """The score, or one for each output."""
        return tuple(f"{score}_{output}" for output in self.outputs) or (score,)

    async def __call__(self, answer: Answered, context: Context, score: str) -> Sequence[Score]:
        """The reward. ``RowRejected`` where the model gives another number of outputs."""
        engine = context.named(self.engine)
        if not self.outputs:
            return [Score(score, await one_reward(engine, answer.messages, answer.completion))]
        [row, *further] = await rewards(engine, answer.messages, answer.completion)
        if further or len(row) != len(self.outputs):
            raise RowRejected("not the named outputs", f"{len(self.outputs)} are named, {len(row)} came")
        return [Score(name, value) for name, value in zip(self.names(score), row, strict=True)]


class ProcessReward(RewardScorer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The score of a process reward model: its values of the answer's steps, aggregated.

    The answer is cut into steps and the tag put behind each; the model answers with a row of numbers for
    each tag, of which the last is the step's chance of being right, in [0, 1] (see ``read``). With
    ``reference`` the model is an implicit one, which needs no tags.
    """

    tag: Annotated[str, Meta(min_length=1)] = "<extra_0>"
    """What the model was trained to find behind each step: ``<extra_0>`` (Qwen2.5-Math-PRM)."""
    split: Split = Split()
    """How the answer is cut into steps."""
    rule: Rule = "min"
    """How the steps' values become one score; see ``docs/step-values.md``."""
    read: Literal["probabilities", "logits"] = "probabilities"
    """What the model's rows are: ``probabilities`` of the classes, or ``logits`` (a softmax over several, a
    sigmoid of one)."""
    reference: str | None = None
    """The name of the reference's engine of an implicit process reward model (arXiv 2412.01981): a step is
    worth the sigmoid of ``beta`` times the log-ratio up to its end, the chance of a right answer that the
    model was trained to give. Both engines must score given text."""
    beta: Annotated[float, Meta(gt=0)] = 0.05
    """With ``reference``: the factor of the log-ratio, as the model was trained with."""

    @property
    def needs(self) -> frozenset[Ability]:
        """Of the stage's own engine, where it is asked."""
        return self.asks if self.engine is None else frozenset()

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """The engines that are named."""
        return dict.fromkeys(filter(None, (self.engine, self.reference)), self.asks)

    @property
    def asks(self) -> frozenset[Ability]:
        """What the engines must be able to do."""
        return REWARDS if self.reference is None else SCORES

    async def __call__(self, answer: Answered, context: Context, score: str) -> Sequence[Score]:
        """The score. ``RowRejected`` where the steps have no values."""
        _, values = await self.steps(answer, context)
        return [Score(score, aggregate(values, self.rule))]

    async def steps(self, answer: Answered, context: Context) -> tuple[list[str], list[float]]:
        """The steps, byte for byte, and the value of each. ``RowRejected`` where there are not as many rows
        as steps, or values out of range."""
        steps = self.split(answer.completion)
        if not steps:
            raise RowRejected("no steps", "the completion is empty")
        return steps, await self.values(context.named(self.engine), context, answer.messages, steps)

    def estimate(self, answer: Answered) -> Estimate:
        """A pass of each model over conversation and answer."""
        passes = 1 if self.reference is None else 2
        return Estimate(passes, passes, tokens_of(answer), 0, rows_max=1)

    async def values(
        self, engine: Engine, context: Context, messages: Sequence[Message], steps: Sequence[str]
    ) -> list[float]:
        """The value of each of ``steps``, in [0, 1], by the model of ``engine``."""
        if self.reference is not None:
            return await self._implicit(engine, context.named(self.reference), messages, steps)
        if any(self.tag in step for step in steps):
            raise RowRejected("the step tag in a step", "the values could not be told apart")
        rows = await rewards(engine, messages, tagged(steps, self.tag))
        if len(rows) != len(steps):
            raise RowRejected("other steps", f"{len(steps)} steps, but {len(rows)} values came")
        values = [self._value(row) for row in rows]
        if not all(0 <= v <= 1 for v in values):
            raise RowRejected("a value out of range", f"{values[:5]}; set read to logits, or check the model")
        return values

    async def _implicit(
        self, policy: Engine, reference: Engine, messages: Sequence[Message], steps: Sequence[str]
    ) -> list[float]:
        request = score_request(messages, "".join(steps))
        [ours], [theirs] = await asyncio.gather(policy.generate(request), reference.generate(request))
        tokens = log_ratios(ours, theirs)
        if tokens is None:
            raise RowRejected("tokens differ", "use a model and a reference with one tokenizer")
        return [sigmoid(self.beta * q) for q in itertools.accumulate(step_sums(tokens, steps))]

    def _value(self, row: Sequence[float]) -> float:
        if self.read == "probabilities":
            return row[-1]
        others = row[:-1] or [0.0]
        top = max(row[-1], *others)
        share = math.exp(row[-1] - top)
        return share / (share + math.fsum(math.exp(o - top) for o in others))


def tagged(steps: Sequence[str], tag: str) -> str:
    """A solution as process reward models are trained on it: each step without the space around it, and
    ``tag``."""
    return "".join(step.strip() + tag for step in steps)


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), for any x."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
