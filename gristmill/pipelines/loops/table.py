"""The rounds of a loop as a table, as text and as a page with a curve for each measure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from gristmill.core.files import write_whole
from gristmill.pipelines.loops.measuring import RoundMeasure
from gristmill.pipelines.loops.rounds import Rounds
from gristmill.pipelines.report.plots import STYLE, lines
from gristmill.pipelines.report.sheet import grid, sheet


def write(done: Sequence[Rounds], out: Path, name: str) -> None:
    """Write ``rounds.json``, ``rounds.md`` and ``rounds.html`` into the folder ``out``."""
    write_whole(out / "rounds.json", msgspec.json.format(msgspec.json.encode(done)))
    write_whole(out / "rounds.md", (markdown(done) + "\n").encode())
    rows, seeds = table(done), len(done)
    note = f"{len(rows) - 2:,} rounds after the model as it was given; " + (
        f"means of {seeds} seeds, each seed's own value in brackets." if seeds > 1 else _INTERVALS
    )
    body = f'{grid(rows)}\n<h2>Over the rounds</h2>\n<div class="plots">{"".join(_plots(done))}</div>'
    write_whole(out / "rounds.html", sheet("rounds", name, note, body, style=STYLE))


_INTERVALS = "in brackets 95 % intervals over the rows."


def table(done: Sequence[Rounds]) -> list[list[str]]:
    """A line for each round and a column for each measure, under a head. Of one seed a cell has the mean and
    its interval, of several the mean of the seeds' means and these."""
    names = _names(done)
    rows = [["round", *names]]
    for number in range(max(len(one.rounds) for one in done)):
        found = [one.rounds[number] for one in done if number < len(one.rounds)]
        cells = [_cell([r.measures.get(name) for r in found]) for name in names]
        rows.append([str(number), *cells])
    return rows


def markdown(done: Sequence[Rounds]) -> str:
    """The table in Markdown."""
    head, *body = table(done)
    rows = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _names(done: Sequence[Rounds]) -> list[str]:
    return list(dict.fromkeys(name for one in done for r in one.rounds for name in r.measures))


def _cell(found: Sequence[RoundMeasure | None]) -> str:
    values = [m.value for m in found if m is not None and m.value is not None]
    if not values:
        return "-"
    if len(found) > 1:
        return f"{_number(sum(values) / len(values))} ({' '.join(map(_number, values))})"
    [one] = found
    assert one is not None
    interval = "" if one.low is None or one.high is None else f" [{_number(one.low)}, {_number(one.high)}]"
    return _number(values[0]) + interval


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) and abs(value) >= 10 else f"{value:.3f}"


def _plots(done: Sequence[Rounds]) -> Iterator[str]:
    """A curve over the rounds for each measure, one for each seed."""
    for name in _names(done):
        series = {}
        for one in done:
            points = [
                (float(r.number), m.value)
                for r in one.rounds
                if (m := r.measures.get(name)) is not None and m.value is not None
            ]
            if points:
                series[f"seed {one.seed}" if len(done) > 1 else ""] = points
        if series:
            yield lines(series, title=name, x="round", whole=True)
