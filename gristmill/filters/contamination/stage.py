"""``decontaminate``: rows that hold an item of a benchmark are dropped, with the evidence."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from gristmill.core.errors import RecipeError
from gristmill.core.stages import Filter
from gristmill.filters.contamination.matching import Way
from gristmill.filters.contamination.reference import load
from gristmill.filters.contamination.search import ItemSearch
from gristmill.filters.tables import CONVERSATION, compared, key_column, marked

if TYPE_CHECKING:
    import polars as pl


@lru_cache(maxsize=2)
def _search(*references: tuple[str, int]) -> ItemSearch:
    """The search in these references, each with the time of its last change."""
    return ItemSearch(load(name for name, _ in references))


def _stamp(reference: str) -> int:
    path = Path(reference)
    return path.stat().st_mtime_ns if path.exists() else 0


class Decontaminate(Filter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Drop the rows that hold an item of a reference set, and say of each which item, in which way, and why.

    ``verbatim``: the text is the item. ``embedded``: the item is a part of it. ``short``: an item of fewer
    than 13 words is there as a whole. ``renumbered``: the item with other numbers. ``reworded``: the item's
    things, numbers and, where both are known, its answer, in other words. LaTeX, Unicode and plain writing
    are one notation. What is shared is weighted by its rarity among the items, so that words of a template
    count for little. That rewordings pass overlap of n-grams, and that models learn from them all the same,
    was shown in arXiv 2311.04850; its remedy, a model that is asked about each pair, is not used. Whether a
    row is dropped depends on itself and the references alone.
    """

    marks_only: ClassVar[bool] = True
    row_by_row: ClassVar[bool] = True

    references: Annotated[list[str], Meta(min_length=1)]
    """Names of shipped sets (``gsm8k``, ``math500``), files (``.jsonl``, ``.json``, ``.csv``,
    ``.parquet``), folders of those, or data sets saved by ``datasets``. A row is an item: its text is in the
    column ``problem``, ``question``, ``text``, ``prompt`` (also as messages) or ``input``, with ``choices``
    if there are any; its answer in ``answer``, ``final_answer``, ``expected_answer``, ``ground_truth``,
    ``target``, ``solution`` (the last box of a worked one) or verl's ``reward_model``."""
    text: str = CONVERSATION
    """Where items are looked for: ``problem``, ``completion``, ``conversation`` (all messages and the
    completion) or any column of text. Rows where it is null are kept."""
    answer: str | None = "answer"
    """The column with a row's answer, where there is one: an equal answer makes a rewording likelier, another
    one less so. ``null`` uses none."""
    ways: list[Way] | None = None
    """The ways that drop a row; by default all. Without ``renumbered`` problems of the same form stay."""
    semantic: Annotated[float, Meta(gt=0, le=1)] | None = None
    """The cosine similarity of embeddings from which a row is taken for a rewording of an item if its answer
    is the item's too (0.8 is a good start); needs ``model``, the package semhash, and references that have
    their texts."""
    model: str | None = None
    """With ``semantic``: the folder or Hub name of a static embedding model (model2vec)."""

    def __post_init__(self) -> None:
        if (self.semantic is None) != (self.model is None):
            raise RecipeError(
                "decontaminate: 'semantic' and 'model' go together, and one of them is missing.",
                remedy="Give a threshold and a model, such as semantic: 0.8 and the folder of a model2vec "
                "model, or leave both out.",
            )

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        """All rows, with the way as the reason and the item and evidence as the detail for each to drop."""
        import polars as pl

        schema = frame.collect_schema()
        answer = pl.lit(None, pl.String)
        if self.answer is not None and (self.answer in schema or self.answer != "answer"):
            answer = pl.col(key_column(schema, self.answer, "decontaminate: answer", keyword=False))
        rows = frame.select(
            text=compared(schema, self.text, "decontaminate"), answer=answer.cast(pl.String)
        ).collect()
        search = _search(*((name, _stamp(name)) for name in self.references))
        texts, answers = rows["text"].fill_null(""), rows["answer"].to_list()
        found = search.find(texts, answers)
        if self.semantic is not None and self.model is not None:
            open_ = [at for at, one in enumerate(found) if one is None]
            meant = search.by_meaning(
                texts.gather(open_).to_list(), [answers[at] for at in open_], self.semantic, self.model
            )
            for at, one in zip(open_, meant, strict=True):
                found[at] = one
        said = {
            at: (f"decontaminate: {one.way}", one.told(texts[at]))
            for at, one in enumerate(found)
            if one is not None and (self.ways is None or one.way in self.ways)
        }
        return marked(frame, rows.height, said)
