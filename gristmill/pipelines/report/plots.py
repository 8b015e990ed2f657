"""Plots as inline SVG: text, boxes and lines, without scripts, coloured by the CSS variables of ``STYLE``.

Each plot is 360 units wide, the width of a telephone's page, where a unit is about a pixel; wider pages put
plots side by side. All names come from data and models: they are escaped, and what is too long for its place
is cut and told whole in a ``<title>``. Drawn here and not by matplotlib, whose SVG knows neither a dark page
nor tooltips.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from gristmill.pipelines.rundir.summary import printable

WIDTH = 360
_LEFT, _RIGHT, _TOP = 46, 16, 22
_HIGH = 150
"""Units between the axes of a plot with two."""
_ROW = 13
_LETTERS = 52
"""Letters of 11 units that fit into a line."""

STYLE = """
:root { --plot-1: #8fb8de; --plot-2: #0b4f8a; --plot-3: #c2510b; --plot-4: #0a7f72; --plot-5: #8a4f9e; }
@media (prefers-color-scheme: dark) { :root { --plot-1: #3f6c99; --plot-2: #9fd0ff; --plot-3: #f39a5a;
  --plot-4: #48c9b8; --plot-5: #d3a0e6; } }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr));
  gap: 1.2rem 2rem; align-items: start; }
svg.plot { display: block; width: 100%; max-width: 30rem; height: auto; }
svg.plot text { font: 11px system-ui, sans-serif; fill: var(--ink); }
svg.plot text.dim { fill: var(--dim); } svg.plot text.head { font-weight: 600; font-size: 12px; }
svg.plot line { stroke: var(--line); stroke-width: 1; }
svg.plot polyline { fill: none !important; stroke-width: 2; }
.s1 { fill: var(--plot-1); stroke: var(--plot-1); } .s2 { fill: var(--plot-2); stroke: var(--plot-2); }
.s3 { fill: var(--plot-3); stroke: var(--plot-3); } .s4 { fill: var(--plot-4); stroke: var(--plot-4); }
.s5 { fill: var(--plot-5); stroke: var(--plot-5); }
rect.s1, rect.s2, rect.s3, rect.s4, rect.s5 { stroke: none; }
"""
"""What the plots look like; the page gives ``--ink``, ``--dim`` and ``--line``."""


def histogram(
    counts: Mapping[str, Sequence[int]], edges: Sequence[float], *, title: str, x: str = "", y: str = "rows"
) -> str:
    """How many values lie between neighbouring ``edges``: one more of these than each series has counts.

    Several series, such as before and after, are drawn one in front of the other, each narrower than the one
    behind it. ``ValueError`` where a series has another number of counts.
    """
    if any(len(edges) != len(series) + 1 for series in counts.values()):
        raise ValueError(f"{len(edges)} edges need series of {len(edges) - 1} counts")
    start = _start(list(counts))
    up = ticks(0, max((n for series in counts.values() for n in series), default=1), whole=True)
    parts = [*_legend(list(counts)), *_upright(up, start, y)]
    step = (WIDTH - _LEFT - _RIGHT) / max(len(edges) - 1, 1)
    for at, (name, series) in enumerate(counts.items()):
        share = 0.92 * 0.62**at
        for i, n in enumerate(series):
            if n:
                high = max(n / up[-1] * _HIGH, 0.8)
                left = _LEFT + step * (i + (1 - share) / 2)
                told = f"{name}: {n:,} {y} from {number(edges[i])} to {number(edges[i + 1])}"
                parts.append(_box(at, left, start + _HIGH - high, step * share, high, told))
    every = max(1, math.ceil((len(edges) - 1) / 6))
    parts += _across({edges[i]: _LEFT + step * i for i in range(0, len(edges), every)}, start, x)
    return _svg(title, start + _HIGH + 34, parts)


def bars(
    counts: Mapping[str, Mapping[str, float]], *, title: str, most: int = 12, rest: str = "others"
) -> str:
    """Named amounts, a line each with a bar for each series; the largest in any series first.

    ``counts`` are by series, then by name. Those beyond ``most`` names are one ``rest``, at the end.
    """
    order = sorted({n for series in counts.values() for n in series}, key=lambda n: (-_most_of(counts, n), n))
    shown, others = order[:most], order[most:]
    rows = [(name, [series.get(name, 0) for series in counts.values()]) for name in shown]
    if others:
        sums = [sum(series.get(name, 0) for name in others) for series in counts.values()]
        rows.append((f"{rest} ({len(others):,})", sums))
    widest = max((value for _, values in rows for value in values), default=0) or 1
    parts = list(_legend(list(counts)))
    at = _TOP + _ROW * _legend_rows(list(counts))
    for name, values in rows:
        parts.append(_text(0, at + 10, name))
        at += 14
        for i, (series, value) in enumerate(zip(counts, values, strict=True)):
            wide = max(value / widest * (WIDTH - 70), 0.8 if value else 0)
            told = f"{series + ': ' if series else ''}{name}: {number(value)}"
            parts.append(_box(i, 0, at, wide, _ROW - 3, told))
            parts.append(_text(wide + 5, at + 9, number(value), "dim"))
            at += _ROW
        at += 4
    return _svg(title, at + 2, parts)


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str,
    x: str = "",
    y: str = "",
    whole: bool = False,
) -> str:
    """Curves through points (x, y), each series in its order; the axes reach from the least to the most.

    ``whole`` marks whole numbers alone on the axis of x.
    """
    points = [point for line in series.values() for point in line]
    least, most = min((p[0] for p in points), default=0), max((p[0] for p in points), default=1)
    across = ticks(least, most, whole=whole)
    up = ticks(min((p[1] for p in points), default=0), max((p[1] for p in points), default=1))
    start = _start(list(series))
    wide = WIDTH - _LEFT - _RIGHT

    def place(point: tuple[float, float]) -> tuple[float, float]:
        right = (point[0] - across[0]) / (across[-1] - across[0])
        high = (point[1] - up[0]) / (up[-1] - up[0])
        return _LEFT + wide * right, start + _HIGH * (1 - high)

    parts = [*_legend(list(series)), *_upright(up, start, y)]
    parts += _across({value: place((value, up[0]))[0] for value in across}, start, x)
    for i, (name, line) in enumerate(series.items()):
        drawn = " ".join(f"{a:.2f},{b:.2f}" for a, b in map(place, line))
        parts.append(f'<polyline class="{_colour(i)}" points="{drawn}"/>')
        for point in line:
            a, b = place(point)
            told = f"{name + ': ' if name else ''}{number(point[0])}, {number(point[1])}"
            parts.append(
                f'<circle class="{_colour(i)}" cx="{a:.2f}" cy="{b:.2f}" r="2.6">{_title(told)}</circle>'
            )
    return _svg(title, start + _HIGH + 34, parts)


def ticks(low: float, high: float, most: int = 5, *, whole: bool = False) -> list[float]:
    """Round numbers at equal steps (1, 2 or 5 times a power of ten) with ``low`` and ``high`` between them.

    About ``most`` steps, 2 marks at least. ``whole`` allows no step below 1.
    """
    if not high > low:
        high = low + 1
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough * (1 - 1e-9))
    step = max(step, 1.0) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * n, 12) for n in range(first, max(last, first + 1) + 1)]


def counted(values: Sequence[float], edges: Sequence[float], times: Sequence[int] | None = None) -> list[int]:
    """How many of the values lie in [edge, next edge); the last edge belongs to the last of them.

    Values below the first edge count to the first, those above the last to the last. ``times`` says how often
    each value is there, by default once.
    """
    counts = [0] * (len(edges) - 1)
    for value, n in zip(values, times or [1] * len(values), strict=True):
        counts[min(max(bisect_right(edges, value) - 1, 0), len(counts) - 1)] += n
    return counts


def number(value: float) -> str:
    """A number as short as it can be read: 12,500, 0.25, 1.5M."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:,.4g}M"
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1e4 else f"{value:.4g}"


def _most_of(counts: Mapping[str, Mapping[str, float]], name: str) -> float:
    return max(series.get(name, 0) for series in counts.values())


def _colour(at: int) -> str:
    return f"s{at % 5 + 1}"


def _title(text: str) -> str:
    return f"<title>{escape(printable(text))}</title>"


def _box(series: int, x: float, y: float, wide: float, high: float, told: str = "") -> str:
    place = f'x="{x:.2f}" y="{y:.2f}" width="{wide:.2f}" height="{high:.2f}"'
    return f'<rect class="{_colour(series)}" {place}>{_title(told) if told else ""}</rect>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    whole = printable(text)
    shown = whole if len(whole) <= _LETTERS else whole[: _LETTERS - 1] + "…"
    told = "" if shown == whole else _title(whole)
    return f'<text class="{kind}" x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}">{escape(shown)}{told}</text>'


def _legend_rows(names: Sequence[str]) -> int:
    return len([name for name in names if name])


def _legend(names: Sequence[str]) -> Iterator[str]:
    """A line for each named series; one that is the only one and has no name needs none."""
    for at, name in enumerate(names):
        if name:
            yield _box(at, 0, _TOP + _ROW * at - 3, 9, 9)
            yield _text(14, _TOP + _ROW * at + 5, name)


def _start(names: Sequence[str]) -> int:
    """Where the area between the axes begins, below title, legend and the name of the upright axis."""
    return _TOP + _ROW * _legend_rows(names) + 14


def _upright(marks: Sequence[float], start: float, label: str) -> Iterator[str]:
    """Lines across with their numbers, the first of the ``marks`` at the bottom, the last at the top."""
    yield _text(0, start - 8, label, "dim")
    for value in marks:
        at = start + _HIGH * (1 - (value - marks[0]) / (marks[-1] - marks[0]))
        yield f'<line x1="{_LEFT}" y1="{at:.2f}" x2="{WIDTH - _RIGHT}" y2="{at:.2f}"/>'
        yield _text(_LEFT - 5, at + 4, number(value), "dim", "end")


def _across(marks: Mapping[float, float], start: float, label: str) -> Iterator[str]:
    """Numbers below the plot at their places, and the name of the axis."""
    for value, at in marks.items():
        yield _text(at, start + _HIGH + 13, number(value), "dim", "middle")
    yield _text((WIDTH + _LEFT) / 2, start + _HIGH + 28, label, "dim", "middle")


def _svg(title: str, high: float, parts: Sequence[str]) -> str:
    label = escape(printable(title))
    return (
        f'<svg class="plot" role="img" viewBox="0 0 {WIDTH} {high:.0f}" aria-label="{label}">'
        f"{_text(0, 11, title, 'head')}{''.join(parts)}</svg>"
    )
