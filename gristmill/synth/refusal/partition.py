"""Which question is for training and which for testing, so that nothing leaks from one to the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from math import floor
from typing import Annotated, Literal

from msgspec import Meta, Struct

from gristmill.core.errors import RecipeError
from gristmill.core.stages import derive_seed
from gristmill.filters.duplicates import near_duplicates
from gristmill.synth.refusal.wordings import slips, written_out

Part = Literal["train", "test", "test_ood"]


class Partition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How questions are divided into ``train``, ``test`` and ``test_ood``.

    Near-duplicates are kept together: in a seeded order each group goes to ``test`` as a whole if that leaves
    no stratum above its share, and otherwise is training data. The share is met exactly where there are
    enough questions without near-duplicates to fill it up. A question that nearly repeats one out of domain
    is tested in domain and never trained on, even where the share is then exceeded.
    """

    domain: str | None = None
    """The column (relation, subject) by which questions are in domain or out of it; ``null``: all are in."""
    out: tuple[str, ...] = ()
    """The values of ``domain`` whose questions are ``test_ood``."""
    out_share: Annotated[float, Meta(gt=0, lt=1)] | None = None
    """The share of the values of ``domain`` that are out, in place of ``out``: chosen by seed, to the nearest
    whole number, with at least one on each side."""
    test: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """The share of the questions in domain to test on, to the nearest whole number."""
    near_duplicates: Annotated[float, Meta(gt=0, le=1)] | None = 0.75
    """The similarity from which two questions are near-duplicates (``filters.near_duplicates``); those that
    differ by one slip in a long word are as well. ``null``: only equal ones are kept together. "What's" is
    always "What is"."""
    stratify: bool = True
    """Whether ``test`` is a share of each of sure, unsure and left out."""

    def __post_init__(self) -> None:
        if (self.domain is None) != (not self.out and self.out_share is None):
            raise RecipeError(
                "partition: 'domain' and what is out of it belong together.",
                remedy="Give 'domain' with 'out' (its values) or 'out_share', or none of them.",
            )
        if self.out and self.out_share is not None:
            raise RecipeError("partition: 'out' and 'out_share' are both given.", remedy="Keep one of them.")

    def __call__(
        self,
        ids: Sequence[str],
        questions: Sequence[str],
        domains: Sequence[str | None],
        strata: Sequence[str | None],
        seed: int,
    ) -> list[Part]:
        """The part of each question. ``domains`` are the values of ``domain``, ``None`` being in domain.

        ``RecipeError`` where a value of ``out`` does not occur, or there are too few values to share out.
        """
        outside = self._outside(domains, seed)
        away = [domain is not None and domain in outside for domain in domains]
        if not self.test and not any(away):
            return ["train"] * len(ids)  # nothing can leak where there is one part
        groups = self._groups(questions)
        order = sorted(groups, key=lambda members: (derive_seed(seed, ids[members[0]]), ids[members[0]]))
        kinds = list(strata) if self.stratify else [None] * len(ids)
        wanted = self._wanted([kind for kind, out in zip(kinds, away, strict=True) if not out])
        parts: list[Part] = ["train"] * len(ids)
        # Those that have no choice go first, so that the others make up for them.
        for members in sorted(order, key=lambda members: not any(away[i] for i in members)):
            inside = [i for i in members if not away[i]]
            need = Counter(kinds[i] for i in inside)
            forced = len(inside) < len(members)
            if forced or all(wanted[kind] >= count for kind, count in need.items()):
                wanted.subtract(need)
                for i in members:
                    parts[i] = "test_ood" if away[i] else "test"
        return parts

    def _outside(self, domains: Sequence[str | None], seed: int) -> set[str]:
        """The values that are out of domain; none of no questions."""
        if not domains:
            return set()
        values = sorted({domain for domain in domains if domain is not None})
        if missing := sorted(set(self.out) - set(values)):
            shown = ", ".join(values[:10]) or "none"
            raise RecipeError(
                f"partition: {self.domain!r} never has the value {', '.join(missing)} (it has: {shown}).",
                remedy="Correct 'out'.",
            )
        if self.out_share is None:
            return set(self.out)
        if len(values) < 2:
            raise RecipeError(
                f"partition: {self.domain!r} has {len(values)} values, of which none can be set apart.",
                remedy="Name a field with several values, or leave out 'domain'.",
            )
        count = min(max(_share(self.out_share, len(values)), 1), len(values) - 1)
        return set(sorted(values, key=lambda v: (derive_seed(seed, f"{self.domain}={v}"), v))[:count])

    def _groups(self, questions: Sequence[str]) -> list[list[int]]:
        """Questions that belong together, each group and all of them in the order of their first."""
        threshold = 1.0 if self.near_duplicates is None else self.near_duplicates
        questions = [written_out(question) for question in questions]
        first = near_duplicates(questions, threshold)
        if self.near_duplicates is not None:
            for a, b in slips(questions):
                low, high = sorted((_root(first, a), _root(first, b)))
                first[high] = low
        groups: dict[int, list[int]] = {}
        for i in range(len(questions)):
            groups.setdefault(_root(first, i), []).append(i)
        return list(groups.values())

    def _wanted(self, kinds: Sequence[str | None]) -> Counter[str | None]:
        return Counter({kind: _share(self.test, count) for kind, count in Counter(kinds).items()})


def _root(first: list[int], i: int) -> int:
    """The first question of the group of ``i``; what points past it is set straight."""
    while first[i] != first[first[i]]:
        first[i] = first[first[i]]
    return first[i]


def _share(share: float, count: int) -> int:
    """``share`` of ``count`` to the nearest whole number, halves up; 0.1 is exactly a tenth."""
    return floor(Fraction(str(share)) * count + Fraction(1, 2))
