"""ProcessBench's F1 of a file of predicted first errors, for ``gristmill eval step-values FILE``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct

from gristmill.core.errors import InputError, RowRejected
from gristmill.core.registry import suggest
from gristmill.pipelines.rundir.summary import align, printable
from gristmill.pipelines.sources.readers import local
from gristmill.synth.step_values import measures
from gristmill.synth.step_values.measures import Locations, Predicted, ProcessBench

_WANTED = ("label", "prediction")


class LocatedErrors(Struct, frozen=True):
    """What a file of predictions is worth. ``auc`` is of the values of steps before the first error over
    those from it on, ``label_error`` the share of labels that the values get wrong; both need values."""

    bench: ProcessBench
    found: Locations
    auc: float | None
    label_error: float | None
    refused: Counter[str]


def evaluate_file(path: Path, *, threshold: float = 0.0) -> LocatedErrors:
    """Measure a JSONL, CSV or Parquet file in ProcessBench's form, a solution a row.

    ``label``: the index of the first wrong step, from 0, or -1. ``prediction``: the same as a number or as
    a text that ends in a ``\\boxed{}``, or a list of such, of which the most frequent counts; a row may hold
    ``values`` of its steps instead, whose first at or below ``threshold`` is the prediction. Only the
    number of ``steps`` is read, which a label must be within. Other columns are not used.

    A row without a readable label is refused and counted. Raises ``InputError`` for a file that cannot be
    read or in which no row has both.
    """
    header, rows = local(path, "train", 0)
    if header is not None and (missing := _missing(set(header))):
        raise InputError(f"there is no column {missing!r}.", path=str(path), remedy=suggest(missing, header))
    refused: Counter[str] = Counter()
    pairs: list[tuple[int, int | None]] = []
    valued: list[tuple[tuple[float, ...], int]] = []
    for _, row in rows:
        usable = row if isinstance(row, RowRejected) else _usable(row, threshold)
        if isinstance(usable, RowRejected):
            refused[usable.reason] += 1
            continue
        pairs.append((usable.label, usable.said))
        if usable.values is not None:
            valued.append((usable.values, usable.label))
    if not pairs:
        raise InputError(
            "no row has a label and a prediction.",
            path=str(path),
            remedy='Write rows like {"steps": [...], "label": 2, "prediction": 2}.',
        )
    before = [v for values, at in valued for v in values[: len(values) if at < 0 else at]]
    behind = [v for values, at in valued if at >= 0 for v in values[at:]]
    return LocatedErrors(
        bench=measures.process_bench(pairs),
        found=measures.locations(pairs),
        auc=measures.auc(before, behind),
        label_error=measures.label_error(valued, threshold),
        refused=refused,
    )


def _missing(header: set[str]) -> str | None:
    wanted = ("label",) if "values" in header else _WANTED
    return next((name for name in wanted if name not in header), None)


class _Usable(NamedTuple):
    label: int
    said: int | None
    values: tuple[float, ...] | None


def _usable(row: dict[str, Any], threshold: float) -> _Usable | RowRejected:
    raw = row.get("label")
    label = measures.read_location(_plain(raw))
    if label is None:
        return RowRejected("no label", f"label is {raw!r}")
    steps = row.get("steps")
    if isinstance(steps, list) and label >= len(steps):
        return RowRejected("label beyond the steps", f"label {label} of {len(steps)} steps")
    values = _values(row)
    if "prediction" in row:
        said = row["prediction"]
        votes = said if isinstance(said, list) else [said]
        return _Usable(max(label, -1), measures.vote(map(_plain, votes)), values)
    if values is None:
        return RowRejected("no prediction", "there is neither a prediction nor values")
    return _Usable(max(label, -1), measures.first_wrong(values, threshold), values)


def _plain(value: Any) -> Predicted:
    """A number or a text as a prediction; a whole float is a number, anything else is none."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int | str) else None


def _values(row: dict[str, Any]) -> tuple[float, ...] | None:
    values = row.get("values")
    if not isinstance(values, list) or not values:
        return None
    if not all(isinstance(v, int | float) and v == v for v in values):  # NaN is no value
        return None
    return tuple(map(float, values))


def table(found: LocatedErrors) -> str:
    """The measures as text; a share of nothing is a dash."""
    bench, share = found.bench, measures.share
    rows = [
        ("ProcessBench", "solutions", "share"),
        ("first error found", f"{bench.wrong:,}", share(bench.error)),
        ("found without error", f"{bench.right:,}", share(bench.correct)),
        ("F1", f"{bench.wrong + bench.right:,}", share(bench.f1)),
    ]
    lines = [*align(rows), f"{bench.unread:,} predictions could not be read and match nothing."]
    if found.label_error is not None:
        lines.append(
            f"values of steps: AUC before the error over from it on {share(found.auc)}, "
            f"labels that are wrong {share(found.label_error)}"
        )
    lines += ["", *align(measures.report(found.found))]
    if found.refused:
        lines += ["", *(f"{n:>8,}  refused: {printable(why)}" for why, n in found.refused.most_common())]
    return "\n".join(lines)
