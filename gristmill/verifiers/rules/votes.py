"""Votes over the answers of several samples: classes of equal answers, majorities, shares, entropy.

A class is scored by its number of answers, or by their weights: added up, as a mean, or as the sum of
log-odds (of weights that are probabilities). The rules can name different winners of the same samples, so a
caller says which one it uses.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from gristmill.verifiers.rules.short_answer import tokens

Grouping = Callable[[Sequence[str]], list[list[int]]]
"""Maps answers to the classes of equal ones, each as its indices, in order of their first members."""

Totalling = Literal["count", "sum", "mean", "log_odds"]
"""What the total of a class is: its number of answers, or of their weights the sum, the mean, or the sum of
log(w / (1 - w))."""
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
"""How an integer is written in one way only, so that different texts are different values."""
_CLOSE = 1e-9
"""Totals that differ by less than this, relative or absolute, are equal: sums of the same weights in another
order or grouping must not break a tie."""
_SURE = 1e-6
"""Weights of log-odds are kept this far from 0 and 1, where they would be infinite."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How the classes of equal answers stand: ``sizes``, the number of answers of each, and ``totals``, the
    weight of each (without weights, its size). Classes are in order of their first members."""

    sizes: tuple[int, ...]
    totals: tuple[float, ...]

    @property
    def leaders(self) -> tuple[int, ...]:
        """The classes with the largest total, in order; empty if no answer could vote."""
        best = max(self.totals, default=0.0)
        return tuple(
            i for i, t in enumerate(self.totals) if math.isclose(t, best, rel_tol=_CLOSE, abs_tol=_CLOSE)
        )

    @property
    def winner(self) -> int | None:
        """The class with the largest total; of several, the one whose first answer is the earliest."""
        return next(iter(self.leaders), None)

    @property
    def tied(self) -> tuple[int, ...]:
        """The classes that share the largest total, if there are several; otherwise empty."""
        return leaders if len(leaders := self.leaders) > 1 else ()

    def credit(self, right: Sequence[bool | None]) -> float | None:
        """What the vote is worth where it is known which classes are right: 1 or 0, and of a tie the share
        of the tied classes that are right. ``None`` without votes, or if a leader's truth is not known."""
        leading = [right[i] for i in self.leaders]
        known = [value for value in leading if value is not None]
        return sum(known) / len(known) if known and len(known) == len(leading) else None

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of each class in the answers that voted, by count and not by weight. Sums to 1."""
        voted = sum(self.sizes)
        return tuple(size / voted for size in self.sizes)

    @property
    def entropy(self) -> float:
        """The entropy of the shares in nats, 0 (all agree, or none voted) to ln(number of voters).

        Over classes of equal meaning this is semantic entropy in its discrete form (Farquhar et al. 2024,
        Nature 630, "Discrete semantic entropy").
        """
        return max(0.0, -math.fsum(share * math.log(share) for share in self.shares))


class Votes(Standing, frozen=True, kw_only=True):
    """The classes of equal answers. Indices are those of the given answers.

    ``classes``: the indices of each class in order, classes in order of their first members. ``undecided``:
    the indices of answers that cannot vote, which are ``None`` and texts without any letter or digit.
    """

    classes: tuple[tuple[int, ...], ...]
    undecided: tuple[int, ...] = ()

    @property
    def index(self) -> int | None:
        """The index of the winner's first answer; ``None`` if no answer could vote."""
        return None if (winner := self.winner) is None else self.classes[winner][0]


def vote(
    answers: Sequence[str | None],
    weights: Sequence[float] | None = None,
    *,
    group: Grouping | None = None,
    tally: Totalling = "sum",
) -> Votes:
    """Group ``answers`` and form the total of each class: by ``tally`` of its weights, or its size.

    ``group`` is ``gristmill.verifiers.math.group`` by default; ``group_texts`` is for other answers. It is
    given each different text once. ``weights``, one for each answer, are any finite numbers, such as the
    scores of a reward model; the weight of an answer that cannot vote is not counted.

    ``ValueError`` if ``weights`` has another length or a number that is not finite, and for the tally of
    log-odds if one is outside [0, 1].
    """
    if weights is not None:
        if len(weights) != len(answers):
            raise ValueError(f"{len(weights)} weights for {len(answers)} answers; give one for each.")
        check_weights(weights, tally)
    undecided: list[int] = []
    places: dict[str, list[int]] = {}
    for i, answer in enumerate(answers):
        if answer is None or not can_vote(answer):
            undecided.append(i)
        else:
            places.setdefault(answer, []).append(i)
    # Identical texts first, as most samples are; only different texts are compared by meaning.
    unique = list(places)
    found = grouped(unique, group or group_values)
    classes = sorted(sorted(i for at in one for i in places[unique[at]]) for one in found)
    return Votes(
        sizes=tuple(map(len, classes)),
        classes=tuple(map(tuple, classes)),
        totals=tuple(
            float(len(one)) if weights is None else total([weights[i] for i in one], tally) for one in classes
        ),
        undecided=tuple(undecided),
    )


def check_weights(weights: Sequence[float], tally: Totalling) -> None:
    """``ValueError`` for a weight that ``tally`` cannot use."""
    if (odd := next((w for w in weights if not math.isfinite(w)), None)) is not None:
        raise ValueError(f"the weight {odd} is not finite; leave such answers out.")
    if tally == "log_odds" and (odd := next((w for w in weights if not 0 <= w <= 1), None)) is not None:
        raise ValueError(f"the weight {odd} is not a probability; log-odds need weights in [0, 1].")


def grouped(unique: Sequence[str], group: Grouping) -> list[list[int]]:
    """The classes of different answers by ``group``, which is not asked about a single one."""
    return group(unique) if len(unique) > 1 else [[0]] * len(unique)


def total(weights: Sequence[float], tally: Totalling) -> float:
    """The total of a class whose answers have these ``weights``. Their order does not matter."""
    if tally == "count":
        return float(len(weights))
    if tally == "log_odds":
        kept = [min(max(w, _SURE), 1 - _SURE) for w in weights]
        return math.fsum(math.log(w / (1 - w)) for w in kept)
    return math.fsum(weights) / (len(weights) if tally == "mean" else 1)


def majority(answers: Sequence[str | None], *, group: Grouping | None = None) -> int | None:
    """The index of the first answer of the largest class (self-consistency: Wang et al. 2023, section 2).

    Of several equally large classes, the one that occurs first. ``None`` if no answer can vote.
    """
    return vote(answers, group=group).index


def can_vote(answer: str) -> bool:
    """Whether ``answer`` contains a letter or digit, so that another answer can agree with it."""
    return any(c.isalnum() or c in "∞∅" for c in answer)


def group_texts(answers: Sequence[str]) -> list[list[int]]:
    """The classes of texts with the same words and numbers, ignoring case, articles and full stops."""
    classes: dict[tuple[str, ...], list[int]] = {}
    for i, answer in enumerate(answers):
        classes.setdefault(tuple(tokens(answer)), []).append(i)
    return list(classes.values())


def group_values(answers: Sequence[str]) -> list[list[int]]:
    """The classes of equal mathematical values: ``gristmill.verifiers.math.group``, which need not be asked
    where all answers are plain integers."""
    if all(map(_INTEGER.fullmatch, answers)) and len(set(answers)) == len(answers):
        return [[i] for i in range(len(answers))]
    from gristmill.verifiers.math import group  # only if it is needed

    return group(answers)
