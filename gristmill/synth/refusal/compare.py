"""What refusing does for a model: measures of its responses, and of several systems side by side."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import NormalDist, stdev
from typing import Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from gristmill.core.errors import RecipeError
from gristmill.core.knowledge import Response
from gristmill.core.shares import logistic, wilson
from gristmill.core.verdicts import Outcome
from gristmill.synth.refusal import measures
from gristmill.synth.refusal.measures import Bin, Level, Point
from gristmill.synth.step_values.values import student

Rule = Literal["any", "sure", "text", "none"]
"""What counts as declining to answer: see ``answered``."""
Score = Literal["combined", "confidence", "sure", "stated"]
"""Which of a response's probabilities is its score: see ``scores``."""
Interval = tuple[float, float]

BAR = 0.5
"""R-Tuning answers where the probability of "sure" is above it (arXiv 2311.09677, section 3.3)."""
METRICS = {
    "accuracy_all": "right answers, of all questions",
    "accuracy": "right answers, of those answered",
    "refusal_rate": "questions declined, of all",
    "willingness": "questions answered, of those known before",
    "declined_unknown": "questions declined, of those not known before",
    "ap": "average precision of the score, of answers with one (as all below)",
    "auroc": "a right answer scores above a wrong one",
    "brier": "mean squared error of the score; lower is better",
    "ece": "calibration error, bins of equal mass; lower is better, and above 0 by chance alone",
    "aurc": "area under the risk-coverage curve; lower is better",
}
_HALF = 0.5
"""Where fewer of a bootstrap's draws have a value than this share, there is no interval."""


class Item(NamedTuple):
    """What the measures need of a response. ``score`` is ``None`` for one that has no score."""

    right: bool
    answered: bool
    known: bool | None
    score: float | None


class Measures(Struct, frozen=True):
    """Counts of a system's responses, and ``values`` by the names of ``METRICS`` (``None``: of nothing).

    ``refused`` declined in words, ``empty`` said nothing, ``unread`` have no readable probability of
    "sure" where others have one. ``scored`` have a score: AP and the measures after it are of these, the
    others of all.
    """

    questions: int
    answered: int
    refused: int
    empty: int
    unread: int
    known: int
    unknown: int
    scored: int
    values: dict[str, float | None]


class System(Struct, frozen=True):
    """A system's measures, with bootstrap intervals by metric; its reliability diagram and risk-coverage
    curve (of what is ``scored``) as numbers."""

    name: str
    measures: Measures
    intervals: dict[str, Interval | None]
    reliability: tuple[Bin, ...]
    risk_coverage: tuple[Point, ...]


class MetricChange(Struct, frozen=True):
    """A metric of a later system minus that of the first, with the interval of the paired bootstrap."""

    metric: str
    value: float | None
    interval: Interval | None


class SystemsComparison(Struct, frozen=True):
    """Systems on the same questions. ``changes`` are those of each system but the first, by its name.

    ``left_out`` counts the questions that not every system was asked (``missing``), and those whose
    verdict is of no system (a time-out, an error) for at least one (``undecided``).
    """

    questions: int
    left_out: dict[str, int]
    systems: tuple[System, ...]
    changes: dict[str, tuple[MetricChange, ...]]


def answered(response: Response, rule: Rule = "any") -> bool:
    """Whether a response counts as an answer.

    ``text``: unless its words decline. ``sure``: if the probability of "sure" is above 0.5, strictly; one
    that could not be read is not. ``any``: unless its words decline or that probability, where there is
    one, is not above 0.5. ``none``: always, which is the baseline that answers everything.
    """
    if rule == "none":
        return True
    if rule == "text":
        return not response.refused
    if rule == "sure":
        return response.sure is not None and response.sure > BAR
    return not response.refused and (response.sure is None or response.sure > BAR)


