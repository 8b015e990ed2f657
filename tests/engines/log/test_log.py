from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gristmill.core.engine import Completion, Message, Request, Sampling
from gristmill.core.errors import LogError
from gristmill.engines.log.file import APPLICATION_ID
from gristmill.engines.log.store import CompletionLog, request_key

Ask = Callable[..., Request]


def _put(log: CompletionLog, request: Request, *texts: str, first: int = 0, after: int | None = None) -> None:
    asyncio.run(log.put(request_key("m", request), first, [Completion(t) for t in texts], after))


def _get(
    log: CompletionLog, request: Request, first: int = 0, n: int = 1, after: int | None = None
) -> list[str]:
    return [c.text for _, c in sorted(log.get(request_key("m", request), first, n, after).items())]


def _fill(path: Path, ask: Ask, rows: int = 50) -> None:
    with CompletionLog(path) as log:
        for i in range(rows):
            _put(log, ask(seed=i), "x" * 500)


def _child(code: str, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)], stdout=subprocess.PIPE, text=True
    )


def test_what_was_put_is_read_after_reopening(log_path: Path, ask: Ask) -> None:
    with CompletionLog(log_path) as log:
        _put(log, ask(), "a", "b\0 \N{BOMB}", first=3)
    with CompletionLog(log_path) as log:
        assert _get(log, ask(), 0, 10) == ["a", "b\0 \N{BOMB}"]
        assert _get(log, ask(), 4, 1) == ["b\0 \N{BOMB}"]
        assert _get(log, ask(), 0, 3) == []
    assert [p.name for p in log_path.parent.iterdir()] == [log_path.name], "no journal is left behind"


@pytest.mark.parametrize(
    "other",
    [
        Request((Message("user", "q"),), Sampling(), 2),
        Request((Message("user", "q"),), Sampling(), None),
        Request((Message("user", "q"),), Sampling(max_tokens=2), 1),
        Request((Message("user", "q"),), Sampling(), 1, "It"),
        Request((Message("user", "r"),), Sampling(), 1),
        Request((Message("system", "q"),), Sampling(), 1),
    ],
)
def test_any_change_of_the_request_is_another_key(other: Request) -> None:
    request = Request((Message("user", "q"),), Sampling(), 1)
    assert request_key("m", request).digest != request_key("m", other).digest
    assert request_key("m", request).digest != request_key("n", request).digest
    assert request_key("m", request) == request_key("m", Request((Message("user", "q"),), Sampling(), 1))


def test_the_key_is_the_same_for_ever() -> None:
    request = Request((Message("user", "q"),), Sampling(temperature=0.5), 1)
    key = request_key("m", request)
    assert (
        key.request == '{"messages":[{"role":"user","content":"q"}],"sampling":{"temperature":0.5},"seed":1}'
    )
    assert key.digest.hex() == "1ec1cfc750a0d0407d0b48216790d5d2"


def test_the_first_answer_stays_unless_a_fresh_run_replaces_it(log_path: Path, ask: Ask) -> None:
    with CompletionLog(log_path) as log:
        _put(log, ask(), "old")
        _put(log, ask(), "late")
        assert _get(log, ask()) == ["old"]
        after = log.next_generation()
        assert _get(log, ask(), after=after) == []
        _put(log, ask(), "new", after=after)
        assert _get(log, ask()) == ["new"]


def test_puts_that_wait_together_are_one_commit(log_path: Path, ask: Ask) -> None:
    async def main(log: CompletionLog) -> None:
        puts = (log.put(request_key("m", ask(seed=i)), 0, [Completion("x")]) for i in range(2000))
        await asyncio.gather(*puts)

    with CompletionLog(log_path) as log:
        seen: list[str] = []
        log._writer.set_trace_callback(seen.append)
        asyncio.run(main(log))
        assert 1 <= sum(s == "COMMIT" for s in seen) < 200
        assert all(_get(log, ask(seed=i)) == ["x"] for i in range(2000))


