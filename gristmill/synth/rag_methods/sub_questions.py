"""Questions taken apart: ``sub_questions``, ``self_ask`` and ``compositionality_gap``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Message
from gristmill.core.prompts import fields, fill, require, row_places
from gristmill.core.records import Demonstration, Problem, Sampled, Turn
from gristmill.core.schema import from_frame, schema, to_frame
from gristmill.core.stages import REJECTED_REASON, Context, Estimate, Rejection, Relation, RowStage
from gristmill.core.verdicts import Outcome
from gristmill.filters.tables import with_rejected
from gristmill.synth.rag_methods.base import WRITER, asked_json, cost, held, numbered
from gristmill.synth.refusal.passages import holds
from gristmill.verifiers.judges.asking import Asking
from gristmill.verifiers.judges.base import quoted
from gristmill.verifiers.judges.replies import Unread
from gristmill.verifiers.rules.short_answer import tokens

if TYPE_CHECKING:
    import polars as pl

OF = "sub_question_of"
"""The key of ``meta`` in which a sub-question has the id of its question."""
_PROMPT = Message(
    "user",
    "{passages}\n\n{problem}\n\nTake PROBLEM apart into the questions that somebody answers one after the "
    "other to get to its answer, from 2 to {most}. Each asks for one thing that a passage says, and can be "
    "understood alone: it names what it asks about and does not point to an earlier question. The answer to "
    "the last is the answer to PROBLEM. Reply with one JSON object and nothing else: "
    '{"sub_questions": [{"question": "...", "answer": "..."}]}, with short answers in the words of PASSAGES.',
)
_CALL = 3_200_000
_POINTS = re.compile(r"#\d|\b(?:previous|earlier|above|sub-?question|answer to)\b", re.IGNORECASE)
"""What a question says that cannot be understood alone."""


class SubQuestion(Struct, frozen=True):
    """A sub-question and its answer."""

    question: str
    answer: str


class SubQuestionsReply(Struct, frozen=True):
    """The sub-questions of a question, in order."""

    sub_questions: tuple[SubQuestion, ...]


class SubQuestions(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Takes a question apart into questions that each ask for one thing (self-ask, arXiv 2210.03350).

    Each comes out as a problem ``QUESTION/sub/N`` with its own answer, the passages of the question, and the
    question's id in ``meta.sub_question_of``. All of a question's are needed, so the question is rejected as
    soon as one of them is of no use: its answer is in no passage, it says its own answer, it repeats another
    one or the question, or it points to another one. The last one's answer must be the question's reference,
    where there is one.
    """

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Problem
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.CHAT})

    most: Annotated[int, Meta(ge=2, le=20)] = 4
    """The most sub-questions of a question."""
    ends_with_answer: bool = True
    """Whether the last answer must be the question's reference, or have all of its words."""
    asking: Asking = Asking(read="json")
    """How it is asked: ``sampling``. The reply is always JSON."""
    prompt: tuple[Message, ...] = (WRITER, _PROMPT)
    """The prompt, with the places ``{passages}``, ``{problem}`` and ``{most}``."""

    def __post_init__(self) -> None:
        require("prompt", self.prompt, "passages", "problem", known=("fence", "most"))

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row beside what the stage puts in itself, by option."""
        return row_places(("passages", "problem", "most", "fence"), prompt=self.prompt)

    async def __call__(self, record: Problem, context: Context) -> Sequence[Problem | Rejection]:
        """The sub-questions, or the question's rejection."""
        meta, found = held(record)
        seed = context.seed_for(record.id, _CALL)
        values = quoted(seed, passages=numbered(found), problem=record.problem) | {"most": str(self.most)}
        parse = partial(_apart, most=self.most)
        said = await asked_json(self.asking, self.prompt, values, parse, engine=context.engine, seed=seed)
        if isinstance(said, Unread):
            return [Rejection(record.id, "sub_questions: the reply cannot be read", said.why)]
        if odd := self._odd(record, said, [str(one.get("text") or "") for one in found]):
            return [Rejection(record.id, f"sub_questions: {odd[0]}", odd[1])]
        own = msgspec.json.encode({**meta, OF: record.id}).decode()
        return [
            replace(record, id=f"{record.id}/sub/{n}", problem=one.question, answer=one.answer, meta=own)
            for n, one in enumerate(said)
        ]

    def _odd(self, record: Problem, said: Sequence[SubQuestion], texts: list[str]) -> tuple[str, str] | None:
        """Why the sub-questions are of no use, and which one it is."""
        seen = {tuple(tokens(record.problem))}
        for one in said:
            asked = tuple(tokens(one.question))
            if asked in seen:
                return "one repeats another one or the question", one.question
            seen.add(asked)
            if _POINTS.search(one.question):
                return "one cannot be understood alone", one.question
            if holds(one.question, one.answer):
                return "one says its own answer", one.question
            if not any(holds(text, one.answer) for text in texts):
                return "an answer is in no passage", f"{one.question} {one.answer}"
        if self.ends_with_answer and record.answer and not holds(said[-1].answer, record.answer):
            return "the last answer is not the reference", said[-1].answer
        return None

    def estimate(self, record: Problem) -> Estimate:
        """A reply, with one repair."""
        return cost(record, self.asking, 1, self.most)