def scores(responses: Sequence[Response], kind: Score = "combined") -> list[float | None]:
    """The score of each response; ``None`` where it has none, and where its words decline: then there is no
    answer to be confident of.

    ``combined`` is half of each of confidence and sure probability. Where no response has one of the two
    it is the other alone. Where only some lack a sure probability (it could not be read), it counts as 0 for
    these; those without a confidence, for which the server gave no log-probabilities, have no score.
    """
    if kind != "combined":
        found = [getattr(r, kind) for r in responses]
    else:
        asked = any(r.sure is not None for r in responses)
        measured = any(r.confidence is not None for r in responses)
        if asked and measured:
            found = [
                None if r.confidence is None else measures.combined(r.confidence, r.sure or 0.0)
                for r in responses
            ]
        else:
            found = [r.sure if asked else r.confidence for r in responses]
    return [None if r.refused else score for r, score in zip(responses, found, strict=True)]


def items(responses: Sequence[Response], *, rule: Rule = "any", score: Score = "combined") -> list[Item]:
    """What is measured of each response."""
    found = scores(responses, score)
    return [
        Item(r.verdict.correct, answered(r, rule), r.known, s) for r, s in zip(responses, found, strict=True)
    ]


def measure(
    responses: Sequence[Response], *, rule: Rule = "any", score: Score = "combined", bins: int = 10
) -> Measures:
    """The measures of one system's responses, all with a verdict that is the system's own."""
    return _measures(responses, _Sheet(items(responses, rule=rule, score=score), bins))


def compare(
    systems: Mapping[str, Sequence[Response]],
    *,
    rule: Rule = "any",
    score: Score = "combined",
    bins: int = 10,
    draws: int = 1000,
    seed: int = 0,
) -> SystemsComparison:
    """Measure systems on the questions (by id) that all of them were asked and got a verdict on.

    Intervals are for 95 %; ``benchmarks/interval_coverage.py`` measures them. Shares have Wilson's; AP
    and the measures after it have those of log(m / (1 - m)), whose spread a bootstrap over questions tells
    (normal ones; of AP and the Brier score Student's), and none of few answers of a kind, the Brier score's
    apart; changes against the first have Student's, every draw taking the same questions for all systems. The
    ECE has none: it is an average of distances, which chance makes positive in a calibrated
    system and a resample raises again, so that no resampling holds the true one. ``known`` is what any of
    the systems' responses says of a question. ``RecipeError`` without a system or a common question.
    """
    rows, left_out = common(systems)
    sheets = [_Sheet(items(r, rule=rule, score=score), bins) for r in rows.values()]
    count = len(next(iter(rows.values())))
    drawn = _bootstrap(sheets, count, draws, seed)
    made = []
    for (name, responses), sheet, values in zip(rows.items(), sheets, drawn, strict=True):
        found = _measures(responses, sheet)
        made.append(System(name, found, _intervals(found, sheet, values), *sheet.shapes()))
    changes = {s.name: _changes(made[0], s, drawn[0], drawn[i]) for i, s in enumerate(made) if i}
    return SystemsComparison(count, left_out, tuple(made), changes)


def common(
    systems: Mapping[str, Sequence[Response]],
) -> tuple[dict[str, list[Response]], dict[str, int]]:
    """The responses to the questions that count, in one order, and how many were left out;
    see ``SystemsComparison``. All responses to a question have what is ``known`` of it.

    Raises as ``compare`` does."""
    by_id = {name: {r.id: r for r in responses} for name, responses in systems.items()}
    everything = dict.fromkeys(key for found in by_id.values() for key in found)
    shared = [key for key in everything if all(key in found for found in by_id.values())]
    known: dict[str, bool] = {}
    for found in by_id.values():
        known |= {key: r.known for key, r in found.items() if r.known is not None}
    kept = [key for key in shared if all(_decided(found[key]) for found in by_id.values())]
    if not kept:
        raise RecipeError(
            f"{', '.join(systems) or 'no system'}: there is no question on which each has a verdict.",
            remedy="Ask all of them the same problems, with answers that the verifier can judge.",
        )
    rows = {name: [_knowing(found[key], known.get(key)) for key in kept] for name, found in by_id.items()}
    return rows, {"missing": len(everything) - len(shared), "undecided": len(shared) - len(kept)}


