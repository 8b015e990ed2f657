"""The pace of requests: what a recipe says, what a server says, and what is learned from refusals."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest
from engines.calls import Ask, texts
from odd_server import Odd

from gristmill.core.engine import Completion
from gristmill.core.errors import RunStopped
from gristmill.engines.log.store import CompletionLog
from gristmill.engines.openai import OpenAI
from gristmill.engines.openai.failures import duration, hints, wait_of
from gristmill.engines.pace import Hint, Pace
from gristmill.engines.session import Session, Stats


def asked(options: OpenAI, log: CompletionLog, ask: Ask, rows: int) -> tuple[list[Any], Stats]:
    """Rows through a session: completions or errors, and the counters."""

    async def main() -> tuple[list[Any], Stats]:
        async with Session(options.open(), options, log) as session:
            calls = (session.generate(ask(seed=i)) for i in range(rows))
            return await asyncio.gather(*calls, return_exceptions=True), session.stats

    return asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize("name", ["limited-in-words", "limited-with-headers"])
def test_a_limiter_costs_no_row_and_few_requests(odd: Odd, log: CompletionLog, ask: Ask, name: str) -> None:
    results, stats = asked(OpenAI(base_url=odd.url(name), model="m", tries=1), log, ask, 60)
    assert all(texts(r) == ["4"] for r in results), "none is lost, though no request has a second try"
    assert stats.requests < 1.4 * 60, "most of these are from before the limit was known"


def test_a_limiter_that_says_nothing_is_learned(odd: Odd, log: CompletionLog, ask: Ask) -> None:
    results, stats = asked(OpenAI(base_url=odd.url("limited"), model="m", tries=1), log, ask, 50)
    assert all(texts(r) == ["4"] for r in results)
    assert 50 < stats.requests < 1.6 * 50


def test_a_limit_that_is_given_is_kept(odd: Odd, log: CompletionLog, ask: Ask) -> None:
    options = OpenAI(base_url=odd.url("plain"), model="m", requests_per_minute=1200)
    started = time.monotonic()
    _, stats = asked(options, log, ask, 40)
    assert stats.requests == 40 and time.monotonic() - started >= 0.9, "20 at once, then 20 a second"


def test_a_limit_of_tokens_counts_what_answers_took(ask: Ask) -> None:
    async def main() -> float:
        pace = Pace(tokens_per_minute=60_000, ramp=False)
        await pace.turn(900)
        pace.answered(900, [Completion("", "stop", 400, 1000)])  # it was more than was thought
        started = time.monotonic()
        await pace.turn(100)
        return time.monotonic() - started

    assert 0.4 < asyncio.run(main()) < 1.5, "400 overdrawn and 100 to send, at 1,000 a second"


def test_what_a_server_says_is_left_is_not_exceeded() -> None:
    async def main() -> list[float]:
        pace = Pace(ramp=False)
        started = time.monotonic()
        pace.told(Hint("requests", 2, 0.3))
        times = []
        for _ in range(3):
            await pace.turn(1)
            times.append(time.monotonic() - started)
        return times

    times = asyncio.run(main())
    assert times[1] < 0.25 and times[2] >= 0.29


def test_single_refusals_at_random_do_not_bring_a_server_to_a_stop() -> None:
    async def main() -> Pace:
        pace = Pace(ramp=False)
        for _ in range(400):
            await pace.turn(1)
            pace.answered(1, ())
        await asyncio.sleep(1)  # so 400 a second are thought to be what the server can do
        for i in range(120):
            sent = await pace.turn(1)
            if i % 10 == 9:
                pace.refused(1, sent, 0.0)
            else:
                pace.answered(1, ())
        return pace

    pace = asyncio.run(main())
    assert pace._learned is None, "a rate that is not the cause of refusals is not kept"


def test_a_daily_limit_stops_the_run(odd: Odd, log: CompletionLog, ask: Ask) -> None:
    results, stats = asked(OpenAI(base_url=odd.url("limited-a-day"), model="m", concurrency=1), log, ask, 20)
    stops = [r for r in results if isinstance(r, RunStopped)]
    assert len(stops) == 17 and stats.requests == 4, (
        "those that were answered are in the log, and none is lost"
    )
    assert "Daily limit reached" in str(stops[0]) and "1:00:00" in str(stops[0])


def test_a_wait_in_milliseconds_is_the_more_exact_one(odd: Odd, log: CompletionLog, ask: Ask) -> None:
    started = time.monotonic()
    results, _ = asked(OpenAI(base_url=odd.url("milliseconds"), model="m"), log, ask, 1)
    assert texts(results[0]) == ["4"] and 0.04 <= time.monotonic() - started < 0.9


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0), ("6m0s", 360.0), ("20ms", 0.02), ("1.5 seconds", 1.5), ("1h2m3.5s", 3723.5),
        ("3 milliseconds", 0.003), ("-3", 0.0), ("nan", None), ("inf", None), ("1e400", None), ("soon", None),
        ("", None), ("1e9", 366 * 86400.0),
    ],
)  # fmt: skip
def test_times_as_servers_write_them(text: str, seconds: float | None) -> None:
    assert duration(text) == (seconds if seconds is None else pytest.approx(seconds))


def test_moments_as_servers_write_them() -> None:
    now = time.time()
    for text in (
        f"{now + 60:.0f}",
        f"{(now + 60) * 1000:.0f}",
        time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + 60)),
    ):
        assert duration(text) == pytest.approx(60, abs=2)


def test_headers_of_limits() -> None:
    assert hints({"content-type": "x"}) == []
    azure = {"x-ratelimit-remaining-tokens": "-1", "x-ratelimit-reset-tokens": "0"}
    assert hints(azure) == [], "-1 is no limit"
    anthropic = {
        "anthropic-ratelimit-tokens-remaining": "12",
        "anthropic-ratelimit-tokens-reset": "30s",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1s",
    }
    assert hints(anthropic) == [Hint("requests", 0, 1.0), Hint("tokens", 12, 30.0)]
    assert wait_of(anthropic) == 1.0
    assert wait_of({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "9"}) == 9.0


def refusals_of(pace: Pace, pattern: list[bool]) -> list[float]:
    """One request after the other, refused without a time to wait where ``True``; the holds after each."""

    async def main() -> list[float]:
        held = []
        for refused in pattern:
            sent = await pace.turn(0)
            if refused:
                pace.refused(0, sent, None)
            else:
                pace.answered(0, [Completion("")])
            held.append(pace.held)
            if pace.held:
                break
        return held

    return asyncio.run(main())


def test_a_few_refusals_at_random_set_no_rate() -> None:
    draw = random.Random(0)
    pattern = [draw.random() < 0.04 for _ in range(3_000)]
    assert sum(pattern) > 90
    assert not any(refusals_of(Pace(ramp=False), pattern))


@pytest.mark.parametrize(
    ("pattern", "least", "most"),
    [
        ([True] * 20, 6, 8),  # an eighth of the last dozens
        ([i % 10 == 9 for i in range(4_000)], 900, 1_600),  # one in ten, for a thousand requests
    ],
)
def test_a_share_of_refusals_that_lasts_is_a_limit(pattern: list[bool], least: int, most: int) -> None:
    held = refusals_of(Pace(ramp=False), pattern)
    assert held[-1] > 0 and least <= len(held) <= most
