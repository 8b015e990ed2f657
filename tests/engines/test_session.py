from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from engines.calls import QUICK, Ask, Calls, run_in, texts

from gristmill.core.engine import Completion, Request
from gristmill.core.errors import (
    LogError,
    RequestRefusedError,
    RowRejected,
    TransientError,
)
from gristmill.engines.log.store import CompletionLog
from gristmill.engines.openai import OpenAI
from gristmill.engines.options import EngineOptions
from gristmill.engines.scripted import ScriptedEngine
from gristmill.engines.session import Session


@pytest.mark.parametrize(
    ("many", "asked"), [(True, [(2, 2), (6, 2)]), (False, [(2, 1), (3, 1), (6, 1), (7, 1)])]
)
def test_only_what_the_log_lacks_is_asked_for(
    log: CompletionLog, ask: Ask, many: bool, asked: list[tuple[int, int]]
) -> None:
    run_in(before := Session(Calls(), QUICK, log), lambda: before.generate(ask(), first=4, n=2))
    run_in(before, lambda: before.generate(ask(), first=0, n=2))
    engine = Calls(many=many)
    session = Session(engine, QUICK, log)
    completions = run_in(session, lambda: session.generate(ask(), first=0, n=8))
    assert texts(completions) == [f"5/{i}" for i in range(8)]
    assert sorted(engine.asked) == asked
    assert (session.stats.from_log, session.stats.completions) == (4, 4)
    run_in(session, lambda: session.generate(ask(), first=0, n=8))
    assert sorted(engine.asked) == asked, "a second time nothing is asked for"


def test_a_fresh_session_ignores_what_is_older_and_reads_its_own(log: CompletionLog, ask: Ask) -> None:
    run_in(old := Session(Calls(), QUICK, log), lambda: old.generate(ask(), n=2))
    engine = Calls()
    fresh = Session(engine, QUICK, log, read_after=log.next_generation())
    for _ in range(2):
        run_in(fresh, lambda: fresh.generate(ask(), n=2))
    assert engine.asked == [(0, 2)]


def test_the_same_sample_wanted_twice_at_once_is_paid_once(log: CompletionLog, ask: Ask) -> None:
    engine = Calls()
    session = Session(engine, QUICK, log)

    async def main() -> list[list[Completion]]:
        wanted = [(0, 2), (0, 2), (1, 3), (0, 4), (5, 1)]
        return list(await asyncio.gather(*(session.generate(ask(), first=f, n=n) for f, n in wanted)))

    results = run_in(session, main)
    assert [texts(r) for r in results] == [
        ["5/0", "5/1"],
        ["5/0", "5/1"],
        ["5/1", "5/2", "5/3"],
        ["5/0", "5/1", "5/2", "5/3"],
        ["5/5"],
    ]
    assert sorted(engine.asked) == [(0, 2), (2, 2), (5, 1)]
    assert session.stats.completions == 5 and not session._flying


def test_who_waits_for_another_shares_its_error_but_not_its_cancellation(
    log: CompletionLog, ask: Ask
) -> None:
    refusing = Session(Calls(fail=lambda call: RequestRefusedError("no")), QUICK, log)

    async def both() -> list[Any]:
        return await asyncio.gather(*(refusing.generate(ask()) for _ in range(2)), return_exceptions=True)

    errors = run_in(refusing, both)
    assert [type(e) for e in errors] == [RowRejected, RowRejected] and errors[0] is not errors[1]
    assert refusing.stats.requests == 1

    session = Session(Calls(), QUICK, log)

    async def cancel() -> list[Completion]:
        first = asyncio.create_task(session.generate(ask()))
        await asyncio.sleep(0)
        second = asyncio.create_task(session.generate(ask()))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert texts(run_in(session, cancel)) == ["5/0"]

    async def cancel_who_waits() -> list[Completion]:
        first = asyncio.create_task(session.generate(ask(seed=6)))
        await asyncio.sleep(0)
        second = asyncio.create_task(session.generate(ask(seed=6)))
        await asyncio.sleep(0)
        second.cancel()
        return await first

    assert texts(run_in(session, cancel_who_waits)) == ["6/0"]


def test_failures_are_tried_again_and_counted(log: CompletionLog, ask: Ask) -> None:
    engine = Calls(fail=lambda call: TransientError("not yet") if call < 3 else None)
    session = Session(engine, QUICK, log)
    assert texts(run_in(session, lambda: session.generate(ask()))) == ["5/0"]
    stats = session.stats
    assert (stats.requests, stats.retries, stats.failures, stats.completions) == (4, 3, 3, 1)
    assert (stats.prompt_tokens, stats.completion_tokens, stats.in_flight, stats.limit) == (5, 1, 0, 64)
    assert stats.seconds > 0


