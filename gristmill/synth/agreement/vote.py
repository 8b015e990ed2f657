"""``vote``: the samples of a problem vote for its answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from gristmill.core.errors import GristmillError, RecipeError
from gristmill.core.records import Sampled
from gristmill.core.schema import schema
from gristmill.core.stages import REJECTED_REASON, Relation
from gristmill.filters.expressions import Expression, evaluate, plain
from gristmill.filters.rewards.stage import with_values
from gristmill.filters.tables import with_rejected
from gristmill.synth.agreement.answers import BACKWARD, Answers, Equal, grouping, said
from gristmill.synth.agreement.counting import classes_of, standings_of, texts_of
from gristmill.synth.agreement.weights import borda_weights, model_weights, path_weights
from gristmill.verifiers.rules.votes import Totalling, Votes, check_weights, vote

if TYPE_CHECKING:
    import polars as pl

Rule = Literal["count", "sum", "mean", "log_odds", "borda", "models", "perplexity", "rpc"]
_DEFAULT: dict[str, str] = {
    "borda": "scores.self_certainty",
    "perplexity": "scores.mean_logprob",
    "rpc": "scores.mean_logprob",
}
_WEIGHT = "vote_weight"
_PATHS = ("perplexity", "rpc")
"""The rules that count the same text once."""
_CASTS = ("problem_id", "problem", "answer", "meta", "said", "weight", "model", "text", "right")


class VoteClass(Struct, frozen=True):
    """Equal answers of one problem: as the first of them is written, how many there are, their total under
    the rule, and whether they are right (null where nobody can say)."""

    label: str
    votes: int
    total: float
    right: bool | None


class Voted(Struct, frozen=True):
    """A problem with the answer that its samples voted for, as a row that can be used as a problem.

    ``answer`` is the label, null for a tie that abstains; ``gold`` is the reference that the samples had, and
    ``right`` whether the label is right. ``share`` (0 to 1) is the label's part of the ``votes`` by count,
    and ``margin`` that less the greatest part of another class; of a tie they are those of its first class.
    ``undecided`` samples had no answer or no weight. ``entropy`` of the parts is in nats. ``credit`` is what
    the vote is worth where gold exists: 1, 0, or the share of tied classes that are right.
    """

    id: str
    problem: str
    answer: str | None
    level: int | None
    meta: str
    gold: str | None
    right: bool | None
    share: float
    margin: float
    tied: bool
    votes: int
    undecided: int
    entropy: float
    credit: float | None
    classes: tuple[VoteClass, ...]


class Cast(NamedTuple):
    """What one sample brings to a vote: its row, answer, weight, model, a key of its text, and whether it is
    right where that is known."""

    row: int
    answer: str | None
    weight: float | None
    model: str | None
    text: str
    right: bool | None


class Ballots(NamedTuple):
    """The samples of one problem, with its text, reference and further columns."""

    problem_id: str
    problem: str
    gold: str | None
    meta: str
    casts: list[Cast]


class CountedVotes(NamedTuple):
    """The votes of all problems; ``number`` stands for a problem in all of these tables.

    ``heads``: the ``id``, ``problem``, ``meta`` and ``gold`` of each problem in order, and how many samples
    were ``drawn``. ``samples``: what each ``said``, in order. The others: as in ``counting``.
    """

    heads: pl.DataFrame
    samples: pl.DataFrame
    texts: pl.DataFrame
    classes: pl.DataFrame
    standings: pl.DataFrame


class SampleVotes(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the stages in which the samples of a problem vote.

    Votes are of classes of equal answers. Samples that were cut off or have no answer do not vote and are
    counted. Under the rules with weights a sample whose weight is null or not a number does not vote either.
    The order of samples decides nothing except how the label is written and what ``ties: first`` takes.
    """

    reads: ClassVar[type[Struct]] = Sampled

    rule: Rule = "count"
    """What the total of a class is. ``count``: its samples. ``sum``, ``mean``, ``log_odds``: of the samples'
    ``weight``. ``borda``: ranks by ``weight``, to the power ``power``. ``models``: every sample counts as
    much as its model agrees with itself (RLCCF). ``perplexity``: the probabilities of different texts, exp of
    ``weight``. ``rpc``: the same after pruning."""
    weight: Expression | None = None
    """An expression over a sample's columns, such as ``scores.reward``. By default ``scores.mean_logprob``
    for ``perplexity`` and ``rpc``, ``scores.self_certainty`` for ``borda``; the others that use it need
    one."""
    power: Annotated[float, Meta(ge=0, le=1000)] = 0.5
    """For ``borda``: 0 is the plain majority, a large number the sample with the greatest weight. The paper
    uses about 0.3 for 8 samples and 1.2 for 64."""
    ties: Literal["abstain", "first"] = "abstain"
    """What a tie's label is: none, or the class whose first sample comes first."""
    answers: Answers = "math"
    """Where an answer is read: the final answer of the text (``math``), a short one (``short``), or what the
    verifier extracted (``verdict``)."""
    equal: Equal | None = None
    """When answers are equal: as values (``math``) or as words and numbers (``text``); ``null`` is ``text``
    for short answers and ``math`` for others."""

    def __post_init__(self) -> None:
        weight = self.weight if self.weight is not None else _DEFAULT.get(self.rule)
        if weight is None and self.rule in ("sum", "mean", "log_odds"):
            raise RecipeError(
                f"vote: rule: {self.rule} has no weight.",
                remedy="Give one, such as weight: scores.reward, or use rule: count.",
            )
        if self.rule in ("count", "models") and self.weight is not None:
            raise RecipeError(
                f"vote: rule: {self.rule} uses no weight, but there is one.",
                remedy="Leave it out, or use rule: sum.",
            )
        msgspec.structs.force_setattr(self, "weight", None if weight is None else plain(weight))

    def rows_max(self, rows: Sequence[int]) -> int:
        """A row for each sample, at most."""
        return rows[0]

    def votes(self, ballots: Ballots) -> Votes:
        """The classes of one problem's answers with their totals. ``GristmillError`` for a weight that the
        rule cannot use."""
        answers = [None if self._weighed and _missing(c.weight) else c.answer for c in ballots.casts]
        with _of(ballots.problem_id):
            weights = self._weights(answers, ballots.casts)
            return vote(answers, weights, group=grouping(self._equal), tally=self._tally)

    def _weights(self, answers: Sequence[str | None], casts: Sequence[Cast]) -> list[float] | None:
        """The weight of each sample of a problem under the rule; ``None`` where each counts as one."""
        given = [0.0 if _missing(c.weight) else float(c.weight or 0) for c in casts]
        if self.rule == "count":
            return None
        if self.rule == "borda":
            return borda_weights(answers, given, self.power)
        if self.rule == "models":
            return model_weights(answers, [c.model for c in casts], group=grouping(self._equal))
        if self.rule == "perplexity" or self.rule == "rpc":
            logprobs = [0.0 if a is None else g for a, g in zip(answers, given, strict=True)]
            return path_weights(answers, logprobs, [c.text for c in casts], prune=self.rule == "rpc")
        return given

    @property
    def _weighed(self) -> bool:
        return self.rule not in ("count", "models")

    @property
    def _tally(self) -> Totalling:
        return self.rule if self.rule in ("mean", "log_odds") else "sum"

    @property
    def _equal(self) -> Equal:
        return self.equal or ("text" if self.answers == "short" else "math")

    def ballots(self, frame: pl.LazyFrame) -> Iterator[Ballots]:
        """The samples of ``frame`` by problem, in the order of their first ones; texts are not held."""
        yield from _by_problem(self._rows(frame))

    def _rows(self, frame: pl.LazyFrame) -> pl.DataFrame:
        """What each sample brings to the vote, with its problem."""
        import polars as pl

        if self.weight is not None:
            frame = evaluate(frame, {_WEIGHT: self.weight}, "vote: weight")
            weight = pl.col(_WEIGHT).cast(pl.Float64, strict=False)
        else:
            weight = pl.lit(None, pl.Float64)
        text = pl.col("completion").hash(0).cast(pl.String)
        verdict = pl.col("verdict").struct
        outcome = verdict.field("outcome")
        right = (
            pl.when(verdict.field("rule").str.starts_with(BACKWARD))
            .then(None)
            .when(outcome.is_in(["correct", "incorrect"]))
            .then(outcome == "correct")
        )
        own = {
            "said": self._said(),
            "weight": weight,
            "text": text if self.rule in _PATHS else pl.lit(""),
            "right": right,
        }
        return frame.select(own.get(name, pl.col(name)).alias(name) for name in _CASTS).collect()

    def counted(self, frame: pl.LazyFrame) -> CountedVotes:
        """The votes of all problems at once. ``GristmillError`` as ``votes`` raises it."""
        import polars as pl

        samples = self._rows(frame).with_row_index("row")
        samples = samples.with_columns(pl.col("row").first().over("problem_id").alias("number"))
        if self._weighed:
            there = pl.col("weight").is_not_nan().fill_null(False)
            samples = samples.with_columns(
                pl.when(there).then("said").alias("said"),
                pl.when(there).then("weight").otherwise(0.0).alias("weight"),
            )
        if self.rule == "count":
            samples = samples.drop("weight")
        else:
            samples = samples.with_columns(pl.Series("weight", self._checked(samples), pl.Float64))
        heads = samples.filter(pl.col("row") == pl.col("number")).select(
            "number", "problem", "meta", id="problem_id", gold="answer"
        )
        heads = heads.join(samples.group_by("number").len("drawn"), on="number", maintain_order="left")
        texts = texts_of(samples, self._equal)
        tally = None if self.rule == "count" else self._tally
        classes = classes_of(texts, heads.select("number", "gold"), self._equal, tally)
        standings = standings_of(classes, self.ties == "first")
        return CountedVotes(heads, samples.select("number", "said"), texts, classes, standings)

    def _checked(self, samples: pl.DataFrame) -> list[float]:
        """The weight of each sample under the rule, of which every one can be used."""
        if self.rule in ("sum", "mean", "log_odds"):
            by_problem = samples.group_by("problem_id", maintain_order=True).agg("weight")
            for problem_id, given in by_problem.iter_rows():
                with _of(problem_id):
                    check_weights(given, self._tally)
            return samples["weight"].to_list()
        weights = [0.0] * samples.height
        for ballots in _by_problem(samples.select(_CASTS)):
            with _of(ballots.problem_id):
                own = self._weights([c.answer for c in ballots.casts], ballots.casts) or []
                check_weights(own, self._tally)
            for cast, weight in zip(ballots.casts, own, strict=True):
                weights[cast.row] = weight
        return weights

    def voted(self, frame: pl.LazyFrame) -> pl.DataFrame:
        """A row of ``Voted`` for each problem, those without any vote included, in the order of their first
        samples."""
        import polars as pl

        found = self.counted(frame)
        votes = pl.col("votes").fill_null(0)
        none = pl.lit([], schema(Voted)["classes"])
        rows = found.heads.join(found.standings, on="number", how="left", maintain_order="left")
        rows = rows.with_columns(
            pl.lit(None, pl.Int64).alias("level"),
            pl.col("share", "margin", "entropy").fill_null(0.0),
            pl.col("tied").fill_null(False),
            votes,
            (pl.col("drawn").cast(pl.Int64) - votes).alias("undecided"),
            pl.coalesce("classes", none).alias("classes"),
        )
        return rows.select(schema(Voted).names())

    def _said(self) -> pl.Expr:
        """The answer of each sample, null for one that was cut off."""
        import polars as pl

        finished = pl.col("finish_reason") == "stop"
        if self.answers == "verdict":
            return pl.when(finished).then(pl.col("verdict").struct.field("extracted"))
        how = self.answers

        def read(texts: pl.Series) -> pl.Series:
            found = [None if text is None else said(text, how) for text in texts]
            return pl.Series(texts.name, found, pl.String)

        return pl.when(finished).then(pl.col("completion")).map_batches(read, pl.String, is_elementwise=True)


