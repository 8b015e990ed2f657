"""The likelihood of what a user would say next (FLR, arXiv 2409.13948)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from gristmill.core.engine import Ability, Message
from gristmill.core.prompts import fill, require
from gristmill.core.records import Score
from gristmill.core.stages import Context, Estimate
from gristmill.synth.scorers.base import Answered, Scorer, tokens_of
from gristmill.synth.scorers.likelihood import log_likelihood, named_engines
from gristmill.verifiers.judges.base import quoted

Phrases = Annotated[tuple[Annotated[str, Meta(min_length=1)], ...], Meta(min_length=1)]
_SHIPPED = Path(__file__).with_name("follow_ups.json")
_PROMPT = """A user talks with an assistant.

{problem}

{response}

What does the user say next?"""


class FollowUps(Struct, frozen=True, forbid_unknown_fields=True):
    """What users say after good and after bad answers, in one respect."""

    positive: Phrases
    """Said after an answer that is good in this respect."""
    negative: Phrases
    """Said after one that is not."""


@cache
def shipped_follow_ups() -> dict[str, FollowUps]:
    """The follow-ups that come with Gristmill, in five respects; our own words, not the paper's."""
    return msgspec.json.decode(_SHIPPED.read_bytes(), type=dict[str, FollowUps])


def follow_up_reward(categories: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
    """The mean over the categories of (mean of the positive - mean of the negative log-likelihoods).

    The paper's abstract does not give the aggregation: this one is ours. ``ValueError`` for nothing.
    """
    if not categories:
        raise ValueError("there is no category of follow-ups")
    gaps = [sum(good) / len(good) - sum(bad) / len(bad) for good, bad in categories]
    return sum(gaps) / len(gaps)


class FollowUp(Scorer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much likelier a content user is to speak next than a discontented one (FLR, arXiv 2409.13948).

    The score is ``follow_up_reward`` of token means. The paper scores the follow-up as the user's next turn;
    engines score assistant turns, so it is asked for in words (``prompt``): a choice of ours.
    """

    engine: str | None = None
    """The name of the engine that scores; ``null`` is the stage's own."""
    follow_ups: dict[str, FollowUps] | None = None
    """Follow-ups by their respect, ``{NAME: {positive: [...], negative: [...]}}``; ``null`` takes the
    shipped ones."""
    prompt: str = _PROMPT
    """What stands before a follow-up: ``{problem}`` and ``{response}``, both quoted, and ``{fence}``."""

    def __post_init__(self) -> None:
        require("prompt", self.prompt, "response", known=("problem", "fence"))

    @property
    def needs(self) -> frozenset[Ability]:
        """Of the stage's own engine, where it is asked: that it scores given text."""
        return named_engines(self.engine)[0]

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """The engine that is named."""
        return named_engines(self.engine)[1]

    def names(self, score: str) -> tuple[str, ...]:
        """The score, and ``SCORE_RESPECT`` for each respect."""
        return (score, *(f"{score}_{name}" for name in self._all()))

    def _all(self) -> Mapping[str, FollowUps]:
        return shipped_follow_ups() if self.follow_ups is None else self.follow_ups

    async def __call__(self, answer: Answered, context: Context, score: str) -> Sequence[Score]:
        """The reward, and the difference in each respect."""
        values = quoted(0, problem=answer.problem, response=answer.completion)
        asked = (Message("user", fill(self.prompt, **values)),)
        engine, found = context.named(self.engine), self._all()
        phrases = [p for one in found.values() for p in (*one.positive, *one.negative)]
        likelihoods = dict(
            zip(
                phrases,
                await asyncio.gather(*(log_likelihood(engine, asked, p, "token") for p in phrases)),
                strict=True,
            )
        )
        gaps = {
            name: ([likelihoods[p] for p in one.positive], [likelihoods[p] for p in one.negative])
            for name, one in found.items()
        }
        each = [Score(f"{score}_{name}", follow_up_reward([gap])) for name, gap in gaps.items()]
        return [Score(score, follow_up_reward(list(gaps.values()))), *each]

    def estimate(self, answer: Answered) -> Estimate:
        """One score for each follow-up."""
        count = sum(len(one.positive) + len(one.negative) for one in self._all().values())
        return Estimate(count, count, tokens_of(answer) + len(self.prompt) // 4 + 60, 0, rows_max=1)
