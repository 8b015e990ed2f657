"""What a run did: counts by stage, what it cost, and the table that every run ends with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Protocol

import msgspec
from msgspec import Struct, field

from gristmill.core.money import shown_usd
from gristmill.core.stages import Rejection
from gristmill.core.version import __version__

STAGE_ERROR, ENGINE_ERROR = "stage error", "engine error"
FAILURES = ("request failed", "request refused", ENGINE_ERROR, STAGE_ERROR)
"""Reasons of rejection that say nothing about the row: the same command tries such rows again."""
_EXAMPLE = 200
"""Characters of an example of a rejection, at most."""
_SHOWN = 3
"""Reasons of rejection, the commonest first, that are shown with an example."""


class StageCounts(Struct):
    """One stage. ``tokens_in`` and ``tokens_out`` are of all completions it used, paid now or earlier;
    ``undecided`` has the verdicts that are neither right nor wrong, by their rule. ``examples`` has the first
    rejection for each reason; ``unanswered`` counts a source's rows without a reference answer. ``measured``
    counts what the stage measured, by name, and ``totals`` has their sums. ``finish_reasons`` says why its
    completions ended, and ``tokens_reasoning`` how many of ``tokens_out`` went into reasoning, where the
    server says so."""

    name: str
    rows_in: int = 0
    rows_out: int = 0
    rejected: dict[str, int] = field(default_factory=Counter)
    verdicts: dict[str, int] = field(default_factory=Counter)
    undecided: dict[str, int] = field(default_factory=Counter)
    measured: dict[str, int] = field(default_factory=Counter)
    totals: dict[str, int] = field(default_factory=Counter)
    completions: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    finish_reasons: dict[str, int] = field(default_factory=Counter)
    tokens_reasoning: int = 0
    examples: dict[str, str] = field(default_factory=dict)
    unanswered: int = 0

    def reject(self, rejection: Rejection) -> None:
        """Count a rejected row."""
        self.rejected[rejection.reason] = self.rejected.get(rejection.reason, 0) + 1
        if rejection.reason not in self.examples:
            text = f"{rejection.id}: {rejection.detail}" if rejection.detail else f"{rejection.id}"
            self.examples[rejection.reason] = text if len(text) <= _EXAMPLE else f"{text[: _EXAMPLE - 3]}..."

    def keep(self, records: Sequence[Any], *, judged: bool = False) -> None:
        """Count the rows that came of one; ``judged``: they are of a source whose answers are judged by."""
        self.rows_out += len(records)
        if judged:
            self.unanswered += sum(record.answer is None for record in records)

    def add(self, other: StageCounts) -> None:
        """Add what was counted of further rows."""
        self.examples = other.examples | self.examples
        for name in set(self.__struct_fields__) - {"name", "examples"}:
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, int):
                setattr(self, name, mine + theirs)
            else:
                for key, count in theirs.items():
                    mine[key] = mine.get(key, 0) + count


class SessionCounts(Protocol):
    """What a session counts."""

    requests: int
    retries: int
    from_log: int
    prompt_tokens: int
    completion_tokens: int


class Spent(Struct):
    """What this process asked of its engines, and what the completion log answered instead.

    ``usd`` is the price of it in dollars, ``None`` where no engine has one.
    """

    requests: int = 0
    retries: int = 0
    from_log: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float | None = None

    @classmethod
    def of(cls, *stats: SessionCounts, usd: float | None = None) -> Spent:
        """The sum of sessions' counters."""
        return cls(
            usd=usd,
            requests=sum(s.requests for s in stats),
            retries=sum(s.retries for s in stats),
            from_log=sum(s.from_log for s in stats),
            tokens_in=sum(s.prompt_tokens for s in stats),
            tokens_out=sum(s.completion_tokens for s in stats),
        )

    def plus(self, other: Spent) -> Spent:
        """The sum of both; of what neither knows, ``None``."""
        return self._with(other, 1)

    def minus(self, other: Spent) -> Spent:
        """What this is without the other."""
        return self._with(other, -1)

    def _with(self, other: Spent, sign: int) -> Spent:
        sums: dict[str, Any] = {}
        for name in self.__struct_fields__:
            mine, theirs = getattr(self, name), getattr(other, name)
            sums[name] = None if mine is theirs is None else (mine or 0) + sign * (theirs or 0)
        return Spent(**sums)


