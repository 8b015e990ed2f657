"""A run that is read back: what is said of a source, whose rows are not in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner
from written_runs import write_run

from gristmill.cli.main import app
from gristmill.core.errors import RunError
from gristmill.core.records import Problem
from gristmill.pipelines.rundir.results import open_run
from gristmill.pipelines.training import training_file


def test_a_source_is_said_to_hold_no_rows(tmp_path: Path) -> None:
    place = write_run(
        tmp_path / "run", {"source": (None, [], []), "kept": (Problem, [Problem("a", "1 + 1?", "2")], [])}
    )
    run = open_run(place)
    for read in (run.rows, run.dataset, lambda stage: training_file(f"{place}:{stage}", "policy", tmp_path)):
        with pytest.raises(RunError, match=r"run:source holds no rows.*its own file.*that has rows: kept"):
            read("source")
    for words in (["show", str(place), "--stage", "source", "-n", "1"], ["stats", f"{place}:source"]):
        ended = CliRunner().invoke(app, words)
        assert isinstance(ended.exception, RunError) and "holds no rows" in str(ended.exception)
