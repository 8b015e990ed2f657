"""What a model's answers say of each question, and which it is sure of (R-Tuning, arXiv 2311.09677)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from math import floor
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from gristmill.core.errors import RecipeError
from gristmill.core.knowledge import Certain, Certainty, Knowledge
from gristmill.core.schema import schema
from gristmill.core.shares import wilson
from gristmill.core.stages import REJECTED_REASON, Filter
from gristmill.core.verdicts import Outcome
from gristmill.synth.refusal.partition import Partition
from gristmill.synth.refusal.wordings import wordings
from gristmill.verifiers.rules.votes import Grouping, Standing, vote

if TYPE_CHECKING:
    import polars as pl

Rule = Literal["rate", "greedy", "entropy"]
Classes = Literal["short_answer", "exact", "math"]
Share = Annotated[float, Meta(ge=0, le=1)]

_META = msgspec.json.Decoder(dict[str, Any])
_ANSWERED = (Outcome.CORRECT, Outcome.INCORRECT)
_TOLD = (*_ANSWERED, Outcome.UNPARSEABLE)
"""Outcomes that say something of the model. An answer that cannot be read is not a right one."""


class RefusalSplit(Filter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Splits questions into those that the model is sure of and those that it is not.

    Questions that the rule can put on neither side are left out: ``certain`` is ``None``. Undecided verdicts
    (time-outs, errors) do not count. Of classes of answers equally large the first seen is the majority.
    """

    reads: ClassVar[type[Struct]] = Knowledge
    writes: ClassVar[type[Struct]] = Certainty

    rule: Rule = "rate"
    """``rate``: by the share of right samples, with its Wilson interval; a question without a decided verdict
    is left out. ``greedy``: R-Tuning's, sure if and only if the greedy answer is right; left out if that is
    undecided. ``entropy``: R-Tuning-U's, which looks at no verdict: by the entropy of the answers' classes,
    of equal ones the first in the input first; questions without a readable answer are left out."""
    classes: Classes = "short_answer"
    """Which answers are equal: ``short_answer`` by words and numbers, also where one says the same in more
    words (``wordings.wordings``: "Milky Way", "Milky Way Galaxy"), ``exact`` as written, ``math`` by
    value. An answer is what the verifier read, or otherwise the text; one that it could not read is in no
    class."""
    confidence: Annotated[float, Meta(gt=0, lt=1)] = 0.95
    """The confidence of the interval."""
    sure_from: Share = 0.5
    """A question is sure whose interval begins here or above: with the defaults, 9 right of 10 samples."""
    unsure_to: Share = 0.5
    """A question is unsure whose interval ends here or below: with the defaults, at most 1 right of 10."""
    between: Literal["leave_out", "point"] = "leave_out"
    """What becomes of a question that is neither: it is left out, or decided by its share alone."""
    point: Share = 0.5
    """With ``between: point``, the share of right samples from which a question is sure."""
    sure_share: Share | None = None
    """With ``rule: entropy``, the share of the n questions that are sure, floor(share n) of them; by default
    one half."""
    entropy_to: Annotated[float, Meta(ge=0)] | None = None
    """With ``rule: entropy``, the entropy in nats up to which a question is sure, in place of
    ``sure_share``."""
    partition: Partition = Partition()
    """Which questions are for training and which for testing. A question without the column
    ``partition.domain`` is rejected."""

    def __post_init__(self) -> None:
        if self.unsure_to > self.sure_from:
            raise RecipeError(
                f"refusal_split: sure from {self.sure_from} and unsure to {self.unsure_to} would overlap.",
                remedy="Give an 'unsure_to' of at most 'sure_from'.",
            )
        if self.sure_share is not None and self.entropy_to is not None:
            raise RecipeError(
                "refusal_split: sure_share and entropy_to are both given.", remedy="Keep one of them."
            )

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        """A row for each question, in order; the answers are held in memory.

        ``RecipeError`` where no question has the answers that the rule goes by.
        """
        import polars as pl

        rows = frame.select("id", "problem", "answer", "meta", *_answer_columns()).collect()
        self._refuse_nothing(rows)
        found = self._count(rows)
        certain = self._certain(rows, found)
        parts, reasons = self._parts(rows, certain, seed)
        counts = pl.DataFrame(
            found, schema={n: schema(Certainty)[n] for n in SplitCounts._fields}, orient="row"
        )
        decided = pl.DataFrame(
            {
                "greedy_correct": pl.Series(_greedy_correct(rows), dtype=pl.Boolean),
                "certain": pl.Series(certain, dtype=pl.String),
                "part": pl.Series(parts, dtype=pl.String),
                REJECTED_REASON: pl.Series(reasons, dtype=pl.String),
            }
        )
        made = pl.concat(
            [rows.drop("outcomes", "answers", "greedy_outcome"), counts, decided], how="horizontal"
        )
        return made.select(*schema(Certainty).names(), REJECTED_REASON).lazy()

    def _refuse_nothing(self, rows: pl.DataFrame) -> None:
        there = (
            rows["greedy_outcome"].is_not_null() if self.rule == "greedy" else rows["outcomes"].list.len() > 0
        )
        if rows.height and not there.any():
            what, option = ("greedy answer", "greedy") if self.rule == "greedy" else ("sample", "samples")
            raise RecipeError(
                f"refusal_split: the rule {self.rule!r} goes by {what}s, and no question has one.",
                remedy=f"Set {option!r} in the stage that probes, or choose another rule.",
            )

    def _count(self, rows: pl.DataFrame) -> list[SplitCounts]:
        group = _grouping(self.classes)
        interval = cache(lambda correct, decided: wilson(correct, decided, self.confidence))
        found = []
        for answers, outcomes in zip(rows["answers"].to_list(), rows["outcomes"].to_list(), strict=True):
            votes = vote(answers, group=group)
            classes = [-1] * len(answers)
            for number, members in enumerate(votes.classes):
                for i in members:
                    classes[i] = number
            first, winner = votes.index, votes.winner
            correct = outcomes.count(Outcome.CORRECT)
            decided = sum(outcomes.count(outcome) for outcome in _TOLD)
            found.append(
                SplitCounts(
                    majority=None if first is None else answers[first],
                    share=0.0 if winner is None else len(votes.classes[winner]) / len(answers),
                    classes=classes,
                    entropy=entropy(tuple(sorted(map(len, votes.classes)))) if votes.classes else None,
                    correct=correct,
                    decided=decided,
                    low=(bounds := interval(correct, decided))[0],
                    high=bounds[1],
                )
            )
        return found

    def _certain(self, rows: pl.DataFrame, found: Sequence[SplitCounts]) -> list[Certain | None]:
        if self.rule == "greedy":
            return [None if right is None else _named(right) for right in _greedy_correct(rows)]
        if self.rule == "entropy":
            entropies = [counts.entropy for counts in found]
            if self.entropy_to is not None:
                return [None if e is None else _named(e <= self.entropy_to) for e in entropies]
            return by_entropy(entropies, 0.5 if self.sure_share is None else self.sure_share)
        return [self._by_rate(counts) for counts in found]

    def _by_rate(self, counts: SplitCounts) -> Certain | None:
        if not counts.decided:
            return None
        if counts.low >= self.sure_from:
            return "sure"
        if counts.high <= self.unsure_to:
            return "unsure"
        if self.between == "leave_out":
            return None
        # In whole numbers: 3 of 10 is not less than 0.3.
        return _named(counts.correct >= Fraction(str(self.point)) * counts.decided)

    def _parts(
        self, rows: pl.DataFrame, certain: Sequence[Certain | None], seed: int
    ) -> tuple[list[str], list[str | None]]:
        """The part of each question, and why it is dropped where it is."""
        name = self.partition.domain
        domains = [None if name is None else _field(meta, name) for meta in rows["meta"]]
        reasons = [
            f"refusal_split: no {name!r} in its meta" if name is not None and domain is None else None
            for domain in domains
        ]
        kept = [i for i, reason in enumerate(reasons) if reason is None]
        ids, problems = rows["id"].to_list(), rows["problem"].to_list()
        found = self.partition(
            [ids[i] for i in kept],
            [problems[i] for i in kept],
            [domains[i] for i in kept],
            [certain[i] for i in kept],
            seed,
        )
        parts = ["train"] * len(ids)
        for i, part in zip(kept, found, strict=True):
            parts[i] = part
        return parts, reasons


