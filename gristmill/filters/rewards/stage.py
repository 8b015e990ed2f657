"""``shape_rewards``: rewards as named scores of the samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

from gristmill.core.errors import RecipeError
from gristmill.core.records import Sampled
from gristmill.core.registry import suggest
from gristmill.core.shaping import VERDICT, Attempt
from gristmill.core.stages import Relation
from gristmill.filters.rewards.length import (
    Conciseness,
    Drpo,
    ExplorationReward,
    GrpoLambda,
    KimiLength,
    Laser,
    LaserD,
)
from gristmill.filters.rewards.objectives import Hypervolume
from gristmill.filters.rewards.outcomes import (
    Copo,
    DifficultyScaled,
    Noisy,
    Oreal,
    Patterns,
    PhaseEntropy,
    TwoTurn,
)
from gristmill.filters.rewards.scored import (
    Composite,
    LogSigmoid,
    Name,
    Par,
    PolicyFiltration,
    Scored,
)
from gristmill.filters.tables import PROBLEM, key_column

if TYPE_CHECKING:
    import polars as pl

AnyShape = (
    Laser
    | LaserD
    | KimiLength
    | GrpoLambda
    | Drpo
    | Conciseness
    | ExplorationReward
    | Scored
    | Par
    | LogSigmoid
    | Composite
    | PolicyFiltration
    | Hypervolume
    | Copo
    | Oreal
    | TwoTurn
    | Patterns
    | PhaseEntropy
    | Noisy
    | DifficultyScaled
)


class ShapeRewards(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Puts rewards among the scores of samples, group by group.

    A sample that gets no reward (its verdict is not decided, a score that is needed is missing) has no score
    of that name. All are computed from the scores that come in, not from one another. Samples of all problems
    are held in memory, since some rewards compare problems.
    """

    reads: ClassVar[type[Struct]] = Sampled

    scores: Annotated[dict[Name, AnyShape], Meta(min_length=1)]
    """The rewards by the names of their scores, each with ``kind`` and its options (``docs/rl-data.md``)."""
    length: Literal["tokens", "characters", "words"] = "tokens"
    """How long a sample is: its ``completion_tokens``, or its completion's characters or words."""
    by: str = PROBLEM
    """The column whose equal values make a group; ``problem`` is the problem of a sample."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The samples in order, with their scores."""
        import polars as pl

        frame = frames[0]
        key = key_column(frame.collect_schema(), self.by, "shape_rewards")
        needed = {key, "id", "verdict", "scores", "completion", "completion_tokens", "model"}
        rows = frame.select(sorted(needed)).collect()
        places: dict[Any, list[int]] = {}
        for at, value in enumerate(rows[key].to_list()):
            places.setdefault(value, []).append(at)
        self._check(rows)
        answers = list(self._answers(rows))
        groups = [[answers[at] for at in group] for group in places.values()]
        order = [at for group in places.values() for at in group]
        columns = {}
        for name, shape in self.scores.items():
            made: list[float | None] = [None] * len(order)
            flat = (reward for group in shape(groups, seed) for reward in group)
            for at, reward in zip(order, flat, strict=True):
                made[at] = None if reward is None else float(reward)
            columns[name] = pl.Series(made, dtype=pl.Float64)
        return with_values(frame, columns)

    def _check(self, rows: pl.DataFrame) -> None:
        """Refuses the name of a score that no sample has: it would give no reward at all."""
        there = {score["name"] for scores in rows["scores"].to_list() for score in scores} | {VERDICT}
        for reward, shape in self.scores.items():
            for name in shape.named if rows.height else ():
                if name not in there:
                    raise RecipeError(
                        f"shape_rewards: {reward} reads the score {name!r}, which none of the samples has.",
                        remedy=suggest(name, there),
                    )

    def _answers(self, rows: pl.DataFrame) -> Iterator[Attempt]:
        for row in rows.iter_rows(named=True):
            verdict = row["verdict"]
            text = row["completion"]
            values = {s["name"]: value for s in row["scores"] if (value := _value(s)) is not None}
            if (own := _value({"value": None, "verdict": verdict})) is not None:
                values[VERDICT] = own
            if self.length == "tokens":
                length = row["completion_tokens"]
            else:
                length = len(text) if self.length == "characters" else len(text.split())
            yield Attempt(
                id=row["id"],
                right=_right(verdict),
                length=float(length),
                values=values,
                text=text,
                extracted=verdict and verdict["extracted"],
                model=row["model"],
            )

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many as come in."""
        return rows[0]


def with_values(frame: pl.LazyFrame, columns: dict[str, pl.Series], *, nulls: bool = False) -> pl.LazyFrame:
    """``frame`` with values put among its ``scores``: one of the same name is replaced. A null puts none, or
    with ``nulls`` a score without a value.

    By way of a row for each score, which takes a hundredth of the time of Polars' expressions on lists.
    """
    import polars as pl

    before = frame.select("scores").collect().with_row_index("row")
    dtype: Any = before.schema["scores"]
    name, verdict = pl.col("scores").struct.field("name"), dict(dtype.inner)["verdict"]
    old = before.filter(pl.col("scores").list.len() > 0).explode("scores").filter(~name.is_in(list(columns)))
    parts = [old.select("row", "scores")]
    for score, values in columns.items():
        made = pl.struct(
            pl.lit(score).alias("name"), pl.lit(values).alias("value"), pl.lit(None, verdict).alias("verdict")
        )
        new = before.select("row", made.cast(dtype.inner).alias("scores"))
        parts.append(new if nulls else new.filter(values.is_not_null()))
    lists = (
        pl.concat(parts).sort("row", maintain_order=True).group_by("row", maintain_order=True).agg("scores")
    )
    joined = before.select("row").join(lists, on="row", how="left", maintain_order="left")
    return frame.with_columns(pl.lit(joined["scores"].fill_null([])).alias("scores"))


def _right(verdict: dict[str, Any] | None) -> bool | None:
    return {"correct": True, "incorrect": False}.get(verdict["outcome"]) if verdict else None


def _value(score: dict[str, Any]) -> float | None:
    """The number in a score, or in the verdict that is one."""
    if score["value"] is not None:
        return float(score["value"])
    verdict = score["verdict"]
    right = _right(verdict)
    if right is None:
        return None
    return float(right) if verdict["score"] is None else float(verdict["score"])
