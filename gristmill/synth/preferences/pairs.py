"""``pairs``: preference pairs out of samples, by the values that verdicts and scores give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec
from msgspec import Meta, Struct

from gristmill.core.errors import RecipeError
from gristmill.core.records import Pair
from gristmill.core.stages import REJECTED_REASON, Anything, Relation
from gristmill.filters.expressions import Expression, plain
from gristmill.filters.tables import with_rejected
from gristmill.synth.preferences.candidates import Candidates, samples_of, valued, won
from gristmill.synth.preferences.rules import PairLimits, Rule, pairs
from gristmill.synth.preferences.sides import as_pairs

if TYPE_CHECKING:
    import polars as pl

Count = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
_SINGLE = ("best_worst", "best_random")
"""Rules that make one pair of a problem unless they are told otherwise."""


class MakePairs(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes preference pairs of the samples of each problem: the better side has the higher value.

    Candidates are the different answers to one prompt that have a value; equal texts (white space around
    them aside) are one, with the mean of their values. Left out are answers that are blank, were cut off, or
    whose own verdict is undecided, and texts found right and wrong. Ties never become pairs. A problem that
    gives no pair is rejected with the reason.

    The samples of several models may be mixed; both sides answer the same messages. Each side's scores and
    verdict are the pair's scores ``chosen_NAME`` and ``rejected_NAME``, the difference of the values is
    ``margin``, and ``meta`` has the problem's and the ids and models of the sides.

    The rules' sources: best and worst of n, iterated DPO (arXiv 2312.11456) and SELM (arXiv 2405.19332); best
    against a random other, UltraFeedback as Zephyr used it (arXiv 2310.16944); halves, UPO
    (arXiv 2409.11212); win rates, DNO (arXiv 2404.03715).
    """

    reads: ClassVar[type[Struct]] = Anything
    writes: ClassVar[type[Struct]] = Pair
    inputs: ClassVar[tuple[int, int | None]] = (1, 2)

    rule: Rule | dict[Rule, Count | None] = "best_worst"
    """Which pairs are made. ``best_worst``: the best against the worst. ``best_random``: the best against any
    worse one. ``outcome``: right against wrong. ``threshold``: at least ``above`` against at most ``below``.
    ``all``: every two. ``hard``: every two, the most similar texts first. ``length_matched``: every two whose
    lengths differ by no more than ``length_ratio``, the most similar lengths first. ``halves``: the better
    half against the worse, of four candidates or more. Several as ``{RULE: MOST}`` with the most pairs of
    each per problem (``null``: all), in this order; a pair that an earlier one made is not made again."""
    by: Expression | list[Expression] = "verdict"
    """What candidates are ranked by: an expression, such as ``verdict`` (right 1, wrong 0), ``scores.reward``
    or ``0.5 * scores.a + scores.b``; or several, of which a later one decides where those before are
    equal."""
    judged: Annotated[str, Meta(min_length=1)] | None = None
    """The score with which a second table of pairs was judged (``judge_pairs`` with ``score``). Candidates
    are then ranked by the share of their comparisons that they won, and ``by`` is not used."""
    win_rate: bool = False
    """Whether the value is turned into a win rate: the share of the prompt's other candidates that it is
    better than, ties by half. ``margin``, ``above`` and ``below`` are then of that, in [0, 1]."""
    margin: Annotated[float, Meta(ge=0)] = 0.0
    """The least difference of the values of the two sides, in the unit of ``by``."""
    above: float | None = None
    """For ``threshold``: the least value of the chosen side."""
    below: float | None = None
    """For ``threshold``: the greatest value of the rejected side."""
    pairs: Count | None = None
    """The most pairs of a problem; by default one for ``best_worst`` and ``best_random``, and all for the
    others. A seeded hash of the samples' ids chooses where the rule has no order of its own."""
    per_sample: Count | None = None
    """The most pairs of a problem that one sample is in, on either side."""
    similarity: Share = 0.0
    """For ``hard``: the least similarity of the texts, from 0 to 1 (rapidfuzz's ratio)."""
    length_ratio: Annotated[float, Meta(ge=1)] = 1.2
    """For ``length_matched``: the longer text has at most so many times the characters of the shorter."""

    def __post_init__(self) -> None:
        keys = [plain(key) for key in (self.by if isinstance(self.by, list) else [self.by])]
        msgspec.structs.force_setattr(self, "by", keys)
        rules = self._rules
        if not keys or not rules:
            raise RecipeError(
                f"pairs: {'by' if not keys else 'rule'} is empty.",
                remedy="Name at least one rule, and at least one expression to rank by.",
            )
        if isinstance(self.rule, dict) and self.pairs is not None:
            raise RecipeError(
                f"pairs: pairs: {self.pairs} is given beside several rules.",
                remedy="Write the most pairs of each rule: rule: {hard: 2, best_worst: 1}.",
            )
        given = self.above is not None, self.below is not None
        if ("threshold" in rules) != all(given) or any(given) != all(given):
            raise RecipeError(
                f"pairs: above: {self.above} and below: {self.below} do not fit rule: {', '.join(rules)}.",
                remedy="Give both with rule: threshold, and neither without it.",
            )
        if self.above is not None and self.below is not None and self.below >= self.above:
            raise RecipeError(
                f"pairs: below: {self.below:g} is not less than above: {self.above:g}.",
                remedy="Let 'below' be less than 'above'.",
            )
        measured = self.margin > 0 or "threshold" in rules or "outcome" in rules
        if len(keys) > 1 and measured and not self.win_rate and self.judged is None:
            raise RecipeError(
                "pairs: by has several expressions, whose order has no unit for 'margin', 'threshold' or "
                "'outcome'.",
                remedy="Rank by one (a sum of them, for instance), or set win_rate: true.",
            )
        if "outcome" in rules and (self.win_rate or self.judged is not None):
            raise RecipeError(
                "pairs: rule: outcome compares right with wrong, and a win rate is neither.",
                remedy="Rank by: verdict without win_rate and judged, or use another rule.",
            )

    @property
    def _rules(self) -> Mapping[Rule, int | None]:
        """The most pairs of each rule, by its name."""
        if isinstance(self.rule, dict):
            return self.rule
        return {self.rule: 1 if self.pairs is None and self.rule in _SINGLE else self.pairs}

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The pairs, by problem in the order of the samples, then the problems that give none."""

        if (len(frames) > 1) != (self.judged is not None):
            raise RecipeError(
                f"pairs: it reads {len(frames)} tables and judged is {self.judged!r}.",
                remedy="Name a second table under 'from' and its score under 'judged', or neither.",
            )
        samples, by = samples_of(frames[0], "pairs"), self.by if isinstance(self.by, list) else [self.by]
        if self.judged is not None:
            samples = samples.drop("won", strict=False).join(
                won(frames[1], self.judged), on="id", how="left", maintain_order="left"
            )
            by = ["won"]
        pool = Candidates(valued(samples, by, "pairs"), len(by), seed, win_rate=self.win_rate)
        made = self._made(pool)
        kept = as_pairs(pool.rows, made)
        none = pool.problems.join(made.select("problem").unique(), on="problem", how="anti")
        rejected = self._rejected(none, pool.table)
        return with_rejected(kept.lazy(), rejected.lazy())

    def _made(self, pool: Candidates) -> pl.DataFrame:
        """The pairs of all rules, by problem, with the rule of each in ``kind``."""
        import polars as pl

        limits = PairLimits(self.margin, self.above, self.below, self.similarity, self.length_ratio)
        columns = {"problem": pl.UInt32, "row": pl.UInt32, "row_rejected": pl.UInt32, "margin": pl.Float64}
        more = {"similarity": pl.Float64, "length_before": pl.Float64, "kind": pl.String}
        made = pl.DataFrame(schema={**columns, **more})

        def texts(rows: pl.Series) -> list[str]:
            return pool.rows["completion"].gather(rows).to_list()

        for rule, most in self._rules.items():
            found = [made.clear()]
            for part in pairs(pool.table, rule, limits, texts):
                part = part.join(made, on=["row", "row_rejected"], how="anti", maintain_order="left")
                if self.per_sample is not None:
                    part = part.filter(self._spared(part, made, most))
                elif most is not None:
                    part = part.filter(pl.int_range(pl.len()).over("problem") < most)
                found.append(part.with_columns(pl.lit(rule).alias("kind")))
            made = pl.concat([made, *found])
        return made.sort("problem", maintain_order=True)

    def _spared(self, part: pl.DataFrame, made: pl.DataFrame, most: int | None) -> pl.Series:
        """Which pairs to take, in order, so that no sample is in more than ``per_sample``."""
        import polars as pl

        limit, uses, taken = self.per_sample or 0, dict[int, int](), dict[int, int]()
        for a, b in made.select("row", "row_rejected").iter_rows():
            uses[a], uses[b] = uses.get(a, 0) + 1, uses.get(b, 0) + 1
        take = []
        for problem, a, b in part.select("problem", "row", "row_rejected").iter_rows():
            free = uses.get(a, 0) < limit and uses.get(b, 0) < limit
            free = free and (most is None or taken.get(problem, 0) < most)
            if free:
                uses[a], uses[b] = uses.get(a, 0) + 1, uses.get(b, 0) + 1
                taken[problem] = taken.get(problem, 0) + 1
            take.append(free)
        return pl.Series(take, dtype=pl.Boolean)

    def _rejected(self, problems: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
        """The problems that give no pair, with the reason: how far the samples of each came."""
        import polars as pl

        groups = table.group_by("problem", "group").agg(
            pl.len().alias("n"), pl.col("value").n_unique().alias("values")
        )
        most = groups.group_by("problem").agg(pl.col("n").max(), pl.col("values").max())
        seen = problems.join(most, on="problem", how="left").sort("problem").fill_null(0)
        steps = {
            "fewer than two samples that are finished and not undecided": pl.col("usable") < 2,
            f"fewer than two samples with a {'comparison' if self.judged else 'value'} to rank by": pl.col(
                "valued"
            )
            < 2,
            "all samples say the same": pl.col("texts") < 2,
            "no two different samples answer the same messages": pl.col("n") < 2,
            "all samples are equally good": pl.col("values") < 2,
        }
        reason = pl.lit(f"no two samples fit {self._wanted()}")
        for said, holds in reversed(steps.items()):
            reason = pl.when(holds).then(pl.lit(said)).otherwise(reason)
        return seen.select(
            pl.col("problem_id").cast(pl.String).alias("id"),
            (pl.lit("no pair: ") + reason).alias(REJECTED_REASON),
        )

    def _wanted(self) -> str:
        """The rules in short, for a reason."""
        rules = " or ".join(self._rules)
        return f"{rules} with a margin of {self.margin:g}" if self.margin else rules

    def rows_max(self, rows: Sequence[int]) -> int | None:
        """So many pairs of each problem, where all rules have a limit; groups count as a row each."""
        limits = [n for n in self._rules.values() if n is not None]
        return rows[0] * sum(limits) if len(limits) == len(self._rules) else None
