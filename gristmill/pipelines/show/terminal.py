"""``gristmill show``: a run's summary and some of its rows, trajectories and pairs with coloured turns.

All that a model or a data set wrote is shown as text: never as markup, and control characters escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from colorsys import hls_to_rgb
from typing import TYPE_CHECKING, Any

from gristmill.core.steps import ROOT
from gristmill.pipelines.exports.by_hand import hand_exports
from gristmill.pipelines.rundir.results import Run
from gristmill.pipelines.rundir.summary import printable, table
from gristmill.pipelines.show.blocks import called
from gristmill.pipelines.show.claims import unsupported_in
from gristmill.pipelines.show.drawing import Drawing, Mark, drawable, drawing, goodness

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console
    from rich.text import Text

    from gristmill.verifiers.grounding import UnsupportedSpan

_ROLES = {"system": "magenta", "user": "cyan", "assistant": "green", "tool": "yellow"}
_OUTCOMES = {"correct": "bold green", "incorrect": "bold red"}
_UNDECIDED = "bold yellow"
_GROUPS = ("subset", "kind", "reason")
"""Columns that divide a stage's rows; some of each are shown."""
_NODES = 60
"""Nodes of a tree that are shown; the page shows all."""
_CELL = 300
"""Characters of a plain column's value that are shown."""


def show(run: Run, console: Console, *, stage: str | None = None, n: int = 3, rejected: bool = False) -> None:
    """Print the summary, then ``n`` rows of a stage (default: the last), kept or rejected."""
    console.print(plain_text("\n".join([table(run.summary), *hand_exports(run)])))
    if not run.stages:
        return
    name = stage or run.stages[-1]
    rows = run.rejected(name) if rejected else run.rows(name)
    group = next((c for c in _GROUPS if c in rows.collect_schema()), None)
    which = f"{name}{', rejected' if rejected else ''}"
    if group is None:
        frame = rows.head(n).collect()
        which += f": the first {frame.height} rows"
    else:
        frame, counts = _one_of_each(rows, group, n)
        which += f": {counts}"
    console.print(plain_text(f"\n{which}", "bold"))
    for row in frame.iter_rows(named=True):
        console.print()
        console.print(render(row), soft_wrap=True)


def _one_of_each(rows: pl.LazyFrame, group: str, n: int) -> tuple[pl.DataFrame, str]:
    """``n`` rows in turn from each value of a column (the first of each, then the second), and the counts."""
    import polars as pl

    turn = pl.int_range(pl.len()).over(group).alias("_turn")
    picked = rows.with_columns(turn).sort("_turn", group, maintain_order=True).head(n).drop("_turn")
    counted = rows.group_by(group).len().sort(group).collect()
    return picked.collect(), ", ".join(f"{value} {count:,}" for value, count in counted.iter_rows())


def render(row: Mapping[str, Any]) -> Text:
    """A row as its columns suggest: steps, a tree, a trajectory, a pair, a sample, or name by name."""
    text = plain_text(f"── {row.get('id')}", "bold")
    hidden = {"id"}
    if drawable(tuple(row)):
        drawn = drawing(row)
        assert drawn is not None
        _drawing(text, drawn)
    elif "turns" in row:
        hidden |= {"turns"} | ({"messages", "completion", "calls"} if "completion" in row else set())
        _fields(text, row, hidden)
        for turn in row["turns"]:
            _turn(text, turn, turn["train"], turn["spans"])
    elif {"prompt", "chosen", "rejected"} <= row.keys():
        hidden |= {"prompt", "chosen", "rejected"}
        _fields(text, row, hidden)
        for part, style in (("prompt", "bold"), ("chosen", "bold green"), ("rejected", "bold red")):
            text.append(f"\n{part}", style)
            verdicts = [s["verdict"] for s in row.get("scores") or () if s["name"].startswith(f"{part}_")]
            for message in row[part]:
                trained = part != "prompt" and message["role"] == "assistant"
                spans = unsupported_in(message["content"], verdicts)
                _turn(text, message, trained, unsupported=spans, against=part == "rejected")
    elif {"messages", "completion"} <= row.keys():
        hidden |= {"messages", "completion", "verdict", "reasoning"}
        _fields(text, row, hidden)
        for message in row["messages"]:
            _turn(text, message)
        said = {"role": "assistant", "content": row["completion"], "reasoning": row.get("reasoning")}
        verdicts = [row.get("verdict"), *(score["verdict"] for score in row.get("scores") or ())]
        _turn(text, said, unsupported=unsupported_in(row["completion"], verdicts))
        _verdict(text, row.get("verdict"))
    else:
        _fields(text, row, hidden)
    return text


