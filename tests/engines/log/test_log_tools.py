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
from gristmill.engines.log.layers import LayeredLog
from gristmill.engines.log.store import CompletionLog, LogKey, request_key
from gristmill.engines.log.tools import Merged, merge, prune, stats
from gristmill.engines.log.transfer import Transferred, export

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
        assert export(log_path, out) == Transferred(20, 0)
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


def _put(path: Path, key: LogKey, texts: dict[int, str]) -> None:
    async def main(log: CompletionLog) -> None:
        for sample, text in texts.items():
            await log.put(key, sample, [Completion(text)])

    with CompletionLog(path) as log:
        asyncio.run(main(log))


def _texts(path: Path, key: LogKey, n: int = 9) -> dict[int, str]:
    with CompletionLog(path) as log:
        return {i: c.text for i, c in log.get(key, 0, n).items()}


def test_merged_logs_hold_what_each_held_and_the_first_named_wins(tmp_path: Path, ask: Ask) -> None:
    a, b, out = (tmp_path / f"{name}.sqlite" for name in ("a", "b", "out"))
    key, other = request_key("m", ask(seed=1)), request_key("m", ask(seed=2))
    _put(a, key, {0: "a0", 1: "same"})
    _put(b, key, {0: "b0", 1: "same", 2: "b2"})
    _put(b, other, {0: "only b"})
    assert merge(out, [a, b]) == Merged(added=4, present=2, different=1)
    assert _texts(out, key) == {0: "a0", 1: "same", 2: "b2"} and _texts(out, other) == {0: "only b"}
    assert merge(tmp_path / "reverse.sqlite", [b, a]).different == 1
    assert _texts(tmp_path / "reverse.sqlite", key)[0] == "b0"
    # What the log itself holds stands before all others.
    assert merge(b, [a]) == Merged(0, 2, 1) and _texts(b, key)[0] == "b0"


def test_merging_again_adds_nothing_and_keeps_the_times(log_path: Path, tmp_path: Path, ask: Ask) -> None:
    out = tmp_path / "out.sqlite"
    with CompletionLog(log_path) as log:
        _fill(log, ask)
        assert merge(out, [log_path]) == Merged(20, 0, 0)  # while a run has it open
    assert merge(out, [log_path, log_path]) == Merged(0, 40, 0)
    assert stats(out).models == stats(log_path).models
    export(out, tmp_path / "1.jsonl"), export(log_path, tmp_path / "2.jsonl")
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()


def test_a_merge_in_batches_is_whole(
    log_path: Path, tmp_path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gristmill.engines.log.tools._BATCH", 3)
    with CompletionLog(log_path) as log:
        _fill(log, ask)
    assert merge(tmp_path / "out.sqlite", [log_path]) == Merged(20, 0, 0)
    assert stats(tmp_path / "out.sqlite").models == stats(log_path).models


def test_a_merge_takes_only_the_models_and_times_asked_for(log_path: Path, tmp_path: Path, ask: Ask) -> None:
    with CompletionLog(log_path) as log:
        _fill(log, ask)
    assert merge(tmp_path / "out.sqlite", [log_path], models=["small", "none"]).added == 8
    assert [m.model for m in stats(tmp_path / "out.sqlite").models] == ["small"]
    assert merge(tmp_path / "new.sqlite", [log_path], since=1, kin=True) == Merged(0, 0, 0)


def test_what_a_fresh_run_paid_for_replaces_what_is_older(tmp_path: Path, ask: Ask) -> None:
    old, new, key = tmp_path / "old.sqlite", tmp_path / "new.sqlite", request_key("m", ask())
    _put(old, key, {0: "old"})
    with CompletionLog(old) as log:
        fresh = log.next_generation()
    with CompletionLog(new) as log:  # as a task does
        asyncio.run(log.put(key, 0, [Completion("new")], fresh))
    assert merge(new, [old], kin=True, replace_before=fresh).added == 0 and _texts(new, key) == {0: "new"}
    assert merge(old, [new], kin=True, replace_before=fresh).added == 1 and _texts(old, key) == {0: "new"}
    with CompletionLog(old) as log:
        assert log.get(key, 0, 1, fresh)
    # What comes from elsewhere is older than any fresh run.
    assert merge(tmp_path / "other.sqlite", [old]).added == 1
    with CompletionLog(tmp_path / "other.sqlite") as log:
        assert log.get(key, 0, 1) and not log.get(key, 0, 1, 1)


def test_a_merge_refuses_what_is_no_log_before_it_writes(tmp_path: Path, ask: Ask) -> None:
    good, out = tmp_path / "good.sqlite", tmp_path / "out.sqlite"
    _put(good, request_key("m", ask()), {0: "x"})
    (tmp_path / "bad.sqlite").write_text("dear diary")
    with pytest.raises(LogError, match="not an SQLite database"):
        merge(out, [good, tmp_path / "bad.sqlite"])
    with pytest.raises(LogError, match="does not exist"):
        merge(out, [tmp_path / "none.sqlite"])
    assert not out.exists()
    with pytest.raises(LogError, match="into itself"):
        merge(good, [good])


def test_a_task_reads_the_snapshot_and_writes_its_own_log(tmp_path: Path, ask: Ask) -> None:
    base, own, key = tmp_path / "base.sqlite", tmp_path / "own.sqlite", request_key("m", ask())
    _put(base, key, {0: "base 0", 1: "base 1"})
    before = base.read_bytes()
    with LayeredLog(own, base) as log:
        asyncio.run(log.put(key, 1, [Completion("own 1"), Completion("own 2")]))
        assert {i: c.text for i, c in log.get(key, 0, 4).items()} == {0: "base 0", 1: "own 1", 2: "own 2"}
        assert log.get(key, 0, 1, read_after=1) == {}
    assert _texts(own, key) == {1: "own 1", 2: "own 2"}
    assert base.read_bytes() == before
    with CompletionLog(base), pytest.raises(LogError, match="not a snapshot"):
        LayeredLog(own, base)
    with LayeredLog(own, None) as log:
        assert log.get(key, 0, 1) == {}
