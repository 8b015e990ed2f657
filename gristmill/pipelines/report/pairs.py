"""``gristmill report pairs``: what a set of preference pairs is like before it is trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import combinations
from statistics import fmean, median
from typing import Any

import msgspec
from msgspec import Struct

from gristmill.core.records import Pair
from gristmill.core.shares import wilson
from gristmill.pipelines.report.agreement import cohen, krippendorff
from gristmill.pipelines.report.circles import circles, reversed_pairs
from gristmill.synth.judging import COMPARISON
from gristmill.synth.scoring import said

SOURCES = ("source", "dataset", "subset")
"""The keys of ``meta`` by which pairs are counted where none is named: the first that a pair has."""
_STRENGTHS = ("preference_strength", "overall_preference")
"""HelpSteer's keys for which response was preferred: below 0 the one shown first."""


class Margin(Struct, frozen=True):
    """The differences of one score, chosen less rejected. ``backward`` are those below 0: the label says
    otherwise than the score."""

    pairs: int
    mean: float
    median: float
    least: float
    greatest: float
    ties: int
    backward: int


class Lengths(Struct, frozen=True):
    """Characters of the sides' own words. ``longer`` is the share in which the chosen side is the longer one.

    ``difference_before`` is the mean difference before pairs were matched by length, where that is known.
    """

    chosen: float
    rejected: float
    difference: float
    difference_median: float
    longer: float
    equal: float
    difference_before: float | None = None


class ScorerSummary(Struct, frozen=True):
    """What one scorer or judge prefers: of ``decided`` pairs (no tie), the share in which it prefers the
    chosen side, and of those with unequal lengths the share in which it prefers the longer (with a 95 %
    Wilson interval). ``shown_first`` is how much more likely it is to prefer what it is shown first, and
    ``swayed`` the share of pairs in which the order alone decides, where both orders are known."""

    decided: int
    ties: int
    chosen: float | None
    longer: float | None
    longer_interval: tuple[float, float] | None
    shown_first: float | None = None
    swayed: float | None = None


class ScorerAgreement(Struct, frozen=True):
    """Of the pairs that both scored: the share on which they say the same, and Cohen's kappa."""

    scorers: tuple[str, str]
    pairs: int
    same: float
    kappa: float | None


class ContradictionSummary(Struct, frozen=True):
    """Texts that are each preferred to the other, and prompts with three or more texts that no order fits;
    with the problems of some of these."""

    reversed: int
    circles: int
    problems: tuple[str, ...]


class PairsReport(Struct, frozen=True):
    """What ``gristmill report pairs`` says of a set of pairs."""

    name: str
    pairs: int
    prompts: int
    rejected: dict[str, int]
    kinds: dict[str, int]
    sources: dict[str, int]
    chosen_models: dict[str, int]
    rejected_models: dict[str, int]
    repeated_prompts: int
    repeated_pairs: int
    equal_sides: int
    lengths: Lengths | None
    margins: dict[str, Margin]
    scorers: dict[str, ScorerSummary]
    agreement: tuple[ScorerAgreement, ...]
    alpha: dict[str, float | None]
    contradictions: ContradictionSummary
    first_shown_preferred: float | None = None
    rejected_examples: dict[str, str] = {}
    without_value: dict[str, int] = {}
    """By score, of how many pairs it or that of one side has no value."""


class _Facts(Struct, frozen=True):
    """What is kept of a pair: hashes of its texts, its lengths, the margins of scores of both sides, what
    scorers and judges prefer (above 0 the chosen side), judges' probabilities in both orders, and the scores
    without a value."""

    problem: str
    prompt: int
    chosen: int
    rejected: int
    lengths: tuple[int, int]
    margins: dict[str, float]
    votes: dict[str, float]
    orders: dict[str, tuple[float, float]]
    before: float | None
    without: tuple[str, ...]


