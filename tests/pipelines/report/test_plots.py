"""Plots as SVG and the page of ``gristmill stats --html``: what they show, and that names stay text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from table_rows import RIGHT, WRONG, sample, samples
from typer.testing import CliRunner

from gristmill.cli.main import app
from gristmill.pipelines.report.corpus import CorpusReport, StageFlow, table_stats
from gristmill.pipelines.report.corpus_page import html
from gristmill.pipelines.report.plots import bars, counted, histogram, lines, number, ticks

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '</title></svg><script>alert(1)</script>"&\x1b[31m‮' + "x" * 80


def elements(svg: str, tag: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))
    return list(root.iter(SVG + tag))


def told(svg: str) -> list[str]:
    return [e.text or "" for e in elements(svg, "title")]


def test_a_bin_holds_its_lower_edge_and_the_last_its_upper_one_too() -> None:
    assert counted([0, 0.1, 0.2, 1.0, 7, -3], [0, 0.1, 0.5, 1.0]) == [2, 2, 2]
    assert counted([1, 5], [0, 2, 10], [3, 4]) == [3, 4]


@pytest.mark.parametrize(
    ("low", "high", "marks"),
    [
        (0, 13, [0, 5, 10, 15]),
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.12, 0.31, [0.1, 0.15, 0.2, 0.25, 0.3, 0.35]),
        (-3, 3, [-4, -2, 0, 2, 4]),
        (5, 5, [5, 5.2, 5.4, 5.6, 5.8, 6]),
    ],
)
def test_ticks_are_round_and_reach_over_both_ends(low: float, high: float, marks: list[float]) -> None:
    assert ticks(low, high) == marks


def test_whole_ticks_have_no_fractions() -> None:
    assert ticks(0, 2, whole=True) == [0, 1, 2]


def test_numbers_are_short() -> None:
    assert [number(v) for v in (0, 0.25, 1 / 3, 1234, 12345.6, 2_500_000)] == [
        "0", "0.25", "0.3333", "1,234", "12,346", "2.5M",
    ]  # fmt: skip


def test_a_histogram_draws_a_box_for_each_count_in_proportion() -> None:
    svg = histogram({"before": [4, 0, 2], "after": [2, 0, 0]}, [0, 1, 2, 3], title="length", x="words")
    boxes = [b for b in elements(svg, "rect") if b.find(SVG + "title") is not None]
    heights = [float(b.get("height", 0)) for b in boxes]
    assert [h / heights[0] for h in heights] == [1, 0.5, 0.5]
    assert [b.get("class") for b in boxes] == ["s1", "s1", "s2"]
    assert told(svg) == [
        "before: 4 rows from 0 to 1",
        "before: 2 rows from 2 to 3",
        "after: 2 rows from 0 to 1",
    ]
    with pytest.raises(ValueError, match="3 edges need series of 2 counts"):
        histogram({"a": [1]}, [0, 1, 2], title="")


def test_bars_come_largest_first_and_the_rest_together() -> None:
    svg = bars({"": {"a": 1, "b": 8, "c": 2, "d": 3}}, title="t", most=2)
    assert told(svg) == ["b: 8", "d: 3", "others (2): 3"]
    wide = [float(b.get("width", 0)) for b in elements(svg, "rect")]
    assert wide[1] / wide[0] == pytest.approx(3 / 8, abs=1e-3)


def test_lines_go_up_where_values_do() -> None:
    svg = lines({"": [(1, 0.5), (2, 0.75), (4, 1)]}, title="pass at k", x="k", y="share")
    places = [(float(c.get("cx", 0)), float(c.get("cy", 0))) for c in elements(svg, "circle")]
    assert places == sorted(places) and [y for _, y in places] == sorted((y for _, y in places), reverse=True)
    assert told(svg) == ["1, 0.5", "2, 0.75", "4, 1"]


@pytest.mark.parametrize(
    "svg",
    [
        bars({HOSTILE: {HOSTILE: 1}}, title=HOSTILE),
        histogram({HOSTILE: [1]}, [0, 1], title=HOSTILE, x=HOSTILE, y=HOSTILE),
        lines({HOSTILE: [(0, 1)]}, title=HOSTILE, x=HOSTILE, y=HOSTILE),
        bars({}, title="nothing"),
        histogram({}, [0, 1], title="nothing"),
        lines({}, title="nothing"),
    ],
)
def test_plots_are_well_formed_and_hostile_names_stay_text(svg: str) -> None:
    assert elements(svg, "script") == []
    assert "\x1b" not in svg and "‮" not in svg


def test_the_page_escapes_all_that_rows_say_and_asks_no_network() -> None:
    script = "<script>alert(1)</script>"
    rows = samples(
        sample("a", 0, verdict=RIGHT, model=script), sample("a", 1, verdict=WRONG, model=script),
        sample("b", 0, verdict=RIGHT, model="n"), sample("b", 1, verdict=WRONG, model="n"),
    )  # fmt: skip
    stats = table_stats(script, rows)
    assert stats.pass_rates is not None and stats.pass_rates.bins == [0, 0, 0, 0, 0, 2, 0, 0, 0, 0]
    assert sum(stats.lengths["completion"].bins) == 4
    page = html(CorpusReport([stats], [StageFlow(script, 4, 3, {script: 1})], {script: 1}), script).decode()
    assert "<script" not in page and page.count("&lt;script&gt;") > 8
    assert not re.search(r"https?://|<link|url\(|@import", page)
    assert "script-src" not in page and "default-src 'none'" in page


def test_stats_writes_the_page_beside_the_text(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"question": "What?" * n, "level": n % 2}) for n in range(1, 9)))
    page = tmp_path / "made" / "page.html"
    ran = CliRunner().invoke(app, ["stats", str(rows), "--html", str(page), "--json"])
    assert ran.exit_code == 0, ran.output
    assert page.read_text().count('<svg class="plot"') == 3  # lengths, levels, languages
