"""What engines say during a run reaches the run's log, and warnings standard error, once."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from gristmill.core.errors import RunError
from gristmill.pipelines.running.messages import noted

DEAD = "http://127.0.0.1:9/v1"


def test_a_dead_endpoint_is_told_of_and_each_ones_share_is_noted(workspace: Any, server: Any) -> None:
    workspace.write_problems(12)
    alive = f"{server.address}/v1"
    engine = {
        "kind": "endpoints",
        "model": "fake",
        "concurrency": 4,
        "endpoints": [{"base_url": alive}, {"base_url": DEAD}],
    }
    workspace.write_recipe(engine)
    done = workspace.gristmill("run", "test.yaml", "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"{DEAD} gets no more requests") == 1
    assert "answered" not in done.stderr, "only warnings go there"
    log = (workspace.path / "runs/test/log.txt").read_text()
    assert f"{DEAD} gets no more requests" in log
    assert f"{alive}: 12 answered, 0 failed." in log


def test_a_program_that_has_set_up_logging_is_not_told_twice(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    notes: list[str] = []
    with noted(notes.append):
        logging.getLogger("gristmill.engines.x").warning("a %s", "warning")
        logging.getLogger("gristmill.engines.x").debug("a detail")
    logging.getLogger("gristmill.engines.x").warning("too late")
    assert notes == ["a warning"]
    assert capsys.readouterr().err == "", "pytest's own handler is on the root"
    assert caplog.messages == ["a warning", "too late"]


def test_a_full_disk_is_not_its_business() -> None:
    def full(text: str) -> None:
        raise RunError("the disk is full")

    with noted(full):
        logging.getLogger("gristmill").warning("something")
