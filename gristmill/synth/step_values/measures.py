"""How good labels of steps are: ProcessBench's F1, judges against a truth, AUC, and label error.

Nothing is ever NaN: a measure of nothing is ``None``.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist

from msgspec import Struct

from gristmill.verifiers.math import last_box

Predicted = int | str | None
"""A predicted location as it comes: a number, a text that holds one, or nothing."""

_NUMBER = re.compile(r"[+-]?\d{1,6}", re.ASCII)


class ProcessBench(Struct, frozen=True):
    """The score on solutions of which ``wrong`` hold an error and ``right`` none.

    ``error`` is the share of the wrong ones whose first error was found exactly, ``correct`` that of the
    right ones in which none was found, ``f1`` their harmonic mean. ``unread`` predictions match nothing.
    """

    wrong: int
    right: int
    error: float | None
    correct: float | None
    f1: float | None
    unread: int


def process_bench(rows: Iterable[tuple[int, int | None]]) -> ProcessBench:
    """ProcessBench's F1 (arXiv 2412.06559) of (label, prediction) pairs; -1 means no error, ``None`` unread.

    A subset without rows has no share, and then there is no F1 (the authors' script gives NaN). Where both
    shares are 0 it is 0, as it is when one of them is. Any negative label or prediction is -1.
    """
    pairs = [(max(label, -1), None if said is None else max(said, -1)) for label, said in rows]
    wrong = [label == said for label, said in pairs if label >= 0]
    right = [said == -1 for label, said in pairs if label < 0]
    error = sum(wrong) / len(wrong) if wrong else None
    correct = sum(right) / len(right) if right else None
    f1 = None
    if error is not None and correct is not None:
        f1 = 2 * error * correct / (error + correct) if error + correct else 0.0
    return ProcessBench(len(wrong), len(right), error, correct, f1, sum(said is None for _, said in pairs))


def read_location(predicted: Predicted) -> int | None:
    """The location that a prediction names: an integer, or ``none``, alone or in the last ``\\boxed{}``.

    ``None`` where there is no such thing. "02" and "2" are one number.
    """
    if predicted is None or isinstance(predicted, bool):
        return None
    if isinstance(predicted, int):
        return predicted
    text = predicted.strip()
    if "\\boxed" in text:
        text = (last_box(text) or "").strip()
        text = text.removeprefix("\\text{").removesuffix("}").strip() if text.startswith("\\text{") else text
    if text.casefold() == "none":
        return -1
    return int(text) if _NUMBER.fullmatch(text) else None


def vote(predictions: Iterable[Predicted]) -> int | None:
    """The most frequent location; of equals the first seen. Those that cannot be read are dropped first,
    and numbers are compared as numbers; ``None`` where nothing is left."""
    read = [location for location in map(read_location, predictions) if location is not None]
    return Counter(read).most_common(1)[0][0] if read else None


def first_wrong(values: Sequence[float], threshold: float = 0.0) -> int:
    """The index of the first value that is not above ``threshold``, -1 if there is none."""
    return next((i for i, v in enumerate(values) if v <= threshold), -1)


class Place(Struct, frozen=True):
    """One location (-1: no error): how often it is the ``truth``, how often it was ``said``, and ``both``."""

    index: int
    truth: int
    said: int
    both: int

    @property
    def precision(self) -> float | None:
        """Of the times it was said, how often truly."""
        return self.both / self.said if self.said else None

    @property
    def recall(self) -> float | None:
        """Of the times it was the truth, how often it was said."""
        return self.both / self.truth if self.truth else None


class Locations(Struct, frozen=True):
    """A judge against a truth: ``places`` in order, of ``read`` solutions; ``unread`` it did not answer,
    ``unknown`` have no truth. Neither of these is in ``places``."""

    places: tuple[Place, ...]
    read: int
    unread: int
    unknown: int


def locations(pairs: Iterable[tuple[int | None, int | None]]) -> Locations:
    """The precision report of (truth, said) locations: -1 means no error, ``None`` not known or not read."""
    rows = list(pairs)
    read = [(truth, said) for truth, said in rows if truth is not None and said is not None]
    truths, saids = Counter(t for t, _ in read), Counter(s for _, s in read)
    both = Counter(t for t, s in read if t == s)
    places = (Place(i, truths[i], saids[i], both[i]) for i in sorted(truths.keys() | saids.keys()))
    unknown = sum(truth is None for truth, _ in rows)
    return Locations(tuple(places), len(read), len(rows) - len(read) - unknown, unknown)


def report(found: Locations) -> list[tuple[str, ...]]:
    """``Locations`` as the cells of a table; a share of nothing is a dash."""
    rows: list[tuple[str, ...]] = [("first error", "truth", "said", "both", "precision", "recall")]
    for p in found.places:
        name = "none" if p.index < 0 else f"step {p.index}"
        rows.append((name, f"{p.truth:,}", f"{p.said:,}", f"{p.both:,}", share(p.precision), share(p.recall)))
    return rows


def share(value: float | None) -> str:
    """A share as text; a dash where there is none."""
    return "-" if value is None else f"{value:.3f}"


def auc(right: Iterable[float], wrong: Iterable[float]) -> float | None:
    """The probability that a value of ``right`` is above one of ``wrong``, equal ones counting one half
    (the area under the ROC curve, Mann and Whitney's U over the pairs). ``None`` where one side is empty."""
    above, below = list(right), sorted(wrong)
    if not above or not below:
        return None
    return _wins(above, below) / (2 * len(above) * len(below))


def _wins(above: Iterable[float], below: Sequence[float]) -> int:
    """Twice the pairs in which ``above`` is above ``below`` (sorted), plus those in which they are equal."""
    return sum(bisect_left(below, v) + bisect_right(below, v) for v in above)


def auc_within(groups: Iterable[tuple[Sequence[float], Sequence[float]]]) -> float | None:
    """The AUC over pairs of one group alone, of (right, wrong) values by group: a problem's difficulty then
    has no say. ``None`` where no group has both."""
    wins = pairs = 0
    for right, wrong in groups:
        wins += _wins(right, sorted(wrong))
        pairs += len(right) * len(wrong)
    return wins / (2 * pairs) if pairs else None


def label_error(rows: Iterable[tuple[Sequence[float], int]], threshold: float = 0.0) -> float | None:
    """The share of steps that are labelled falsely, of (values, true first error or -1) rows.

    A value above ``threshold`` says that no error has been made yet. Values that were cut off behind an
    error are not counted. ``None`` where there is no step.
    """
    false = total = 0
    for values, truth in rows:
        false += sum((v > threshold) != (truth < 0 or i < truth) for i, v in enumerate(values))
        total += len(values)
    return false / total if total else None


def by_position(rows: Iterable[Sequence[float]], threshold: float = 0.0) -> list[tuple[int, int]]:
    """For each position how many values are good (above ``threshold``) and how many bad."""
    counts: list[list[int]] = []
    for values in rows:
        for i, value in enumerate(values):
            if i == len(counts):
                counts.append([0, 0])
            counts[i][value <= threshold] += 1
    return [(good, bad) for good, bad in counts]


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """A 95 % interval of the mean of ``values`` in [0, 1] (one a problem); ``None`` where there is none.

    Wilson's, of as many trials as their variance amounts to (Korn and Graubard 1998), with Student's t for
    z: a bootstrap's percentiles hold the mean of ten values in 41 to 92 % of cases, and have no width where
    all are equal. Values that are all equal count as one trial each. Measured in
    ``benchmarks/interval_coverage.py``.
    """
    n = len(values)
    if not n:
        return None
    mean = math.fsum(values) / n
    variance = math.fsum((v - mean) ** 2 for v in values) / max(n - 1, 1)
    trials = mean * (1 - mean) * n / variance if variance > 0 else float(n)
    spread = _student(n - 1) ** 2 / trials
    middle = (mean + spread / 2) / (1 + spread)
    half = math.sqrt(mean * (1 - mean) * spread + spread * spread / 4) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def _student(freedom: int) -> float:
    """The 0.975 quantile of Student's t, by its series in 1 / freedom (Abramowitz and Stegun 26.7.5)."""
    z = NormalDist().inv_cdf(0.975)
    if freedom < 3:  # the series has not yet begun to converge there
        return (12.706, 12.706, 4.303)[freedom]
    v = float(freedom)
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )


def grouped(
    rows: Iterable[tuple[str, bool, Sequence[float]]],
) -> Mapping[str, tuple[list[float], list[float]]]:
    """The values of right and of wrong solutions by group, of (group, right, values) rows."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for group, right, values in rows:
        found.setdefault(group, ([], []))[not right].extend(values)
    return found
