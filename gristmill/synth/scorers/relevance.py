"""Relevance with regularisers, a reward without preferences (R^3, arXiv 2402.03469, whose later title is
Rethinking the Role of Proxy Rewards).

The definition is read off the authors' released code: relevance is the product of a retriever's embeddings
(Contriever); to an open question it is multiplied by the answer's length in hundreds of words, for a closed
one it is the answer's relevance to the reference, from [0, 3.5] to [0, length limit / 100]; both by the share
of distinct trigrams. Here relevance is either a re-ranker's, or a language model's: the geometric mean of the
probabilities of the question's tokens, given the answer, in (0, 1] (ours).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta

from gristmill.core.engine import Ability, Message
from gristmill.core.errors import RowRejected
from gristmill.core.prompts import fill, require
from gristmill.core.records import Score
from gristmill.core.stages import Context, Estimate
from gristmill.synth.scorers.base import Answered, Scorer, tokens_of
from gristmill.synth.scorers.likelihood import SCORES, log_likelihood
from gristmill.synth.scorers.reward import REWARDS, one_reward
from gristmill.verifiers.judges.base import quoted

_WORD = re.compile(r"\w+|[^\w\s]+")
_PROMPT = """{response}

That is an assistant's answer. Which message of a user does it answer? Write that message and nothing else."""


def length_incentive(text: str) -> float:
    """Words and runs of punctuation, in hundreds."""
    return len(_WORD.findall(text)) / 100


def distinct_trigrams(text: str) -> float:
    """The share of distinct ones among the trigrams of words, in (0, 1]; 1 where there is none."""
    words = _WORD.findall(text)
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(trigrams)) / len(trigrams) if trigrams else 1.0


class Relevance(Scorer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Relevance of an answer, regularised (R^3, arXiv 2402.03469): open questions by relevance * length *
    distinct trigrams, closed ones by relevance to the reference * distinct trigrams.

    The length is part of the reward on purpose, so the score prefers longer answers: look at its
    correlation with ``length``. ``NAME_relevance``, ``NAME_length`` and ``NAME_distinct`` are its parts.
    """

    engine: str | None = None
    """The name of the engine that is asked; ``null`` is the stage's own."""
    measure: Literal["likelihood", "reranker"] = "likelihood"
    """``likelihood``: of the question given the answer, by an engine that scores given text; ``reranker``:
    of question and answer, by an engine of kind ``reward-server``."""
    closed: str | None = None
    """The column (true or false) that says whether a question is closed, so that its answer is compared with
    the reference; ``null``: every question is open."""
    highest: Annotated[float, Meta(gt=0)] = 1.0
    """The relevance that counts as complete for a closed question (3.5 for the paper's retriever)."""
    most_words: Annotated[float, Meta(gt=0)] = 512.0
    """What a completely relevant answer to a closed question is worth, in words of an open one."""
    prompt: str = _PROMPT
    """With ``likelihood``: what stands before the question, with ``{response}``, quoted, and ``{fence}``."""

    def __post_init__(self) -> None:
        require("prompt", self.prompt, "response", known=("fence",))

    @property
    def _wanted(self) -> frozenset[Ability]:
        return SCORES if self.measure == "likelihood" else REWARDS

    @property
    def needs(self) -> frozenset[Ability]:
        """Of the stage's own engine, where it is asked: that it scores texts, or gives rewards."""
        return self._wanted if self.engine is None else frozenset()

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """The engine that is named."""
        return {} if self.engine is None else {self.engine: self._wanted}

    def names(self, score: str) -> tuple[str, ...]:
        """The score and its three parts."""
        return (score, f"{score}_relevance", f"{score}_length", f"{score}_distinct")

    def cautions(self) -> Sequence[str]:
        """That the length is rewarded."""
        return ["The score 'relevance' grows with the length of the answer, as the paper defines it."]

    async def __call__(self, answer: Answered, context: Context, score: str) -> Sequence[Score]:
        """The score and its parts."""
        closed = self.closed is not None and answer.row.get(self.closed) is True
        if closed and not answer.reference:
            raise RowRejected("no reference", "a closed question needs its reference answer")
        about = answer.reference if closed and answer.reference else answer.problem
        relevance = await self._relevance(about, answer, context)
        length, distinct = length_incentive(answer.completion), distinct_trigrams(answer.completion)
        scale = relevance / self.highest * self.most_words / 100 if closed else relevance * length
        parts = (scale * distinct, relevance, length, distinct)
        return [Score(name, value) for name, value in zip(self.names(score), parts, strict=True)]

    async def _relevance(self, about: str, answer: Answered, context: Context) -> float:
        engine = context.named(self.engine)
        if self.measure == "reranker":
            return await one_reward(engine, (Message("user", about),), answer.completion)
        asked = fill(self.prompt, **quoted(0, response=answer.completion))
        return math.exp(await log_likelihood(engine, (Message("user", asked),), about, "token"))

    def estimate(self, answer: Answered) -> Estimate:
        """One score."""
        return Estimate(1, 1, tokens_of(answer) + len(self.prompt) // 4 + 30, 0, rows_max=1)
