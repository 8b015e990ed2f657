"""``gristmill stats`` and the recipe ``curate``: what a corpus is like, before and after."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from table_rows import RIGHT, WRONG, sample, samples
from typer.testing import CliRunner

from gristmill.cli.main import app
from gristmill.core.errors import InputError, RunError
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.pipelines.report.corpus import as_json, report, table, table_stats
from gristmill.pipelines.rundir.results import open_run

PLANTED = {
    "duplicate": "dedupe: exact duplicate",
    "near duplicate": "dedupe: near duplicate",
    "contaminated": "decontaminate",
}


def test_pass_rates_leave_out_what_is_undecided() -> None:
    undecided = Verdict(Outcome.UNPARSEABLE, 0.0, None, "none")
    rows = samples(
        sample("a", 0),
        sample("a", 1, verdict=WRONG, completion="Three"),
        sample("b", 0, verdict=undecided),
        sample("c", 0, verdict=RIGHT),
        sample("d", 0, verdict=None),
    )
    found = table_stats("rows", rows)
    assert (found.rows, found.problems, found.duplicates) == (5, 4, 4)  # they say "three", without messages
    assert found.verdicts == {"correct": 2, "incorrect": 1, "none": 1, "unparseable": 1}
    assert found.pass_rates is not None
    rates = found.pass_rates
    assert (rates.mean, rates.problems, rates.all_right, rates.none_right) == (0.75, 2, 1, 0)
    assert found.finish_reasons == {"stop": 5}
    assert found.lengths["completion"].most == 5


def test_a_file_of_any_columns(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"question": f"What is it, {n}?", "level": n % 2} for n in range(4)]
    path.write_text("\n".join(map(json.dumps, rows)))
    found = report(str(path))
    assert [one.rows for one in found.tables] == [4]
    assert found.tables[0].classes == {"level": {"0": 2, "1": 2}}
    assert found.tables[0].pass_rates is None
    assert json.loads(as_json(found))["tables"][0]["lengths"]["question"]["median"] == 14
    assert "rows" in table(found)


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("x")
    with pytest.raises(InputError, match=r"its ending '\.txt'"):
        report(str(tmp_path / "rows.txt"))
    with pytest.raises(InputError, match="no such file"):
        report(str(tmp_path / "none.jsonl"))
    (tmp_path / "nothing.jsonl").write_text("")
    with pytest.raises(InputError, match=r"nothing\.jsonl: it is empty\. Give a file with rows"):
        report(str(tmp_path / "nothing.jsonl"))
    with pytest.raises(RunError, match="no complete run"):
        report("none", runs=tmp_path)
    (tmp_path / "bad.parquet").write_text("x")
    with pytest.raises(InputError, match="cannot be read"):
        report(str(tmp_path / "bad.parquet"))


def test_curate_finds_each_planted_fault_and_nothing_else(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["run", "curate", "--runs", str(tmp_path), "--quiet"])
    assert ran.exit_code == 0, ran.output
    run = open_run(tmp_path / "curate")
    labels = {
        row: json.loads(meta)["fault"]
        for row, meta in run.rows("samples").select("id", "meta").collect().rows()
    }
    gone = {}
    for stage in run.stages:
        gone |= dict(run.rejected(stage).select("id", "reason").collect().rows())
    wrong = []
    for row, fault in labels.items():
        wanted = None if fault == "none" else PLANTED.get(fault, f"quality: {fault}")
        reason = gone.get(row)
        if reason != wanted and not (wanted == "decontaminate" and str(reason).startswith(wanted)):
            wrong.append((row, fault, reason))
    assert wrong == []
    assert len(gone) == 32

    shown = CliRunner().invoke(app, ["stats", "curate", "--runs", str(tmp_path), "--json"])
    found = json.loads(shown.output)
    assert [one["rows"] for one in found["tables"]] == [56, 24]
    assert found["contaminated"] == {"renumbered": 1, "verbatim": 1}
    assert [stage["rows_out"] for stage in found["stages"]] == [56, 52, 50, 24]
    text = CliRunner().invoke(app, ["stats", "curate:unseen", "--runs", str(tmp_path)]).output
    assert "exact duplicates" in text and "contaminated: renumbered 1, verbatim 1" in text
