"""``dedupe``: of rows that say the same, nearly the same, or mean the same, one is kept."""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from msgspec import Meta

from gristmill.core.errors import RecipeError
from gristmill.core.stages import Filter
from gristmill.filters.duplicates.features import FeatureSets, feature_sets
from gristmill.filters.duplicates.minhash import PairSearch, SimilarPairs
from gristmill.filters.duplicates.semantic import same_meaning
from gristmill.filters.expressions import evaluate
from gristmill.filters.tables import CONVERSATION, compared, key_column, marked
from gristmill.filters.words import lowered, mixed, pieces

if TYPE_CHECKING:
    import polars as pl

_LENGTH, _SHORTEST, _FIRST, _VERDICT = "length", "shortest", "first", "verdict"


Match = tuple[int, float]
"""The position of a text that another one duplicates, and the similarity."""


class Twin(NamedTuple):
    """What a row duplicates: the place of that row, how, and how similar they are."""

    place: int
    reason: str
    similarity: float


class Dedupe(Filter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of rows with duplicate texts keep one; each other row names the row that it duplicates.

    Exact duplicates are equal except for case and white space (NFC: x² and x2 differ). Near-duplicates have
    a weighted Jaccard similarity of at least ``near`` (``similar_pairs``). A row is dropped only if it
    is that similar to a row that is better by ``keep``, and never through a third that is like both. Since
    weights depend on which rows there are, they are counted again on the rows that are left until none is
    dropped: the stage applied to what it kept drops nothing.

    Texts and what they are made of are held in memory, about 600 bytes for 45 words besides the text.
    """

    marks_only: ClassVar[bool] = True

    text: str = CONVERSATION
    """What is compared: ``problem``, ``completion``, ``conversation`` (all messages and the completion; of
    a pair both sides) or any column of text. Rows where it is null are kept."""
    near: Annotated[float, Meta(gt=0, le=1)] | None = 0.75
    """The similarity from which two texts are near-duplicates; ``null`` looks for exact duplicates only."""
    shingle: Annotated[int, Meta(ge=1, le=32)] = 1
    """Words in a row that are compared as one. 1 compares sets of words: texts in which 10 % of the words
    differ have a similarity of about 0.8. 5 tells the order of words too; they then have one of 0.4."""
    weights: Literal["rarity", "even"] = "rarity"
    """``rarity``: a word weighs the bits of its rarity in the table, so that questions of one template are
    apart. ``even``: every word weighs the same, as in plain Jaccard similarity."""
    semantic: Annotated[float, Meta(gt=0, le=1)] | None = None
    """The cosine similarity of embeddings from which two texts mean the same (0.9 is a good start); needs
    ``model`` and the package semhash. ``null`` asks no model."""
    model: str | None = None
    """With ``semantic``: the folder or Hub name of a static embedding model (model2vec)."""
    per: str | None = None
    """A column; only rows with the same value of it are compared. ``problem`` is the problem of a row
    (``problem_id``, or ``id`` where a record has none): equal answers to two problems then both stay."""
    keep: list[str] | None = None
    """Which row of two is kept, by the first rule that tells them apart: ``verdict`` (right before undecided
    before wrong), ``length`` (the longest), ``shortest``, ``first``, or an expression such as
    ``scores.reward`` (the highest; null is last). By default ``verdict`` where there is one, then ``first``,
    which also decides wherever all others are equal."""

    def __post_init__(self) -> None:
        if (self.semantic is None) != (self.model is None):
            raise RecipeError(
                "dedupe: 'semantic' and 'model' go together, and one of them is missing.",
                remedy="Give a threshold and a model, such as semantic: 0.9 and the folder of a model2vec "
                "model, or leave both out.",
            )

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        """All rows, with the reason and in the detail the row that it duplicates for each one to drop."""
        import polars as pl

        rows = self._rows(frame)
        twins = self._twins(rows)
        named = pl.Series([twin.place for twin in twins.values()], dtype=rows["place"].dtype).unique()
        ids = dict(rows.filter(pl.col("place").is_in(named.implode())).select("place", "id").rows())
        said = {place: (f"dedupe: {twin.reason}", _told(twin, twins, ids)) for place, twin in twins.items()}
        return marked(frame, rows.height, said)

    def _rows(self, frame: pl.LazyFrame) -> pl.DataFrame:
        """The place, id, text and key of each row, the best first."""
        import polars as pl

        schema = frame.collect_schema()
        key = pl.lit(0) if self.per is None else pl.col(key_column(schema, self.per, "dedupe: per"))
        chosen = frame.with_columns(
            compared(schema, self.text, "dedupe").alias("\x1ftext"), key.alias("\x1fkey")
        )
        by: list[pl.Expr] = []
        down: list[bool] = []
        rules = self.keep if self.keep is not None else [_VERDICT] * (_VERDICT in schema)
        for number, rule in enumerate(rules):
            if rule == _FIRST:
                break
            name = f"\x1frule{number}"
            if rule in (_LENGTH, _SHORTEST):
                chosen = chosen.with_columns(pl.col("\x1ftext").str.len_chars().alias(name))
            elif rule == _VERDICT:
                chosen = chosen.with_columns(_rank_of_verdict(schema).alias(name))
            else:
                chosen = evaluate(chosen, {name: rule}, "dedupe: keep")
            by.append(pl.col(name))
            down.append(rule != _SHORTEST)
        names = ["id", "\x1ftext", "\x1fkey", *(expr.meta.output_name() for expr in by)]
        rows = chosen.select(names).collect().with_row_index("place")
        order = [*by, pl.col("place")]
        rows = rows.sort(order, descending=[*down, False], nulls_last=True)
        return rows.select("place", "id", text="\x1ftext", key="\x1fkey")

    def _twins(self, rows: pl.DataFrame) -> dict[int, Twin]:
        """Of each row to drop, by its place, what it duplicates."""
        import polars as pl

        twins: dict[int, Twin] = {}
        if (rows := rows.drop_nulls("text")).is_empty():
            return twins
        first = pl.col("place").first().over("key", *_marks(rows["text"]))
        rows = rows.with_columns(first=first)
        for place, best in rows.filter(pl.col("first") != pl.col("place")).select("place", "first").rows():
            twins[place] = Twin(best, "exact duplicate", 1.0)
        rows = rows.filter(pl.col("first") == pl.col("place"))
        while True:
            rows = self._without_near(rows, twins)
            if self.semantic is None or self.model is None:
                return twins
            left = rows.height
            rows = _without(rows, same_meaning(rows, self.semantic, self.model), "same meaning", twins)
            if rows.height == left:
                return twins

    def _without_near(self, rows: pl.DataFrame, twins: dict[int, Twin]) -> pl.DataFrame:
        """The rows that are near no better one; what the others are near is put into ``twins``."""
        import numpy as np
        import polars as pl

        if self.near is None or rows.is_empty():
            return rows
        keys = rows["key"].rank("dense").fill_null(0).cast(pl.UInt64).to_numpy()
        keys = mixed(keys + np.uint64(1))
        found = feature_sets(rows["text"], self.shingle)
        # Equal sets go first, so that copies have no say in what is rare.
        gone = _equal_sets(found, keys)
        left = np.arange(rows.height)
        search = PairSearch(found, self.near, even=self.weights == "even", keys=keys)
        while True:
            rows = _without(rows, gone, "near duplicate", twins)
            left = np.delete(left, list(gone))
            if self.near == 1:
                return rows
            if not (gone := _greedy(search.among(left))):
                return rows


def _marks(texts: pl.Series) -> list[pl.Series]:
    """Of each text two numbers, equal for texts that are equal except for case and white space; 128 bits, by
    which no two others of any table can be expected to be equal. The texts themselves are not held again."""
    import polars as pl

    made: list[list[pl.Series]] = [[], []]
    for piece in pieces(texts):
        said = lowered(piece).str.replace_all(r"\s\s+|[^ \S]", " ").str.strip_chars()
        for seed, hashed in enumerate(made):
            hashed.append(said.hash(seed))
    return [pl.concat(hashed).alias(f"mark{seed}") for seed, hashed in enumerate(made)]


def _without(rows: pl.DataFrame, gone: dict[int, Match], reason: str, twins: dict[int, Twin]) -> pl.DataFrame:
    """The rows but those in ``gone``, by their positions, which are put into ``twins`` by their places."""
    import numpy as np

    places = rows["place"].to_list()
    for lost, (best, similarity) in gone.items():
        twins[places[lost]] = Twin(places[best], reason, similarity)
    kept = np.ones(rows.height, bool)
    kept[list(gone)] = False
    return rows.filter(kept)


def _equal_sets(found: FeatureSets, keys: Any) -> dict[int, Match]:
    """The texts whose features are those of one before, with the first such."""
    import numpy as np

    marks = np.column_stack([found.fingerprints(), keys])
    _, first, same = np.unique(marks, axis=0, return_index=True, return_inverse=True)
    firsts = first[same.reshape(-1)]
    return {int(i): (int(firsts[i]), 1.0) for i in np.flatnonzero(firsts != np.arange(len(firsts)))}


def _greedy(pairs: SimilarPairs) -> dict[int, Match]:
    """The texts that are similar to one before them that stays, with the first such."""
    gone: dict[int, Match] = {}
    columns = (pairs.first.tolist(), pairs.second.tolist(), pairs.similarity.tolist())
    for one, other, similarity in zip(*columns, strict=True):  # in the order of the first, then the second
        if one not in gone and other not in gone:
            gone[other] = (one, similarity)
    return gone


def _told(twin: Twin, twins: dict[int, Twin], ids: dict[int, str]) -> str:
    """The kept row, and the similarity; where the row it is similar to was itself dropped, both."""
    like = best = twin.place
    while best in twins:
        best = twins[best].place
    through = "" if best == like else f" through {ids[like]}, which duplicates it"
    return f"duplicates {ids[best]}{through} (similarity {floor(twin.similarity * 1000) / 1000:.3f})"


def _rank_of_verdict(schema: pl.Schema) -> pl.Expr:
    import polars as pl

    if not isinstance(schema.get(_VERDICT), pl.Struct):
        raise RecipeError(
            "dedupe: keep: these rows have no verdict.",
            remedy="Use another rule, such as 'length' or 'first'.",
        )
    outcome = pl.col(_VERDICT).struct.field("outcome")
    return pl.when(outcome == "correct").then(2).when(outcome == "incorrect").then(0).otherwise(1)