def report(pairs: Iterable[Pair], *, name: str = "", by: str | None = None) -> PairsReport:
    """The report on ``pairs``; ``by`` is the key of ``meta`` by which they are counted as sources.

    About a kilobyte of each pair is held in memory.
    """
    facts: list[_Facts] = []
    counts: dict[str, Counter[str]] = {k: Counter() for k in ("kind", "source", "chosen", "rejected")}
    first: Counter[bool] = Counter()
    for pair in pairs:
        meta = _meta(pair.meta)
        facts.append(_facts(pair))
        counts["kind"][pair.kind] += 1
        where = next((_named(meta[k]) for k in ((by,) if by else SOURCES) if meta.get(k) is not None), None)
        counts["source"][where or "not said"] += 1
        for side in ("chosen", "rejected"):
            if (model := meta.get(f"{side}_model")) is not None:
                counts[side][str(model)] += 1
        if (preferred := _first_preferred(meta)) is not None:
            first[preferred] += 1
    same = Counter((f.prompt, f.chosen, f.rejected) for f in facts)
    prompts = Counter(f.prompt for f in facts)
    names = sorted({n for f in facts for n in f.votes})
    measured = sorted({n for f in facts for n in f.margins})
    return PairsReport(
        name=name,
        pairs=len(facts),
        prompts=len(prompts),
        rejected=dict(getattr(pairs, "rejected", {})),
        kinds=dict(counts["kind"].most_common()),
        sources=dict(counts["source"].most_common()),
        chosen_models=dict(counts["chosen"].most_common()),
        rejected_models=dict(counts["rejected"].most_common()),
        repeated_prompts=sum(n for n in prompts.values() if n > 1),
        repeated_pairs=len(facts) - len(same),
        equal_sides=sum(f.chosen == f.rejected for f in facts),
        lengths=_lengths(facts),
        margins={n: _margin([f.margins[n] for f in facts if n in f.margins]) for n in measured},
        scorers={n: _scorer(n, facts) for n in names},
        agreement=_agreement(names, facts),
        alpha=_alpha(names, facts),
        contradictions=_contradictions(facts),
        first_shown_preferred=first[True] / first.total() if first else None,
        rejected_examples=dict(getattr(pairs, "rejected_examples", {})),
        without_value=dict(sorted(Counter(name for f in facts for name in f.without).items())),
    )


