"""``rerank``: the passages of a question, as useful as a judge or a re-ranking model finds them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Message
from gristmill.core.errors import RowRejected
from gristmill.core.passages import passages
from gristmill.core.prompts import fields, require, row_places
from gristmill.core.records import Problem
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.synth.rag.retrieve import GOLD, PASSAGES, listed
from gristmill.synth.scorers.reward import REWARDS, one_reward
from gristmill.verifiers.judges.asking import Asking
from gristmill.verifiers.judges.base import bounds, needs_of, quoted
from gristmill.verifiers.judges.judge import SYSTEM

_PROMPT = Message(
    "user",
    "{passage}\n\n{problem}\n\nDoes PASSAGE say something that PROBLEM asks for, or that is needed to answer "
    "it? That it is about the same matter is not enough. {answer_with}",
)
_LABELS = ("yes", "no")
_CALL = 3_000_000
"""Seeds of these questions are derived apart from those of samples and of judged pairs."""


class Rerank(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Puts each question's passages in the order of a judge's probability that they help to answer it, or of
    the numbers of a re-ranking model.

    Reads what ``retrieve`` wrote. Each passage is asked about alone, so that none has an advantage by its
    place. One about which the answer could not be read comes after all that the judge finds useful and before
    the others; equal ones stay in order. The summary has the recall of the passages that are kept.
    """

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Problem

    top_k: Annotated[int, Meta(ge=1)] | None = None
    """The most passages that are kept; ``null``: all."""
    by: Literal["judge", "reward"] = "judge"
    """Who says how useful a passage is: ``judge`` asks a chat model, ``reward`` takes the numbers of a
    re-ranking model (an engine of kind ``reward-server`` with ``route: rerank`` or ``score``, or
    ``transformers-reward``)."""
    asking: Asking = Asking()
    """How the judge is asked."""
    prompt: tuple[Message, ...] = (SYSTEM, _PROMPT)
    """What it is asked, with the places ``{passage}``, ``{problem}`` and ``{answer_with}``."""

    def __post_init__(self) -> None:
        require("prompt", self.prompt, "passage", "problem", "answer_with", known=("fence",))

    @property
    def needs(self) -> frozenset[Ability]:
        """Rewards, or of a judge token probabilities if ``asking`` reads nothing else."""
        return REWARDS if self.by == "reward" else needs_of(self.asking.read)

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row beside what the stage puts in itself, by option."""
        return row_places(("passage", "problem", "answer_with", "fence"), prompt=self.prompt)

    async def __call__(self, record: Problem, context: Context) -> Sequence[Problem | Rejection]:
        """The question with its passages in order."""
        meta = fields(record.meta)
        held = listed(meta)
        seed = context.seed_for(record.id, _CALL)

        async def useful(one: Any) -> float:
            if self.by == "reward":
                question = (Message("user", record.problem),)
                return await one_reward(context.engine, question, passages([one]))
            values = quoted(seed, passage=passages([one]), problem=record.problem)
            ballot = await self.asking.choose(self.prompt, values, _LABELS, engine=context.engine, seed=seed)
            share = ballot.share("yes")
            return 0.5 if share is None else share

        shares = await asyncio.gather(*(useful(one) for one in held))
        order = sorted(range(len(held)), key=lambda number: -shares[number])[: self.top_k]
        kept = [held[number] for number in order]
        if gold := meta.get(GOLD):
            have = {one.get("source") for one in kept}
            context.measure("recall of what is kept, in %", round(100 * len(have & set(gold)) / len(gold)))
        meta[PASSAGES] = kept
        return [replace(record, meta=msgspec.json.encode(meta).decode())]

    def estimate(self, record: Problem) -> Estimate:
        """A question for each passage, or its reward."""
        try:
            held = listed(fields(record.meta))
        except RowRejected:
            return Estimate(0, 0, 0, 0, rows_max=0)
        longest = max((passages([one]) for one in held), key=len)
        if self.by == "reward":
            return Estimate(len(held), len(held), (len(record.problem) + len(longest)) // 4, 0, rows_max=1)
        tokens = self.asking.sampling.max_tokens
        cost = bounds(len(held), self.asking.votes, self.asking.read, tokens, record.problem, longest)
        return replace(cost, rows_max=1)