def _apart(text: str, most: int) -> tuple[SubQuestion, ...]:
    read = msgspec.json.decode(text, type=SubQuestionsReply).sub_questions
    if not 2 <= len(read) <= most:
        raise ValueError(f"{len(read)} sub-questions, not 2 to {most}")
    if any(not one.question.strip() or not one.answer.strip() for one in read):
        raise ValueError("a question or an answer is empty")
    return read


class SelfAsk(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Conversations that teach to ask oneself: the question, then each sub-question with its answer, then the
    question's answer (self-ask, arXiv 2210.03350).

    Reads the questions and, as the second table, what ``sub_questions`` made of them. A question without
    sub-questions is rejected.
    """

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct] | None] = Demonstration
    inputs: ClassVar[tuple[int, int | None]] = (2, 2)

    step: str = "Sub-question: {question}\nAnswer: {answer}\n"
    """How a sub-question is written, with the places ``{question}`` and ``{answer}``."""
    end: str = "So the answer is: {answer}"
    """How the last line is written, with the place ``{answer}``."""

    def __post_init__(self) -> None:
        require("step", self.step, "question", "answer", known=())
        require("end", self.end, "answer", known=())

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The conversations in the order of the questions."""
        import polars as pl

        whole, parts = (
            from_frame(frame.select(Problem.__struct_fields__).collect(), Problem) for frame in frames
        )
        by_question: dict[str, list[Problem]] = {}
        for part in parts:
            by_question.setdefault(str(fields(part.meta).get(OF)), []).append(part)
        made: list[Demonstration] = []
        none: list[str] = []
        for one in whole:
            own = by_question.get(one.id)
            if not own:
                none.append(one.id)
                continue
            answer = one.answer or own[-1].answer or ""
            said = [fill(self.step, question=part.problem, answer=part.answer) for part in own]
            text = "".join([*said, fill(self.end, answer=answer)])
            turns = (Turn("user", one.problem, train=False), Turn("assistant", text, train=True))
            made.append(Demonstration(f"{one.id}/self-ask", one.id, one.problem, answer, "self-ask", turns))
        reason = pl.lit("self_ask: no sub-questions").alias(REJECTED_REASON)
        gone = pl.LazyFrame({"id": none}, schema={"id": pl.String}).with_columns(reason)
        return with_rejected(to_frame(made, Demonstration).lazy(), gone)

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many as there are questions."""
        return rows[0]


class CompositionRow(Struct, frozen=True):
    """A question, whether it and how many of its sub-questions are answered right; ``gap`` is true where all
    of these are and the question is not, and null where not all of these are."""

    id: str
    problem: str
    right: bool
    sub_questions: int
    sub_questions_right: int
    gap: bool | None


class CompositionalityGap(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of the questions whose sub-questions are all answered right, the share that is answered wrong all the
    same: the compositionality gap (arXiv 2210.03350).

    Reads the judged answers to the questions and, as the second table, those to their sub-questions. A
    question counts as answered right if more than half of its decided answers are right. The summary has the
    gap in per cent, and how many questions it is of.

    Rejected: a question without sub-questions, and one that has no decided answer, or a sub-question without
    one: what is not decided is neither right nor wrong.
    """

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct] | None] = CompositionRow
    inputs: ClassVar[tuple[int, int | None]] = (2, 2)

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """A row for each question, in order."""
        import polars as pl

        whole, parts = (from_frame(f.select(Sampled.__struct_fields__).collect(), Sampled) for f in frames)
        texts = {one.problem_id: one.problem for one in whole}
        said = _told(whole)
        under: dict[str, dict[str, bool | None]] = {}
        for own, right in _told(parts).items():
            under.setdefault(own[1], {})[own[0]] = right
        rows: list[CompositionRow] = []
        gone: dict[str, str] = {}
        for (own_id, _), right in said.items():
            subs = list(under.get(own_id, {}).values())
            known = [one for one in subs if one is not None]
            if not subs or right is None or len(known) < len(subs):
                why = "no sub-questions" if not subs else "an answer is not decided"
                gone[own_id] = f"compositionality_gap: {why}"
                continue
            gap = not right if all(known) else None
            rows.append(CompositionRow(own_id, texts[own_id], right, len(subs), sum(known), gap))
        columns = {"id": list(gone), REJECTED_REASON: list(gone.values())}
        rejected = pl.LazyFrame(columns, schema=dict.fromkeys(columns, pl.String))
        table = with_rejected(to_frame(rows, CompositionRow).lazy(), rejected)
        return table.select(*schema(CompositionRow), REJECTED_REASON)

    def measured(self, kept: pl.DataFrame) -> Mapping[str, Sequence[int]]:
        """The gap, of the questions whose sub-questions are all right."""
        return {"compositionality gap, in %": [100 * one for one in kept["gap"] if one is not None]}

    def rows_max(self, rows: Sequence[int]) -> int:
        """At most as many as there are answers."""
        return rows[0]


def _told(rows: Sequence[Sampled]) -> dict[tuple[str, str], bool | None]:
    """Whether each question was answered right, by its id and that of the question it is a part of; ``None``
    where that is not decided, an even split included."""
    votes: dict[tuple[str, str], list[bool]] = {}
    for row in rows:
        of = str(fields(row.meta).get(OF) or "")
        own = votes.setdefault((row.problem_id, of), [])
        if row.verdict is not None and row.verdict.outcome in (Outcome.CORRECT, Outcome.INCORRECT):
            own.append(row.verdict.correct)
    return {key: None if 2 * sum(own) == len(own) else 2 * sum(own) > len(own) for key, own in votes.items()}
