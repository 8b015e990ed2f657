"""``question_memory``: questions and answers that passages give, kept where the answer comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta, Struct

from gristmill.core.engine import Ability, Message, Sampling
from gristmill.core.errors import RowRejected
from gristmill.core.prompts import fields, require, row_places
from gristmill.core.records import Passage, Problem
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.synth.rag_methods.base import WRITER, asked_json, asked_text
from gristmill.synth.refusal.passages import holds
from gristmill.verifiers.judges.asking import Asking
from gristmill.verifiers.judges.base import bounds, quoted
from gristmill.verifiers.judges.replies import Unread
from gristmill.verifiers.rules.short_answer import ShortAnswer, tokens

_PROMPT = Message(
    "user",
    "{passage}\n\nWrite {count} questions that PASSAGE answers, each with its answer. A question names what "
    "it asks about, so that it can be understood without the passage, and does not say its answer. An answer "
    "is a few words of PASSAGE. Reply with one JSON object and nothing else: "
    '{"pairs": [{"question": "...", "answer": "..."}]}.',
)
_ASKED = Message(
    "user",
    "{passage}\n\n{question}\n\nAnswer QUESTION from PASSAGE, with the fewest words of it that answer it and "
    'nothing else. If it is not answered there, write "I do not know".',
)
_CALL = 3_600_000


class MemoryPair(Struct, frozen=True):
    """A question and its answer."""

    question: str
    answer: str


class MemoryReply(Struct, frozen=True):
    """Questions and answers of a passage."""

    pairs: tuple[MemoryPair, ...]


class QuestionMemory(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes questions and answers of passages, and keeps those that pass a round trip (QA-Memory, arXiv
    2204.04581): the question is asked again over its passage, and must get its answer.

    Each is a problem ``PASSAGE/qa/N`` with the passage's id in ``meta.passages`` and its title in
    ``meta.title``. They are problems to train on, and, with the stage ``derive``, passages to be retrieved: a
    memory (docs/rag-methods.md).

    Rejected is each one whose answer is not in the passage as whole words, that says its own answer or no
    question, repeats an earlier one, or fails the round trip; and a passage whose reply cannot be read.
    """

    reads: ClassVar[type[Struct]] = Passage
    writes: ClassVar[type[Struct]] = Problem
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.CHAT})

    count: Annotated[int, Meta(ge=1, le=100)] = 3
    """The questions of a passage."""
    equal: ShortAnswer = ShortAnswer(metric="f1", threshold=0.8, extract="whole")
    """When the answer of the round trip counts as the same."""
    answerer: str | None = None
    """The name of the engine that answers in the round trip; ``null``: the one that asks. Another model is
    the harder check."""
    asking: Asking = Asking(read="json")
    """How questions are asked for: ``sampling``. The reply is always JSON."""
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=64)
    """How they are answered."""
    prompt: tuple[Message, ...] = (WRITER, _PROMPT)
    """The prompt for questions, with ``{passage}`` and ``{count}``."""
    round_trip: tuple[Message, ...] = (WRITER, _ASKED)
    """The prompt for the answer, with ``{passage}`` and ``{question}``."""

    def __post_init__(self) -> None:
        require("prompt", self.prompt, "passage", known=("count", "fence"))
        require("round_trip", self.round_trip, "passage", "question", known=("fence",))

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """The engine of the round trip, if it is another one."""
        return {} if self.answerer is None else {self.answerer: frozenset({Ability.CHAT})}

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row beside what the stage puts in itself, by option."""
        return row_places(
            ("passage", "question", "count", "fence"), prompt=self.prompt, round_trip=self.round_trip
        )

    async def __call__(self, record: Passage, context: Context) -> Sequence[Problem | Rejection]:
        """The questions, with a rejection for each that is of no use."""
        shown = f"{record.title}: {record.text}" if record.title else record.text
        seed = context.seed_for(record.id, _CALL)
        values = quoted(seed, passage=shown) | {"count": str(self.count)}
        parse = partial(_pairs, most=self.count)
        said = await asked_json(self.asking, self.prompt, values, parse, engine=context.engine, seed=seed)
        if isinstance(said, Unread):
            return [Rejection(record.id, "question_memory: the reply cannot be read", said.why)]
        seen: set[tuple[str, ...]] = set()
        odd = [_odd(one, shown, seen) for one in said]
        checked = await asyncio.gather(
            *(
                self._checked(record, one, number, shown, context)
                for number, one in enumerate(said)
                if not odd[number]
            )
        )
        came_back = iter(checked)
        return [
            Rejection(
                f"{record.id}/qa/{n}", f"question_memory: {odd[n]}", f"{one.question} {one.answer}"[:200]
            )
            if odd[n]
            else next(came_back)
            for n, one in enumerate(said)
        ]

    async def _checked(
        self, record: Passage, one: MemoryPair, number: int, shown: str, context: Context
    ) -> Problem | Rejection:
        own, seed = f"{record.id}/qa/{number}", context.seed_for(record.id, _CALL + 1 + number)
        values = quoted(seed, passage=shown, question=one.question)
        engine = context.named(self.answerer)
        try:
            text = await asked_text(self.sampling, self.round_trip, values, engine=engine, seed=seed)
        except RowRejected as refused:
            return Rejection(own, "question_memory: no answer came back", refused.message)
        verdict = self.equal(text, one.answer)
        context.count(verdict)
        if not verdict.correct:
            return Rejection(
                own, "question_memory: another answer came back", f"{one.answer!r}, then {text[:200]!r}"
            )
        meta = {**fields(record.meta), "passages": [record.id]} | (
            {"title": record.title} if record.title else {}
        )
        return Problem(own, one.question.strip(), one.answer.strip(), meta=msgspec.json.encode(meta).decode())

    def estimate(self, record: Passage) -> Estimate:
        """The questions, with one repair, and an answer to each."""
        made = bounds(1, 1, "json", self.asking.sampling.max_tokens, record.text)
        most = made.completions_max + self.count
        return msgspec.structs.replace(made, completions_max=most, rows_max=self.count)


def _pairs(text: str, most: int) -> tuple[MemoryPair, ...]:
    read = msgspec.json.decode(text, type=MemoryReply).pairs
    if not read:
        raise ValueError("there is no pair")
    return read[:most]


def _odd(one: MemoryPair, passage: str, seen: set[tuple[str, ...]]) -> str:
    """Why a pair is of no use; empty where it may be."""
    asked = tuple(tokens(one.question))
    if not one.question.strip().endswith("?"):
        return "it asks nothing"
    if asked in seen:
        return "a question is there twice"
    seen.add(asked)
    if not one.answer.strip() or not holds(passage, one.answer):
        return "the answer is not in the passage"
    return "it says its own answer" if holds(one.question, one.answer) else ""
