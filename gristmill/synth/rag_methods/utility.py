"""``passage_utility``: which passages are of use for answering, by several listwise judgements."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Message
from gristmill.core.prompts import require, row_places
from gristmill.core.records import Problem
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.synth.rag_methods.base import asked_json, cost, held, numbered, numbers, own_ids, written
from gristmill.verifiers.judges.asking import Asking
from gristmill.verifiers.judges.base import quoted
from gristmill.verifiers.judges.judge import SYSTEM, presentations
from gristmill.verifiers.judges.replies import Unread

USEFUL, UTILITY = "useful", "utility"
_PROMPT = Message(
    "user",
    "{passages}\n\n{problem}\n\nWhich of the numbered PASSAGES does somebody need who answers PROBLEM from "
    "them? One that is about the same matter and says nothing that the answer needs is of no use. Think of "
    "the answer first. Reply with one JSON object and nothing else: "
    '{"answer": "...", "useful": [...]}, with the numbers of the passages that are of use; the list may be '
    "empty.",
)
_CALL = 3_100_000


class UtilityReply(Struct, frozen=True):
    """The numbers of the passages that a judge finds useful, and the answer it gives from them."""

    useful: tuple[int, ...]
    answer: str = ""


class PassageUtility(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Labels each passage of a question as useful or not (arXiv 2403.19216).

    All passages are shown together, ``samples`` times, each time in another order, and the votes are counted
    (the paper's k-sampling, listwise): what depends on a passage's place averages out. A passage gets its
    share of the votes as ``utility`` and whether that is at least ``threshold`` as ``useful``; the ids of
    the useful ones are in ``meta.useful``. A question is rejected if fewer than half of the replies can be
    read.

    Where the question names its passages, the summary has how many of the useful ones are its own, and how
    many of its own are called useful.
    """

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Problem
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.CHAT})

    samples: Annotated[int, Meta(ge=1, le=100)] = 5
    """The replies, each to another order of the passages."""
    threshold: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """The least share of the votes of a useful passage, in (0, 1]."""
    only_useful: bool = False
    """Whether the others are taken away. A question is then rejected if none is left."""
    asking: Asking = Asking(read="json")
    """How it is asked: ``sampling``. The reply is always JSON."""
    prompt: tuple[Message, ...] = (SYSTEM, _PROMPT)
    """The prompt, with the places ``{passages}`` and ``{problem}``."""

    def __post_init__(self) -> None:
        require("prompt", self.prompt, "passages", "problem", known=("fence",))

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row beside what the stage puts in itself, by option."""
        return row_places(("passages", "problem", "fence"), prompt=self.prompt)

    async def __call__(self, record: Problem, context: Context) -> Sequence[Problem | Rejection]:
        """The question with labelled passages."""
        meta, found = held(record)
        seed = context.seed_for(record.id, _CALL)
        orders = presentations(len(found), self.samples, seed)
        parse = partial(_useful, count=len(found))

        async def votes(order: Sequence[int], call: int) -> list[int] | Unread:
            values = quoted(seed, passages=numbered([found[i] for i in order]), problem=record.problem)
            own = context.seed_for(record.id, _CALL + 1 + call)
            said = await asked_json(self.asking, self.prompt, values, parse, engine=context.engine, seed=own)
            return said if isinstance(said, Unread) else [order[place] for place in said]

        replies = await asyncio.gather(*(votes(order, call) for call, order in enumerate(orders)))
        read = [one for one in replies if not isinstance(one, Unread)]
        if 2 * len(read) < self.samples:
            why = next(one.why for one in replies if isinstance(one, Unread))
            return [Rejection(record.id, "passage_utility: too few replies can be read", why)]
        shares = [sum(i in one for one in read) / len(read) for i in range(len(found))]
        labelled = [
            {**one, UTILITY: share, USEFUL: share >= self.threshold}
            for one, share in zip(found, shares, strict=True)
        ]
        useful = [one.get("source") for one in labelled if one[USEFUL]]
        if (own := own_ids(meta)) is not None:
            _measure(own, useful, context)
        if self.only_useful:
            labelled = [one for one in labelled if one[USEFUL]]
            if not labelled:
                return [Rejection(record.id, "passage_utility: no useful passage")]
        return [replace(record, meta=written({**meta, USEFUL: useful}, labelled))]

    def estimate(self, record: Problem) -> Estimate:
        """A reply for each order, with one repair."""
        return cost(record, self.asking, self.samples, 1)


def _measure(own: Sequence[str], useful: Sequence[str | None], context: Context) -> None:
    both = len(set(own) & set(useful))
    if useful:
        context.measure("useful passages that are the question's own, in %", round(100 * both / len(useful)))
    if own:
        context.measure("the question's own passages that are useful, in %", round(100 * both / len(own)))


def _useful(text: str, count: int) -> list[int]:
    return numbers(msgspec.json.decode(text, type=UtilityReply).useful, count)
