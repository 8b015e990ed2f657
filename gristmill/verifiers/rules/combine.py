"""Several verifiers as one that keeps the verdict of every part.

One rule holds in every mode: a part that is undecided (``unparseable``, ``timeout``, ``error``) is not
wrong. The whole is decided only if no outcome of the undecided parts could change it; otherwise it is
undecided: ``error`` if a part is, else ``timeout`` if a part is, else ``unparseable``. So:

- ``all``: one wrong part makes it wrong; otherwise an undecided part makes it undecided. Score: the lowest.
- ``any``: one right part makes it right; otherwise an undecided part makes it undecided. Score: the highest.
- ``majority``: right if more than half of all parts are right, wrong if that is no longer possible (so an
  even split is wrong). Score: the share of right parts.
- ``weighted``: right if the weighted mean of the scores is at least ``threshold`` with every undecided part
  at 0, wrong if it is below ``threshold`` with every undecided part at 1. Score: the weighted mean.
- ``hierarchical`` (HERON): parts in order of importance. Each part's score is rounded to one of ``levels``
  levels, and the levels are the digits of one number, so that any step of a part outweighs all later parts
  together. Right from ``threshold`` on, with the undecided parts at the lowest and at the highest level as in
  ``weighted``. With two levels and threshold 0.5, right means that the first part is right.

Scores are computed from the decided parts only.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from gristmill.core.errors import RecipeError
from gristmill.core.registry import locate
from gristmill.core.verdicts import Outcome, Verdict, Verifier
from gristmill.verifiers.evidence import decided
from gristmill.verifiers.guard import failure, guarded
from gristmill.verifiers.loading import load

Mode = Literal["all", "any", "majority", "weighted", "hierarchical"]
_WORST_FIRST = (Outcome.ERROR, Outcome.TIMEOUT, Outcome.UNPARSEABLE)


class Combine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """One verdict from those of several parts; the module says how undecided parts count.

    The parts run one after another in this process: run the whole in a ``Pool``, or pass ``Pool.verify`` of
    several pools for a deadline each. The verdict's ``detail`` is a JSON object from the parts' names to
    their verdicts. A part's name is its kind, and ``KIND#2`` for the second of a kind.
    """

    parts: Annotated[tuple[Any, ...], Meta(min_length=1)]
    """The verifiers, each as ``{kind: NAME, ...options}`` or, from Python, as a callable; at least one."""
    mode: Mode = "all"
    """How the parts' verdicts are combined; the module describes the modes."""
    weights: tuple[Annotated[float, Meta(ge=0, le=1e9)], ...] | None = None
    """For mode ``weighted`` one weight per part, in order, 0 to 1e9 and not all 0; ``null`` for equal
    ones."""
    threshold: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """For ``weighted`` and ``hierarchical`` the lowest score that is right, in (0, 1]."""
    levels: Annotated[int, Meta(ge=2, le=1000)] = 2
    """For ``hierarchical`` the number of levels that a part's score is rounded to, 2 to 1000."""
    references: Literal["shared", "by_part"] = "shared"
    """``shared`` gives every part the same reference. With ``by_part`` the reference is a JSON object from
    the parts' names to their references (a string or any JSON); a part without one gets an empty string."""

    def __post_init__(self) -> None:
        if not self.parts:
            raise RecipeError("combine: there are no parts.", remedy="Give at least one part.")
        if self.weights is not None and self.mode != "weighted":
            raise RecipeError(
                "combine: weights can only be used with mode: weighted.",
                remedy="Set mode: weighted, or leave out weights.",
            )
        if self.weights is not None and (len(self.weights) != len(self.parts) or not any(self.weights)):
            raise RecipeError(
                f"combine: the weights {list(self.weights)} do not match the {len(self.parts)} parts.",
                remedy="Give one weight per part, in order, not all of them zero.",
            )
        _ = self.named  # builds the parts, so that a bad one is an error here and now

    @cached_property
    def named(self) -> dict[str, Verifier]:
        """The parts, built, by name."""
        built: dict[str, Verifier] = {}
        seen: Counter[str] = Counter()
        for part in self.parts:
            name, verifier = build(part)
            seen[name] += 1
            built[name if seen[name] == 1 else f"{name}#{seen[name]}"] = verifier
        return built

    @property
    def sandbox_used(self) -> str:
        """The sandbox in which a part runs programs on this machine; empty if none does."""
        return next((found for v in self.named.values() if (found := getattr(v, "sandbox_used", ""))), "")

    def prepare(self) -> None:
        """Call the ``prepare_worker`` of the parts' modules, before any deadline counts."""
        for verifier in self.named.values():
            if isinstance(verifier, Combine):
                verifier.prepare()
                continue
            module = getattr(verifier, "__module__", None) or type(verifier).__module__
            prepare = getattr(sys.modules.get(module), "prepare_worker", None)
            if prepare is not None:
                prepare()

    def __call__(self, completion: str, reference: str) -> Verdict:
        """Judge ``completion`` by all parts, whatever the verdicts of the others are."""
        return guarded(self._verify, completion, reference)

    def _verify(self, completion: str, reference: str) -> Verdict:
        try:
            references = self._references(reference)
        except ValueError as error:
            return failure(
                "reference unparseable", f"the reference is not a JSON object of references: {error}"
            )
        verdicts = {n: guarded(v, completion, references[n]) for n, v in self.named.items()}
        return merge(verdicts, self.mode, weights=self.weights, threshold=self.threshold, levels=self.levels)

    def _references(self, reference: str) -> dict[str, str]:
        if self.references == "shared":
            return dict.fromkeys(self.named, reference)
        given = msgspec.json.decode(reference, type=dict[str, Any])
        if unknown := given.keys() - self.named.keys():
            raise ValueError(f"no part has the name {', '.join(sorted(unknown))}")
        texts = {n: v if isinstance(v, str) else msgspec.json.encode(v).decode() for n, v in given.items()}
        return dict.fromkeys(self.named, "") | texts


