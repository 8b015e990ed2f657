"""``gristmill eval rewards``: how often scores of pairs put the chosen side above the rejected one.

In the ways of the published benchmarks: a share over pairs and by group with the mean of the groups
(RewardBench, arXiv 2403.13787), one chosen answer above all rejected ones of its prompt (best of 4 of
RewardBench 2, arXiv 2506.01937, and the one-to-many comparison of RewardMATH, arXiv 2410.01729), and prompts
with several right answers, which must all be above all wrong ones and nearer to each other than to these
(RewardBench 2's ties).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gristmill.core.engine import Message
from gristmill.core.errors import RecipeError
from gristmill.core.records import Pair, Score
from gristmill.core.registry import suggest
from gristmill.core.shares import wilson
from gristmill.filters.preferences.scores import side_score
from gristmill.pipelines.rundir.summary import align, printable
from gristmill.synth.step_values import measures

_ALL = "all"


class WinCount(Struct, frozen=True):
    """How often a scorer was right on ``count`` things; ``equal`` of them had equal scores and count as
    wrong, as in RewardBench. The interval is Wilson's, 95 %."""

    count: int
    right: int
    equal: int = 0

    @property
    def share(self) -> float | None:
        """The share of right ones."""
        return self.right / self.count if self.count else None

    @property
    def interval(self) -> tuple[float, float]:
        """Of the share."""
        return wilson(self.right, self.count)


class ScorerAccuracy(Struct, frozen=True):
    """What a scorer's scores of pairs are worth.

    ``groups`` are pairs by group, ``many`` prompts with one chosen answer and several rejected ones, ``ties``
    prompts with several chosen answers. ``unscored`` pairs have no score of one of their sides.
    """

    name: str
    pairs: WinCount
    groups: dict[str, WinCount]
    many: WinCount
    most: int
    ties: WinCount
    unscored: int

    @property
    def macro(self) -> float | None:
        """The mean of the groups' shares, each group counting alike."""
        shares = [one.share for one in self.groups.values() if one.share is not None]
        return math.fsum(shares) / len(shares) if shares else None


def evaluate_rewards(
    pairs: Iterable[Pair], *, scorers: Sequence[str] = (), by: str | None = None
) -> list[ScorerAccuracy]:
    """Measure the scorers (by default all that score both sides) on pairs.

    ``by`` is a key of the pairs' ``meta``, such as ``subset`` or ``language``, or ``kind``. Raises
    ``RecipeError`` where no scorer scores both sides of a pair.
    """
    held = list(pairs)
    known = list(dict.fromkeys(name for pair in held for name in _scorers(pair)))
    if missing := [name for name in scorers if name not in known]:
        raise RecipeError(
            f"no pair has scores of both sides by {missing[0]!r}.",
            remedy=suggest(missing[0], known) if known else "Add a stage 'score_pairs' to the recipe.",
        )
    if not known:
        raise RecipeError(
            "no pair has scores of both of its sides.",
            remedy="Add a stage 'score_pairs', or read a file with columns of scores.",
        )
    return [_accuracy(name, held, by) for name in scorers or known]


def table(found: Sequence[ScorerAccuracy]) -> str:
    """The measures as text, a block for each scorer; a share of nothing is a dash."""
    return "\n\n".join(map(_block, found))


def _block(found: ScorerAccuracy) -> str:
    rows = [(printable(found.name or "chosen, rejected"), "count", "right", "95 % interval", "equal")]
    rows.append(_row("pairs", found.pairs))
    for name, one in sorted(found.groups.items()):
        rows.append(_row(f"  {printable(name)}", one))
    if len(found.groups) > 1:
        rows.append(("  mean of the groups", f"{len(found.groups):,}", measures.share(found.macro), "", ""))
    if found.many.count:
        rows.append(_row(f"one above all of up to {found.most}", found.many))
    if found.ties.count:
        rows.append(_row("several right answers", found.ties))
    notes = [f"{found.unscored:,} pairs lack a score and are left out."] if found.unscored else []
    return "\n".join([*align(rows), *notes])


def _row(name: str, one: WinCount) -> tuple[str, str, str, str, str]:
    low, high = one.interval
    return name, f"{one.count:,}", measures.share(one.share), f"{low:.3f} to {high:.3f}", f"{one.equal:,}"


def _accuracy(scorer: str, pairs: Sequence[Pair], by: str | None) -> ScorerAccuracy:
    groups: dict[str, list[float]] = defaultdict(list)
    # By prompt, the score of each different answer: of the chosen and of the rejected ones.
    sides: dict[Any, tuple[dict[Any, float], dict[Any, float]]] = {}
    unscored = 0
    for pair in pairs:
        chosen, rejected = (_value(pair.scores, side_score(side, scorer)) for side in ("chosen", "rejected"))
        if chosen is None or rejected is None:
            unscored += 1
            continue
        groups[_group(pair, by)].append(chosen - rejected)
        good, bad = sides.setdefault(_text(pair.prompt), ({}, {}))
        good[_text(pair.chosen)] = chosen
        bad[_text(pair.rejected)] = rejected
    counted = {name: _compared(margins) for name, margins in groups.items()}
    several = [(list(g.values()), list(b.values())) for g, b in sides.values()]
    many = [(good[0] - max(bad), len(bad)) for good, bad in several if len(good) == 1 and len(bad) > 1]
    ties = [_tied(good, bad) for good, bad in several if len(good) > 1]
    return ScorerAccuracy(
        name=scorer,
        pairs=_compared([margin for margins in groups.values() for margin in margins]),
        groups=counted if by is not None else {},
        many=_compared([margin for margin, _ in many]),
        most=max((count for _, count in many), default=0),
        ties=WinCount(len(ties), sum(ties)),
        unscored=unscored,
    )


def _compared(margins: Sequence[float]) -> WinCount:
    return WinCount(len(margins), sum(m > 0 for m in margins), sum(m == 0 for m in margins))


def _tied(good: Sequence[float], bad: Sequence[float]) -> bool:
    """Whether all right answers are above all wrong ones, and nearer to each other than to these."""
    gap = min(good) - max(bad)
    return gap > 0 and max(good) - min(good) < gap


def _group(pair: Pair, by: str | None) -> str:
    if by is None:
        return _ALL
    if by == "kind":
        return pair.kind
    meta = msgspec.json.decode(pair.meta)
    value = meta.get(by) if isinstance(meta, dict) else None
    return "(none)" if value is None else value if isinstance(value, str) else str(value)


def _scorers(pair: Pair) -> list[str]:
    names = {score.name for score in pair.scores if _value(pair.scores, score.name) is not None}
    ends = [
        n.removeprefix("chosen").removeprefix("_") for n in names if n == "chosen" or n.startswith("chosen_")
    ]
    return [end for end in ends if side_score("rejected", end) in names]


def _value(scores: Sequence[Score], name: str) -> float | None:
    """A score's number, or that of its decided verdict."""
    for score in scores:
        if score.name == name:
            if score.value is not None:
                return score.value if math.isfinite(score.value) else None
            if score.verdict is not None and score.verdict.decided:
                return float(score.verdict.correct)
    return None


def _text(messages: Sequence[Message]) -> tuple[tuple[str, str], ...]:
    return tuple((m.role, m.content) for m in messages)