class StageState(Struct, frozen=True):
    """What is in a stage's folder of a run that has not come to its end."""

    whole: bool
    """Whether all rows that belong there are there; else the run stopped while they were being written."""
    former: bool = False
    """Whether they are of an earlier run in the same directory than the one that the counts are of."""


class Unfinished(Struct, frozen=True):
    """Why a run has not come to its end, and what there is of it, by the names of sources and stages."""

    why: str
    stages: dict[str, StageState] = {}
    former_exports: bool = False
    """Whether the files in ``exports`` are of an earlier run."""


class HandExport(Struct, frozen=True):
    """A file that ``gristmill export`` wrote: the format and its options, the stage that it was made of with
    a hash of that stage's rows then, how many rows the file has, and whether the run was unfinished."""

    format: str
    stage: str
    rows: int
    options: dict[str, Any] = {}
    made_of: str = ""
    partial: bool = False


Made = Literal["all", "some", "none"]


class Summary(Struct):
    """The run, as in ``summary.json``. Reruns differ in ``spent``, ``total`` and ``timing`` alone.

    ``source`` is the fingerprint of the input, ``sources`` those of several by name; ``ended`` says what
    ended a run before its source did; ``notes`` says, by export, what its format could not hold.
    ``sandboxes`` has, by verifier, the one in which programs ran (``none``: in none); a verifier that runs no
    programs is not in it. ``model`` is the main engine's, ``models`` those of the further engines by their
    names.

    ``made`` is ``all`` where no row was lost to a failure and every export has rows, ``none`` where no last
    stage or no export has one, else ``some``. ``limit`` is the recipe's. ``spent`` is of the last run,
    ``total`` of all runs in the directory. ``exported`` are the files made by hand. Of a run that has not
    come to its end, as in ``partial.json``, ``unfinished`` says what is there.
    """

    name: str
    seed: int
    model: str
    stages: list[StageCounts]
    exports: dict[str, int] = field(default_factory=dict)
    notes: dict[str, dict[str, int]] = field(default_factory=dict)
    source: str = ""
    spent: Spent = field(default_factory=Spent)
    timing: dict[str, float] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    sandboxes: dict[str, str] = field(default_factory=dict)
    ended: str = ""
    gristmill: str = __version__
    made: Made = "all"
    limit: int | None = None
    total: Spent = field(default_factory=Spent)
    exported: dict[str, HandExport] = field(default_factory=dict)
    unfinished: Unfinished | None = None

    def encode(self) -> bytes:
        """The JSON text; keys are in one fixed order."""
        return msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=2) + b"\n"


def decode(data: bytes) -> Summary:
    """The summary of ``summary.json``; raises ``msgspec.ValidationError`` or ``DecodeError``."""
    return msgspec.json.decode(data, type=Summary)


def table(summary: Summary) -> str:
    """The closing table as plain text: a line for each stage, then what was rejected, and what is to be known
    of the run."""
    head = ("stage", "rows in", "rows out", "rejected", "tokens in", "tokens out")
    rows: list[tuple[str, ...]] = [head]
    for stage in summary.stages:
        counts = (
            stage.rows_in,
            stage.rows_out,
            sum(stage.rejected.values()),
            stage.tokens_in,
            stage.tokens_out,
        )
        rows.append((stage.name, *(f"{n:,}" for n in counts)))
    lines = [*_mark(summary), *align(rows), *_rejected(summary.stages)]
    verdicts: Counter[str] = Counter()
    for stage in summary.stages:
        verdicts.update(stage.verdicts)
    if verdicts:
        lines += ["", "verdicts: " + ", ".join(f"{v} {n:,}" for v, n in sorted(verdicts.items()))]
    undecided = sum((Counter(stage.undecided) for stage in summary.stages), Counter[str]())
    if undecided:
        lines += ["undecided: " + ", ".join(f"{printable(w)} {n:,}" for w, n in sorted(undecided.items()))]
    means = [
        f"  {s.totals[name] / n:>8,.1f}  {s.name}: {printable(name)} (mean of {n:,})"
        for s in summary.stages
        for name, n in sorted(s.measured.items())
    ]
    if means:
        lines += ["", "measured:", *means]
    if summary.sandboxes:
        lines += ["programs ran in: " + ", ".join(f"{s} ({v})" for v, s in sorted(summary.sandboxes.items()))]
    ended = sum((Counter(stage.finish_reasons) for stage in summary.stages), Counter[str]())
    if set(ended) - {"stop"}:
        lines += ["completions ended by: " + ", ".join(f"{w} {n:,}" for w, n in sorted(ended.items()))]
    if thought := sum(stage.tokens_reasoning for stage in summary.stages):
        lines += [f"tokens out for reasoning: {thought:,}"]
    if summary.exports:
        lines += ["", "exports: " + ", ".join(f"{e} {n:,}" for e, n in sorted(summary.exports.items()))]
        for export, notes in sorted(summary.notes.items()):
            lines += [f"  {n:>8,}  {export}: {printable(why)}" for why, n in sorted(notes.items())]
    lines += ["", *closing(summary)]
    lines.append(spent_line(summary.spent, summary.timing.get("seconds", 0.0)))
    if summary.total.requests != summary.spent.requests:
        total = summary.total
        lines.append(
            f"all runs in this directory: {total.requests:,} requests, "
            f"{total.tokens_in:,} tokens in, {total.tokens_out:,} tokens out"
        )
    return "\n".join(lines)


