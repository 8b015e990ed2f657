"""``token_contrast``: a reward and a target for every token of both sides of a pair.

Two conditions score the same answer: one in which a better answer is likelier, and one in which a worse one
is. What they differ by may be a system message (T-REG, arXiv 2412.02685: a model is told to answer well, and
to answer badly) or the model (AlignDistil, arXiv 2503.02832: one trained by DPO, and one by DPO on the pairs
turned round). Nothing is sampled.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from gristmill.core.engine import Ability, Message, TokenLogprob, score_request
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.records import Pair
from gristmill.core.stages import Context, Estimate, RowStage
from gristmill.synth.scorers.base import Answered, of_pair, tokens_of
from gristmill.synth.scorers.likelihood import named_engines

_WELL = "Answer as well as you can: what you say is right, useful and clear."
_BADLY = "Answer as badly as you can: what you say is wrong, useless and unclear."
_SUREST = -1e-9
"""The log-probability above which a token counts as this likely, so that its log-odds are finite."""


class TokenTargets(Struct, frozen=True):
    """What the tokens of one side of a pair are worth. ``tokens`` joined are ``completion``; ``rewards`` and
    ``targets`` are as long as they."""

    id: str
    problem_id: str
    side: str
    prompt: tuple[Message, ...]
    completion: str
    tokens: tuple[str, ...]
    rewards: tuple[float, ...]
    targets: tuple[float, ...]


class TokenContrast(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Gives the tokens of both sides of each pair a reward and a target, by how much likelier they are in a
    better condition than in a worse one.

    A condition is an engine and a system message; the two must differ in one of them, and their models must
    have one tokenizer. The reward is sigmoid(d) - 1/2 of the difference d of the log-probabilities, as the
    rewards of T-REG (arXiv 2412.02685), which contrast two prompts of one model, lie around 0. The target is
    the probability of the token by a teacher whose log-odds are extrapolated from the worse through the
    better condition: better + ``extrapolation`` * (better - worse). That is the teacher of AlignDistil
    (arXiv 2503.02832) over two outcomes, this token and any other: engines return no more of a given text.
    The paper's extrapolation is over the whole vocabulary, and differs from token to token.

    A row for each side, of which the last turn is scored. A pair is rejected where the models cut an answer
    into different tokens.
    """

    reads: ClassVar[type[Struct]] = Pair
    writes: ClassVar[type[Struct]] = TokenTargets

    better: str | None = None
    """The name of the better condition's engine; ``null`` is the stage's own."""
    worse: str | None = None
    """The name of the worse condition's engine."""
    better_system: str | None = _WELL
    """The system message of the better condition, before the conversation's own; ``null`` adds none."""
    worse_system: str | None = _BADLY
    """That of the worse condition."""
    extrapolation: Annotated[float, Meta(ge=0)] = 1.0
    """How far the teacher goes beyond the better condition; with 0 it is that condition's own."""

    def __post_init__(self) -> None:
        if (self.better, self.better_system) == (self.worse, self.worse_system):
            raise RecipeError(
                "token_contrast: the two conditions are the same, so that every token is worth nothing.",
                remedy="Name two engines, or give two system messages.",
            )

    @property
    def needs(self) -> frozenset[Ability]:
        """Of the stage's own engine, where it is asked: that it scores given text."""
        return named_engines(self.better, self.worse)[0]

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """The engines that are named."""
        return named_engines(self.better, self.worse)[1]

    async def __call__(self, pair: Pair, context: Context) -> Sequence[TokenTargets]:
        """The rows of both sides. ``RowRejected`` for an empty side, and for tokens that differ."""
        return await asyncio.gather(*(self._side(pair, side, context) for side in of_pair(pair)))

    async def _side(self, pair: Pair, side: Answered, context: Context) -> TokenTargets:
        better, worse = await asyncio.gather(
            _scored(side, context, self.better, self.better_system),
            _scored(side, context, self.worse, self.worse_system),
        )
        if [t.token for t in better] != [t.token for t in worse]:
            raise RowRejected(
                "tokens differ",
                "the two models cut the answer into other tokens; use models of one tokenizer",
            )
        both = [(a.logprob, b.logprob) for a, b in zip(better, worse, strict=True)]
        return TokenTargets(
            side.id,
            pair.problem_id,
            side.side,
            side.messages,
            side.completion,
            tuple(t.token for t in better),
            tuple(contrast_reward(a, b) for a, b in both),
            tuple(teacher_chance(a, b, self.extrapolation) for a, b in both),
        )

    def estimate(self, pair: Pair) -> Estimate:
        """Four scores; nothing is generated."""
        tokens = max(map(tokens_of, of_pair(pair))) + len(self.better_system or "") // 4
        return Estimate(4, 4, tokens, 0, rows_max=2)


def contrast_reward(better: float, worse: float) -> float:
    """sigmoid(``better`` - ``worse``) - 1/2 of two log-probabilities: between -1/2 and 1/2, 0 where they are
    equal."""
    return math.tanh((better - worse) / 2) / 2


def teacher_chance(better: float, worse: float, extrapolation: float) -> float:
    """The probability whose log-odds are those of ``better``, and beyond them ``extrapolation`` times what
    they lead those of ``worse`` by; both are log-probabilities."""
    ahead, behind = _log_odds(better), _log_odds(worse)
    # The sigmoid by way of tanh, which does not overflow.
    return (1 + math.tanh((ahead + extrapolation * (ahead - behind)) / 2)) / 2


def _log_odds(logprob: float) -> float:
    sure = min(logprob, _SUREST)
    return sure - math.log(-math.expm1(sure))


async def _scored(
    side: Answered, context: Context, engine: str | None, system: str | None
) -> Sequence[TokenLogprob]:
    """The tokens of an answer under a condition."""
    if not side.completion:
        raise RowRejected("an empty text", "a text without tokens has no likelihood")
    messages = side.messages
    if system is not None:
        own = [m.content for m in messages if m.role == "system"]
        rest = (m for m in messages if m.role != "system")
        messages = (Message("system", "\n\n".join([system, *own])), *rest)
    [found] = await context.named(engine).generate(score_request(messages, side.completion))
    tokens = found.logprobs or ()
    if not tokens or not all(math.isfinite(token.logprob) for token in tokens):
        raise RowRejected("no finite log-probability", f"of {len(tokens)} tokens")
    return tokens
