"""What a run did: counts by stage, what it cost, and the table that every run ends with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec
from msgspec import Struct, field

from gristmill.core.money import shown_usd
from gristmill.core.version import __version__


class StageCounts(Struct):
    """One stage. ``tokens_in`` and ``tokens_out`` are of all completions it used, paid now or earlier;
    ``undecided`` has the verdicts that are neither right nor wrong, by their rule."""

    name: str
    rows_in: int = 0
    rows_out: int = 0
    rejected: dict[str, int] = field(default_factory=Counter)
    verdicts: dict[str, int] = field(default_factory=Counter)
    undecided: dict[str, int] = field(default_factory=Counter)
    completions: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


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

    def add(self, other: Spent) -> None:
        """Add what another process has spent."""
        for name in self.__struct_fields__:
            mine, theirs = getattr(self, name), getattr(other, name)
            setattr(self, name, mine if theirs is None else theirs + (mine or 0))


class Summary(Struct):
    """The run, as in ``summary.json``. All but ``spent`` and ``timing`` is the same for every rerun.

    ``source`` is the fingerprint of the input, ``sources`` those of several by name; ``ended`` says what
    ended a run before its source did; ``notes`` says, by export, what its format could not hold.
    ``model`` is the main engine's, ``models`` those of the further engines by their names.
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
    ended: str = ""
    gristmill: str = __version__

    def encode(self) -> bytes:
        """The JSON text; keys are in one fixed order."""
        return msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=2) + b"\n"


def decode(data: bytes) -> Summary:
    """The summary of ``summary.json``; raises ``msgspec.ValidationError`` or ``DecodeError``."""
    return msgspec.json.decode(data, type=Summary)


def table(summary: Summary) -> str:
    """The closing table as plain text, at most a line per stage and one per reason of rejection."""
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
    lines = align(rows)
    reasons = [(s.name, why, n) for s in summary.stages for why, n in sorted(s.rejected.items())]
    if reasons:
        lines += ["", "rejected:"]
        lines += [f"  {n:>8,}  {stage}: {printable(why)}" for stage, why, n in reasons]
    verdicts: Counter[str] = Counter()
    for stage in summary.stages:
        verdicts.update(stage.verdicts)
    if verdicts:
        lines += ["", "verdicts: " + ", ".join(f"{v} {n:,}" for v, n in sorted(verdicts.items()))]
    undecided = sum((Counter(stage.undecided) for stage in summary.stages), Counter[str]())
    if undecided:
        lines += ["undecided: " + ", ".join(f"{printable(w)} {n:,}" for w, n in sorted(undecided.items()))]
    if summary.exports:
        lines += ["", "exports: " + ", ".join(f"{e} {n:,}" for e, n in sorted(summary.exports.items()))]
        for export, notes in sorted(summary.notes.items()):
            lines += [f"  {n:>8,}  {export}: {printable(why)}" for why, n in sorted(notes.items())]
    if summary.ended:
        lines += ["", summary.ended]
    return "\n".join([*lines, "", spent_line(summary.spent, summary.timing.get("seconds", 0.0))])


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
