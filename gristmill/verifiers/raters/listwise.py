"""Several answers to one problem rated together: by a principle of the row, or against one of themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Engine, Message, Request
from gristmill.core.errors import RowRejected
from gristmill.core.prompts import fill_messages, require
from gristmill.core.stages import Estimate, derive_seed
from gristmill.verifiers.judges.asking import Asking
from gristmill.verifiers.judges.base import bounds, fence, quote
from gristmill.verifiers.judges.judge import SYSTEM, Judge, presentations
from gristmill.verifiers.judges.replies import Unread
from gristmill.verifiers.raters.base import ListRating, evidence, of_row

_BY_PRINCIPLE = Message(
    "user",
    "{problem}\n\n{principle}\n\n{responses}\n\nJudge the {count} responses by what PRINCIPLE says, "
    "and by nothing else that you may like: where it and your own taste differ, it decides. Neither length "
    "nor the order in which they stand matters. Answer with one JSON object and nothing else: "
    '{"reason": "...", "scores": [...], "ranking": [...]}. The scores are whole numbers from 1 (against the '
    "principle) to {highest} (as it says), in the order of the responses; the ranking has the numbers of all "
    "responses, best first.",
)


class PrincipleRanking(Struct, frozen=True, forbid_unknown_fields=True):
    """RewardAnything (arXiv 2506.03637): a principle in plain words, and scores and a ranking of answers by
    it.

    A reply counts only if its ranking does not contradict its scores. The number of an answer is its mean
    score over the replies, from 1 as 0 to ``highest`` as 1. Ranking and scores of each reply are kept in the
    detail, by the answers' own numbers.
    """

    principle: str = ""
    """The principle for every row, unless ``column`` names a column."""
    column: str | None = "principle"
    """The column in which each row has its own principle. A row without it takes ``principle``; without
    either it is rejected. ``null``: not read."""
    highest: Annotated[int, Meta(ge=2, le=100)] = 5
    """The highest score, 2 to 100; the lowest is 1."""
    shuffles: Annotated[int, Meta(ge=1, le=100)] = 2
    """Replies, each with the answers in another order. If fewer than half can be read, nothing is told."""
    asking: Asking = Asking(read="json")
    """How it is asked: ``sampling``. The reply is always JSON."""
    prompt: tuple[Message, ...] = (SYSTEM, _BY_PRINCIPLE)
    """The prompt, with ``{problem}``, ``{principle}``, ``{responses}``, ``{count}``, ``{highest}`` and
    ``{fence}``."""

    def __post_init__(self) -> None:
        known = ("problem", "count", "highest", "fence")
        require("prompt", self.prompt, "principle", "responses", known=known)

    @property
    def needs(self) -> frozenset[Ability]:
        """To chat."""
        return frozenset({Ability.CHAT})

    def for_row(self, row: Mapping[str, Any]) -> PrincipleRanking:
        """This rater with the row's principle."""
        principle = self.principle
        if self.column is not None and row.get(self.column) is not None:
            principle = of_row(row, self.column, str)
        if not principle.strip():
            raise RowRejected("no principle", f"neither the column {self.column!r} nor the option has one")
        return replace(self, principle=principle, column=None)

    def estimate_list(self, responses: Sequence[str], *, problem: str) -> Estimate:
        """A reply for each order, with one repair."""
        tokens = self.asking.sampling.max_tokens
        return bounds(self.shuffles, 1, "json", tokens, problem, *responses)

    async def rate_together(
        self, responses: Sequence[str], *, problem: str, engine: Engine, seed: int
    ) -> ListRating:
        """The mean scores of ``responses``."""
        orders = presentations(len(responses), self.shuffles, seed)
        code = fence(seed, (problem, self.principle, *responses))
        found = await asyncio.gather(
            *(self._reply(responses, order, i, problem, code, engine, seed) for i, order in enumerate(orders))
        )
        read = [one for one in found if not isinstance(one, Unread)]
        unread = [one.why for one in found if isinstance(one, Unread)]
        detail = evidence(replies=read, unread=unread)
        if 2 * len(read) < self.shuffles:
            return ListRating((None,) * len(responses), len(read), self.shuffles, detail)
        means = [sum(one.scores[i] for one in read) / len(read) for i in range(len(responses))]
        scores = tuple((mean - 1) / (self.highest - 1) for mean in means)
        return ListRating(scores, len(read), self.shuffles, detail)

    async def _reply(
        self,
        responses: Sequence[str],
        order: Sequence[int],
        index: int,
        problem: str,
        code: str,
        engine: Engine,
        seed: int,
    ) -> ScoredRanking | Unread:
        messages = fill_messages(
            self.prompt,
            problem=quote("PROBLEM", problem, code),
            principle=quote("PRINCIPLE", self.principle, code),
            responses="\n\n".join(quote(f"RESPONSE {n}", responses[i], code) for n, i in enumerate(order, 1)),
            count=str(len(order)),
            highest=str(self.highest),
            fence=code,
        )
        request = Request(messages, self.asking.sampling, derive_seed(seed, "list", index))
        parse = partial(_scored, count=len(order), highest=self.highest)
        [said] = await self.asking.structure(request, parse, engine=engine)
        if isinstance(said, Unread):
            return said
        by_index = dict(zip(order, said.scores, strict=True))
        scores = tuple(by_index[i] for i in range(len(order)))
        return ScoredRanking(scores, tuple(order[n - 1] for n in said.ranking), said.reason)


