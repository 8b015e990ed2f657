"""``dedupe``: of rows that say the same, nearly the same, or mean the same, one is kept."""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from msgspec import Meta

from gristmill.core.errors import RecipeError
from gristmill.core.stages import REJECTED_DETAIL, REJECTED_REASON, Filter
from gristmill.filters.duplicates.exact import MARKS, firsts, marks, with_marks
from gristmill.filters.duplicates.features import FeatureSets, feature_sets
from gristmill.filters.duplicates.minhash import PairSearch, SimilarPairs
from gristmill.filters.duplicates.semantic import same_meaning
from gristmill.filters.expressions import evaluate, looks_at_other_rows
from gristmill.filters.tables import CONVERSATION, compared, key_column, marked
from gristmill.filters.words import mixed

if TYPE_CHECKING:
    import polars as pl

_EXACT = "exact duplicate"
_TEXT, _KEY, _RULE = "\x1ftext", "\x1fkey", "\x1frule"
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

    Texts and what they are made of are held in memory, about 600 bytes for 45 words besides the text. With
    ``near: null`` a hash of each text is held and no text.
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

    @property
    def _exact(self) -> bool:
        return self.near is None and self.semantic is None

    def keyed(self, frame: pl.LazyFrame) -> pl.LazyFrame | None:
        """Where exact duplicates are looked for: hashes of the texts, and what decides which row is kept."""
        own = (_FIRST, _LENGTH, _SHORTEST, _VERDICT)
        rules = [rule for rule in self.keep or () if rule not in own]
        return self._marked(frame) if self._exact and not any(map(looks_at_other_rows, rules)) else None

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        """All rows, with the reason and in the detail the row that it duplicates for each one to drop."""
        import polars as pl

        if self._exact:
            return pl.concat([frame, self._exact_duplicates(frame).lazy()], how="horizontal")
        rows = self._rows(frame)
        twins = self._twins(rows)
        named = pl.Series([twin.place for twin in twins.values()], dtype=rows["place"].dtype).unique()
        ids = dict(rows.filter(pl.col("place").is_in(named.implode())).select("place", "id").rows())
        said = {place: (f"dedupe: {twin.reason}", _told(twin, twins, ids)) for place, twin in twins.items()}
        return marked(frame, rows.height, said)

    def _marked(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """The id, the hash of the text, the key and the rules of each row."""
        return with_marks(self._chosen(frame), _TEXT).drop(_TEXT)

    def _exact_duplicates(self, frame: pl.LazyFrame) -> pl.DataFrame:
        """Reason and detail for each row of a table, or of what ``keyed`` made of it."""
        import polars as pl

        made = frame if MARKS[0] in frame.collect_schema() else self._marked(frame)
        rows = made.collect().with_row_index("place")
        ids = rows["id"]
        rows = self._best_first(rows.drop("id")).select("place", _KEY, *MARKS)
        rows = rows.select("place", first=firsts(rows, [_KEY, *MARKS])).sort("place")
        twin = pl.when(pl.col("first") != pl.col("place"))
        like = rows.select(like=ids.gather(rows["first"])).to_series()
        return rows.select(
            twin.then(pl.lit(f"dedupe: {_EXACT}")).alias(REJECTED_REASON),
            twin.then(pl.format("duplicates {} (similarity 1.000)", like)).alias(REJECTED_DETAIL),
        )

    def _rows(self, frame: pl.LazyFrame) -> pl.DataFrame:
        """The place, id, text and key of each row, the best first."""
        rows = self._chosen(frame).collect().with_row_index("place")
        return self._best_first(rows).select("place", "id", text=_TEXT, key=_KEY)

    def _chosen(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """The id, text and key of each row, and what the rules say of it."""
        import polars as pl

        schema = frame.collect_schema()
        key = pl.lit(0) if self.per is None else pl.col(key_column(schema, self.per, "dedupe: per"))
        chosen = frame.with_columns(compared(schema, self.text, "dedupe").alias(_TEXT), key.alias(_KEY))
        names = []
        rules = self.keep if self.keep is not None else [_VERDICT] * (_VERDICT in schema)
        for number, rule in enumerate(rules):
            if rule == _FIRST:
                break
            name = f"{_RULE}{number}"
            if rule in (_LENGTH, _SHORTEST):
                chosen = chosen.with_columns(pl.col(_TEXT).str.len_chars().alias(name))
            elif rule == _VERDICT:
                chosen = chosen.with_columns(_rank_of_verdict(schema).alias(name))
            else:
                chosen = evaluate(chosen, {name: rule}, "dedupe: keep")
            names.append(name)
        return chosen.select("id", _TEXT, _KEY, *names)

    def _best_first(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows with their places ordered by the rules; by their places where those do not tell them apart."""
        names = [name for name in rows.columns if name.startswith(_RULE)]
        rules = [_VERDICT] if self.keep is None else self.keep
        down = [rules[int(name.removeprefix(_RULE))] != _SHORTEST for name in names]
        return rows.sort([*names, "place"], descending=[*down, False], nulls_last=True)

    def _twins(self, rows: pl.DataFrame) -> dict[int, Twin]:
        """Of each row to drop, by its place, what it duplicates."""
        import polars as pl

        twins: dict[int, Twin] = {}
        if (rows := rows.drop_nulls("text")).is_empty():
            return twins
        first = pl.col("place").first().over("key", *marks(rows["text"]))
        rows = rows.with_columns(first=first)
        for place, best in rows.filter(pl.col("first") != pl.col("place")).select("place", "first").rows():
            twins[place] = Twin(best, _EXACT, 1.0)
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
