"""A log that was written before this version: ``version1.sql`` is the dump of one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gristmill.core.engine import Completion, Message, Request, Sampling
from gristmill.core.errors import LogError
from gristmill.engines.log.layers import LayeredLog
from gristmill.engines.log.repair import check, repair
from gristmill.engines.log.store import CompletionLog, request_key
from gristmill.engines.log.tools import Merged, merge, stats

Get = Callable[..., dict[int, str]]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript((Path(__file__).parent / "version1.sql").read_text())
    connection.close()
    return path


def _request(i: int, **sampling: Any) -> Request:
    given = {"temperature": 0.7, "max_tokens": 64} | sampling
    return Request((Message("user", f"What is {i} + 1?"),), Sampling(**given), i)


def test_a_log_of_version_1_serves_its_answers_and_takes_new_ones(old: Path, put: Any, get: Get) -> None:
    with CompletionLog(old) as log:
        assert [get(log, _request(i)) for i in range(3)] == [{0: f"{i + 1}", 1: "Let me"} for i in range(3)]
        system = (Message("system", "Be brief."), Message("user", "Caf\N{LATIN SMALL LETTER E WITH ACUTE}?"))
        key = request_key("other model", Request(system, Sampling(), prefix="It"))
        assert log.get(key, 0, 1) == {0: Completion("is.", "stop", 9, 3)}
        put(log, _request(7), "8")
    with CompletionLog(old) as log:
        assert get(log, _request(7)) == {0: "8"} and get(log, _request(0)) == {0: "1", 1: "Let me"}
    assert [(m.model, m.completions) for m in stats(old).models] == [("m", 7), ("other model", 1)]


def test_its_answers_are_found_with_another_max_tokens_too(old: Path, get: Get) -> None:
    with CompletionLog(old) as log:
        assert get(log, _request(1, max_tokens=1000)) == {0: "2"}
        assert get(log, _request(1, max_tokens=512)) == {0: "2"}, "which is the default, and left out"


def test_it_is_read_by_a_merge_and_not_changed(old: Path, tmp_path: Path, get: Get) -> None:
    before = old.read_bytes()
    assert merge(tmp_path / "new.sqlite", [old]) == Merged(7, 0, 0)
    assert old.read_bytes() == before
    with CompletionLog(tmp_path / "new.sqlite") as log:
        assert get(log, _request(2)) == {0: "3", 1: "Let me"}
        assert get(log, _request(2, max_tokens=100)) == {0: "3"}
    assert check(tmp_path / "new.sqlite").unsealed == 0
    with pytest.raises(LogError, match=r"version 1.*gristmill log merge"):
        LayeredLog(tmp_path / "task.sqlite", old)


def test_repair_seals_what_is_older_than_seals(old: Path, get: Get) -> None:
    before = check(old)
    assert before.sound and (before.completions, before.unsealed) == (7, 7)
    assert repair(old).kept == 7
    after = check(old)
    assert after.sound and (after.completions, after.unsealed) == (7, 0)
    with CompletionLog(old) as log:
        assert get(log, _request(0)) == {0: "1", 1: "Let me"}
    assert repair(old).copy == "", "nothing is left to do"