class ScoredRanking(Struct, frozen=True):
    """Scores in the order of the responses, and their numbers, best first."""

    scores: tuple[int, ...]
    ranking: tuple[int, ...]
    reason: str = ""


def _scored(text: str, count: int, highest: int) -> ScoredRanking:
    found = msgspec.json.decode(text, type=ScoredRanking)
    if len(found.scores) != count:
        raise ValueError(f"{len(found.scores)} scores for {count} responses")
    if strange := [s for s in found.scores if not 1 <= s <= highest]:
        raise ValueError(f"the score {strange[0]} is not from 1 to {highest}")
    if sorted(found.ranking) != list(range(1, count + 1)):
        raise ValueError(f"the ranking does not have the numbers 1 to {count}, each once")
    in_order = [found.scores[n - 1] for n in found.ranking]
    if in_order != sorted(in_order, reverse=True):
        raise ValueError("the ranking contradicts the scores")
    return found


class Bootstrapped(Struct, frozen=True, forbid_unknown_fields=True):
    """The pairwise reward of Writing-Zero (arXiv 2506.00103): one of the answers, drawn by the seed, is the
    reference, and each of the others is compared with it in both orders.

    The number is 1 for an answer that is better than the reference, 0 for one that is worse and 0.5 for a tie
    and for the reference itself, which the authors give as 1, -1 and nothing. A comparison that could not be
    read gives none.
    """

    judge: Judge = Judge()
    """How two answers are compared."""

    @property
    def needs(self) -> frozenset[Ability]:
        """What the judge needs."""
        return self.judge.needs

    def estimate_list(self, responses: Sequence[str], *, problem: str) -> Estimate:
        """A comparison of each answer but one."""
        one = self.judge.estimate_pair("", "", problem=problem)
        least, most = (n * (len(responses) - 1) for n in (one.completions_min, one.completions_max))
        return replace(one, completions_min=least, completions_max=most)

    async def rate_together(
        self, responses: Sequence[str], *, problem: str, engine: Engine, seed: int
    ) -> ListRating:
        """The rewards of ``responses``; the reference's index is in the detail."""
        reference = derive_seed(seed, "reference") % len(responses)
        others = [i for i in range(len(responses)) if i != reference]
        found = await asyncio.gather(
            *(
                self.judge.compare(
                    responses[i], responses[reference], problem=problem, engine=engine, seed=seed
                )
                for i in others
            )
        )
        worth = {"first": 1.0, "second": 0.0, "tie": 0.5, None: None}
        scores: dict[int, float | None] = {i: worth[c.winner] for i, c in zip(others, found, strict=True)}
        scores[reference] = 0.5
        read = sum(c.winner is not None for c in found)
        told = {str(i): c.detail for i, c in zip(others, found, strict=True)}
        detail = evidence(reference=reference, comparisons=told)
        return ListRating(tuple(scores[i] for i in range(len(responses))), read, len(others), detail)
