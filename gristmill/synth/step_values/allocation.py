"""Where the next rollouts of a solution go: fixed, adaptive, or by binary search. Pure, no engine.

Rollouts of a prefix are numbered 0, 1, ... and always drawn in that order, so every scheme sees the same
ones and a completion log serves them all. A decision is a function of the outcomes so far alone: nothing
else needs to be kept to resume.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import floor
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from gristmill.core.errors import RecipeError
from gristmill.core.steps import Scheme, Tally
from gristmill.synth.step_values.posterior import alone, evidence, gain, one_error

Outcomes = Sequence[bool | None]
"""Of one prefix, in order: whether each rollout came to the right answer; ``None``: not decided."""

_CAPS: dict[Scheme, int] = {"fixed": 16, "binary": 16, "adaptive": 64}

Positive = Annotated[int, Meta(ge=1)]
Above0 = Annotated[float, Meta(gt=0)]


class Decision(Struct, frozen=True):
    """What to do next: ``draws`` as (step whose prefix, how many more rollouts), or an end.

    ``stopped`` is empty while there is something to draw. ``first_error`` is as in ``ValuedSolution``.
    """

    draws: tuple[tuple[int, int], ...] = ()
    stopped: str = ""
    first_error: int | None = None


class Allocation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many rollouts each prefix of a solution gets.

    A prefix is *right* where its success share exceeds ``threshold``. The whole solution's verdict is known,
    so its last prefix gets no rollouts. The schemes:

    - ``fixed``: ``k`` for each prefix (Math-Shepherd, arXiv 2312.08935).
    - ``binary``: binary search for the first error of a wrong solution (OmegaPRM, arXiv 2406.06592),
      up to ``k`` for each prefix it looks at: ``batch`` first, then each time as many as there are. It
      leaves a prefix as soon as the rest of the ``k`` could not change its label, so the labels are those
      of ``k`` in full. It takes labels to turn from right to wrong once; where they do not, it finds a
      turn, not always the first. ``repeat`` checks that turn with that many *further* rollouts on either
      side (new ones, as those before were stopped when they looked right): where they contradict, their
      label counts and the search goes on. It also looks at the prefix behind the turn: one that is right,
      and found so again, shows the one before it to be right. Where luck after an error gives the right
      answer all the same, no check helps much with threshold 0, as a lucky prefix *is* one with a right
      rollout: set a threshold above that luck as well.
    - ``adaptive``: in draws of ``batch``, up to ``k`` for each prefix, until every label is decided at
      ``confidence``.

    What ``confidence`` promises: the chances are posteriors under ``prior`` (a Beta distribution of a
    prefix's success, cut at the threshold), and valid whenever one stops to look. So of the labels
    decided, at least that share is right on average over problems that are like the prior. It is not a
    bound for one given success rate: with threshold 0 a right prefix that hardly ever succeeds is taken
    for wrong whatever the scheme.
    """

    scheme: Scheme = "fixed"
    """``fixed``: as many for each prefix; ``binary``: a binary search for the first error of a wrong
    solution; ``adaptive``: until every label is decided."""
    k: Positive | None = None
    """The most rollouts of a prefix; by default 16, for ``adaptive`` 64."""
    batch: Positive = 4
    """The rollouts drawn at once by ``binary`` and ``adaptive``."""
    threshold: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """The success share above which a prefix is right: 0 is the hard label, any rollout right."""
    confidence: Annotated[float, Meta(gt=0.5, lt=1)] = 0.95
    """The chance at which ``adaptive`` takes a label for decided. One that ``k`` equal rollouts of a prefix
    do not come to is refused: with the default ``prior`` and ``threshold`` that takes about
    1 / (1 - confidence)."""
    monotone: bool = True
    """Whether ``adaptive`` takes labels to turn from right to wrong once, at a step as likely as any other:
    then each draw goes to the undecided prefix where a rollout is expected to tell most, and a solution that
    ends right is all right. Without it each prefix is judged alone, with even odds, and all undecided ones
    are drawn at once."""
    prior: tuple[Above0, Above0] = (1.0, 1.0)
    """The Beta distribution of a prefix's success that ``adaptive`` assumes."""
    repeat: Annotated[int, Meta(ge=0)] = 0
    """The further rollouts by which ``binary`` checks the turn that it found, on either side of it."""
    max_rollouts: Positive | None = None
    """The most rollouts of a solution, wherever its sampling is; ``first_error`` is then undecided."""

    def __post_init__(self) -> None:
        """Refuses a ``confidence`` that not even ``k`` equal outcomes come to: no draw would decide."""
        if self.scheme != "adaptive" or self._decides(self.cap):
            return
        needed = next((k for k in (self.cap * 2**i for i in range(1, 24)) if self._decides(k)), None)
        if needed is not None:
            low = needed // 2
            needed = low + 1 + bisect_left(range(low + 1, needed), True, key=self._decides)
        wrong, right = self._surest(self.cap)
        unsure = max(wrong, 1 - right)
        more = f"Set k to at least {needed}, or" if needed else "Change the prior or the threshold, or"
        raise RecipeError(
            f"confidence {self.confidence:g} is more than k = {self.cap} rollouts can decide: as many equal "
            f"ones of a prefix leave a chance of {unsure:.3g} that its label is wrong.",
            remedy=f"{more} lower confidence to {_below(1 - unsure):g}.",
        )

    def _decides(self, k: int) -> bool:
        return not any(map(self.undecided, self._surest(k)))

    def _surest(self, k: int) -> tuple[float, float]:
        """The chance that a prefix is right after ``k`` wrong rollouts, and after ``k`` right ones."""
        wrong, right = (alone(evidence(Tally(c, k), self.threshold, self.prior)) for c in (0, k))
        return wrong, right

    def undecided(self, chance: float) -> bool:
        """Whether a chance of being right is a label at neither side of ``confidence``."""
        return 1 - self.confidence < chance < self.confidence

    @property
    def cap(self) -> int:
        """The most rollouts of one prefix (before a check): ``k``, or the scheme's own."""
        return self.k or _CAPS[self.scheme]

    def decide(self, outcomes: Sequence[Outcomes], solved: bool) -> Decision:
        """The next draws, given the ``outcomes`` of each prefix but the whole, and the whole's verdict."""
        if self.scheme == "fixed":
            decision = _fixed(self, outcomes, solved)
        elif self.scheme == "binary":
            decision = _binary(self, outcomes, solved)
        else:
            decision = _adaptive(self, outcomes, solved)
        if self.max_rollouts is None or not decision.draws:
            return decision
        left = self.max_rollouts - sum(map(len, outcomes))
        draws = []
        for index, count in decision.draws:
            if left > 0:
                draws.append((index, min(count, left)))
                left -= count
        return Decision(tuple(draws)) if draws else Decision(stopped="budget")

    def chances(self, outcomes: Sequence[Outcomes], solved: bool) -> list[float]:
        """The posterior chance that each prefix but the whole is right, by ``adaptive``'s model."""
        if self.monotone and solved:
            return [1.0] * len(outcomes)
        seen = [evidence(count(o), self.threshold, self.prior) for o in outcomes]
        return one_error(seen) if self.monotone else [alone(e) for e in seen]

    def bounds(self, prefixes: int, solved: bool) -> tuple[int, int]:
        """The least and the most rollouts that a solution with that many prefixes besides the whole may
        take."""
        least = most = prefixes * self.cap
        if self.scheme != "fixed":
            least = min(self.batch, self.cap) * min(prefixes, 1)
            if solved and (self.monotone or self.scheme == "binary"):
                least = most = 0
            elif self.scheme == "binary" and self.repeat:
                most = prefixes * (self.cap + self.repeat)
            elif self.scheme == "binary":
                # Of M = prefixes + 1 positions a look leaves at least the smaller half, at most the larger.
                least *= (prefixes + 1).bit_length() - 1
                most = prefixes.bit_length() * self.cap
        budget = most if self.max_rollouts is None else self.max_rollouts
        return min(least, budget), min(most, budget)


