"""Progress: a bar in a terminal or notebook; lines in a pipe, in a file and in CI; JSON for schedulers."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, TextIO

import msgspec
from msgspec import Struct

from gristmill.core.money import shown_usd

Mode = Literal["bar", "notebook", "lines", "json", "quiet"]
Watch = Callable[[dict[str, Any]], object]
"""Is given the fields of a ``Report`` by their names, every few seconds and at the end."""

_EVERY: dict[Mode, float] = {"bar": 0.25, "notebook": 0.5, "lines": 10.0, "json": 10.0}
WINDOW = 60.0
"""Seconds over which rates are taken, at least."""
_FEWEST_SECONDS, _FEWEST_ROWS = 5.0, 8
"""Nothing is said of the time that is left before rows have been finished over this time, and this many."""
_MARK_SECONDS = 0.9
_NAME = 20
_log = logging.getLogger(__name__)


class Progress(Struct):
    """Where the run is.

    ``rows`` of ``rows_total`` are finished, whatever their order; the total is ``None`` while the source has
    not been counted. ``usd`` is ``None`` where no engine has a price. ``from_log`` of ``completions`` cost
    nothing.
    """

    stage: str = ""
    rows: int = 0
    rows_total: int | None = None
    tokens: int = 0
    in_flight: int = 0
    usd: float | None = None
    completions: int = 0
    from_log: int = 0
    rejected: int = 0


class Report(Struct):
    """``Progress`` with what follows from its course: what is shown, written and handed to trackers.

    ``seconds`` since the run began, ``tokens_per_second`` and ``rows_per_second`` over the last minute,
    ``seconds_left`` of the stage, ``None`` while it is being estimated; ``log_share`` is the share of the
    completions that the log had, from 0 to 1.
    """

    stage: str
    rows: int
    rows_total: int | None
    rows_per_second: float
    tokens: int
    tokens_per_second: float
    seconds: float
    seconds_left: float | None
    in_flight: int
    usd: float | None
    log_share: float
    rejected: int


def label(names: Sequence[str], first: int, of: int) -> str:
    """What is running: ``1/3 explore +2`` for the first of three stages, with two that stream behind it."""
    name = names[0] if len(names[0]) <= _NAME else f"{names[0][: _NAME - 1]}…"
    return f"{first}/{of} {name}" + (f" +{len(names) - 1}" if len(names) > 1 else "")


class Course:
    """Turns what is counted into rates over the recent ``WINDOW``, and into the time that is left.

    The first rows of a stage come late and then together, since many are at work at once; rows that the log
    answers come at once. So nothing is said of the time that is left before as many rows have been finished,
    counted from the first of them, as requests are in flight; and what lies further back than the window is
    forgotten, unless so many rows take longer than that.
    """

    def __init__(self, now: float) -> None:
        self._start = now
        self._stage = ""
        self._rows = self._before = 0
        """Rows of this stage, and of those before it."""
        self._first: tuple[float, int] | None = None
        """When the stage's first rows had been finished, and how many rows of all stages that made."""
        self._marks: deque[tuple[float, int, int]] = deque([(now, 0, 0)])
        """(time, rows of all stages, tokens), one a second at most, from the last before the window on."""

    def report(self, at: Progress, now: float) -> Report:
        """What there is to say now."""
        if at.stage != self._stage or at.rows < self._rows:  # another stage, or another round of it
            self._before += self._rows
            self._stage, self._first = at.stage, None
        self._rows = at.rows
        everything = self._before + at.rows
        if self._first is None and at.rows:
            self._first = (now, everything)
        if now - self._marks[-1][0] >= _MARK_SECONDS:
            self._marks.append((now, everything, at.tokens))
        fewest = max(_FEWEST_ROWS, at.in_flight)
        while len(self._marks) > 1 and self._marks[1][0] <= now - WINDOW:
            if everything - self._marks[1][1] < fewest:
                break
            self._marks.popleft()
        began, rows, tokens = self._marks[0]
        seconds = max(now - began, 1e-9)
        return Report(
            stage=at.stage,
            rows=at.rows,
            rows_total=at.rows_total,
            rows_per_second=round((everything - rows) / seconds, 3),
            tokens=at.tokens,
            tokens_per_second=round((at.tokens - tokens) / seconds, 1),
            seconds=round(now - self._start, 1),
            seconds_left=self._left(at, now, fewest),
            in_flight=at.in_flight,
            usd=at.usd,
            log_share=round(at.from_log / at.completions, 3) if at.completions else 0.0,
            rejected=at.rejected,
        )

    def _left(self, at: Progress, now: float, fewest: int) -> float | None:
        if at.rows_total is None or self._first is None:
            return None
        if at.rows >= at.rows_total:
            return 0.0
        began, before = max(self._first, self._marks[0][:2])
        seconds, rows = now - began, self._before + at.rows - before
        if seconds < _FEWEST_SECONDS or rows < fewest:
            return None
        return round((at.rows_total - at.rows) * seconds / rows, 1)


def default_mode(stream: TextIO) -> Mode:
    """A bar in a terminal or notebook, else lines; lines too where the environment has ``CI``, whose logs
    keep a bar's every state."""
    if os.environ.get("CI"):
        return "lines"
    if stream.isatty():
        return "bar"
    return "notebook" if _in_notebook() else "lines"


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    return type(shell).__name__ == "ZMQInteractiveShell"


