"""``vote``: the samples of a problem vote for its answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from gristmill.core.errors import GristmillError, RecipeError
from gristmill.core.records import Sampled
from gristmill.core.schema import schema, to_frame
from gristmill.core.stages import REJECTED_REASON, Relation
from gristmill.filters.expressions import Expression, evaluate, plain
from gristmill.filters.tables import with_rejected
from gristmill.synth.agreement.answers import BACKWARD, Answers, Equal, grouping, said, truth
from gristmill.synth.agreement.weights import borda_weights, model_weights, path_weights
from gristmill.verifiers.rules.votes import Votes, vote

if TYPE_CHECKING:
    import polars as pl

Rule = Literal["count", "sum", "mean", "log_odds", "borda", "models", "perplexity", "rpc"]
_DEFAULT: dict[str, str] = {
    "borda": "scores.self_certainty",
    "perplexity": "scores.mean_logprob",
    "rpc": "scores.mean_logprob",
}
_WEIGHT = "vote_weight"


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
        casts, group = ballots.casts, grouping(self._equal)
        weighed = self.rule not in ("count", "models")
        answers = [None if weighed and _missing(c.weight) else c.answer for c in casts]
        given = [0.0 if _missing(c.weight) else float(c.weight or 0) for c in casts]
        weights: list[float] | None = None
        tally: Literal["sum", "mean", "log_odds"] = "sum"
        try:
            if self.rule == "borda":
                weights = borda_weights(answers, given, self.power)
            elif self.rule == "models":
                weights = model_weights(answers, [c.model for c in casts], group=group)
            elif self.rule == "perplexity" or self.rule == "rpc":
                logprobs = [0.0 if a is None else g for a, g in zip(answers, given, strict=True)]
                texts = [c.text for c in casts]
                weights = path_weights(answers, logprobs, texts, prune=self.rule == "rpc")
            elif self.rule != "count":
                weights, tally = given, self.rule
            return vote(answers, weights, group=group, tally=tally)
        except ValueError as error:
            raise GristmillError(
                f"vote: problem {ballots.problem_id!r}: {error}",
                remedy="Correct 'weight', or keep such samples out with the stage 'where'.",
            ) from error

    @property
    def _equal(self) -> Equal:
        return self.equal or ("text" if self.answers == "short" else "math")

    def _leader(self, votes: Votes) -> int | None:
        return None if self.ties == "abstain" and votes.tied else votes.winner

    def ballots(self, frame: pl.LazyFrame) -> Iterator[Ballots]:
        """The samples of ``frame`` by problem, in the order of their first ones; texts are not held."""
        import polars as pl

        if self.weight is not None:
            frame = evaluate(frame, {_WEIGHT: self.weight}, "vote: weight")
            weight = pl.col(_WEIGHT).cast(pl.Float64, strict=False)
        else:
            weight = pl.lit(None, pl.Float64).alias(_WEIGHT)
        verdict = pl.col("verdict").struct
        outcome = verdict.field("outcome")
        right = (
            pl.when(verdict.field("rule").str.starts_with(BACKWARD))
            .then(None)
            .when(outcome.is_in(["correct", "incorrect"]))
            .then(outcome == "correct")
        )
        rows = frame.select(
            "problem_id",
            "problem",
            "answer",
            "meta",
            self._said().alias("said"),
            weight,
            "model",
            pl.col("completion").hash(0).cast(pl.String).alias("text"),
            right.alias("right"),
        ).collect()
        found: dict[str, Ballots] = {}
        for i, (problem_id, problem, gold, meta, *own) in enumerate(rows.iter_rows()):
            if (ballots := found.get(problem_id)) is None:
                ballots = found[problem_id] = Ballots(problem_id, problem, gold, meta, [])
            ballots.casts.append(Cast(i, *own))
        yield from found.values()

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

    def voted(self, ballots: Ballots, votes: Votes) -> Voted:
        """The row of one problem with its ``votes``."""
        casts = ballots.casts
        labels = [casts[one[0]].answer or "" for one in votes.classes]
        right = [
            truth((casts[i].right for i in one), label, ballots.gold, self._equal)
            for one, label in zip(votes.classes, labels, strict=True)
        ]
        leader, first = self._leader(votes), votes.winner or 0
        share = votes.shares[first] if votes.classes else 0.0
        others = [other for i, other in enumerate(votes.shares) if i != first]
        return Voted(
            id=ballots.problem_id,
            problem=ballots.problem,
            answer=None if leader is None else labels[leader],
            level=None,
            meta=ballots.meta,
            gold=ballots.gold,
            right=None if leader is None else right[leader],
            share=share,
            margin=share - max(others, default=0.0),
            tied=bool(votes.tied),
            votes=sum(map(len, votes.classes)),
            undecided=len(votes.undecided),
            entropy=votes.entropy,
            credit=votes.credit(right),
            classes=tuple(
                VoteClass(label, len(one), total, known)
                for label, one, total, known in zip(labels, votes.classes, votes.totals, right, strict=True)
            ),
        )


class Voting(SampleVotes, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The samples of each problem vote for its answer (self-consistency, arXiv 2203.11171): a row for each
    problem. One without any vote is rejected."""

    writes: ClassVar[type[Struct] | None] = Voted

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The problems in the order of their first samples, those without a vote last."""
        import polars as pl

        found = [(one, self.votes(one)) for one in self.ballots(frames[0])]
        rows = [self.voted(b, v) for b, v in found if v.classes]
        none = [b.problem_id for b, v in found if not v.classes]
        reason = pl.lit("vote: no sample has an answer").alias(REJECTED_REASON)
        rejected = pl.LazyFrame({"id": none}, schema={"id": pl.String}).with_columns(reason)
        return with_rejected(to_frame(rows, Voted).lazy(), rejected)


class VoteShares(SampleVotes, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The samples of each problem vote for its answer, and come out with two scores more: ``vote``, the share
    of a sample's own class, and ``vote_label``, 1 for the label, 0 for another answer, null after a tie.

    Both are null for a sample that does not vote. None is rejected.
    """

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The samples in order, with their scores."""
        found = ((one, self.votes(one)) for one in self.ballots(frames[0]))
        return _scored(frames[0], [(b, v, self._leader(v)) for b, v in found])


def _missing(weight: float | None) -> bool:
    return weight is None or math.isnan(weight)


def _scored(frame: pl.LazyFrame, found: Sequence[tuple[Ballots, Votes, int | None]]) -> pl.LazyFrame:
    """The samples with the shares of their classes among their scores."""
    added: dict[int, dict[str, float | None]] = {}
    for ballots, votes, leader in found:
        for cast in ballots.casts:
            added[cast.row] = {"vote": None, "vote_label": None}
        for place, one in enumerate(votes.classes):
            for i in one:
                label = None if leader is None else float(place == leader)
                added[ballots.casts[i].row] = {"vote": votes.shares[place], "vote_label": label}
    return with_scores(frame, [added[i] for i in range(len(added))])


def with_scores(frame: pl.LazyFrame, scores: Sequence[dict[str, float | None]]) -> pl.LazyFrame:
    """``frame`` with the ``scores`` of each of its rows, in order, in the place of those of the same
    names."""
    import polars as pl

    dtype: Any = schema(Sampled)["scores"]
    rows = [[{"name": n, "value": v, "verdict": None} for n, v in row.items()] for row in scores]
    names = sorted({name for row in scores for name in row})
    other = pl.element().struct.field("name").is_in(names).not_()
    kept = pl.col("scores").list.eval(pl.element().filter(other)).cast(dtype)
    new = pl.LazyFrame({"vote_scores": pl.Series(rows, dtype=dtype)})
    both = pl.concat([frame, new], how="horizontal")
    return both.with_columns(pl.concat_list(kept, "vote_scores").alias("scores")).drop("vote_scores")