def test_a_killed_process_keeps_every_put_that_returned(log_path: Path) -> None:
    code = """
        import asyncio, sys
        from gristmill.core.engine import *
        from gristmill.engines.log.store import CompletionLog, request_key
        log = CompletionLog(sys.argv[1])
        async def put(worker):
            for i in range(worker, 10**9, 8):
                request = Request((Message("user", str(i)),), Sampling())
                await log.put(request_key("m", request), 0, [Completion("x" * 300)])
                print(i, flush=True)
        async def main():
            await asyncio.gather(*(put(worker) for worker in range(8)))
        asyncio.run(main())
    """
    for lines in (1, 40, 333):
        with _child(code, log_path) as child:
            assert child.stdout is not None
            told = [int(child.stdout.readline()) for _ in range(lines)]
            child.send_signal(signal.SIGKILL)
            told += [int(line) for line in child.stdout.read().split("\n")[:-1]]
        assert child.returncode == -signal.SIGKILL
        with CompletionLog(log_path) as log:
            for i in told:
                assert _get(log, Request((Message("user", str(i)),), Sampling())) == ["x" * 300]
            assert log._reader.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def _write(path: Path, who: int, done: multiprocessing.Queue[str]) -> None:
    async def main() -> None:
        with CompletionLog(path) as log:
            for i in range(200):
                request = Request((Message("user", str(i)),), Sampling())
                await log.put(request_key("m", request), who, [Completion(f"{who}")])
                await log.put(request_key("m", request), 9, [Completion("shared")])

    asyncio.run(main())
    done.put("ok")