def _decided(response: Response) -> bool:
    """Whether its verdict says something of the system: no readable answer is an answer that is not right."""
    return response.verdict.outcome not in (Outcome.TIMEOUT, Outcome.ERROR)


def _knowing(response: Response, known: bool | None) -> Response:
    return response if response.known is known else replace(response, known=known)


def _measures(responses: Sequence[Response], sheet: _Sheet) -> Measures:
    known = Counter(r.known for r in responses)
    asked = any(r.sure is not None for r in responses)
    return Measures(
        questions=len(responses),
        answered=sum(item.answered for item in sheet.items),
        refused=sum(r.refused for r in responses),
        empty=sum(not r.completion.strip() for r in responses),
        unread=sum(r.sure is None for r in responses) if asked else 0,
        known=known[True],
        unknown=known[False],
        scored=sum(item.score is not None for item in sheet.items),
        values=sheet.values([1] * len(responses)),
    )


class _Sheet:
    """A system's items, made ready to be measured with weights: once as they are, then for each draw."""

    def __init__(self, found: Sequence[Item], bins: int) -> None:
        self.items = found
        self._bins = bins
        self._scores = sorted({i.score for i in found if i.score is not None}, reverse=True)
        place = {score: at for at, score in enumerate(self._scores)}
        self._places = [-1 if i.score is None else place[i.score] for i in found]

    def shapes(self) -> tuple[tuple[Bin, ...], tuple[Point, ...]]:
        """The reliability diagram and the risk-coverage curve."""
        found = self._levels([1] * len(self.items))
        return tuple(measures.bins(found, self._bins)), tuple(measures.risk_coverage(found))

    def values(self, weights: Sequence[int]) -> dict[str, float | None]:
        """Every metric, each item counting as often as its weight says."""
        counts: Counter[tuple[bool, bool, bool | None]] = Counter()
        for item, weight in zip(self.items, weights, strict=True):
            if weight:
                counts[item[:3]] += weight
        found = self._levels(weights)
        return _shares(counts) | {
            "ap": measures.average_precision(found),
            "auroc": measures.auroc(found),
            "brier": measures.brier(found),
            "ece": measures.ece(found, self._bins),
            "aurc": measures.aurc(found),
        }

    def _levels(self, weights: Sequence[int]) -> list[Level]:
        right, total = [0] * len(self._scores), [0] * len(self._scores)
        for item, place, weight in zip(self.items, self._places, weights, strict=True):
            if weight and place >= 0:
                total[place] += weight
                right[place] += weight * item.right
        return [Level(s, r, t) for s, r, t in zip(self._scores, right, total, strict=True) if t]