class Voting(SampleVotes, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The samples of each problem vote for its answer (self-consistency, arXiv 2203.11171): a row for each
    problem. One without any vote is rejected."""

    writes: ClassVar[type[Struct] | None] = Voted

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The problems in the order of their first samples, those without a vote last."""
        import polars as pl

        rows = self.voted(frames[0])
        reason = pl.lit("vote: no sample has an answer").alias(REJECTED_REASON)
        none = rows.lazy().filter(pl.col("votes") == 0).select("id", reason)
        return with_rejected(rows.lazy().filter(pl.col("votes") > 0), none)


class VoteShares(SampleVotes, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The samples of each problem vote for its answer, and come out with two scores more: ``vote``, the share
    of a sample's own class, and ``vote_label``, 1 for the label, 0 for another answer, null after a tie.

    Both are null for a sample that does not vote. None is rejected.
    """

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The samples in order, with their scores."""
        import polars as pl

        found = self.counted(frames[0])
        leaders = found.standings.select("number", "leader", voted="votes")
        classes = found.classes.join(leaders, on="number").select(
            "number",
            "class",
            (pl.col("votes") / pl.col("voted")).alias("vote"),
            (pl.col("class") == pl.col("leader")).cast(pl.Float64).alias("vote_label"),
        )
        own = found.texts.select("number", "said", "class").join(classes, on=["number", "class"])
        scores = found.samples.join(own, on=["number", "said"], how="left", maintain_order="left")
        return with_values(frames[0], {name: scores[name] for name in ("vote", "vote_label")}, nulls=True)


def _by_problem(rows: pl.DataFrame) -> Iterator[Ballots]:
    """The samples by problem, in the order of their first ones."""
    found: dict[str, Ballots] = {}
    for i, (problem_id, problem, gold, meta, *own) in enumerate(rows.iter_rows()):
        if (ballots := found.get(problem_id)) is None:
            ballots = found[problem_id] = Ballots(problem_id, problem, gold, meta, [])
        ballots.casts.append(Cast(i, *own))
    yield from found.values()


@contextmanager
def _of(problem_id: str) -> Iterator[None]:
    """Says of a weight that the rule cannot use which problem it is of."""
    try:
        yield
    except ValueError as error:
        raise GristmillError(
            f"vote: problem {problem_id!r}: {error}",
            remedy="Correct 'weight', or keep such samples out with the stage 'where'.",
        ) from error


def _missing(weight: float | None) -> bool:
    return weight is None or math.isnan(weight)