def _below(chance: float) -> float:
    """``chance`` to three digits, rounded down."""
    return floor(chance * 1000) / 1000


def count(outcomes: Outcomes) -> Tally:
    """The tally of outcomes."""
    return Tally(sum(o is True for o in outcomes), sum(o is not None for o in outcomes))


def exceeds(correct: int, decided: int, threshold: float) -> bool:
    """Whether a share is above the threshold, in whole numbers (0.1 means one in ten, exactly)."""
    top, bottom = _ratio(threshold)
    return correct * bottom > decided * top


@lru_cache
def _ratio(threshold: float) -> tuple[int, int]:
    return Fraction(str(threshold)).as_integer_ratio()


def _fixed(options: Allocation, outcomes: Sequence[Outcomes], solved: bool) -> Decision:
    draws = tuple((i, options.cap - len(o)) for i, o in enumerate(outcomes) if len(o) < options.cap)
    if draws:
        return Decision(draws)
    labels = [_label(count(o), options.threshold) for o in outcomes]
    return Decision(stopped="drawn", first_error=_first_error(labels, solved))


def _label(seen: Tally, threshold: float) -> bool | None:
    return exceeds(seen.correct, seen.decided, threshold) if seen.decided else None


def _first_error(labels: Sequence[bool | None], solved: bool) -> int | None:
    """The first wrong label; the last step where only the whole is wrong; ``None`` behind an unknown one."""
    for index, label in enumerate(labels):
        if label is None:
            return None
        if not label:
            return index
    return -1 if solved else len(labels)


