from __future__ import annotations

import asyncio
import random

from gristmill.engines.limit import AdaptiveLimit


def _fill(limit: AdaptiveLimit, count: int) -> list[int]:
    async def main() -> list[int]:
        return [await limit.acquire() for _ in range(count)]

    return asyncio.run(main())


def _window(
    limit: AdaptiveLimit, *, seconds: float = 1.0, tokens: int = 0, prompt_tokens: int = 0, congested: int = 0
) -> None:
    """A full window: as many requests as the limit allows, ``congested`` of them refused."""
    for i, ticket in enumerate(_fill(limit, limit.limit)):
        if i < congested:
            limit.release(ticket, congested=True)
        else:
            limit.release(ticket, seconds=seconds, tokens=tokens, prompt_tokens=prompt_tokens)


def test_it_grows_by_one_a_window_up_to_the_set_limit() -> None:
    limit = AdaptiveLimit(6, 3)
    seen = []
    for _ in range(6):
        _window(limit)
        seen.append(limit.limit)
    assert seen == [4, 5, 6, 6, 6, 6]


def test_it_does_not_grow_while_it_is_not_the_limit() -> None:
    limit = AdaptiveLimit(64, 4)
    for _ in range(40):
        (ticket,) = _fill(limit, 1)
        limit.release(ticket, seconds=1.0)
    assert limit.limit == 4


def test_overload_halves_it_once_a_round_trip() -> None:
    limit = AdaptiveLimit(64)
    flight = _fill(limit, 64)
    for ticket in flight[:40]:
        limit.release(ticket, congested=True)
    assert limit.limit == 32, "the other signs of the same flight are not further news"
    for ticket in flight[40:]:
        limit.release(ticket, seconds=1.0)
    _window(limit, congested=32)
    assert limit.limit == 16


def test_it_never_falls_below_one() -> None:
    limit = AdaptiveLimit(4)
    for _ in range(10):
        _window(limit, congested=limit.limit)
    assert limit.limit == 1
    _window(limit)
    assert limit.limit == 2


def test_random_refusals_do_not_starve_a_healthy_server() -> None:
    draw = random.Random(1)
    limit = AdaptiveLimit(128)
    for _ in range(100):
        _window(limit, congested=sum(draw.random() < 0.05 for _ in range(limit.limit)))
    assert limit.limit > 64


def test_it_settles_at_what_the_server_takes() -> None:
    limit = AdaptiveLimit(128)
    for _ in range(60):
        _window(limit, congested=max(0, limit.limit - 20))
    assert 10 <= limit.limit <= 23


def test_a_queue_at_the_server_halves_it_once() -> None:
    limit = AdaptiveLimit(32)
    _window(limit, seconds=2.0, tokens=100)
    _window(limit, seconds=8.0, tokens=100)
    assert limit.limit == 16
    for _ in range(5):
        _window(limit, seconds=8.0, tokens=100)
    assert limit.limit > 16, "fewer requests did not help: the queue was not ours"


def test_longer_answers_are_no_queue() -> None:
    limit = AdaptiveLimit(32)
    _window(limit, seconds=2.0, tokens=100)
    _window(limit, seconds=8.0, tokens=400)
    assert limit.limit == 32


def test_longer_prompts_are_no_queue() -> None:
    limit = AdaptiveLimit(32)
    _window(limit, seconds=1.0, tokens=20, prompt_tokens=100)
    _window(limit, seconds=4.0, tokens=20, prompt_tokens=1000)
    assert limit.limit == 32
    _window(limit, seconds=16.0, tokens=20, prompt_tokens=1000)
    assert limit.limit == 16


def test_shorter_answers_are_no_queue() -> None:
    limit = AdaptiveLimit(32)
    _window(limit, seconds=3.0, tokens=300)
    _window(limit, seconds=2.0, tokens=10)
    assert limit.limit == 32


def test_a_slow_client_is_no_queue() -> None:
    limit = AdaptiveLimit(32)
    _window(limit, seconds=0.05)
    _window(limit, seconds=0.4)
    assert limit.limit == 32


def test_first_come_first_served_and_never_more_than_the_limit() -> None:
    async def main() -> tuple[list[int], int]:
        limit = AdaptiveLimit(3)
        order: list[int] = []
        most = 0

        async def user(i: int) -> None:
            nonlocal most
            ticket = await limit.acquire()
            order.append(i)
            most = max(most, limit.in_flight)
            await asyncio.sleep(0)
            limit.release(ticket, seconds=1.0)

        await asyncio.gather(*(user(i) for i in range(50)))
        assert limit.in_flight == 0
        return order, most

    assert asyncio.run(main()) == (list(range(50)), 3)


def test_a_cancelled_waiter_loses_no_slot() -> None:
    async def main() -> None:
        limit = AdaptiveLimit(1)
        ticket = await limit.acquire()
        waiting = [asyncio.create_task(limit.acquire()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()  # while it waits
        limit.release(ticket, seconds=1.0)
        waiting[1].cancel()  # when the slot has just been handed to it
        assert await asyncio.wait_for(waiting[2], 5) == 1
        assert limit.in_flight == 1

    asyncio.run(main())


def test_lifted_it_lets_everyone_in() -> None:
    async def main() -> None:
        limit = AdaptiveLimit(1)
        await limit.acquire()
        waiting = asyncio.gather(*(limit.acquire() for _ in range(3)))
        await asyncio.sleep(0)
        limit.lift()
        await asyncio.wait_for(waiting, 5)
        await asyncio.wait_for(limit.acquire(), 5)

    asyncio.run(main())
