"""``retrieve``: questions with the passages that are nearest to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

import msgspec
from msgspec import Meta

from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.prompts import fields
from gristmill.core.stages import REJECTED_REASON, Relation, derive_seed
from gristmill.filters.tables import key_column
from gristmill.synth.rag.index import By, index
from gristmill.verifiers.grounding.nearest import NearPassage

if TYPE_CHECKING:
    import polars as pl

PASSAGES, GOLD, RECALL = "passages", "gold", "recall"
"""The keys of ``meta`` under which a question's passages are, the ids of those that hold its answer, and the
share of those that was found."""
SCORE = "score"
"""The key of a passage under which its score is."""
_SHUFFLE, _DRAW = 0, 1


def listed(meta: Mapping[str, Any], key: str = PASSAGES) -> list[dict[str, Any]]:
    """The passages of a row's ``meta``, as ``retrieve`` wrote them. ``RowRejected`` where there are none."""
    held = meta.get(key)
    if not isinstance(held, list) or not held or not all(isinstance(one, dict) for one in held):
        raise RowRejected(f"has no {key!r}", "the stage 'retrieve' puts them into meta")
    return held


class _Stock(NamedTuple):
    """The passages: their ids and what is written of each, and the number of each id."""

    ids: list[str]
    shown: list[dict[str, str]]
    numbers: dict[str, int]


