"""Scores from the log-probabilities that models give to a text: nothing is generated.

All log-probabilities are natural. An answer is scored as it stands, whether or not it was cut off. A sum over
an answer falls with its length, a mean over its tokens does not: ``per`` chooses.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from msgspec import Meta
from msgspec.structs import replace

from gristmill.core.engine import Ability, Engine, Message, score_request
from gristmill.core.errors import RowRejected
from gristmill.core.prompts import fill, row_places
from gristmill.core.records import Score
from gristmill.core.stages import Context, Estimate
from gristmill.synth.scorers.base import Answered, Scorer, tokens_of

Per = Literal["answer", "token"]
SCORES = frozenset({Ability.SCORE})


async def log_likelihood(
    engine: Engine, messages: Sequence[Message], text: str, per: Per = "answer"
) -> float:
    """log p(``text`` | ``messages``): its tokens' sum, or their mean with ``per="token"``.

    ``RowRejected`` for an empty text and for a token that the model holds to be impossible.
    """
    if not text:
        raise RowRejected("an empty text", "a text without tokens has no likelihood")
    [scored] = await engine.generate(score_request(messages, text))
    tokens = [token.logprob for token in scored.logprobs or ()]
    total = math.fsum(tokens)
    if not tokens or not math.isfinite(total):
        raise RowRejected("no finite log-probability", f"of {len(tokens)} tokens")
    return total / len(tokens) if per == "token" else total


def named_engines(*names: str | None) -> tuple[frozenset[Ability], dict[str, frozenset[Ability]]]:
    """What engines must be able to do that score texts: the stage's own (``None``), and those of a name."""
    own = SCORES if None in names else frozenset[Ability]()
    return own, dict.fromkeys([name for name in names if name is not None], SCORES)


class Likelihood(Scorer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The log-likelihood of the answer: log p(answer | conversation), by a model that scores given text.

    Its mean over the tokens is what CREAM (arXiv 2410.12735) ranks the first round's answers by.
    """

    engine: str | None = None
    """The name of the engine that scores; ``null`` is the stage's own."""
    per: Per = "token"
    """``token``: the mean over the answer's tokens; ``answer``: their sum, which falls with the length."""

    @property
    def needs(self) -> frozenset[Ability]:
        """Of the stage's own engine, where it is asked: that it scores given text."""
        return named_engines(self.engine)[0]

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """The engine that is named."""
        return named_engines(self.engine)[1]

    async def __call__(self, answer: Answered, context: Context, score: str) -> Sequence[Score]:
        """The log-likelihood."""
        engine = context.named(self.engine)
        return [Score(score, await log_likelihood(engine, answer.messages, answer.completion, self.per))]

    def estimate(self, answer: Answered) -> Estimate:
        """One score of conversation and answer."""
        return Estimate(1, 1, tokens_of(answer), 0, rows_max=1)


async def log_ratio(
    answer: Answered, context: Context, engines: tuple[str | None, str | None], per: Per
) -> float:
    """log p(answer) by the first engine less that by the second. With ``per="token"`` each is the mean over
    the model's own tokens, so that the two need not have one tokenizer."""
    first, second = await asyncio.gather(
        *(log_likelihood(context.named(e), answer.messages, answer.completion, per) for e in engines)
    )
    return first - second


class Implicit(Scorer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The implicit reward of a policy over its reference: beta * log(policy / reference) of the whole answer
    (DPO, arXiv 2305.18290). With ``beta: 1`` it is the current score of CREAM (arXiv 2410.12735).

    It is not normalised by length, as in DPO: the stage ``implicit_rewards`` gives the steps' own.
    """

    reference: str
    """The name of the reference model's engine."""
    policy: str | None = None
    """The name of the policy's engine; ``null`` is the stage's own."""
    beta: Annotated[float, Meta(gt=0)] = 0.1
    """The factor of the log-ratio, as the policy was trained with."""

    @property
    def needs(self) -> frozenset[Ability]:
        """Of the stage's own engine, where it is the policy: that it scores given text."""
        return named_engines(self.policy, self.reference)[0]

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """The engines that are named."""
        return named_engines(self.policy, self.reference)[1]

    async def __call__(self, answer: Answered, context: Context, score: str) -> Sequence[Score]:
        """The implicit reward."""
        ratio = await log_ratio(answer, context, (self.policy, self.reference), "answer")
        return [Score(score, self.beta * ratio)]

    def estimate(self, answer: Answered) -> Estimate:
        """Two scores of conversation and answer."""
        return Estimate(2, 2, tokens_of(answer), 0, rows_max=1)


class DensityRatio(Scorer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """log strong(answer) - log weak(answer): what a better aligned model of a family holds more likely than
    a less aligned one (CDR, arXiv 2411.02481).

    The gap in alignment between the two matters more than their sizes: a model after preference training
    against the one before it.
    """

    weak: str
    """The name of the less aligned model's engine."""
    strong: str | None = None
    """The name of the better aligned model's engine; ``null`` is the stage's own."""
    per: Per = "answer"
    """``answer``: the ratio of the whole answer, as in the paper; ``token``: the difference of the means over
    the tokens, which does not grow with the length (ours)."""
    system: str | None = None
    """A system prompt for both models that says what the task wants ("Answer safely: ..."), with places of
    the row; it replaces one that the conversation has. ``null`` adds none."""

    @property
    def needs(self) -> frozenset[Ability]:
        """Of the stage's own engine, where it is the strong one: that it scores given text."""
        return named_engines(self.strong, self.weak)[0]

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """The engines that are named."""
        return named_engines(self.strong, self.weak)[1]

    @property
    def places(self) -> Mapping[str, frozenset[str]]:
        """What the system prompt wants of the row."""
        return row_places((), system=self.system)

    async def __call__(self, answer: Answered, context: Context, score: str) -> Sequence[Score]:
        """The density ratio."""
        if self.system is not None:
            rest = tuple(m for m in answer.messages if m.role != "system")
            answer = replace(answer, messages=(Message("system", fill(self.system, answer.row)), *rest))
        return [Score(score, await log_ratio(answer, context, (self.strong, self.weak), self.per))]

    def estimate(self, answer: Answered) -> Estimate:
        """Two scores of conversation and answer."""
        return Estimate(2, 2, tokens_of(answer) + len(self.system or "") // 4, 0, rows_max=1)
