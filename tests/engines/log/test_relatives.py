"""An answer that ended by itself serves any ``max_tokens`` that it fits in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gristmill.core.engine import Completion
from gristmill.engines.log.entry import family, request_key, without_limit
from gristmill.engines.log.layers import LayeredLog
from gristmill.engines.log.store import CompletionLog

Get = Callable[..., dict[int, str]]
ANSWERS = (
    Completion("ended", "stop", 9, 100),
    Completion("cut", "length", 0, 200),
    Completion("uncounted", "stop"),
    Completion("filtered", "content_filter", 0, 50),
    Completion("odd", "other", 0, 50),
)


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        (200, {0, 1, 2, 3, 4}),
        (201, {0, 2, 3}),
        (512, {0, 2, 3}),
        (101, {0, 3}),
        (100, {3}),
        (50, set()),
    ],
)
def test_what_fits_is_served(
    log_path: Path, ask: Any, put: Any, get: Get, asked: int, served: set[int]
) -> None:
    with CompletionLog(log_path) as log:
        put(log, ask(max_tokens=200), *ANSWERS)
        assert set(get(log, ask(max_tokens=asked))) == served


def test_nothing_else_may_differ(log_path: Path, ask: Any, put: Any, get: Get) -> None:
    with CompletionLog(log_path) as log:
        put(log, ask(max_tokens=64), "answer")
        assert get(log, ask(max_tokens=65)) == {0: "answer"}
        for other in (
            ask(max_tokens=65, temperature=0.5),
            ask(max_tokens=65, seed=6),
            ask(max_tokens=65, stop=("\n",)),
            ask("2 + 3 = ?", max_tokens=65),
            ask('"max_tokens":65', max_tokens=64),
        ):
            assert get(log, other) == {}
        assert log.get(request_key("n", ask(max_tokens=65)), 0, 1) == {}


def test_its_own_answer_comes_first_and_then_the_oldest(log_path: Path, ask: Any, put: Any, get: Get) -> None:
    with CompletionLog(log_path) as log:
        put(log, ask(max_tokens=30), "first")
        put(log, ask(max_tokens=20), "second", "two")
        assert get(log, ask(max_tokens=40)) == {0: "first", 1: "two"}
        put(log, ask(max_tokens=40), "own")
        assert get(log, ask(max_tokens=40)) == {0: "own", 1: "two"}
        put(log, ask(max_tokens=10), "later")
        assert get(log, ask(max_tokens=50)) == {0: "first", 1: "two"}, "a rerun finds what the run found"


def test_a_fresh_run_is_not_served_older_ones(log_path: Path, ask: Any, put: Any) -> None:
    with CompletionLog(log_path) as log:
        put(log, ask(max_tokens=64), "old")
        fresh = log.next_generation()
        assert log.get(request_key("m", ask(max_tokens=65)), 0, 1, fresh) == {}
        put(log, ask(max_tokens=66), "new")
        assert log.get(request_key("m", ask(max_tokens=67)), 0, 1, fresh)[0].text == "new"


def test_a_task_searches_both_of_its_logs(tmp_path: Path, ask: Any, put: Any, get: Get) -> None:
    with CompletionLog(tmp_path / "base.sqlite") as log:
        put(log, ask(max_tokens=64), "base", "base 1")
    with LayeredLog(tmp_path / "own.sqlite", tmp_path / "base.sqlite") as log:
        put(log, ask(max_tokens=32), "own", "own 1", "own 2")
        put(log, ask(max_tokens=80), "exact", first=1)
        assert get(log, ask(max_tokens=80)) == {0: "base", 1: "exact", 2: "own 2"}


@pytest.mark.parametrize(
    "sampling", [{}, {"temperature": 0.5}, {"stop": ("a", "b")}, {"temperature": 0.5, "stop": ("\n",)}]
)
@pytest.mark.parametrize("text", ["q", 'say {"max_tokens":7, "a":1}', '"max_tokens":'])
def test_a_request_without_its_limit_is_what_the_default_leaves(
    ask: Any, sampling: dict[str, Any], text: str
) -> None:
    key, default = (request_key("m", ask(text, **sampling, max_tokens=n)) for n in (64, 512))
    assert without_limit(key.request) == (default.request, 64)
    assert without_limit(default.request) == (default.request, 512)
    assert family("m", key.request) == family("m", default.request) != family("n", key.request)