def _adaptive(options: Allocation, outcomes: Sequence[Outcomes], solved: bool) -> Decision:
    if options.monotone and solved:
        return Decision(stopped="solved", first_error=-1)
    chances = options.chances(outcomes, solved)
    undecided = [i for i, p in enumerate(chances) if options.undecided(p)]
    if not undecided:
        return Decision(stopped="decided", first_error=_first_error([p > 0.5 for p in chances], solved))
    free = [i for i in undecided if len(outcomes[i]) < options.cap]
    if not free:
        labels = [None if i in undecided else p > 0.5 for i, p in enumerate(chances)]
        return Decision(stopped="k", first_error=_first_error(labels, solved))
    if options.monotone:
        gains = [gain(chances[i], count(outcomes[i]), options.threshold, options.prior) for i in free]
        free = [free[gains.index(max(gains))]]  # the first of equals
    return Decision(tuple((i, min(options.batch, options.cap - len(outcomes[i]))) for i in free))


class _Look(NamedTuple):
    """A label from ``used`` rollouts, or how many ``more`` it needs first."""

    label: bool | None
    used: int
    more: int


def _binary(options: Allocation, outcomes: Sequence[Outcomes], solved: bool) -> Decision:
    if solved:
        return Decision(stopped="solved", first_error=-1)
    whole = len(outcomes) + 1
    low, high = 0, whole  # in steps: the question alone is taken for right, the whole is known to be wrong
    while high - low > 1:
        middle = (low + high) // 2
        look = _settled(options, outcomes, middle - 1)
        if look.more:
            return Decision(((middle - 1, look.more),))
        if look.label is None:
            return Decision(stopped="undecided")
        low, high = (middle, high) if look.label else (low, middle)
    # What a check has overturned is already in the labels above, so the search has gone past it.
    checks = [(edge - 1, _check(options, outcomes[edge - 1])) for edge in (low, high) if 0 < edge < whole]
    if options.repeat and high + 1 < whole:
        beyond = _settled(options, outcomes, high)
        checks.append((high, _check(options, outcomes[high]) if beyond.label else beyond))
    draws = tuple((index, check.more) for index, check in checks if check.more)
    return Decision(draws) if draws else Decision(stopped="located", first_error=high - 1)


def _settled(options: Allocation, outcomes: Sequence[Outcomes], index: int) -> _Look:
    """The label of a prefix: that of its check where one was made, else that of its first look."""
    first = _look(outcomes[index], options.cap, options.batch, options.threshold)
    if first.more or not options.repeat:
        return first
    if index + 1 < len(outcomes) and _check(options, outcomes[index + 1]).label:
        return _Look(True, 0, 0)  # what can be ended well from the next step on is right before it too
    check = _check(options, outcomes[index])
    return first if check.more or check.label is None else check


def _check(options: Allocation, outcomes: Outcomes) -> _Look:
    """The check of a prefix by the rollouts behind its first look."""
    if not options.repeat:
        return _Look(None, 0, 0)
    used = _look(outcomes, options.cap, options.batch, options.threshold).used
    return _look(outcomes[used:], options.repeat, options.batch, options.threshold)


def _look(outcomes: Outcomes, k: int, batch: int, threshold: float) -> _Look:
    """A prefix's label from its first ``k`` outcomes, or from as few draws as settle it."""
    used = 0
    while True:
        seen, rest = count(outcomes[:used]), k - used
        if exceeds(seen.correct, seen.decided + rest, threshold):
            return _Look(True, used, 0)
        if not rest or not exceeds(seen.correct + rest, seen.decided + rest, threshold):
            return _Look(False if seen.decided else None, used, 0)
        step = min(max(batch, used), rest)
        if len(outcomes) < used + step:
            return _Look(None, used, used + step - len(outcomes))
        used += step