def test_several_processes_create_and_share_one_log(log_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    done: multiprocessing.Queue[str] = context.Queue()
    writers = [context.Process(target=_write, args=(log_path, who, done)) for who in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [w.exitcode for w in writers] == [0, 0, 0]
    with CompletionLog(log_path) as log:
        for i in range(200):
            assert _get(log, Request((Message("user", str(i)),), Sampling()), 0, 10) == [
                "0",
                "1",
                "2",
                "shared",
            ]


def _refused(path: Path, says: str) -> None:
    """Opening is refused, and the directory is left as it was, byte for byte."""
    before = {p.name: p.read_bytes() for p in path.parent.iterdir()}
    with pytest.raises(LogError, match=says) as caught:
        CompletionLog(path)
    assert str(path) in str(caught.value) and caught.value.remedy
    assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == before


def test_a_torn_log_is_refused_and_left_alone(log_path: Path, ask: Ask) -> None:
    _fill(log_path, ask)
    whole = log_path.read_bytes()
    for size in (len(whole) // 2, len(whole) - 1, 4096, 60):
        log_path.write_bytes(whole[:size])
        _refused(log_path, "truncated")
    log_path.write_bytes(whole)
    with CompletionLog(log_path) as log:
        assert _get(log, ask(seed=49)) == ["x" * 500]


def test_damage_in_the_middle_is_told_to_who_meets_it(log_path: Path, ask: Ask) -> None:
    _fill(log_path, ask, rows=400)
    data = bytearray(log_path.read_bytes())
    data[4096:] = b"\x5a" * (len(data) - 4096)
    log_path.write_bytes(data)
    with CompletionLog(log_path) as log:
        with pytest.raises(LogError, match="malformed"):
            _get(log, ask(seed=3))
        with pytest.raises(LogError, match="malformed"):
            _put(log, ask(seed=3), "x")


def test_foreign_files_are_refused_and_left_alone(tmp_path: Path, ask: Ask) -> None:
    text = tmp_path / "a" / "notes.txt"
    text.parent.mkdir()
    text.write_text("dear diary\n" * 100)
    _refused(text, "not an SQLite database")
    foreign = tmp_path / "b" / "photos.db"
    foreign.parent.mkdir()
    connection = sqlite3.connect(foreign)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE photo (id)")
    connection.close()
    _refused(foreign, "another application")


def test_a_log_of_a_newer_version_is_refused(log_path: Path, ask: Ask) -> None:
    _fill(log_path, ask, rows=1)
    connection = sqlite3.connect(log_path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    _refused(log_path, "version 99")


def test_an_empty_file_becomes_a_log(log_path: Path, ask: Ask) -> None:
    log_path.parent.mkdir()
    log_path.touch()
    _fill(log_path, ask, rows=1)
    connection = sqlite3.connect(log_path)
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    connection.close()


def test_a_directory_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="directory"):
        CompletionLog(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(LogError, match=r"Not a directory|File exists"):
        CompletionLog(tmp_path / "file" / "log.sqlite")


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that another user may enter (pytest's own are closed to them)."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user whom permissions stop")
@pytest.mark.parametrize(("mode", "says"), [(0o000, "Permission denied"), (0o444, "readonly")])
def test_permissions_are_respected(open_directory: Path, ask: Ask, mode: int, says: str) -> None:
    path = open_directory / "log.sqlite"
    _fill(path, ask, rows=1)
    path.chmod(mode)
    code = """
        import asyncio, os, sys
        from gristmill.core.errors import LogError
        from gristmill.engines.log.store import CompletionLog
        os.setuid(65534)
        try:
            CompletionLog(sys.argv[1])
        except LogError as error:
            print(error)
    """
    with _child(code, path) as child:
        output, _ = child.communicate()
    assert says in output and "log.sqlite" in output
    assert [p.name for p in open_directory.iterdir()] == ["log.sqlite"]


def test_a_full_disk_reaches_the_caller_and_the_log_survives(log_path: Path, ask: Ask) -> None:
    code = """
        import asyncio, resource, sys
        from gristmill.core.engine import *
        from gristmill.core.errors import LogError
        from gristmill.engines.log.store import CompletionLog, request_key
        log = CompletionLog(sys.argv[1])
        key = lambda i: request_key("m", Request((Message("user", str(i)),), Sampling()))
        async def main():
            await log.put(key(0), 0, [Completion("kept")])
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, -1))
            puts = [log.put(key(i), 0, [Completion("x" * 1000)]) for i in range(1, 2000)]
            print({type(r).__name__ for r in await asyncio.gather(*puts, return_exceptions=True)})
            try:  # of a new key: one of those above may have been committed, and is then not written again
                await log.put(key(3000), 0, [Completion("x" * 300_000)])
            except LogError as error:
                print(error)
            resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
            await log.put(key(2), 5, [Completion("again")])
        asyncio.run(main())
        log.close()
    """
    with _child(code, log_path) as child:
        output, _ = child.communicate()
    assert child.returncode == 0 and "LogError" in output and "disk" in output
    with CompletionLog(log_path) as log:
        assert log._reader.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert _get(log, Request((Message("user", "0"),), Sampling())) == ["kept"]
        assert _get(log, Request((Message("user", "2"),), Sampling()), 5) == ["again"]


def test_another_program_holds_the_lock(log_path: Path, ask: Ask) -> None:
    with CompletionLog(log_path, busy_seconds=0.1) as log:
        other = sqlite3.connect(log_path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogError, match=r"locked for 0\.1 s"):
            _put(log, ask(), "a")
        assert _get(log, ask()) == [], "reading goes on"
        with pytest.raises(LogError, match="locked"):
            CompletionLog(log_path, busy_seconds=0.1)
        other.execute("ROLLBACK")
        other.close()
        _put(log, ask(), "b")
        assert _get(log, ask()) == ["b"]


def test_a_closed_log_says_so(log_path: Path, ask: Ask) -> None:
    log = CompletionLog(log_path)
    log.close()
    log.close()
    with pytest.raises(LogError, match="closed"):
        _put(log, ask(), "a")


def test_closing_writes_what_is_queued(log_path: Path, ask: Ask) -> None:
    async def main(log: CompletionLog) -> None:
        puts = [
            asyncio.ensure_future(log.put(request_key("m", ask(seed=i)), 0, [Completion("x")]))
            for i in range(99)
        ]
        await asyncio.sleep(0)
        log.close()
        await asyncio.gather(*puts)

    asyncio.run(main(CompletionLog(log_path)))
    with CompletionLog(log_path) as log:
        assert all(_get(log, ask(seed=i)) == ["x"] for i in range(99))


def test_a_cancelled_put_harms_no_other(log_path: Path, ask: Ask) -> None:
    async def main(log: CompletionLog) -> None:
        puts = [
            asyncio.ensure_future(log.put(request_key("m", ask(seed=i)), 0, [Completion("x")]))
            for i in range(9)
        ]
        await asyncio.sleep(0)
        puts[4].cancel()
        results = await asyncio.gather(*puts, return_exceptions=True)
        assert [type(r) for r in results] == [list] * 4 + [asyncio.CancelledError] + [list] * 4

    with CompletionLog(log_path) as log:
        asyncio.run(main(log))
