"""Several runs over one log: each completion is paid for once, and all use the same text."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gristmill.core.engine import Completion, Message, Request, Sampling
from gristmill.core.errors import LogError, RowRejected
from gristmill.engines.log import claims
from gristmill.engines.log.store import CompletionLog, request_key
from gristmill.engines.options import EngineOptions
from gristmill.engines.scripted import ScriptedEngine
from gristmill.engines.session import Session

Ask = Callable[..., Request]
ROWS = 200
AT_ONCE = 8
_NUMBERS = itertools.count()


class Paid(ScriptedEngine):
    """Never gives one text twice; ``paid`` counts what it gave."""

    def __init__(self, seconds: float = 0.002) -> None:
        super().__init__(lambda request, i: f"{next(_NUMBERS)}", concurrency=AT_ONCE)
        self.paid = 0
        self.seconds = seconds

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        self.paid += n
        await asyncio.sleep(self.seconds)
        return await super().generate(request, first=first, n=n)


@contextlib.asynccontextmanager
async def _run(path: Path, engine: ScriptedEngine, read_after: int | None = None) -> AsyncIterator[Session]:
    with CompletionLog(path) as log:
        async with Session(engine, EngineOptions(backoff=0.001), log, read_after=read_after) as session:
            yield session


async def _all(session: Session, ask: Ask, rows: int = ROWS, **sampling: Any) -> list[str]:
    """Every row's texts, ``AT_ONCE`` rows at a time."""
    left, texts = iter(range(rows)), [""] * rows

    async def worker() -> None:
        for i in left:
            texts[i] = " ".join(c.text for c in await session.generate(ask(seed=i, **sampling), n=2))

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return texts


async def _meet(*sessions: Session) -> None:
    """Let these runs, and others that are there, see each other: each commits after the others are known."""
    for _ in range(2):
        for session in sessions:
            await session.generate(Request((Message("user", f"{next(_NUMBERS)}"),), Sampling()))
            await asyncio.sleep(0.02)


def test_two_runs_at_once_pay_for_little_twice_and_use_the_same_texts(log_path: Path, ask: Ask) -> None:
    engines = Paid(), Paid()

    async def main() -> tuple[list[str], list[str], list[str]]:
        async with _run(log_path, engines[0]) as one, _run(log_path, engines[1]) as two:
            first, second = await asyncio.gather(_all(one, ask), _all(two, ask))
        async with _run(log_path, Paid()) as again:
            rerun = await _all(again, ask)
            assert again.stats.completions == 0
        return first, second, rerun

    first, second, rerun = asyncio.run(main())
    assert first == second == rerun
    paid = sum(engine.paid for engine in engines)
    # Without sharing it would be 4 * ROWS. How many are in flight until both have seen each other depends
    # on the machine: 2 more than twice what may be in flight at once were seen.
    assert 2 * ROWS <= paid <= 2 * ROWS + 4 * 2 * AT_ONCE, "samples in flight when the second run began"


def test_a_run_waits_for_what_another_one_is_being_answered(log_path: Path, ask: Ask) -> None:
    slow, quick = Paid(), Paid()

    async def main() -> None:
        async with _run(log_path, slow) as one, _run(log_path, quick) as two:
            await _meet(one, two)
            slow.seconds, slow.paid, quick.paid = 0.2, 0, 0
            asked = asyncio.create_task(one.generate(ask(), n=2))
            await asyncio.sleep(0.05)
            # Samples 2 and 3 are free, and are not waited for.
            found = await two.generate(ask(), n=4)
            assert found[:2] == await asked and (slow.paid, quick.paid) == (2, 2)
            assert two.stats.from_log == 2

    asyncio.run(main())


def test_what_the_other_run_could_not_get_is_asked_for(log_path: Path, ask: Ask) -> None:
    def refused(request: Request, i: int) -> str:
        raise RowRejected("request refused")

    async def main() -> None:
        async with _run(log_path, Paid()) as two, _run(log_path, ScriptedEngine(refused)) as one:
            await _meet(two)
            results = await asyncio.gather(one.generate(ask()), two.generate(ask()), return_exceptions=True)
            assert isinstance(results[0], RowRejected) and isinstance(results[1], list)

    asyncio.run(main())