class SplitCounts(NamedTuple):
    """The columns of ``Certainty`` that are counted from the samples."""

    majority: str | None
    share: float
    classes: list[int]
    entropy: float | None
    correct: int
    decided: int
    low: float
    high: float


@cache
def entropy(sizes: tuple[int, ...]) -> float:
    """The entropy in nats of classes of these sizes: 0 to ln(number of classes); see ``Standing.entropy``."""
    return Standing(sizes=sizes, totals=tuple(map(float, sizes))).entropy


def by_entropy(entropies: Sequence[float | None], share: float = 0.5) -> list[Certain | None]:
    """R-Tuning-U's split: of the n with an entropy, the floor(``share`` n) lowest are sure, the rest unsure.

    Ties keep the order of the input: of equal entropies on the cut the first ones are sure; ``tied`` counts
    them. ``None`` stays ``None``.
    """
    there = [(e, i) for i, e in enumerate(entropies) if e is not None]
    there.sort()
    sure = floor(Fraction(str(share)) * len(there))
    certain: list[Certain | None] = [None] * len(entropies)
    for rank, (_, i) in enumerate(there):
        certain[i] = _named(rank < sure)
    return certain


class Tied(NamedTuple):
    """How many questions share the entropy at which a split cuts, on each side; 0 if it cuts between."""

    entropy: float | None
    sure: int
    unsure: int