def _named(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _first_preferred(meta: dict[str, Any]) -> bool | None:
    """Whether the response shown first was preferred: as comparisons say it, or HelpSteer."""
    if isinstance(told := meta.get("first_preferred"), bool):
        return told
    strength = next((meta[k] for k in _STRENGTHS if isinstance(meta.get(k), int | float)), 0)
    return strength < 0 if strength else None


def _meta(text: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}  # a plug-in's text that is no JSON has no keys to count by
    return found if isinstance(found, dict) else {}


def _facts(pair: Pair) -> _Facts:
    values = {s.name: s.value for s in pair.scores if s.value is not None}
    margins, judged, orders = {}, {}, {}
    for score in pair.scores:
        name, value = score.name, score.value
        if value is None:
            continue
        if name == "chosen" or name.startswith("chosen_"):
            other = values.get("rejected" + name.removeprefix("chosen"))
            if other is not None:
                margins[_side_free(name)] = value - other
        elif score.verdict is not None and score.verdict.rule.startswith(COMPARISON):
            judged[name] = value - 0.5
            if f"{name}_shown_first" in values and f"{name}_shown_second" in values:
                orders[name] = values[f"{name}_shown_first"], values[f"{name}_shown_second"]
    chosen, rejected = said(pair.chosen), said(pair.rejected)
    return _Facts(
        pair.problem_id,
        hash(pair.prompt),
        hash(pair.chosen),
        hash(pair.rejected),
        (len(chosen), len(rejected)),
        margins,
        margins | judged,
        orders,
        values.get("length_before"),
        tuple({_side_free(s.name): None for s in pair.scores if s.value is None}),
    )


def _side_free(name: str) -> str:
    """The scorer's name without the side that a score is of."""
    for side in ("chosen", "rejected"):
        if name == side or name.startswith(f"{side}_"):
            return name.removeprefix(side).removeprefix("_") or "score"
    return name


def _margin(values: list[float]) -> Margin:
    return Margin(
        len(values),
        fmean(values),
        median(values),
        min(values),
        max(values),
        sum(v == 0 for v in values),
        sum(v < 0 for v in values),
    )


def _lengths(facts: list[_Facts]) -> Lengths | None:
    if not facts:
        return None
    differences = [a - b for a, b in (f.lengths for f in facts)]
    before = [f.before for f in facts if f.before is not None]
    return Lengths(
        fmean(f.lengths[0] for f in facts),
        fmean(f.lengths[1] for f in facts),
        fmean(differences),
        float(median(differences)),
        sum(d > 0 for d in differences) / len(facts),
        sum(d == 0 for d in differences) / len(facts),
        fmean(before) if before else None,
    )


def _scorer(name: str, facts: list[_Facts]) -> ScorerSummary:
    scored = [(f.votes[name], f.lengths[0] - f.lengths[1]) for f in facts if name in f.votes]
    decided = [(m, d) for m, d in scored if m]
    unequal = [m * d > 0 for m, d in decided if d]
    orders = [f.orders[name] for f in facts if name in f.orders]
    return ScorerSummary(
        len(decided),
        len(scored) - len(decided),
        _share(m > 0 for m, _ in decided),
        _share(unequal),
        wilson(sum(unequal), len(unequal)) if unequal else None,
        fmean(a - b for a, b in orders) if orders else None,
        _share((a > 0.5) != (b > 0.5) for a, b in orders),
    )


def _share(found: Iterable[bool]) -> float | None:
    marks = list(found)
    return sum(marks) / len(marks) if marks else None


def _signs(names: Iterable[str], facts: list[_Facts]) -> Counter[tuple[float | None, ...]]:
    """How often each pattern of preferences occurs: 1 is the chosen side, -1 the rejected, 0 neither."""
    return Counter(tuple(_sign(f.votes.get(n)) for n in names) for f in facts)


def _sign(margin: float | None) -> float | None:
    return None if margin is None else float((margin > 0) - (margin < 0))


def _agreement(names: list[str], facts: list[_Facts]) -> tuple[ScorerAgreement, ...]:
    found = []
    for a, b in combinations(names, 2):
        tally = {p: n for p, n in _signs((a, b), facts).items() if None not in p}
        if total := sum(tally.values()):
            same = sum(n for p, n in tally.items() if p[0] == p[1]) / total
            found.append(ScorerAgreement((a, b), total, same, cohen(tally)))
    return tuple(found)


def _alpha(names: list[str], facts: list[_Facts]) -> dict[str, float | None]:
    """Krippendorff's alpha of all scorers, by level; empty with fewer than two."""
    if len(names) < 2:
        return {}
    tally = _signs(names, facts)
    return {level: krippendorff(tally, level) for level in ("nominal", "ordinal", "interval")}


def _contradictions(facts: list[_Facts]) -> ContradictionSummary:
    by_prompt: dict[int, tuple[str, set[tuple[int, int]]]] = {}
    for f in facts:
        by_prompt.setdefault(f.prompt, (f.problem, set()))[1].add((f.chosen, f.rejected))
    turned, round_, problems = 0, 0, []
    for problem, edges in by_prompt.values():
        if len(edges) < 2:
            continue
        both, found = reversed_pairs(edges), circles(edges) if len(edges) > 2 else []
        turned, round_ = turned + len(both), round_ + bool(found)
        if both or found:
            problems.append(problem)
    return ContradictionSummary(turned, round_, tuple(problems[:10]))


def as_json(found: PairsReport) -> str:
    """The report as JSON, with the keys of ``PairsReport``."""
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode()