def partial_mark(summary: Summary) -> str:
    """One line that marks what is of an unfinished run; empty for a run that came to its end."""
    return f"PARTIAL: {printable(summary.unfinished.why)}" if summary.unfinished else ""


def _mark(summary: Summary) -> list[str]:
    """That a run is unfinished, and what there is of it."""
    if summary.unfinished is None:
        return []
    lines = [partial_mark(summary)]
    for name, state in summary.unfinished.stages.items():
        if state.former:
            lines.append(f"  {name}: rows of an earlier run{'' if state.whole else ', not all of them'}")
        elif not state.whole:
            lines.append(f"  {name}: the rows until it stopped")
    if summary.unfinished.former_exports:
        lines.append("  exports: files of an earlier run")
    return [*lines, ""]


def _rejected(stages: Sequence[StageCounts]) -> list[str]:
    """The reasons of rejection, the commonest first, and an example for the first few."""
    reasons = [(n, s, why) for s in stages for why, n in s.rejected.items()]
    if not reasons:
        return []
    lines = ["", "rejected:"]
    for place, (n, stage, why) in enumerate(sorted(reasons, key=lambda r: (-r[0], r[1].name, r[2]))):
        lines.append(f"  {n:>8,}  {stage.name}: {printable(why)}")
        if place < _SHOWN and why in stage.examples:
            lines.append(f"            such as {printable(stage.examples[why])}")
    return lines


def closing(summary: Summary) -> list[str]:
    """What a reader must not miss: what is empty or lost, and whether every row was tried."""
    lines = [f"{s.name}: no row was kept." for s in summary.stages if s.rows_in and not s.rows_out]
    lines += [f"{name}: the export has no row." for name, n in summary.exports.items() if not n]
    lines += [
        f"{s.name}: {s.unanswered:,} of {s.rows_out:,} rows have no reference answer."
        for s in summary.stages
        if s.unanswered
    ]
    lost = sum((Counter(s.rejected) for s in summary.stages), Counter[str]())
    if failed := sum(lost[why] for why in FAILURES):
        rows = "1 row was" if failed == 1 else f"{failed:,} rows were"
        lines.append(f"{rows} lost to failures: the same command tries again.")
    if summary.unfinished is None and summary.stages:
        limit = "" if summary.limit is None else f" of the first {summary.limit:,}"
        lines.append(summary.ended or f"Complete: every row{limit} was tried.")
    return lines


def spent_line(spent: Spent, seconds: float) -> str:
    """One line: requests, retries, completions from the log, tokens paid for, dollars, seconds."""
    usd = "" if spent.usd is None else f"{shown_usd(spent.usd)}, "
    return (
        f"{spent.requests:,} requests, {spent.retries:,} retries, "
        f"{spent.from_log:,} completions from the log, "
        f"{spent.tokens_in:,} tokens in, {spent.tokens_out:,} tokens out, {usd}{seconds:,.1f} s"
    )


def align(rows: Sequence[Iterable[str]]) -> list[str]:
    """Rows of cells as lines: the first column to the left, the others to the right."""
    cells = [list(r) for r in rows]
    widths = [max(len(r[i]) for r in cells) for i in range(len(cells[0]))]
    for row in cells:
        row[0] = row[0].ljust(widths[0])
        row[1:] = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
    return ["  ".join(row).rstrip() for row in cells]


def printable(text: str) -> str:
    """Text of unknown origin as one line that can do a terminal no harm: control characters are escaped."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text
    )
