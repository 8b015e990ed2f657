"""Damaged logs: one completion costs itself alone, ``check`` finds it, ``repair`` keeps all else."""

from __future__ import annotations

import json
import logging
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gristmill.core.engine import Completion
from gristmill.core.errors import LogError
from gristmill.engines.log.repair import check, repair
from gristmill.engines.log.store import CompletionLog, request_key
from gristmill.engines.log.tools import merge, prune, stats
from gristmill.engines.log.transfer import Transferred, export, load

Get = Callable[..., dict[int, str]]


def _flip(path: Path, near: bytes, bit: int = 0) -> None:
    """Flip a bit in the byte at which ``near`` begins, as a bad disk does."""
    data = bytearray(path.read_bytes())
    at = data.index(near)
    data[at] ^= 1 << bit
    path.write_bytes(data)


@pytest.fixture
def filled(log_path: Path, ask: Any, put: Any) -> Path:
    with CompletionLog(log_path) as log:
        for i in range(60):
            put(log, ask(seed=i), f"answer {i:03} " + "x" * 400)
    return log_path


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_costs_its_own_completion(
    filled: Path, ask: Any, put: Any, get: Get, caplog: pytest.LogCaptureFixture, bit: int
) -> None:
    _flip(filled, b"nswer 017", bit)
    with CompletionLog(filled) as log:
        assert [i for i in range(60) if not get(log, ask(seed=i))] == [17]
        get(log, ask(seed=17))
        (said,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        assert "damaged" in said and "asked for again" in said and str(filled) in said
        assert put(log, ask(seed=17), "again") == [Completion("again")]
        assert get(log, ask(seed=17)) == {0: "again"}
    assert check(filled).sound


def test_bits_flipped_at_random_change_no_answer(filled: Path, ask: Any, get: Get, tmp_path: Path) -> None:
    whole, chosen = filled.read_bytes(), random.Random(0)
    path = tmp_path / "flipped.sqlite"
    for _ in range(40):
        data = bytearray(whole)
        data[chosen.randrange(100, len(data))] ^= 1 << chosen.randrange(8)
        path.write_bytes(data)
        try:
            with CompletionLog(path) as log:
                found = {i: get(log, ask(seed=i)).get(0) for i in range(60)}
        except LogError as error:
            assert "gristmill log repair" in error.remedy
            continue
        assert all(text in (None, f"answer {i:03} " + "x" * 400) for i, text in found.items())


def test_check_names_what_is_damaged_and_changes_nothing(filled: Path, ask: Any) -> None:
    assert check(filled).sound
    _flip(filled, b"nswer 017")
    _flip(filled, b'"seed":33')
    before = filled.read_bytes()
    found = check(filled)
    assert not found.sound and (found.completions, found.damaged, found.requests) == (59, 1, 1)
    assert found.shown[0].key == request_key("m", ask(seed=17)).digest.hex() and found.shown[0].sample == 0
    assert filled.read_bytes() == before


def test_repair_keeps_all_else_and_the_log_as_it_was(filled: Path, ask: Any, put: Any, get: Get) -> None:
    with CompletionLog(filled) as log:
        name, fresh = log.id, log.next_generation()
        put(log, ask(seed=99), "fresh")
    _flip(filled, b"nswer 017")
    damaged = filled.read_bytes()
    done = repair(filled)
    assert (done.kept, done.lost) == (60, 1) and Path(done.copy).read_bytes() == damaged
    assert check(filled).sound
    with CompletionLog(filled) as log:
        assert [i for i in range(60) if not get(log, ask(seed=i))] == [17]
        assert log.id == name and log.get(request_key("m", ask(seed=99)), 0, 1, fresh)
    with pytest.raises(LogError, match="earlier repair"):
        _flip(filled, b"nswer 018")
        repair(filled)


def test_repair_keeps_what_lies_beside_an_unreadable_page(filled: Path, ask: Any, get: Get) -> None:
    data = bytearray(filled.read_bytes())
    page = data.index(b"answer 030") // 4096 * 4096
    data[page : page + 4096] = b"\xa5" * 4096
    filled.write_bytes(data)
    found = check(filled)
    assert not found.sound and found.structure and 0 < found.unreadable < 12
    assert repair(filled).kept == found.completions >= 48
    assert check(filled).sound
    with CompletionLog(filled) as log:
        kept = {i for i in range(60) if get(log, ask(seed=i))}
    assert len(kept) == found.completions and 30 not in kept


def test_repair_keeps_what_a_torn_file_still_has(filled: Path, ask: Any, get: Get) -> None:
    filled.write_bytes(filled.read_bytes()[:-4096])
    with pytest.raises(LogError, match=r"truncated.*gristmill log repair"):
        CompletionLog(filled)
    assert repair(filled).kept > 40
    with CompletionLog(filled) as log:
        assert all(text.startswith("answer") for i in range(60) for text in get(log, ask(seed=i)).values())


def test_repair_waits_for_the_end_of_runs(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _flip(filled, b"nswer 017")
    monkeypatch.setattr("gristmill.engines.log.file.PATIENCE", 0.05)
    with CompletionLog(filled), pytest.raises(LogError, match="locked"):
        repair(filled)
    assert [p.name for p in filled.parent.iterdir()] == [filled.name]


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("dear diary" * 20)
    for tool in (check, repair):
        with pytest.raises(LogError, match="not an SQLite database"):
            tool(tmp_path / "notes.txt")
        with pytest.raises(LogError, match="does not exist"):
            tool(tmp_path / "none.sqlite")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_an_export_of_a_damaged_log_is_valid_and_a_merge_takes_what_is_sound(
    filled: Path, tmp_path: Path
) -> None:
    _flip(filled, b'{"text":"answer 017')  # no JSON any more
    _flip(filled, b'"seed":33')
    _flip(filled, b'"text":"answer 040', 7)  # no UTF-8 any more
    out = tmp_path / "log.jsonl"
    assert export(filled, out) == Transferred(57, 3)
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 57 and all(row["completion"]["text"].startswith("answer") for row in rows)
    assert merge(tmp_path / "merged.sqlite", [filled]).added == 58
    assert stats(filled).models[0].completions == 60


def test_an_export_is_imported_as_it_was(filled: Path, tmp_path: Path, ask: Any, put: Any, get: Get) -> None:
    with CompletionLog(filled) as log:
        put(
            log,
            ask("Caf\N{LATIN SMALL LETTER E WITH ACUTE}", seed=None, prefix="It", stop=("\n",)),
            "is",
            "was",
        )
    export(filled, tmp_path / "1.jsonl")
    done = load(tmp_path / "new.sqlite", tmp_path / "1.jsonl")
    assert (done.added, done.present, done.refused) == (62, 0, 0)
    export(tmp_path / "new.sqlite", tmp_path / "2.jsonl")
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()
    assert load(tmp_path / "new.sqlite", tmp_path / "1.jsonl").present == 62
    assert check(tmp_path / "new.sqlite").sound
    load(tmp_path / "renamed.sqlite", tmp_path / "1.jsonl", model="the same weights")
    assert [m.model for m in stats(tmp_path / "renamed.sqlite").models] == ["the same weights"]


def test_a_line_that_is_no_completion_is_refused_by_its_number(tmp_path: Path, ask: Any, get: Get) -> None:
    request = json.loads(request_key("m", ask(max_tokens=64)).request)
    line = {"model": "m", "request": dict(reversed(request.items())), "index": 0, "completion": {"text": "4"}}
    wrong: list[Any] = [
        "no JSON",
        {**line, "index": -1},
        {**line, "completion": {"text": 4}},
        {**line, "request": {**request, "images": []}},
        {**line, "request": {**request, "sampling": {"top_z": 1}}},
    ]
    text = "\n".join(w if isinstance(w, str) else json.dumps(w) for w in [*wrong, line])
    (tmp_path / "lines.jsonl").write_text(text)
    done = load(tmp_path / "log.sqlite", tmp_path / "lines.jsonl")
    assert (done.added, done.refused) == (1, 5) and [number for number, _ in done.reasons] == [1, 2, 3, 4, 5]
    assert "images" in done.reasons[3][1]
    with CompletionLog(tmp_path / "log.sqlite") as log:
        assert get(log, ask(max_tokens=64)) == {0: "4"}, "the order of the fields does not matter"
    with pytest.raises(LogError, match=r"none\.jsonl"):
        load(tmp_path / "log.sqlite", tmp_path / "none.jsonl")


@pytest.mark.parametrize("count", [2**63, 2**64, 2**100, -1])
def test_a_count_that_cannot_be_is_unknown_in_every_later_run(
    log_path: Path, tmp_path: Path, ask: Any, put: Any, count: int
) -> None:
    with CompletionLog(log_path) as log:
        for seed in range(2):
            put(log, ask(seed=seed), Completion("paid", "stop", count, 7))
        assert log.get(request_key("m", ask(seed=0)), 0, 1) == {0: Completion("paid", "stop", 0, 7)}
    (found,) = stats(log_path).models
    assert 0 <= found.prompt_tokens <= 2 << 40 and found.completion_tokens == 14
    assert export(log_path, tmp_path / "out.jsonl").completions == 2
    assert prune(log_path, finish="stop").completions == 2


def test_completions_that_ended_for_a_reason_are_pruned(log_path: Path, ask: Any, put: Any, get: Get) -> None:
    reasons = ("stop", "length", "other", "content_filter", "stop")
    with CompletionLog(log_path) as log:
        put(log, ask(), *(Completion(f"{i}", reason) for i, reason in enumerate(reasons)))
        put(log, ask(seed=6), Completion("cut", "length"))
    assert prune(log_path, finish="length", model="n").completions == 0
    assert (lambda p: (p.completions, p.requests))(prune(log_path, finish="length")) == (2, 1)
    assert prune(log_path, finish="stop").completions == 2
    with CompletionLog(log_path) as log:
        assert get(log, ask()) == {2: "2", 3: "3"}


def test_a_log_that_sqlite_cannot_read_names_the_repair(filled: Path, ask: Any) -> None:
    connection = sqlite3.connect(filled)
    (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'request'").fetchone()
    connection.close()
    data = bytearray(filled.read_bytes())
    data[(root - 1) * 4096 : root * 4096] = bytes(4096)
    filled.write_bytes(data)
    with pytest.raises(LogError, match=f"gristmill log repair --log {filled}"):
        stats(filled)
    assert check(filled).structure