def _shares(counts: Mapping[tuple[bool, bool, bool | None], int]) -> dict[str, float | None]:
    """The metrics that need no score, of items counted by (right, answered, known)."""

    def count(right: bool | None = None, answers: bool | None = None, known: bool | None = None) -> int:
        wanted = (right, answers, known)
        fits = (all(w is None or w is k for w, k in zip(wanted, key, strict=True)) for key in counts)
        return sum(n for n, fit in zip(counts.values(), fits, strict=True) if fit)

    def share(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    return {
        "accuracy_all": share(count(right=True), count()),
        "accuracy": share(count(right=True, answers=True), count(answers=True)),
        "refusal_rate": share(count(answers=False), count()),
        "willingness": share(count(answers=True, known=True), count(known=True)),
        "declined_unknown": share(count(answers=False, known=False), count(known=False)),
    }


def _bootstrap(
    sheets: Sequence[_Sheet], count: int, draws: int, seed: int
) -> list[list[dict[str, float | None]]]:
    """The metrics of each sheet in each draw; a draw takes the same questions for all sheets."""
    rng = random.Random(seed)
    found: list[list[dict[str, float | None]]] = [[] for _ in sheets]
    for _ in range(draws):
        weights = [0] * count
        for i in rng.choices(range(count), k=count):
            weights[i] += 1
        for sheet, values in zip(sheets, found, strict=True):
            values.append(sheet.values(weights))
    return found


_UNBOUNDED = ("ece",)
"""Metrics without an interval; see ``compare``."""
_LEAST = {"ap": 10, "auroc": 10, "aurc": 3}
"""With fewer right or fewer wrong answers than this, a metric's intervals hold far less than they say (AP's,
of three right ones in fifty, 78 %), and there is none."""


def _intervals(
    found: Measures, sheet: _Sheet, drawn: Sequence[Mapping[str, float | None]]
) -> dict[str, Interval | None]:
    """The interval of each metric of one system; ``None`` where there is none."""
    shares = {
        "accuracy_all": found.questions,
        "accuracy": found.answered,
        "refusal_rate": found.questions,
        "willingness": found.known,
        "declined_unknown": found.unknown,
    }
    right = sum(item.right for item in sheet.items if item.score is not None)
    rarer = min(right, found.scored - right)
    # What a spread is estimated from, where Student's t is nearer to 95 % than the normal; by simulation.
    freedom = {"ap": rarer - 1, "brier": found.scored - 1}
    made: dict[str, Interval | None] = {}
    for name in METRICS:
        value, of = found.values[name], shares.get(name)
        if value is None or name in _UNBOUNDED or rarer < _LEAST.get(name, 0):
            made[name] = None
        elif of is not None:
            made[name] = wilson(round(value * of), of)
        else:
            made[name] = _by_logits(
                value, [values[name] for values in drawn], freedom.get(name), found.scored
            )
    return made


def _by_logits(
    value: float, drawn: Sequence[float | None], freedom: int | None, count: int
) -> Interval | None:
    """The 95 % interval of log(m / (1 - m)), by the standard deviation of a bootstrap's draws over the
    derivative m (1 - m); it stays within (0, 1). ``None`` at 0 and 1, where it has no width to go by.

    Normal, or with degrees of ``freedom`` Student's, for which a bootstrap's spread of ``count`` answers is
    too small by sqrt((count - 1) / count).
    """
    there = [v for v in drawn if v is not None]
    if len(there) < max(2, _HALF * len(drawn)) or not 0 < value < 1 or (freedom is not None and freedom < 2):
        return None
    reach = NormalDist().inv_cdf(0.975)
    if freedom is not None:
        reach = student(reach, freedom) * math.sqrt(count / (count - 1))
    half = reach * stdev(there) / (value * (1 - value))
    middle = math.log(value / (1 - value))
    return logistic(middle - half), logistic(middle + half)


def _of_change(value: float | None, drawn: Sequence[float | None], count: int) -> Interval | None:
    """Student's 95 % interval of a difference over ``count`` questions, its spread by a bootstrap's draws."""
    there = [v for v in drawn if v is not None]
    if value is None or count < 3 or len(there) < max(2, _HALF * len(drawn)):
        return None
    half = student(NormalDist().inv_cdf(0.975), count - 1) * math.sqrt(count / (count - 1)) * stdev(there)
    return value - half, value + half


def _changes(
    first: System,
    later: System,
    before: Sequence[Mapping[str, float | None]],
    after: Sequence[Mapping[str, float | None]],
) -> tuple[MetricChange, ...]:
    def minus(a: float | None, b: float | None) -> float | None:
        return None if a is None or b is None else a - b

    count = first.measures.questions
    made = []
    for name in METRICS:
        value = minus(later.measures.values[name], first.measures.values[name])
        drawn = [minus(a[name], b[name]) for a, b in zip(after, before, strict=True)]
        bounds = None if name in _UNBOUNDED else _of_change(value, drawn, count)
        made.append(MetricChange(name, value, bounds))
    return tuple(made)