def test_tries_are_finite_and_the_run_goes_on(log: CompletionLog, ask: Ask) -> None:
    engine = Calls(fail=lambda call: TransientError("broken") if call < 3 else None)
    session = Session(engine, EngineOptions(tries=3, backoff=0.001), log)

    async def main() -> None:
        with pytest.raises(RowRejected, match=r"broken.*3 tries") as caught:
            await session.generate(ask())
        assert caught.value.reason == "request failed"
        assert texts(await session.generate(ask(seed=6))) == ["6/0"]

    run_in(session, main)


def test_a_refusal_is_not_tried_again(log: CompletionLog, ask: Ask) -> None:
    session = Session(engine := Calls(fail=lambda call: RequestRefusedError("too long")), QUICK, log)
    with pytest.raises(RowRejected, match="too long") as caught:
        run_in(session, lambda: session.generate(ask()))
    assert caught.value.reason == "request refused" and len(engine.asked) == 1


def test_when_one_of_several_requests_fails_the_others_are_kept(log: CompletionLog, ask: Ask) -> None:
    session = Session(
        Calls(many=False, fail=lambda call: RequestRefusedError("no") if call == 0 else None), QUICK, log
    )
    with pytest.raises(RowRejected):
        run_in(session, lambda: session.generate(ask(), n=4))
    again = Session(engine := Calls(many=False), QUICK, log)
    run_in(again, lambda: again.generate(ask(), n=4))
    assert engine.asked == [(0, 1)]


def test_an_engine_that_gives_too_few_is_not_believed(log: CompletionLog, ask: Ask) -> None:
    class Short(Calls):
        async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
            return (await super().generate(request, first=first, n=n))[:-1]

    session = Session(Short(), QUICK, log)
    with pytest.raises(RowRejected, match="1 of 2 completions"):
        run_in(session, lambda: session.generate(ask(), n=2))


def test_text_that_no_file_can_hold_rejects_its_row_only(log: CompletionLog, ask: Ask) -> None:
    session = Session(ScriptedEngine(lambda request, i: "\ud800"), QUICK, log)
    for request in (ask("\ud800"), ask("fine")):
        with pytest.raises(RowRejected) as caught:
            run_in(session, partial(session.generate, request))
        assert caught.value.reason == "invalid text"


def test_no_more_in_flight_than_the_limit_and_no_slot_held_while_waiting(
    log: CompletionLog, ask: Ask
) -> None:
    class Counting(Calls):
        now = most = 0

        async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                return await super().generate(request, first=first, n=n)
            finally:
                self.now -= 1

    engine = Counting(fail=lambda call: TransientError("wait", retry_after=0.3) if call < 3 else None)
    engine.concurrency = 3
    session = Session(engine, QUICK, log)
    order: list[int] = []

    async def one(seed: int) -> None:
        await session.generate(ask(seed=seed))
        order.append(seed)

    async def main() -> None:
        await asyncio.gather(*(one(seed) for seed in range(30)))

    run_in(session, main)
    assert engine.most == 3
    assert sorted(order[-3:]) == [0, 1, 2], "those told to wait come last, and stopped nobody"


def test_retry_after_is_honoured_over_http(wire: Any, log: CompletionLog, ask: Ask) -> None:
    times: list[float] = []

    def handler(body: dict[str, Any], count: int) -> bytes:
        times.append(time.monotonic())
        answer: bytes = wire.http({}, 429, Retry_After="1") if count == 0 else wire.http(wire.chat("4"))
        return answer

    async def main() -> list[Completion]:
        async with wire.server(handler) as server:
            options = OpenAI(base_url=server.url, model="m", backoff=0.001)
            async with Session(options.open(), options, log) as session:
                return await session.generate(ask())

    assert texts(asyncio.run(main())) == ["4"]
    assert times[1] - times[0] >= 1.0


def test_a_log_that_fails_stops_the_session(log: CompletionLog, ask: Ask) -> None:
    engine = Calls()
    engine.concurrency = 2
    session = Session(engine, QUICK, log)
    log._writer.execute("PRAGMA max_page_count = 5")

    async def main() -> Any:
        requests = (session.generate(ask("x" * 20_000, seed=i)) for i in range(50))
        return await asyncio.gather(*requests, return_exceptions=True)

    errors = run_in(session, main)
    assert all(isinstance(e, LogError) and "full" in str(e) for e in errors)
    assert len(engine.asked) <= 4, "nothing more is paid for than was in flight"


@pytest.mark.parametrize("concurrency", [1, 16])
def test_concurrency_changes_no_answer(log_path: Path, ask: Ask, concurrency: int) -> None:
    engine = ScriptedEngine(
        lambda request, i: f"{request.seed}/{i}", latency=0.001, failure_rate=0.2, concurrency=concurrency
    )
    with CompletionLog(log_path) as log:
        session = Session(engine, EngineOptions(backoff=0.0, tries=20), log)

        async def main() -> list[list[Completion]]:
            return list(await asyncio.gather(*(session.generate(ask(seed=s), n=2) for s in range(60))))

        assert [texts(r) for r in run_in(session, main)] == [[f"{s}/0", f"{s}/1"] for s in range(60)]
