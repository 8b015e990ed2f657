"""The parts of an answer that passages do not support, with their places, as columns for a report."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import Struct

from gristmill.core.verdicts import Verdict
from gristmill.verifiers.grounding.verifier import Finding, GroundingReport, Status

_UNSUPPORTED: tuple[Status, ...] = ("unsupported",)


class UnsupportedSpan(Struct, frozen=True):
    """Characters ``start:end`` of an answer that no passage supports, and why not.

    ``reason`` is the kind: a clash (``roles``, ``number``, ``negation`` ...), ``facts``, ``encoder``,
    ``judge``, ``lexical`` or ``citation``. ``marks`` are the places of the facts that are in no passage, if
    the answer has them in that form. ``passage`` (from 1) and
    ``passage_start:passage_end`` are the nearest place, or the one that it clashes with; ``None`` where there
    is none.
    """

    start: int
    end: int
    text: str
    status: Status
    reason: str
    why: str
    marks: tuple[tuple[int, int], ...] = ()
    passage: int | None = None
    passage_start: int | None = None
    passage_end: int | None = None


def unsupported_spans(
    completion: str, verdict: Verdict, statuses: Collection[Status] = _UNSUPPORTED
) -> tuple[UnsupportedSpan, ...]:
    """The spans of ``completion`` with these statuses, in order, from the verdict of ``grounding`` on it.

    Empty where the verdict has no report: an error, an answer that is too long. ``ValueError`` where the
    report speaks of places that ``completion`` does not have.
    """
    try:
        report = msgspec.json.decode(verdict.detail, type=GroundingReport)
    except msgspec.DecodeError:
        return ()
    if any(f.end > len(completion) for f in report.sentences):
        raise ValueError(f"the verdict is on a longer answer than this one of {len(completion)} characters")
    return tuple(_span(completion, f) for f in report.sentences if f.status in statuses)


def span_columns(spans: Collection[UnsupportedSpan]) -> dict[str, list[Any]]:
    """``spans`` as columns of equal length, named ``span_`` and the field: one row of a table for each."""
    rows = [msgspec.structs.asdict(span) for span in spans]
    return {f"span_{name}": [row[name] for row in rows] for name in UnsupportedSpan.__struct_fields__}


def _span(completion: str, finding: Finding) -> UnsupportedSpan:
    place = finding.evidence[0] if finding.evidence else None
    cited = finding.why.startswith("citation ")
    return UnsupportedSpan(
        finding.start,
        finding.end,
        completion[finding.start : finding.end],
        finding.status,
        finding.clash or ("citation" if cited else finding.by),
        finding.why,
        tuple(_marks(completion, finding)),
        place.passage if place else None,
        place.start if place else None,
        place.end if place else None,
    )


def _marks(completion: str, finding: Finding) -> list[tuple[int, int]]:
    found = []
    for fact in finding.missing:
        whole = re.compile(rf"(?<!\w){re.escape(fact)}(?!\w)")
        if match := whole.search(completion, finding.start, finding.end):
            found.append(match.span())
    return sorted(found)