class Retrieve(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Gives each question of the first table the passages of the second that are nearest to it.

    They are in ``meta`` under ``passages``, a list of objects with ``text``, ``title`` and the passage's id
    as ``source``: in a prompt ``{passages}`` shows them numbered from 1, and ``grounding`` reads them as its
    reference (``reference: passages``) with the same numbers as citations. The ids that a question names as
    its own are then under ``gold`` (an empty list: no passage answers it), and the share of them that was
    found among the first ``top_k`` under ``recall``; the summary has its mean.

    A question for which there is no passage at all is rejected, and so is one that names a passage that the
    second table does not have.
    """

    inputs: ClassVar[tuple[int, int | None]] = (2, 2)
    adds: ClassVar[frozenset[str]] = frozenset((PASSAGES, GOLD, RECALL))

    top_k: Annotated[int, Meta(ge=1, le=1000)] = 3
    """The most passages that are found for a question."""
    by: By = "bm25"
    """How they are found: ``bm25`` by words (English stems), ``embedding`` by a model, ``both`` by the two
    rankings together (reciprocal rank fusion)."""
    embedding: str | None = None
    """The name or folder of a model of Sentence Transformers, for ``embedding`` and ``both``."""
    query: str = "problem"
    """The column of the first table that holds the question, or another text to search for."""
    gold: tuple[str, ...] = (GOLD, PASSAGES)
    """Columns (or keys of ``meta``) that may hold the ids of the passages that answer a question, a list or
    one id; the first that does is read."""
    titles: bool = True
    """Whether a passage is found by its title too."""
    keep_gold: bool = False
    """Whether passages that a question names are given to it even where they are not found, in the place of
    the last ones that are."""
    distractors: Annotated[int, Meta(ge=0, le=1000)] = 0
    """The number of further passages that are mixed in, none of them one that the question names."""
    distractor_kind: Literal["near", "random"] = "near"
    """``near``: those that come next in the ranking. ``random``: any, by a seeded hash of the question's
    id."""
    order: Literal["rank", "shuffled"] = "rank"
    """``rank``: the nearest first. ``shuffled``: in an order by a seeded hash, so that the place of a passage
    tells nothing."""

    scores: bool = False
    """Whether each passage that the ranking has gets its ``score`` there, of which more is nearer: of BM25,
    the cosine, or of the fusion. A passage that shares no word, or was drawn at random, has none."""

    def __post_init__(self) -> None:
        if (self.by == "bm25") != (self.embedding is None):
            raise RecipeError(
                f"retrieve: by is {self.by!r} and embedding is {self.embedding!r}.",
                remedy="Name a model for 'embedding' with by: embedding or by: both, and only then.",
            )

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The questions in order, with their passages; the texts are held in memory."""
        import polars as pl

        questions = frames[0].collect()
        stock = _stock(frames[1])
        column = key_column(questions.schema, self.query, "retrieve", keyword=False)
        if questions.schema[column] != pl.String:
            raise RecipeError(
                f"retrieve: the column {column!r} is {questions.schema[column]}, not text.",
                remedy="Set 'query' to the column that holds the question.",
            )
        titles = [f"{one.get('title', '')}\n" if self.titles else "" for one in stock.shown]
        texts = [title + one["text"] for title, one in zip(titles, stock.shown, strict=True)]
        rank = index(texts, self.by, self.embedding, self.top_k + self._near)
        metas: list[str] = []
        reasons: list[str | None] = []
        for row in questions.iter_rows(named=True):
            try:
                metas.append(self._meta(row, rank(row[column] or ""), stock, seed))
                reasons.append(None)
            except RowRejected as rejected:
                metas.append("{}")
                reasons.append(rejected.reason)
        return questions.with_columns(
            pl.Series("meta", metas, pl.String), pl.Series(REJECTED_REASON, reasons, pl.String)
        ).lazy()

    @property
    def _near(self) -> int:
        """The places of the ranking that are read for distractors; some may be passages of the question."""
        return self.distractors + 100 if self.distractors and self.distractor_kind == "near" else 0

    def _meta(self, row: Mapping[str, Any], near: list[NearPassage], stock: _Stock, seed: int) -> str:
        """A question's ``meta`` with its passages."""
        meta = fields(row.get("meta") or "{}")
        named = self._named(row, meta, stock)
        gold = named or []
        ranking = [number for number, _ in near]
        found = ranking[: self.top_k]
        recall = sum(number in found for number in gold) / len(gold) if gold else None
        if self.keep_gold:
            found = _kept(found, gold, self.top_k)
        found += self._mixed(row["id"], found, gold, ranking, len(stock.ids), seed)
        if not found:
            raise RowRejected("retrieve: no passage has a word of the question")
        if self.order == "shuffled":
            found.sort(key=lambda n: (derive_seed(seed, f"{row['id']}\x1f{stock.ids[n]}", _SHUFFLE), n))
        told = {number: {SCORE: score} for number, score in near} if self.scores else {}
        meta[PASSAGES] = [{**stock.shown[number], **told.get(number, {})} for number in found]
        if named is not None:
            meta |= {GOLD: [stock.ids[number] for number in gold], RECALL: recall}
        return msgspec.json.encode(meta).decode()

    def _named(self, row: Mapping[str, Any], meta: Mapping[str, Any], stock: _Stock) -> list[int] | None:
        """The numbers of the passages that a question names; ``None`` where it does not say."""
        for name in self.gold:
            held = row[name] if name in row else meta.get(name)
            if isinstance(held, str) and held in stock.numbers:
                return [stock.numbers[held]]
            if isinstance(held, list) and all(isinstance(one, str) for one in held):
                if missing := [one for one in held if one not in stock.numbers]:
                    raise RowRejected("retrieve: names a passage that is not there", f"{missing[0]!r}")
                return [stock.numbers[one] for one in dict.fromkeys(held)]
        return None

    def _mixed(
        self, own: str, found: list[int], gold: list[int], ranking: list[int], size: int, seed: int
    ) -> list[int]:
        """The distractors of the question with the id ``own``."""
        taken = {*found, *gold}
        if self.distractor_kind == "near":
            return [n for n in ranking if n not in taken][: self.distractors]
        mixed: list[int] = []
        call = _DRAW
        while len(mixed) < min(self.distractors, size - len(taken) + len(mixed)):
            number = derive_seed(seed, own, call) % size
            call += 1
            if number not in taken:
                taken.add(number)
                mixed.append(number)
        return mixed

    def measured(self, kept: pl.DataFrame) -> Mapping[str, Sequence[int]]:
        """The recall of each question that names passages, in per cent."""
        found = [fields(meta).get(RECALL) for meta in kept["meta"]]
        return {f"recall@{self.top_k} in %": [round(100 * one) for one in found if one is not None]}

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many as there are questions."""
        return rows[0]


def _kept(found: list[int], gold: list[int], top_k: int) -> list[int]:
    """``found`` with all of ``gold``, in the place of the last that are not."""
    missing = [number for number in gold if number not in found]
    room = max(0, top_k - len(missing) - sum(number in gold for number in found))
    others = [number for number in found if number not in gold][:room]
    return [number for number in found if number in gold or number in others] + missing


def _stock(frame: pl.LazyFrame) -> _Stock:
    """The passages of a table. ``RecipeError`` where it has no text, or lists no passage and has rows."""
    schema = frame.collect_schema()
    if "text" not in schema:
        raise RecipeError(
            f"retrieve: the second table has no column 'text'; it has {', '.join(schema)}.",
            remedy="List the questions first and the passages second, read with 'reads: passages'.",
        )
    titled = ["title"] if "title" in schema else []
    rows = frame.select("id", "text", *titled).collect().to_dicts()
    shown = [
        {"source": row["id"], **({"title": row["title"]} if row.get("title") else {}), "text": row["text"]}
        for row in rows
    ]
    ids = [row["id"] for row in rows]
    return _Stock(ids, shown, {own: number for number, own in enumerate(ids)})
