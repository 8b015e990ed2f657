"""``ranking_labels``: the order of a question's passages by a judge, checked against labels of each alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct

from gristmill.core.engine import Ability, Message
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.prompts import fill_messages, require, row_places
from gristmill.core.records import Problem, Sampled, Score
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.synth.rag_methods.base import asked_json, cost, held, ndcg, numbered, numbers, own_ids
from gristmill.synth.rag_methods.utility import USEFUL
from gristmill.verifiers.judges.asking import Asking
from gristmill.verifiers.judges.base import quoted
from gristmill.verifiers.judges.judge import SYSTEM
from gristmill.verifiers.judges.replies import Unread

NDCG = "ndcg"
_LIST = Message(
    "user",
    "{passages}\n\n{problem}\n\nPut the {count} numbered PASSAGES in order by how much each helps to answer "
    'PROBLEM. Reply with one JSON object and nothing else: {"reason": "...", "ranking": [...]}; the reason '
    "says in brief what the question needs and where it is, and the ranking has the numbers of all passages, "
    "the most helpful first.",
)
_ONE = Message(
    "user",
    "{passage}\n\n{problem}\n\nDoes PASSAGE say something that PROBLEM asks for, or that is needed to answer "
    "it? {answer_with}",
)
_ASKED = Message(
    "user",
    "{passages}\n\nQuestion: {problem}\n\nPut the passages in order by how much each helps to answer the "
    "question, the most helpful first, such as [2] > [1] for two.",
)
_CALL = 3_400_000


class OrderReply(Struct, frozen=True):
    """The numbers of passages, the most helpful first, and why."""

    ranking: tuple[int, ...]
    reason: str = ""


class RankingLabels(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes rows that teach listwise ranking of passages with reasons (ReasonRank, arXiv 2508.07050).

    A judge orders the passages in windows that slide from the last passage to the first: what is found
    helpful in one goes on into the next. Each passage is also labelled alone, and a ranking whose NDCG@10 by
    these labels is below ``threshold`` is rejected: the judge contradicts itself (the paper's
    self-consistency filter, with its 0.4). A row is a sample whose completion is the order, ``[2] > [1] >
    [3]`` by the numbers in its prompt, and whose reasoning is the judge's reason where one window held all
    passages; its score is ``ndcg``.

    Rejected besides: a question with one passage, one whose passages are none of them relevant, and one of
    which a reply cannot be read.
    """

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Sampled
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.CHAT})

    labels: Literal["judge", "gold", "useful"] = "judge"
    """What tells whether a passage is relevant. ``judge``: the same model, asked about each alone. ``gold``:
    the passages that the question names. ``useful``: what ``passage_utility`` found."""
    threshold: Annotated[float, Meta(ge=0, le=1)] = 0.4
    """The least NDCG@10, 0 to 1, with which a ranking is kept."""
    window: Annotated[int, Meta(ge=2)] = 20
    """The passages that are put before the judge at a time."""
    stride: Annotated[int, Meta(ge=1)] = 10
    """By how many passages the next window begins before the last one; at most ``window``."""
    asking: Asking = Asking(read="json")
    """How orders are asked for: ``sampling``. The reply is always JSON."""
    alone: Asking = Asking()
    """How it is asked about one passage."""
    listwise: tuple[Message, ...] = (SYSTEM, _LIST)
    """The prompt for an order, with ``{passages}``, ``{problem}`` and ``{count}``."""
    pointwise: tuple[Message, ...] = (SYSTEM, _ONE)
    """The prompt about one passage, with ``{passage}``, ``{problem}`` and ``{answer_with}``."""
    prompt: tuple[Message, ...] = (_ASKED,)
    """What the rows are asked with, with ``{passages}`` and ``{problem}``."""

    def __post_init__(self) -> None:
        require("listwise", self.listwise, "passages", "problem", known=("count", "fence"))
        require("pointwise", self.pointwise, "passage", "problem", "answer_with", known=("fence",))
        require("prompt", self.prompt, "passages", "problem", known=())
        if self.stride > self.window:
            raise RecipeError(
                f"ranking_labels: stride is {self.stride}, more than the window of {self.window}, so that "
                "passages between two windows would be in none.",
                remedy="Set stride to at most window; half of it is usual.",
            )

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row beside what the stage puts in itself, by option."""
        return row_places(
            ("passages", "passage", "problem", "count", "answer_with", "fence"),
            prompt=self.prompt,
            listwise=self.listwise,
            pointwise=self.pointwise,
        )

    async def __call__(self, record: Problem, context: Context) -> Sequence[Sampled | Rejection]:
        """The row, or the question's rejection."""
        meta, found = held(record)
        if len(found) < 2:
            raise RowRejected("ranking_labels: only one passage")
        labels = await self._labels(record, meta, found, context)
        if not any(labels):
            raise RowRejected("ranking_labels: no passage is relevant")
        order = list(range(len(found)))
        reason = ""
        for call, start in enumerate(starts(len(found), self.window, self.stride)):
            inside = order[start : start + self.window]
            said = await self._window(record, [found[i] for i in inside], context, call)
            if isinstance(said, Unread):
                return [Rejection(record.id, "ranking_labels: an order cannot be read", said.why)]
            order[start : start + self.window] = [inside[n - 1] for n in said.ranking]
            reason = said.reason
        value = ndcg([labels[i] for i in order])
        if value < self.threshold:
            detail = f"NDCG@10 is {value:.3f}, below {self.threshold:g}"
            return [Rejection(record.id, "ranking_labels: the order contradicts the labels", detail)]
        return [self._row(record, found, order, reason if len(found) <= self.window else "", value)]

    def _row(
        self,
        record: Problem,
        found: Sequence[Mapping[str, Any]],
        order: Sequence[int],
        why: str,
        value: float,
    ) -> Sampled:
        return Sampled(
            id=f"{record.id}/ranking",
            problem_id=record.id,
            index=0,
            problem=record.problem,
            answer=record.answer,
            messages=fill_messages(self.prompt, passages=numbered(found), problem=record.problem),
            completion=" > ".join(f"[{i + 1}]" for i in order),
            finish_reason="stop",
            prompt_tokens=0,
            completion_tokens=0,
            scores=(Score(NDCG, value),),
            meta=record.meta,
            reasoning=why,
        )

    async def _window(
        self, record: Problem, found: Sequence[Mapping[str, Any]], context: Context, call: int
    ) -> OrderReply | Unread:
        seed = context.seed_for(record.id, _CALL + 1000 + call)
        values = quoted(seed, passages=numbered(found), problem=record.problem)
        parse = partial(_order, count=len(found))
        return await asked_json(
            self.asking,
            self.listwise,
            values | {"count": str(len(found))},
            parse,
            engine=context.engine,
            seed=seed,
        )

    async def _labels(
        self, record: Problem, meta: Mapping[str, Any], found: Sequence[Mapping[str, Any]], context: Context
    ) -> list[float]:
        """The relevance of each passage, 0 or 1."""
        if self.labels == "judge":
            return await asyncio.gather(*(self._alone(record, one, context) for one in found))
        if self.labels == "gold":
            own = own_ids(meta)
            if own is None:
                raise RowRejected("ranking_labels: the question names no passages")
            return [float(one.get("source") in own) for one in found]
        if not all(isinstance(one.get(USEFUL), bool) for one in found):
            raise RowRejected("ranking_labels: a passage is not labelled", "run passage_utility before")
        return [float(one[USEFUL]) for one in found]

    async def _alone(self, record: Problem, one: Mapping[str, Any], context: Context) -> float:
        seed = context.seed_for(record.id, _CALL)
        values = quoted(seed, passage=numbered([one]), problem=record.problem)
        ballot = await self.alone.choose(
            self.pointwise, values, ("yes", "no"), engine=context.engine, seed=seed
        )
        if ballot.best is None:
            raise RowRejected("ranking_labels: a label cannot be read", ballot.detail)
        return float(ballot.best == "yes")

    def estimate(self, record: Problem) -> Estimate:
        """A question for each window, and one for each passage where the judge labels them."""
        try:
            count = len(held(record)[1])
        except RowRejected:
            return Estimate(0, 0, 0, 0, rows_max=0)
        windows = len(starts(count, self.window, self.stride))
        return cost(record, self.asking, windows + (count if self.labels == "judge" else 0), 1)


def starts(count: int, window: int, stride: int) -> list[int]:
    """Where the windows over ``count`` passages begin, the last ones first; the last window begins at 0."""
    return [max(0, at) for at in range(count - window, -stride, -stride)] if count > window else [0]


def _order(text: str, count: int) -> OrderReply:
    found = msgspec.json.decode(text, type=OrderReply)
    if len(numbers(found.ranking, count)) < count:
        raise ValueError(f"{len(found.ranking)} numbers for {count} passages")
    return found