def tied(entropies: Sequence[float | None], certain: Sequence[Certain | None]) -> Tied:
    """The questions that only their order put on their side, for a report on a split by entropy."""
    counts = Counter(
        (e, c) for e, c in zip(entropies, certain, strict=True) if e is not None and c is not None
    )
    both = [e for e, c in counts if c == "sure" and (e, "unsure") in counts]
    if not both:
        return Tied(None, 0, 0)
    return Tied(max(both), counts[max(both), "sure"], counts[max(both), "unsure"])


def _named(sure: bool) -> Certain:
    return "sure" if sure else "unsure"


def _answer_columns() -> list[pl.Expr]:
    """What was read of each answer: what the verifier took out, or the text where it judged that as it is."""
    import polars as pl

    def read(one: pl.Expr) -> pl.Expr:
        verdict = one.struct.field("verdict")
        text = one.struct.field("completion").struct.field("text").str.strip_chars()
        judged = verdict.struct.field("outcome").is_in([o.value for o in _ANSWERED])
        return pl.coalesce(verdict.struct.field("extracted"), pl.when(judged).then(text))

    def outcome(one: pl.Expr) -> pl.Expr:
        return one.struct.field("verdict").struct.field("outcome")

    return [
        read(pl.col("greedy")).alias("greedy"),
        outcome(pl.col("greedy")).alias("greedy_outcome"),
        pl.col("samples").list.eval(read(pl.element())).alias("answers"),
        pl.col("samples").list.eval(outcome(pl.element())).alias("outcomes"),
    ]


def _greedy_correct(rows: pl.DataFrame) -> list[bool | None]:
    told = [o.value for o in _TOLD]
    return [o == Outcome.CORRECT if o in told else None for o in rows["greedy_outcome"]]


def _grouping(classes: Classes) -> Grouping | None:
    """How equal answers to one question are found."""
    if classes == "math":
        return None  # what ``vote`` does by itself
    if classes == "short_answer":
        return wordings

    def group(answers: Sequence[str]) -> list[list[int]]:
        found: dict[str, list[int]] = {}
        for i, answer in enumerate(answers):
            found.setdefault(answer.strip(), []).append(i)
        return list(found.values())

    return group


def _field(meta: str, name: str) -> str | None:
    """A field of ``meta`` as text; ``None`` where it is missing, null or a list of things."""
    try:
        value = _META.decode(meta)[name]
    except (msgspec.DecodeError, KeyError, RecursionError):
        return None
    return str(value) if isinstance(value, str | int | float) else None
