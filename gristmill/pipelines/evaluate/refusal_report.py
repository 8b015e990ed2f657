"""The report of ``gristmill eval refusal``: diagrams as PNG, and one HTML file that holds them."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gristmill.core.errors import MissingExtraError
from gristmill.core.shares import wilson
from gristmill.pipelines.evaluate.refusal import RefusalReport, tables
from gristmill.pipelines.report.sheet import grid, sheet
from gristmill.pipelines.rundir.directory import disk_errors, write_file
from gristmill.pipelines.rundir.summary import printable
from gristmill.synth.refusal.compare import METRICS, SystemsComparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RELIABILITY = "reliability.png"
RISK_COVERAGE = "risk-coverage.png"
_DRAWN = 6
"""Groups with diagrams in the report, at most: a column may have hundreds of values."""
# Told apart by those who see few colours (Okabe and Ito), and by their marks.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKS = ("o", "s", "^", "D", "v", "P")
_STYLE = """
figure { margin: 1rem 0; display: flex; flex-wrap: wrap; gap: 1rem; }
img { width: 35rem; max-width: 100%; background: #ffffff; border-radius: 4px; }
"""


def write(report: RefusalReport, out: Path) -> list[Path]:
    """Write ``refusal.json``, ``refusal.html`` and the diagrams of all questions into the folder ``out``.

    Returns the files. ``MissingExtraError`` without matplotlib, ``RunError`` where the disk refuses.
    """
    check()
    everything = report.groups[0].comparison
    files = {
        "refusal.json": report.encode(),
        "refusal.html": html(report),
        RELIABILITY: reliability(everything),
        RISK_COVERAGE: risk_coverage(everything),
    }
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_file(out / name, data)
    return [out / name for name in files]


def check() -> None:
    """``MissingExtraError`` unless diagrams can be drawn; to be asked before anything is spent."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "matplotlib, which draws the diagrams,", install="pip install 'gristmill[report]'"
        ) from None


def html(report: RefusalReport) -> bytes:
    """The report as a page that asks no network for anything. All texts in it are escaped."""
    s = report.settings
    told = (
        f"Declined by the rule {s.rule!r}; score: {s.score}; {s.bins} bins of equal mass. In brackets 95 % "
        f"intervals: Wilson's of shares, the others by {s.draws:,} bootstrap draws over questions (seed "
        f"{s.seed}), for differences paired."
    )
    left_out = report.groups[0].comparison.left_out
    told += f" Left out: {left_out['missing']:,} questions that not every system was asked, and "
    told += f"{left_out['undecided']:,} without a verdict."
    blocks = []
    for i, ((title, rows), group) in enumerate(zip(tables(report), report.groups, strict=True)):
        blocks.append(f"<h2>{escape(title)}</h2>\n{grid(rows)}")
        if i < _DRAWN:
            images = (reliability(group.comparison), risk_coverage(group.comparison))
            names = ("Reliability diagram", "Risk-coverage curve")
            shown = "".join(_image(data, name) for data, name in zip(images, names, strict=True))
            blocks.append(f"<figure>{shown}</figure>")
    meanings = "".join(f"<li><b>{escape(name)}</b>: {escape(text)}</li>" for name, text in METRICS.items())
    blocks.append(f"<h2>Measures</h2><ul>{meanings}</ul>")
    title = "Refusal: what is answered, what is declined"
    return sheet("refusal", title, told, "\n".join(blocks), style=_STYLE, first="18rem")


def _image(data: bytes, name: str) -> str:
    return f'<img alt="{name}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'


def reliability(found: SystemsComparison) -> bytes:
    """The reliability diagram of all systems as a PNG: for each bin the share of right answers over the
    mean score, with its Wilson interval. On the diagonal the score is the truth."""
    figure, axes = _figure("Reliability", "mean score of the bin", "share of right answers")
    axes.plot([0, 1], [0, 1], color="#8a9199", linestyle="--", linewidth=1, label="calibrated")
    for i, system in enumerate(found.systems):
        made = system.reliability
        if not made:
            continue
        x, y = [b.confidence for b in made], [b.accuracy for b in made]
        spans = [wilson(round(b.accuracy * b.total), b.total) for b in made]
        # Rounding can put a share a hair outside of its own interval.
        below = [max(0.0, b - low) for b, (low, _) in zip(y, spans, strict=True)]
        above = [max(0.0, high - b) for b, (_, high) in zip(y, spans, strict=True)]
        ece = system.measures.values["ece"]
        label = f"{_name(system.name)} (ECE {ece:.3f})"
        axes.errorbar(x, y, yerr=[below, above], capsize=2, elinewidth=0.8, label=label, **_style(i))
    axes.set_ylim(-0.02, 1.02)  # marks at the ends are whole
    return _png(figure, axes)


def risk_coverage(found: SystemsComparison) -> bytes:
    """The risk-coverage curve of all systems as a PNG: the share of wrong answers among those with the best
    scores, over the share of questions so answered."""
    figure, axes = _figure("Risk and coverage", "coverage: answers given", "risk: wrong among them")
    for i, system in enumerate(found.systems):
        curve = system.risk_coverage
        if not curve:
            continue
        aurc = system.measures.values["aurc"]
        label = f"{_name(system.name)} (AURC {aurc:.3f})"
        style = _style(i) | ({} if len(curve) <= 20 else {"marker": ""})
        axes.plot([p.coverage for p in curve], [p.risk for p in curve], label=label, **style)
    axes.set_ylim(bottom=0)
    return _png(figure, axes)


def _name(name: str) -> str:
    """A system's name as a label: a dollar sign would begin mathematics, a first underscore hide it."""
    return printable(name)[:40].replace("$", r"\$").lstrip("_") or "system"


def _style(index: int) -> dict[str, Any]:
    colour, mark = _COLOURS[index % len(_COLOURS)], _MARKS[index % len(_MARKS)]
    return {"color": colour, "marker": mark, "markersize": 4, "linewidth": 1.4}


def _figure(title: str, x: str, y: str) -> tuple[Figure, Any]:
    check()
    from matplotlib.figure import Figure

    # Without pyplot: no global state, no display, nothing to close.
    figure = Figure(figsize=(5.6, 4.6), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y, xlim=(-0.02, 1.02))
    axes.grid(color="#e4e7ea", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _png(figure: Figure, axes: Any) -> bytes:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9)
    out = io.BytesIO()
    # No version of the software and no time in the file: the same numbers are the same bytes.
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