def _drawing(text: Text, drawn: Drawing) -> None:
    """Steps under one another, each in the colour of its value; a tree with its branches indented."""
    for name in ("title", "problem", "answer"):
        if getattr(drawn, name):
            text.append(f"\n{name}: ", "dim").append(_clean(getattr(drawn, name)))
    marks = drawn.marks
    children: list[list[int]] = [[] for _ in marks]
    for i, mark in enumerate(marks):
        if mark.parent != ROOT:
            children[mark.parent].append(i)
    waiting, shown = [(0, 0)], 0
    while waiting and shown < _NODES:
        index, indent = waiting.pop()
        _mark(text, drawn, index, indent)
        shown += 1
        # Only a fork indents: a chain of steps reads as lines under one another.
        deeper = indent + (len(children[index]) > 1)
        waiting += [(child, deeper) for child in reversed(children[index])]
    if waiting:
        text.append(f"\n... and {len(marks) - shown:,} more nodes: gristmill show RUN --html FILE", "dim")


def _mark(text: Text, drawn: Drawing, index: int, indent: int) -> None:
    mark = drawn.marks[index]
    value = "    " if mark.value is None else f"{mark.value:4.2f}"
    bounds = "" if mark.low is None or mark.high is None else f" [{mark.low:.2f}, {mark.high:.2f}]"
    counts = f" {mark.correct}/{mark.decided}" if mark.decided else ""
    visits = f" n={mark.visits}" if mark.visits else ""
    style = _shade(mark, drawn.scale)
    text.append("\n" + "  " * indent).append(f"{value}{bounds}{counts}{visits}", style)
    if mark.outcome:
        text.append(f" {_clean(mark.outcome)}", _OUTCOMES.get(mark.outcome, _UNDECIDED))
    if mark.note:
        text.append(f" ({_clean(mark.note)})", "bold")
    for line in mark.text.strip("\n").splitlines():
        text.append("\n" + "  " * indent + "  | ", "dim").append(_clean(line), style)


def _shade(mark: Mark, scale: tuple[float, float]) -> str:
    """From red by yellow to green with the value; the wider its interval, the greyer."""
    good = goodness(mark.value, scale)
    if good is None:
        return "dim"
    known = 1.0 if mark.low is None or mark.high is None else 1.0 - (mark.high - mark.low)
    red, green, blue = hls_to_rgb(good / 3, 0.55, 0.25 + 0.75 * known)
    return f"rgb({red * 255:.0f},{green * 255:.0f},{blue * 255:.0f})"


def _fields(text: Text, row: Mapping[str, Any], hidden: set[str]) -> None:
    for name, value in row.items():
        if name not in hidden and value is not None:
            shown = str(value)
            shown = shown if len(shown) <= _CELL else f"{shown[: _CELL - 3]}..."
            text.append(f"\n{name}: ", "dim").append(_clean(shown))


def _turn(
    text: Text,
    turn: Mapping[str, Any],
    train: bool | None = None,
    spans: Any = (),
    unsupported: Sequence[UnsupportedSpan] = (),
    against: bool = False,
) -> None:
    """A turn: the role, whether it is trained (in which parts, or ``against``), what was thought before it,
    and the content with those parts in bold, or with those that no passage supports in brackets and red, each
    with why."""
    role, content = turn["role"], turn["content"] or ""
    text.append(f"\n[{role}]", f"bold {_ROLES.get(role, 'white')}")
    if train:
        how = " against" if against else " in part" if spans else ""
        text.append(f" trained{how}", "bold yellow")
    elif train is not None:
        text.append(" not trained", "dim")
    if turn.get("reasoning"):
        text.append("\nthought: ", "dim").append(_clean(turn["reasoning"]), "dim italic")
    text.append("\n")
    at = 0
    for span in spans if train else ():
        text.append(_clean(content[at : span["start"]]), "dim")
        text.append(_clean(content[span["start"] : span["end"]]), "bold")
        at = span["end"]
    for part in () if at else unsupported:
        text.append(_clean(content[at : part.start]))
        text.append(_clean(f"[{part.text}]"), "bold red").append(_clean(f" ({part.reason})"), "red")
        at = part.end
    text.append(_clean(content[at:]), "dim" if train is False or (at and not unsupported) else "")
    for name, arguments in called(turn):
        text.append("\ncalls " if content else "calls ", "dim")
        text.append(_clean(f"{name}({arguments})"), "bold yellow")


def _verdict(text: Text, verdict: Mapping[str, Any] | None) -> None:
    if verdict is not None:
        outcome = str(verdict["outcome"])
        text.append("\nverdict: ", "dim").append(_clean(outcome), _OUTCOMES.get(outcome, _UNDECIDED))
        if verdict.get("extracted") is not None:
            text.append(_clean(f" ({verdict['extracted']})"))


def plain_text(content: str, style: str = "") -> Text:
    """Plain text, never markup, with control characters escaped."""
    from rich.text import Text

    return Text(_clean(content), style)


def _clean(text: str) -> str:
    """The text with control characters escaped, except line breaks and tabs."""
    return "".join(c if c in "\n\t" else printable(c) for c in text)
