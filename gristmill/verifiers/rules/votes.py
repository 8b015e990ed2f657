"""Votes over the answers of several samples: classes of equal answers, majorities, shares, entropy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from gristmill.verifiers.rules.short_answer import tokens

Grouping = Callable[[Sequence[str]], list[list[int]]]
"""From answers to the classes of equal ones, each as its indices; classes in order of their first."""


class Votes(msgspec.Struct, frozen=True, kw_only=True):
    """The classes that answers fall into. Indices are those of the answers given.

    ``classes``: the indices of each class in order, classes in order of their first. ``totals``: the weight
    of each class (without weights the count). ``undecided``: the indices of answers that cannot vote:
    ``None``, and texts without any letter or digit.
    """

    classes: tuple[tuple[int, ...], ...]
    totals: tuple[float, ...]
    undecided: tuple[int, ...] = ()

    @property
    def winner(self) -> int | None:
        """The class of the largest total, of several the one whose first answer is the earliest."""
        return self.totals.index(max(self.totals)) if self.totals else None

    @property
    def index(self) -> int | None:
        """The index of the winner's first answer; ``None`` where none could vote."""
        return None if self.winner is None else self.classes[self.winner][0]

    @property
    def tied(self) -> tuple[int, ...]:
        """The classes that share the largest total, if there are several; else none."""
        if not self.totals:
            return ()
        best = max(self.totals)
        found = tuple(i for i, total in enumerate(self.totals) if total == best)
        return found if len(found) > 1 else ()

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of each class in the answers that voted, by count whatever the weights. Sums to 1."""
        voted = sum(map(len, self.classes))
        return tuple(len(one) / voted for one in self.classes)

    @property
    def entropy(self) -> float:
        """The entropy of the shares in nats, 0 (all agree, or none voted) to ln(number of voters).

        Over classes of equal meaning this is semantic entropy in its discrete form (Farquhar et al. 2024,
        Nature 630, "Discrete semantic entropy").
        """
        return max(0.0, -math.fsum(share * math.log(share) for share in self.shares))


def vote(
    answers: Sequence[str | None], weights: Sequence[float] | None = None, *, group: Grouping | None = None
) -> Votes:
    """Group ``answers`` and add up the weights of each class.

    ``group`` is ``gristmill.verifiers.math.group`` by default; ``group_texts`` is for other answers. It is
    given each different text once. ``weights``, one for each answer, are any finite numbers, such as the
    scores of a reward model; the weight of an answer that cannot vote counts nowhere.

    ``ValueError`` if ``weights`` has another length or a number that is not finite.
    """
    if weights is not None:
        if len(weights) != len(answers):
            raise ValueError(f"{len(weights)} weights for {len(answers)} answers; give one for each.")
        if (odd := next((w for w in weights if not math.isfinite(w)), None)) is not None:
            raise ValueError(f"the weight {odd} is not finite; leave such answers out.")
    undecided: list[int] = []
    places: dict[str, list[int]] = {}
    for i, answer in enumerate(answers):
        if answer is None or not can_vote(answer):
            undecided.append(i)
        else:
            places.setdefault(answer, []).append(i)
    # First by what is written alike, which most samples are: equal meaning is sought among the rest.
    unique = list(places)
    found = (group or _mathematical)(unique) if len(unique) > 1 else [[0]] * len(unique)
    classes = sorted(sorted(i for at in one for i in places[unique[at]]) for one in found)
    return Votes(
        classes=tuple(map(tuple, classes)),
        totals=tuple(
            float(len(one)) if weights is None else math.fsum(weights[i] for i in one) for one in classes
        ),
        undecided=tuple(undecided),
    )


def majority(answers: Sequence[str | None], *, group: Grouping | None = None) -> int | None:
    """The index of the first answer of the largest class (self-consistency: Wang et al. 2023, section 2).

    Of classes equally large, the one that was given first. ``None`` if no answer can vote.
    """
    return vote(answers, group=group).index


def weighted_majority(
    answers: Sequence[str | None], weights: Sequence[float], *, group: Grouping | None = None
) -> int | None:
    """The index of the first answer of the class with the largest sum of weights; ties as ``majority``."""
    return vote(answers, weights, group=group).index


def can_vote(answer: str) -> bool:
    """Whether there is anything in ``answer`` that another could agree with."""
    return any(c.isalnum() or c in "∞∅" for c in answer)


def group_texts(answers: Sequence[str]) -> list[list[int]]:
    """The classes of texts with the same words and numbers, whatever their case, articles and stops."""
    classes: dict[tuple[str, ...], list[int]] = {}
    for i, answer in enumerate(answers):
        classes.setdefault(tuple(tokens(answer)), []).append(i)
    return list(classes.values())


def _mathematical(answers: Sequence[str]) -> list[list[int]]:
    from gristmill.verifiers.math import group  # only where it is wanted

    return group(answers)
