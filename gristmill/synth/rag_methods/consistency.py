"""``paraphrase_consistency``: how much the answers to the wordings of one question say the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct

from gristmill.core.prompts import fields
from gristmill.core.records import Sampled
from gristmill.core.schema import from_frame
from gristmill.core.stages import REJECTED_REASON, Relation
from gristmill.filters.tables import with_unique_ids
from gristmill.synth.agreement.crossed import ORIGIN
from gristmill.synth.agreement.scores import with_scores
from gristmill.synth.rag.retrieve import PASSAGES
from gristmill.verifiers.rules.overlap import Bleu
from gristmill.verifiers.rules.short_answer import f1, tokens

if TYPE_CHECKING:
    import polars as pl

CONSISTENCY, SHARED = "consistency", "shared_passages"


class ParaphraseConsistency(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Scores each answer by its mean similarity to the answers to the other wordings of its question: the
    group similarity reward of Con-RAG (arXiv 2510.04392).

    Reads the answers to questions and to what ``paraphrase`` made of them, in one table or several. The
    wordings of a question are known by ``paraphrase_of`` in ``meta``. Answers to the same wording are not
    compared, as in the paper. The score ``consistency`` is in [0, 1]; ``shared_passages`` is the mean overlap
    (Jaccard) of its passages with those of the other wordings, where both have some: what the retriever
    contributes. No reference is used; a reward for the right answer is added by a recipe.

    Rejected: an answer that was cut off or is empty, and one whose question has no other wording that was
    answered.
    """

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct] | None] = None
    inputs: ClassVar[tuple[int, int | None]] = (1, None)

    similarity: Literal["f1", "bleu"] = "f1"
    """``f1``: of the normalised words (``short_answer``), for short answers. ``bleu``: sentence BLEU, the
    mean of both directions, for long ones; it needs the package sacrebleu."""
    most: Annotated[int, Meta(ge=1)] | None = None
    """The most answers of each other wording that one is compared with, the first ones; ``null``: all."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The answers in order with their scores."""
        import polars as pl

        both = pl.concat(list(frames), how="diagonal").collect()
        rows = from_frame(both.select(Sampled.__struct_fields__), Sampled)
        found = _Wordings(rows)
        reasons: list[str | None] = []
        scores: list[dict[str, float | None]] = []
        for row in rows:
            others = found.others(row)
            scores.append({})
            if reason := _unfit(row):
                reasons.append(f"paraphrase_consistency: {reason}")
            elif not others:
                reasons.append("paraphrase_consistency: no other wording was answered")
            else:
                reasons.append(None)
                near = [
                    self.similar(row.completion, o.completion) for own in others for o in own[: self.most]
                ]
                scores[-1] = {CONSISTENCY: mean(near), SHARED: _shared(row, [own[0] for own in others])}
        scored = with_scores(with_unique_ids(both.lazy()), scores)
        return scored.with_columns(pl.Series(REJECTED_REASON, reasons, pl.String))

    def similar(self, first: str, second: str) -> float:
        """How much two answers say the same, in [0, 1]."""
        if self.similarity == "f1":
            return f1(tokens(first), tokens(second))
        bleu = Bleu()
        ways = ((first, second), (second, first))
        return mean(bleu(a, msgspec.json.encode([b]).decode()).score or 0.0 for a, b in ways)

    def measured(self, kept: pl.DataFrame) -> Mapping[str, Sequence[int]]:
        """Consistency, and the overlap of passages, in per cent."""
        held = {CONSISTENCY: list[int](), SHARED: list[int]()}
        for row in kept["scores"].to_list():
            for one in row or ():
                if one["name"] in held and one["value"] is not None:
                    held[one["name"]].append(round(100 * one["value"]))
        return {f"{name.replace('_', ' ')}, in %": values for name, values in held.items()}

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many as come in."""
        return sum(rows)


def _unfit(row: Sampled) -> str:
    if row.finish_reason != "stop":
        return f"ended by {row.finish_reason}"
    return "" if row.completion.strip() else "empty"


class _Wordings:
    """The usable answers by question and wording, in the order of the table."""

    def __init__(self, rows: Sequence[Sampled]) -> None:
        self._held: dict[str, dict[str, list[Sampled]]] = {}
        for row in rows:
            if not _unfit(row):
                self._held.setdefault(_question(row), {}).setdefault(row.problem_id, []).append(row)

    def others(self, row: Sampled) -> list[list[Sampled]]:
        """The answers to each other wording of the row's question."""
        own = self._held.get(_question(row), {})
        return [answers for wording, answers in own.items() if wording != row.problem_id]


def _question(row: Sampled) -> str:
    return str(fields(row.meta).get(ORIGIN) or row.problem_id)


def _shared(row: Sampled, others: Sequence[Sampled]) -> float | None:
    """The mean Jaccard index of the passages' ids; ``None`` where there are none."""
    own, *rest = ({one.get("source") for one in fields(r.meta).get(PASSAGES) or ()} for r in (row, *others))
    shares = [len(own & other) / len(own | other) for other in rest if own and other]
    return mean(shares) if shares else None