@asynccontextmanager
async def shown(
    read: Callable[[], Progress],
    mode: Mode | None = None,
    stream: TextIO | None = None,
    watch: Watch | None = None,
) -> AsyncIterator[None]:
    """Show what ``read`` returns, again and again, while the body runs, and hand it to ``watch``.

    ``stream`` is standard error, and for ``json`` standard output.
    """
    mode = mode or default_mode(stream or sys.stderr)
    stream = stream or (sys.stdout if mode == "json" else sys.stderr)
    course = Course(time.monotonic())
    tasks = []
    if mode != "quiet":
        show = (
            _bar(read, course, stream, mode)
            if mode in ("bar", "notebook")
            else _lines(read, course, stream, mode)
        )
        tasks.append(asyncio.create_task(show))
    if watch is not None:
        tasks.append(asyncio.create_task(_watched(read, course, watch)))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def count_rows(path: Path) -> int | None:
    """About how many rows a local file has, for the time that is left: lines, or a Parquet file's rows.

    ``None`` where finding out would mean reading much more than counting lines does.
    """
    try:
        if path.suffix == ".parquet":
            import polars as pl

            return int(pl.scan_parquet(path).select(pl.len()).collect().item())
        if path.suffix in (".jsonl", ".ndjson", ".csv", ".tsv"):
            with path.open("rb") as file:
                lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
            return max(0, lines - (path.suffix in (".csv", ".tsv")))
    except OSError:
        return None  # whoever reads the rows says what is wrong with the file
    return None


def parts(report: Report) -> list[str]:
    """What there is to say, the most important first."""
    left = "estimating" if report.seconds_left is None else f"{_clock(report.seconds_left)} left"
    total = "" if report.rows_total is None else f"/{report.rows_total:,}"
    said = [
        f"{report.tokens_per_second:,.0f} tok/s, {left}",
        report.stage,
        f"{report.rows:,}{total} rows",
    ]
    said += [] if report.usd is None else [shown_usd(report.usd)]
    said += [f"{report.in_flight} in flight"]
    said += [f"{report.log_share:.0%} from log"] if report.log_share else []
    said += [f"{report.rejected:,} rejected"] if report.rejected else []
    return said


def fitted(said: Sequence[str], width: int) -> str:
    """As many of the parts as fit into ``width`` columns, from the first on."""
    text = said[0]
    for part in said[1:]:
        if len(text) + 2 + len(part) > width:
            break
        text += f", {part}"
    return text[:width]


def _clock(seconds: float) -> str:
    """Seconds as minutes and hours: 0:07, 12:34, 3:00:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


async def _lines(read: Callable[[], Progress], course: Course, stream: TextIO, mode: Mode) -> None:
    while True:
        await _look(read, course, _EVERY[mode])
        report = course.report(read(), time.monotonic())
        line = (
            msgspec.json.encode({"event": "progress", **msgspec.to_builtins(report)}).decode()
            if mode == "json"
            else ", ".join(parts(report))
        )
        print(line, file=stream, flush=True)


async def _look(read: Callable[[], Progress], course: Course, seconds: float) -> None:
    """Wait, and follow the course meanwhile, so that it is seen when the first rows were finished."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        await asyncio.sleep(min(left, 1.0))
        course.report(read(), time.monotonic())


async def _bar(read: Callable[[], Progress], course: Course, stream: TextIO, mode: Mode) -> None:
    """The share as a bar of eight columns, and beside it as much as fits into the terminal."""
    in_cell = mode == "notebook" and importlib.util.find_spec("ipywidgets") is not None
    bar: Any = importlib.import_module("tqdm.notebook" if in_cell else "tqdm").tqdm(
        total=read().rows_total,
        file=stream,
        dynamic_ncols=True,
        bar_format="{percentage:3.0f}%{bar}{desc}" if in_cell else "{percentage:3.0f}%|{bar:8}| {desc}",
    )
    try:
        while True:
            await asyncio.sleep(_EVERY[mode])
            report = course.report(read(), time.monotonic())
            columns = shutil.get_terminal_size((80, 24)).columns if mode == "bar" else 100
            bar.total, bar.n = report.rows_total, report.rows
            bar.set_description_str(fitted(parts(report), columns - 16))
    finally:
        bar.close()


async def _watched(read: Callable[[], Progress], course: Course, watch: Watch) -> None:
    """Hand each report to ``watch``, in a thread, since it may ask the network; the last when cancelled."""
    try:
        while True:
            await _look(read, course, _EVERY["lines"])
            if not await asyncio.to_thread(_told, watch, course.report(read(), time.monotonic())):
                return
    except asyncio.CancelledError:
        _told(watch, course.report(read(), time.monotonic()))


def _told(watch: Watch, report: Report) -> bool:
    """Whether ``watch`` took the report. One that fails is told once, and does not end the run."""
    try:
        watch(msgspec.to_builtins(report))
    except Exception as error:  # noqa: BLE001 it may be anybody's code
        _log.warning("progress is no longer reported: %s: %s", type(error).__name__, error)
        return False
    return True
