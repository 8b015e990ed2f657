"""``gristmill stats --html``: a corpus, or a run before and after, as a page of plots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from gristmill.pipelines.report.corpus import (
    RATE_EDGES,
    SIZE_EDGES,
    CorpusReport,
    CorpusStats,
    flow_rows,
    stats_rows,
)
from gristmill.pipelines.report.plots import STYLE, bars, histogram
from gristmill.pipelines.report.sheet import grid, sheet
from gristmill.pipelines.rundir.directory import disk_errors, write_file

_MOST_BINS = 24


def write(found: CorpusReport, out: Path, what: str) -> None:
    """Write the page to the file ``out``. ``RunError`` where the disk refuses."""
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    write_file(out, html(found, what))


def html(found: CorpusReport, what: str) -> bytes:
    """The page on ``what``, a file or a run; all names and texts in it are escaped."""
    blocks = []
    for title, plots in (
        ("Lengths, in characters", list(_lengths(found.tables))),
        ("Pass rates", list(_pass_rates(found.tables))),
        ("Verdicts, languages, classes", list(_classes(found.tables))),
        ("What was rejected", list(_rejected(found))),
    ):
        if plots:
            blocks.append(f'<h2>{escape(title)}</h2>\n<div class="plots">{"".join(plots)}</div>')
    if found.stages:
        blocks.append(
            f"<h2>Stages</h2>\n{grid([('stage', 'rows in', 'rows out'), *flow_rows(found.stages)])}"
        )
    blocks.append(f"<h2>Numbers</h2>\n{grid(stats_rows(found.tables))}")
    rows = " → ".join(f"{one.rows:,} rows in {one.name}" for one in found.tables)
    return sheet("statistics", what, rows, "\n".join(blocks), style=STYLE)


def _lengths(tables: Sequence[CorpusStats]) -> Iterator[str]:
    for name in dict.fromkeys(name for one in tables for name in one.lengths):
        series = {one.name: one.lengths[name].bins for one in tables if name in one.lengths}
        last = max(map(len, series.values()))
        first = min(next(i for i, n in enumerate(bins) if n) for bins in series.values())
        first = max(first, last - _MOST_BINS) if last - first > _MOST_BINS else first
        cut = {
            key: [sum(bins[: first + 1]), *bins[first + 1 :], *([0] * (last - max(len(bins), first + 1)))]
            for key, bins in series.items()
        }
        yield histogram(cut, SIZE_EDGES[first : last + 1], title=name, x="characters")


def _pass_rates(tables: Sequence[CorpusStats]) -> Iterator[str]:
    series = {one.name: one.pass_rates.bins for one in tables if one.pass_rates and one.pass_rates.problems}
    if series:
        yield histogram(series, RATE_EDGES, title="pass rate", x="share of right answers", y="problems")


def _classes(tables: Sequence[CorpusStats]) -> Iterator[str]:
    kinds: list[tuple[str, dict[str, Mapping[str, int]]]] = [
        ("verdicts", {one.name: one.verdicts for one in tables}),
        ("finish reasons", {one.name: one.finish_reasons for one in tables}),
        ("languages", {one.name: one.languages for one in tables}),
    ]
    for name in dict.fromkeys(name for one in tables for name in one.classes):
        kinds.append((name, {one.name: one.classes.get(name, {}) for one in tables}))
    for title, counts in kinds:
        if any(counts.values()):
            yield bars(counts, title=title)


def _rejected(found: CorpusReport) -> Iterator[str]:
    reasons: dict[str, int] = {}
    for stage in found.stages:
        for reason, count in stage.rejected.items():
            reasons[reason] = reasons.get(reason, 0) + count
    if reasons:
        yield bars({"": reasons}, title="reasons", most=20)
    if found.contaminated:
        yield bars({"": found.contaminated}, title="contaminated, by the way it was found")