def build(part: Any) -> tuple[str, Verifier]:
    """The name and the verifier of ``{kind: NAME, ...options}``, or of a callable.

    ``RecipeError`` for an unknown kind, an unknown option or a wrong value.
    """
    if not isinstance(part, Mapping):
        if not callable(part):
            raise RecipeError(
                f"combine: {part!r} is not a verifier.", remedy="Write {kind: NAME, ...options}."
            )
        return getattr(part, "__name__", type(part).__name__), part
    kind = part.get("kind")
    if not isinstance(kind, str):
        raise RecipeError(f"combine: the part {dict(part)!r} has no kind.", remedy="Write {kind: NAME, ...}.")
    return kind, load(locate("verifiers", kind), {k: v for k, v in part.items() if k != "kind"})


def merge(
    verdicts: Mapping[str, Verdict],
    mode: Mode,
    *,
    weights: Sequence[float] | None = None,
    threshold: float = 0.5,
    levels: int = 2,
) -> Verdict:
    """One verdict from those of named parts, in order; the options are those of ``Combine``."""
    parts = list(verdicts.values())
    scores = [_score(v) for v in parts]
    detail = msgspec.json.encode(verdicts).decode()
    extracted = next((v.extracted for v in parts if v.extracted is not None), None)
    low, high, score, bar = _bounds(mode, parts, scores, weights or [1.0] * len(parts), threshold, levels)
    if low >= bar or high < bar:
        return decided(low >= bar, score=score, extracted=extracted, rule=mode, detail=detail)
    worst = next(o for o in _WORST_FIRST if any(v.outcome is o for v in parts))
    return Verdict(worst, extracted=extracted, rule=f"{mode}: undecided parts", detail=detail)


def _bounds(
    mode: Mode,
    parts: Sequence[Verdict],
    scores: Sequence[float | None],
    weights: Sequence[float],
    threshold: float,
    levels: int,
) -> tuple[float, float, float, float]:
    """The values with the undecided parts at worst and at best, the score, and the lowest right value."""
    known = [s for s in scores if s is not None]
    right, wrong = (sum(v.outcome is o for v in parts) for o in (Outcome.CORRECT, Outcome.INCORRECT))
    share = right / (right + wrong) if known else 0.0
    if mode == "all":
        return right, len(parts) - wrong, min(known, default=0.0), len(parts)
    if mode == "any":
        return right, len(parts) - wrong, max(known, default=0.0), 1
    if mode == "majority":
        return right, len(parts) - wrong, share, len(parts) // 2 + 1
    fill = {end: [end if s is None else s for s in scores] for end in (0.0, 1.0)}
    if mode == "weighted":
        low, high = (_mean(fill[end], weights) for end in (0.0, 1.0))
        pairs = [(s, w) for s, w in zip(scores, weights, strict=True) if s is not None]
        score = _mean(*zip(*pairs, strict=True)) if any(w for _, w in pairs) else 0.0
    else:
        low, high = (lexicographic(fill[end], levels) for end in (0.0, 1.0))
        score = lexicographic(known, levels) if known else 0.0
    return low, high, min(max(score, low), high), threshold


def _score(verdict: Verdict) -> float | None:
    if not verdict.decided:
        return None
    return float(verdict.correct) if verdict.score is None else verdict.score


def _mean(scores: Sequence[float], weights: Sequence[float]) -> float:
    return float(sum(s * w for s, w in zip(scores, weights, strict=True)) / sum(weights))


def lexicographic(scores: Sequence[float], levels: int = 2) -> float:
    """A number in [0, 1] that orders lists of ``scores`` in [0, 1] by the first, then the second, and so on,
    each rounded to one of ``levels`` even levels. (Exact up to 2**53 combinations.)"""
    value = 0
    for score in scores:
        # Rounded half up, since Python's own rounding would make 0.5 the lower of two levels.
        value = value * levels + min(int(score * (levels - 1) + 0.5), levels - 1)
    return float(value / (levels ** len(scores) - 1))


class NumberComparison(NamedTuple):
    """Which of two answers is better, and the criterion that decided (``None`` for a tie)."""

    better: Literal["first", "second", "tie"]
    by: str | None


def compare(
    first: Mapping[str, Verdict], second: Mapping[str, Verdict], margins: Mapping[str, float] | None = None
) -> NumberComparison:
    """HERON's comparison of two answers by the same criteria, the most important first.

    The first criterion whose scores differ by more than its margin (default 0) decides. A criterion that is
    undecided for either answer is skipped.
    """
    for name, verdict in first.items():
        one, other = _score(verdict), _score(second[name])
        if one is None or other is None or abs(one - other) <= (margins or {}).get(name, 0.0):
            continue
        return NumberComparison("first" if one > other else "second", name)
    return NumberComparison("tie", None)
