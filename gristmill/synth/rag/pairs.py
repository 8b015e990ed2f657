"""``rag_pairs``: answers to one question side by side, before anybody has said which is better."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec
from msgspec import Meta, Struct

from gristmill.core.engine import Message
from gristmill.core.prompts import fields
from gristmill.core.records import Pair, Sampled, Score
from gristmill.core.schema import from_frame, schema, to_frame
from gristmill.core.stages import REJECTED_REASON, Relation
from gristmill.filters.order import seeded_order
from gristmill.filters.tables import with_rejected

if TYPE_CHECKING:
    import polars as pl

ANSWER = "answer"
"""The key of a pair's ``meta`` under which the question's reference answer is."""


class RagPairs(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every two different answers to one prompt as a pair, in the order of the table: ``chosen`` is only the
    first of the two, until ``judge_metrics`` turns the pair round or drops it.

    Answers that were cut off are not paired, nor is one twice that several samples say. A pair has the
    question's ``meta``, with its reference as ``answer`` and the engines as ``chosen_model`` and
    ``rejected_model``, and the scores of both as ``chosen_NAME`` and ``rejected_NAME``.
    """

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct] | None] = Pair

    per_prompt: Annotated[int, Meta(ge=1)] | None = 6
    """The most pairs of one prompt, drawn by a seeded hash of their ids; ``null``: all."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The pairs, then the samples that are in none of them; all are held in memory."""
        import polars as pl

        frame = frames[0].select(Sampled.__struct_fields__).collect()
        prompts: dict[tuple[str, bytes], list[Sampled]] = {}
        reasons: dict[str, str] = {}
        for sample in from_frame(frame, Sampled):
            if sample.finish_reason != "stop":
                reasons[sample.id] = f"rag_pairs: ended by {sample.finish_reason}"
                continue
            if not sample.completion.strip():
                reasons[sample.id] = "rag_pairs: empty"
                continue
            prompt = sample.problem_id, msgspec.json.encode(sample.messages)
            group = prompts.setdefault(prompt, [])
            if any(sample.completion.strip() == other.completion.strip() for other in group):
                reasons[sample.id] = "rag_pairs: another sample says the same"
            else:
                group.append(sample)
        pairs: list[Pair] = []
        for group in prompts.values():
            made = self._drawn(list(combinations(group, 2)), seed)
            used = {sample.id for both in made for sample in both}
            why = "rag_pairs: above per_prompt" if made else "rag_pairs: no other answer to its prompt"
            reasons |= {sample.id: why for sample in group if sample.id not in used}
            pairs += [_pair(*both) for both in made]
        rows = to_frame(pairs, Pair).lazy()
        columns = {"id": list(reasons), REJECTED_REASON: list(reasons.values())}
        return with_rejected(rows, pl.LazyFrame(columns, schema=dict.fromkeys(columns, pl.String))).select(
            *schema(Pair), REJECTED_REASON
        )

    def _drawn(self, pairs: list[tuple[Sampled, Sampled]], seed: int) -> list[tuple[Sampled, Sampled]]:
        if self.per_prompt is None or len(pairs) <= self.per_prompt:
            return pairs
        order = seeded_order(seed, [f"{a.id}+{b.id}" for a, b in pairs])
        return [pairs[i] for i in sorted(order[: self.per_prompt])]

    def rows_max(self, rows: Sequence[int]) -> int:
        """Every sample with every other."""
        return rows[0] * max(0, rows[0] - 1) // 2


def _pair(first: Sampled, second: Sampled) -> Pair:
    meta = fields(first.meta) | {ANSWER: first.answer}
    meta |= {"chosen_model": first.model, "rejected_model": second.model}
    sides = (("chosen", first), ("rejected", second))
    scores = [Score(f"{side}_{s.name}", s.value, s.verdict) for side, one in sides for s in one.scores]
    return Pair(
        id=f"{first.id}+{second.id}",
        problem_id=first.problem_id,
        kind="undecided",
        prompt=first.messages,
        chosen=(Message("assistant", first.completion),),
        rejected=(Message("assistant", second.completion),),
        scores=tuple(scores),
        meta=msgspec.json.encode(meta).decode(),
    )