def test_a_cancelled_claim_is_free_again(log_path: Path, ask: Ask) -> None:
    engine = Paid()

    async def main() -> None:
        async with _run(log_path, engine) as one, _run(log_path, Paid()) as two:
            await _meet(one, two)
            engine.seconds = 60
            claim = asyncio.create_task(one.generate(ask()))
            await asyncio.sleep(0.05)
            waiting = asyncio.create_task(two.generate(ask()))
            await asyncio.sleep(0.1)
            assert not waiting.done()
            claim.cancel()
            await asyncio.wait_for(waiting, 10)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("seconds", "place"),
    [(-6.0, "another container"), (1e6, "another container"), (0.0, None)],
    ids=["silent", "before the machine was started again", "killed"],
)
def test_the_claims_of_a_run_that_is_no_more_are_free(
    log_path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch, seconds: float, place: str | None
) -> None:
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.05)

    async def main() -> None:
        async with _run(log_path, Paid()) as session:
            other = sqlite3.connect(log_path, isolation_level=None)
            there = (time.monotonic() + 3, os.getpid(), place or claims._place())
            other.execute("INSERT INTO owner VALUES (7, ?, ?, ?)", there)
            other.execute("INSERT INTO claim VALUES (?, 0, 7)", (request_key("scripted", ask()).digest,))
            await _meet(session)
            asked = asyncio.create_task(session.generate(ask()))
            await asyncio.sleep(0.1)
            assert not asked.done()
            with subprocess.Popen(["true"]) as ended:
                ended.wait()
            now = time.monotonic() + seconds
            other.execute("UPDATE owner SET seen = ?, pid = ? WHERE id = 7", (now, ended.pid))
            await asyncio.wait_for(asked, 10)
            assert other.execute("SELECT count(*) FROM owner").fetchone() == (1,)
            other.close()

    asyncio.run(main())


def test_what_was_committed_first_is_what_both_use(log_path: Path, ask: Ask, put: Any) -> None:
    with CompletionLog(log_path) as one, CompletionLog(log_path) as two:
        assert put(one, ask(), "one") == [Completion("one")]
        assert put(two, ask(), "two", "next") == [Completion("one"), Completion("next")]


def test_a_log_that_is_closed_leaves_no_claims(log_path: Path, ask: Ask) -> None:
    async def main() -> None:
        with CompletionLog(log_path) as watching:
            async with _run(log_path, Paid()) as session:
                await _all(session, ask, rows=3)
            tables = ("claim", "owner")
            assert [watching._reader.rows(f"SELECT count(*) FROM {t}") for t in tables] == [[(0,)], [(0,)]]

    asyncio.run(main())


def test_a_fresh_run_asks_anew_beside_another(log_path: Path, ask: Ask) -> None:
    async def main() -> None:
        async with _run(log_path, Paid()) as one:
            old = await _all(one, ask, rows=5)
            with CompletionLog(log_path) as log:
                fresh = log.next_generation()
            async with _run(log_path, Paid(), fresh) as two:
                new = await _all(two, ask, rows=5)
                assert not set(old) & set(new) and await _all(two, ask, rows=5) == new
            assert await _all(one, ask, rows=5) == new

    asyncio.run(main())


@pytest.mark.parametrize("how", ["deleted", "renamed", "replaced"])
def test_a_log_that_is_no_longer_there_is_noticed_before_the_next_request(
    log_path: Path, tmp_path: Path, ask: Ask, how: str
) -> None:
    engine = Paid()

    async def main() -> None:
        async with _run(log_path, engine) as session:
            await session.generate(ask(seed=1))
            if how == "deleted":
                log_path.unlink()
            else:
                log_path.rename(tmp_path / "elsewhere.sqlite")
            if how == "replaced":
                CompletionLog(log_path).close()
            with pytest.raises(LogError, match=r"deleted, renamed or replaced.*Put the file back"):
                await session.generate(ask(seed=2))

    asyncio.run(main())
    assert engine.paid == 1


def test_an_answer_that_a_lost_log_cannot_keep_is_told(log_path: Path, ask: Ask) -> None:
    async def main() -> None:
        with CompletionLog(log_path) as log:
            log_path.unlink()
            with pytest.raises(LogError, match="deleted, renamed or replaced"):
                await log.put(request_key("m", ask()), 0, [Completion("lost")])

    asyncio.run(main())
