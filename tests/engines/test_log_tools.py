from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gristmill.core.engine import Completion, Request
from gristmill.core.errors import LogError
from gristmill.engines.log import CompletionLog, request_key
from gristmill.engines.log_tools import export, prune, stats

Ask = Callable[..., Request]


def _fill(log: CompletionLog, ask: Ask) -> None:
    async def main() -> None:
        for model, samples in (("small", 2), ("large", 3)):
            for seed in range(4):
                answers = [Completion(f"{model} {i}", "stop", 10 * (i == 0), 2) for i in range(samples)]
                await log.put(request_key(model, ask(seed=seed)), 0, answers)

    asyncio.run(main())


def test_stats_by_model_while_a_run_has_it_open(log_path: Path, ask: Ask) -> None:
    with CompletionLog(log_path) as log:
        _fill(log, ask)
        held = stats(log_path)
    large, small = held.models
    assert (large.model, large.requests, large.completions) == ("large", 4, 12)
    assert (small.model, small.requests, small.completions) == ("small", 4, 8)
    assert (large.prompt_tokens, large.completion_tokens) == (40, 24)
    assert time.time() - 60 < small.oldest <= small.newest < large.newest <= time.time()
    assert held.bytes > 4096


def test_prune_a_model_while_a_run_has_it_open(log_path: Path, ask: Ask) -> None:
    with CompletionLog(log_path) as log:
        _fill(log, ask)
        pruned = prune(log_path, model="large")
        assert (pruned.completions, pruned.requests) == (12, 4)
        assert [m.model for m in stats(log_path).models] == ["small"]
        assert log.get(request_key("large", ask(seed=0)), 0, 3) == {}
        _fill(log, ask)
    assert [(m.model, m.completions) for m in stats(log_path).models] == [("large", 12), ("small", 8)]


def test_prune_by_age_gives_the_space_back(log_path: Path, ask: Ask) -> None:
    with CompletionLog(log_path) as log:
        answers = [Completion("x" * 10_000) for _ in range(100)]
        asyncio.run(log.put(request_key("old", ask()), 0, answers))
    connection = sqlite3.connect(log_path)
    connection.execute("UPDATE completion SET created = created - 86400")
    connection.commit()
    connection.close()
    with CompletionLog(log_path) as log:
        _fill(log, ask)
    assert prune(log_path, older_than=2 * 86400).completions == 0
    assert prune(log_path, older_than=3600, model="small").completions == 0
    pruned = prune(log_path, older_than=3600)
    assert (pruned.completions, pruned.requests) == (100, 1) and pruned.freed > 900_000
    assert [m.completions for m in stats(log_path).models] == [12, 8]


def test_prune_needs_to_be_told_what(log_path: Path, ask: Ask) -> None:
    with CompletionLog(log_path) as log:
        _fill(log, ask)
    with pytest.raises(LogError, match="--older-than"):
        prune(log_path)
    assert sum(m.completions for m in stats(log_path).models) == 20


def test_export_is_whole_and_in_order(log_path: Path, tmp_path: Path, ask: Ask) -> None:
    out = tmp_path / "out" / "log.jsonl"
    out.parent.mkdir()
    with CompletionLog(log_path) as log:
        _fill(log, ask)
        assert export(log_path, out) == 20
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["model"], row["request"]["seed"], row["index"]) for row in lines[:3]] == [
        ("small", 0, 0),
        ("small", 0, 1),
        ("small", 1, 0),
    ]
    assert lines[-1]["completion"] == {"text": "large 2", "completion_tokens": 2}
    assert list(out.parent.iterdir()) == [out]


def test_a_failed_export_leaves_nothing(log_path: Path, tmp_path: Path, ask: Ask) -> None:
    with CompletionLog(log_path) as log:
        _fill(log, ask)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(LogError, match="directory"):
        export(log_path, out)
    with pytest.raises(LogError, match="No such file"):
        export(log_path, tmp_path / "none" / "log.jsonl")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["completions.sqlite", "deep", "out"]


@pytest.mark.parametrize(
    "tool", [stats, lambda path: prune(path, model="m"), lambda path: export(path, path.parent / "out")]
)
def test_what_is_no_log_is_refused(tmp_path: Path, tool: Callable[[Path], object]) -> None:
    with pytest.raises(LogError):
        tool(tmp_path / "none.sqlite")
    text = tmp_path / "notes.txt"
    text.write_text("dear diary")
    with pytest.raises(LogError):
        tool(text)
    assert list(tmp_path.iterdir()) == [text] and text.read_text() == "dear diary"
