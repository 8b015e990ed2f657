"""When a session stops the whole run, and when it does not."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from engines.calls import QUICK, Ask, Calls, run_in, texts

from gristmill.core.errors import (
    RequestRefusedError,
    RowRejected,
    RunStopped,
    ServerRefusedError,
    TransientError,
)
from gristmill.engines.log.store import CompletionLog
from gristmill.engines.openai import OpenAI
from gristmill.engines.options import EngineOptions
from gristmill.engines.session import Session, Stats


def test_a_long_retry_after_stops_the_run_and_names_the_hour(log: CompletionLog, ask: Ask) -> None:
    engine = Calls(fail=lambda call: TransientError("quota of the day", retry_after=3600, cause="limited"))
    session = Session(engine, QUICK, log)
    before = datetime.now()
    with pytest.raises(RunStopped, match="quota of the day") as caught:
        run_in(session, lambda: session.generate(ask()))
    hours = {f"{moment + timedelta(hours=1):%H:%M}" for moment in (before, datetime.now())}
    assert any(hour in caught.value.remedy and hour in caught.value.message for hour in hours)
    assert len(engine.asked) == 1 and "1:00:00" in caught.value.message


def test_refusals_for_the_pace_use_up_no_try(log: CompletionLog, ask: Ask) -> None:
    refusal = partial(TransientError, "slowly", retry_after=0.001, cause="limited")
    engine = Calls(fail=lambda call: refusal() if call < 9 else None)
    session = Session(engine, EngineOptions(tries=2, backoff=0.001), log)
    assert texts(run_in(session, lambda: session.generate(ask()))) == ["5/0"]
    assert session.stats.retries == 9 and session._pace._learned is not None


def test_a_server_that_refuses_everybody_stops_the_run_at_the_first(log: CompletionLog, ask: Ask) -> None:
    session = Session(
        engine := Calls(fail=lambda call: ServerRefusedError("HTTP 401: bad key", remedy="Set it.")),
        QUICK,
        log,
    )

    async def main() -> None:
        for seed in range(5):
            with pytest.raises(RunStopped, match="bad key") as caught:
                await session.generate(ask(seed=seed))
            assert "Set it." in caught.value.remedy and "same command again" in caught.value.remedy

    run_in(session, main)
    assert len(engine.asked) == 1


def test_refusals_of_single_prompts_never_stop_therun_in(log: CompletionLog, ask: Ask) -> None:
    refusal = partial(RequestRefusedError, "too long", own=True)
    engine = Calls(fail=lambda call: refusal() if call < 250 else None)
    session = Session(engine, QUICK, log)

    async def main() -> Any:
        requests = (session.generate(ask(seed=i)) for i in range(260))
        return await asyncio.gather(*requests, return_exceptions=True)

    results = run_in(session, main)
    assert sum(isinstance(r, RowRejected) for r in results) == 250
    assert sum(isinstance(r, list) for r in results) == 10


def test_a_server_that_falls_silent_stops_the_run_within_three_time_outs(
    wire: Any, log: CompletionLog, ask: Ask
) -> None:
    async def handler(body: dict[str, Any], count: int) -> bytes:
        if count >= 20:
            await asyncio.sleep(60)
        answer: bytes = wire.http(wire.chat("4"))
        return answer

    async def main() -> tuple[list[Any], float]:
        async with wire.server(handler) as server:
            options = OpenAI(base_url=server.url, model="m", concurrency=8, request_timeout=0.6, backoff=0.05)
            async with Session(options.open(), options, log) as session:
                started = time.monotonic()
                requests = (session.generate(ask(seed=i)) for i in range(60))
                results = await asyncio.gather(*requests, return_exceptions=True)
                return results, time.monotonic() - started

    results, seconds = asyncio.run(main())
    assert sum(isinstance(r, list) for r in results) == 20
    assert sum(isinstance(r, RunStopped) for r in results) == 40, "no row is lost to it"
    assert seconds < 3 * 0.6 + 1.0


def test_one_request_that_finds_no_server_stops_the_run_instead_of_losing_its_row(
    log: CompletionLog, ask: Ask
) -> None:
    options = OpenAI(base_url="http://127.0.0.1:9/v1", model="m", tries=3, backoff=0.001)
    errors, _ = _storm(options, log, ask, 1)
    assert isinstance(errors[0], RunStopped) and "127.0.0.1:9" in str(errors[0])


def _storm(options: OpenAI, log: CompletionLog, ask: Ask, rows: int) -> tuple[list[Any], Stats]:
    async def main() -> tuple[list[Any], Stats]:
        async with Session(options.open(), options, log) as session:
            requests = (session.generate(ask(seed=i)) for i in range(rows))
            return await asyncio.gather(*requests, return_exceptions=True), session.stats

    return asyncio.run(asyncio.wait_for(main(), 30))


def test_a_wrong_key_stops_therun_in(wire: Any, log: CompletionLog, ask: Ask) -> None:
    async def main() -> tuple[list[Any], int]:
        async with wire.server(lambda b, c: wire.http({"error": {"message": "bad key"}}, 401)) as server:
            options = OpenAI(base_url=server.url, model="m", concurrency=4)
            async with Session(options.open(), options, log) as session:
                requests = (session.generate(ask(seed=i)) for i in range(300))
                return await asyncio.gather(*requests, return_exceptions=True), len(server.bodies)

    errors, sent = asyncio.run(main())
    assert sent <= 4, "the first, and what was in flight"
    stops = [e for e in errors if isinstance(e, RunStopped)]
    assert len(stops) == 300, "no row is lost to it"
    text = str(stops[0])
    assert "bad key" in text and "again" in text and "\n" not in text


def test_a_dead_server_stops_the_run_in_seconds(log: CompletionLog, ask: Ask) -> None:
    options = OpenAI(base_url="http://127.0.0.1:9/v1", model="m", concurrency=64)
    errors, stats = _storm(options, log, ask, 300)
    assert all(isinstance(e, RunStopped) for e in errors), "no row is lost to it"
    assert stats.requests <= 84 and stats.seconds < 10


def test_a_server_that_dies_under_a_slow_run_costs_no_row(log: CompletionLog, ask: Ask) -> None:
    engine = Calls(fail=lambda call: TransientError("refused") if call >= 50 else None)
    engine.concurrency = 4
    session = Session(engine, EngineOptions(backoff=0.001), log)
    outcomes: list[type[BaseException] | None] = []

    async def main() -> None:
        rows = iter(range(100))

        async def worker() -> None:
            for i in rows:
                try:
                    await session.generate(ask(seed=i))
                    outcomes.append(None)
                except (RowRejected, RunStopped) as error:
                    outcomes.append(type(error))

        await asyncio.gather(*(worker() for _ in range(4)))

    run_in(session, main)
    assert outcomes.count(None) == 50 and outcomes.count(RunStopped) == 50


def test_those_who_wait_to_try_again_are_told_at_once(log: CompletionLog, ask: Ask) -> None:
    engine = Calls(
        fail=lambda call: TransientError("busy", retry_after=60) if call == 0 else RequestRefusedError("no")
    )
    session = Session(engine, EngineOptions(), log)

    async def main() -> Any:
        return await asyncio.gather(
            *(session.generate(ask(seed=i)) for i in range(40)), return_exceptions=True
        )

    errors = asyncio.run(asyncio.wait_for(main(), 20))
    assert isinstance(errors[0], RunStopped)
