from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator

import pytest

from gristmill.pipelines.running.stream import OrderedMap


async def collect(n: int, workers: int, window: int, delay: float = 0.001) -> tuple[list[int], int, int]:
    """Maps 0..n-1; the results, the most at work at once, and the most between reading and emitting."""
    rng = random.Random(7)
    out: list[int] = []
    read = working = most_working = most_open = 0

    def items() -> Iterator[int]:
        nonlocal read
        for i in range(n):
            read += 1
            yield i

    async def work(i: int) -> int:
        nonlocal working, most_working
        working += 1
        most_working = max(most_working, working)
        await asyncio.sleep(rng.random() * delay)
        working -= 1
        return i

    async def emit(i: int) -> None:
        nonlocal most_open
        out.append(i)
        most_open = max(most_open, read - len(out))

    await OrderedMap(items(), work, emit, workers=workers, window=window).run()
    return out, most_working, most_open


@pytest.mark.parametrize("workers", [1, 7, 64])
def test_results_come_in_input_order_with_no_more_at_work_than_workers(workers: int) -> None:
    out, most_working, _ = asyncio.run(collect(500, workers, 2 * workers))
    assert out == list(range(500))
    assert workers / 2 < most_working <= workers


def test_one_slow_item_holds_the_reader_back() -> None:
    read: list[int] = []
    release = asyncio.Event()
    out: list[int] = []

    async def main() -> None:
        def items() -> Iterator[int]:
            for i in range(10_000):
                read.append(i)
                yield i

        async def work(i: int) -> int:
            if i == 0:
                await release.wait()
            return i

        async def emit(i: int) -> None:
            out.append(i)

        flow = asyncio.create_task(OrderedMap(items(), work, emit, workers=8, window=100).run())
        await asyncio.sleep(0.2)
        assert out == []
        # The window, and what was read ahead in one batch.
        assert 100 <= len(read) < 200
        release.set()
        await flow

    asyncio.run(main())
    assert out == list(range(10_000))


@pytest.mark.parametrize("heavy", ["items", "results"])
def test_behind_a_slow_item_no_more_bytes_wait_than_the_window_may_hold(heavy: str) -> None:
    done: list[int] = []
    read: list[int] = []
    release = asyncio.Event()

    async def main() -> None:
        def items() -> Iterator[int]:
            for i in range(500):
                read.append(i)
                yield i

        async def work(i: int) -> int:
            if i == 0:
                await release.wait()
            done.append(i)
            return i

        async def emit(i: int) -> None:
            pass

        def weigh(_: int) -> int:
            return 1 << 20

        flow = OrderedMap(
            items(),
            work,
            emit,
            workers=4,
            window=400,
            window_bytes=20 << 20,
            weigh=weigh if heavy == "items" else lambda _: 0,
            weigh_result=weigh if heavy == "results" else lambda _: 0,
        )
        task = asyncio.create_task(flow.run())
        while len(done) < 19:
            await asyncio.sleep(0.001)
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert len(done) <= 24
        if heavy == "items":
            assert len(read) <= 24 + 8  # a batch that is read ahead has 8 MiB at most
        release.set()
        await task

    asyncio.run(main())
    assert len(done) == 500


def test_with_heavy_items_as_many_are_at_work_as_there_are_workers() -> None:
    at_work = most = 0

    async def work(i: int) -> int:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0.001)
        at_work -= 1
        return i

    async def emit(i: int) -> None:
        pass

    flow = OrderedMap(
        iter(range(50)), work, emit, workers=8, window=100, window_bytes=1, weigh=lambda _: 1 << 20
    )
    asyncio.run(flow.run())
    assert most == 8


def test_the_source_may_block_without_blocking_the_loop() -> None:
    entered, go_on = threading.Event(), threading.Event()

    async def main() -> None:
        def items() -> Iterator[int]:
            entered.set()
            assert go_on.wait(10)
            yield 1

        async def work(i: int) -> int:
            return i

        async def emit(i: int) -> None:
            pass

        flow = asyncio.create_task(OrderedMap(items(), work, emit, workers=2, window=2).run())
        while not entered.is_set():
            await asyncio.sleep(0.001)  # the loop turns although the source is blocked
        go_on.set()
        await flow

    asyncio.run(main())


@pytest.mark.parametrize("where", ["items", "work", "emit"])
def test_an_error_anywhere_ends_it_as_itself(where: str) -> None:
    def items() -> Iterator[int]:
        yield from range(10)
        if where == "items":
            raise KeyError(where)

    async def work(i: int) -> int:
        if where == "work" and i == 5:
            raise KeyError(where)
        return i

    async def emit(i: int) -> None:
        if where == "emit":
            raise KeyError(where)

    with pytest.raises(KeyError, match=where):
        asyncio.run(OrderedMap(items(), work, emit, workers=3, window=9).run())


def test_once_it_is_over_nothing_is_begun_that_was_read() -> None:
    begun: list[int] = []
    out: list[int] = []

    async def work(i: int) -> int:
        begun.append(i)
        await asyncio.sleep(0.001)
        return i

    async def emit(i: int) -> None:
        out.append(i)

    over = OrderedMap(iter(range(60)), work, emit, workers=4, window=8, over=lambda: len(begun) >= 10)
    asyncio.run(over.run())
    assert 10 <= len(begun) < 14
    assert out == sorted(begun)
