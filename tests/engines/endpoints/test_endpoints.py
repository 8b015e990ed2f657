"""Several servers of one model, in processes of their own: killed, hung, frozen, drained and come back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeServer, FakeServers

from gristmill.core.engine import Completion, Request
from gristmill.core.errors import (
    RecipeError,
    RequestRefusedError,
    RowRejected,
    RunStopped,
    ServerRefusedError,
    TransientError,
)
from gristmill.engines.endpoints.endpoint import Endpoint
from gristmill.engines.endpoints.engine import MOVES, Endpoints, EndpointsEngine
from gristmill.engines.log.store import CompletionLog
from gristmill.engines.openai import OpenAI
from gristmill.engines.session import Session

Ask = Callable[..., Request]


@pytest.fixture
def servers(fake_servers: FakeServers) -> list[FakeServer]:
    return fake_servers.take(3, latency_ms=10)


def options(servers: Sequence[FakeServer], weights: Sequence[float] = (), **more: Any) -> Endpoints:
    weights = weights or [1.0] * len(servers)
    endpoints = tuple(Endpoint(base_url=s.url, weight=w) for s, w in zip(servers, weights, strict=True))
    quick: dict[str, Any] = {"backoff": 0.01, "max_backoff": 0.5, "request_timeout": 5.0}
    quick |= {"health_interval": 0.1, "health_timeout": 3.0, "concurrency": 12}
    return Endpoints(endpoints=endpoints, model="m", **(quick | more))


Meanwhile = Callable[[EndpointsEngine, list[str]], Awaitable[None]]


def answers(
    chosen: Endpoints,
    log_path: Path,
    ask: Ask,
    rows: int,
    meanwhile: Meanwhile | None = None,
    workers: int | None = None,
) -> tuple[EndpointsEngine, Session]:
    """Requests through a session, ``rows`` at least and until ``meanwhile`` has ended; each must get its own
    answer, once."""
    engine = chosen.open()
    got: list[str] = []
    sent = 0

    async def work(session: Session, others: asyncio.Task[None] | None) -> None:
        nonlocal sent
        while sent < rows or (others is not None and not others.done()):
            text = f"row {sent}."
            sent += 1
            [completion] = await session.generate(ask(text))
            assert completion.text.startswith(f"answer 0 to {text}")
            got.append(text)

    async def main(session: Session) -> None:
        async with session, asyncio.TaskGroup() as group:
            others = None
            if meanwhile is not None:
                others = group.create_task(asyncio.wait_for(meanwhile(engine, got), 60))
            for _ in range(workers or 2 * chosen.concurrency):
                group.create_task(work(session, others))

    with CompletionLog(log_path) as log:
        session = Session(engine, chosen, log)
        asyncio.run(main(session))
    assert sorted(got) == sorted(f"row {i}." for i in range(sent)), "no row is lost or repeated"
    return engine, session


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def test_endpoints_share_one_identity_in_the_log(servers: list[FakeServer]) -> None:
    one, all_of_them = options(servers[:1]).open(), options(servers, extra={}).open()
    assert one.model == all_of_them.model == OpenAI(base_url=servers[0].url, model="m").open().model
    assert all_of_them.concurrency == 12 and [m.limit.most for m in all_of_them.members] == [4, 4, 4]


def test_an_endpoint_named_twice_is_refused() -> None:
    twice = tuple(Endpoint(base_url=f"http://127.0.0.1:1/v1{end}") for end in ("", "/"))
    with pytest.raises(RecipeError, match="listed twice"):
        Endpoints(endpoints=twice, model="m").open()


def test_requests_are_spread_by_weight(servers: list[FakeServer], log_path: Path, ask: Ask) -> None:
    chosen = options(servers, (3, 2, 1), concurrency=600, health_interval=1e6)  # there is always room
    engine, session = answers(chosen, log_path, ask, 600, workers=30)
    assert [s.stats()["requests"] for s in servers] == pytest.approx([300, 200, 100], abs=3)
    assert sum(s.answered for s in engine.stats) == session.stats.requests == 600


def test_a_slow_endpoint_hands_its_part_to_the_others(
    servers: list[FakeServer], log_path: Path, ask: Ask
) -> None:
    servers[0].post("latency", 1000)
    engine, _ = answers(options(servers, health_interval=1e6), log_path, ask, 300)
    slow, *others = (s.answered for s in engine.stats)
    assert slow < min(others) / 2, "it has its four in flight and no more"


def test_weights_hold_for_one_request_at_a_time(servers: list[FakeServer], ask: Ask) -> None:
    async def main() -> None:
        async with options(servers, (3, 2, 1), health_interval=1e6).open() as engine:
            for i in range(36):
                await engine.generate(ask(f"row {i}."))

    asyncio.run(main())
    assert [s.stats()["requests"] for s in servers] == [18, 12, 6]


def test_the_requests_of_a_killed_endpoint_move_on_and_it_is_used_again(
    servers: list[FakeServer], log_path: Path, ask: Ask
) -> None:
    async def kill_and_restart(engine: EndpointsEngine, got: list[str]) -> None:
        await until(lambda: len(got) > 60)
        servers[0].process.send_signal(signal.SIGKILL)
        servers[0].process.wait()
        await until(lambda: engine.stats[0].state == "closed")
        servers[0].launch()
        await until(lambda: engine.stats[0].state == "open")

    engine, session = answers(options(servers), log_path, ask, 0, kill_and_restart)
    assert session.stats.failures == 0, "no failure reached the session: others were there to answer"
    assert engine.stats[0].failed and servers[0].stats()["answered"] > 0, "it answers after the restart"


@pytest.mark.parametrize("mode", ["garbage", "cut", "error", "refuse"])
def test_an_endpoint_that_answers_nonsense_costs_no_row(
    servers: list[FakeServer], log_path: Path, ask: Ask, mode: str
) -> None:
    servers[1].post("mode", mode)

    async def mend(engine: EndpointsEngine, got: list[str]) -> None:
        await until(lambda: engine.stats[1].state == "closed")
        servers[1].post("mode", "well")
        await until(lambda: engine.stats[1].state == "open" and engine.stats[1].answered > 5)

    engine, session = answers(options(servers), log_path, ask, 0, mend)
    assert session.stats.failures == 0
    assert engine.stats[1].failed >= 3


def test_a_frozen_endpoints_requests_are_given_up_long_before_their_time_out(
    servers: list[FakeServer], log_path: Path, ask: Ask
) -> None:
    async def freeze(engine: EndpointsEngine, got: list[str]) -> None:
        await until(lambda: len(got) > 30)
        servers[2].process.send_signal(signal.SIGSTOP)
        await until(lambda: engine.stats[2].state == "closed" and not engine.stats[2].in_flight)
        servers[2].process.send_signal(signal.SIGCONT)
        await until(lambda: engine.stats[2].state == "open")

    engine, _ = answers(options(servers, request_timeout=300.0, health_timeout=0.5), log_path, ask, 0, freeze)
    assert engine.stats[2].failed


def test_a_request_that_hangs_moves_on_after_its_time_out(
    servers: list[FakeServer], log_path: Path, ask: Ask
) -> None:
    servers[0].post("mode", "hang")
    engine, session = answers(options(servers, request_timeout=0.3), log_path, ask, 60)
    assert engine.stats[0].failed and session.stats.failures == 0


def test_a_drained_endpoint_ends_what_it_has_and_takes_nothing_new(
    servers: list[FakeServer], log_path: Path, ask: Ask, tmp_path: Path
) -> None:
    drain = tmp_path / "drain.txt"

    async def drain_and_restore(engine: EndpointsEngine, got: list[str]) -> None:
        await until(lambda: len(got) > 30)
        drain.write_text(f"\n{servers[0].url}/\n")
        await until(lambda: engine.stats[0].draining)
        await until(lambda: not engine.stats[0].in_flight)
        sent = engine.stats[0].answered
        before = len(got)
        await until(lambda: len(got) > before + 50)
        assert engine.stats[0].answered == sent and engine.stats[0].failed == 0
        drain.unlink()
        await until(lambda: engine.stats[0].answered > sent)

    engine, _ = answers(options(servers, drain_file=str(drain)), log_path, ask, 0, drain_and_restore)
    assert all(s.failed == 0 for s in engine.stats), "draining costs no request"


def test_an_ill_health_check_drains_as_well(servers: list[FakeServer], log_path: Path, ask: Ask) -> None:
    async def ill(engine: EndpointsEngine, got: list[str]) -> None:
        servers[0].post("health", 503)
        await until(lambda: engine.stats[0].state == "closed")
        servers[0].post("health", 200)
        await until(lambda: engine.stats[0].state == "open")

    engine, _ = answers(options(servers), log_path, ask, 0, ill)
    assert all(s.failed == 0 for s in engine.stats)


def test_when_all_are_down_for_a_while_requests_wait(
    servers: list[FakeServer], log_path: Path, ask: Ask
) -> None:
    async def restart_all(engine: EndpointsEngine, got: list[str]) -> None:
        await until(lambda: len(got) > 60)
        for server in servers:
            server.close()
        await until(lambda: all(s.state == "closed" for s in engine.stats))
        for server in servers:
            server.launch()

    answers(options(servers, max_backoff=20.0), log_path, ask, 300, restart_all)


def test_when_all_stay_down_the_run_is_stopped_and_requests_are_bounded(log_path: Path, ask: Ask) -> None:
    endpoints = tuple(Endpoint(base_url=f"http://127.0.0.1:{port}/v1") for port in (1, 2, 3, 4))
    chosen = Endpoints(endpoints=endpoints, model="m", backoff=0.0, max_backoff=0.05)
    with pytest.raises(ExceptionGroup) as caught:
        answers(chosen, log_path, ask, 100)
    assert caught.group_contains(RunStopped)


def test_a_refusal_is_believed_when_two_endpoints_agree(servers: list[FakeServer], ask: Ask) -> None:
    for server in servers:
        server.post("mode", "unfit")

    async def main() -> None:
        async with options(servers).open() as engine:
            with pytest.raises(RequestRefusedError, match="422"):
                await engine.generate(ask())
            assert all(s.state == "open" and s.failed == 0 for s in engine.stats)

    asyncio.run(main())
    assert sum(s.stats()["requests"] for s in servers) == 2


def test_a_server_with_a_wrong_key_is_left_to_the_others_and_all_such_end_the_run(
    servers: list[FakeServer], ask: Ask
) -> None:
    for server in servers[1:]:
        server.post("mode", "refuse")

    async def main() -> None:
        async with options(servers).open() as engine:
            for seed in range(12):
                await engine.generate(ask(seed=seed))
            assert [s.state == "open" for s in engine.stats] == [True, False, False]
        servers[0].post("mode", "refuse")
        async with options(servers).open() as engine:
            with pytest.raises(ServerRefusedError, match="404"):
                await engine.generate(ask())

    asyncio.run(main())


def test_one_try_reaches_no_more_endpoints_than_it_may_move_to(fake_servers: FakeServers, ask: Ask) -> None:
    servers = fake_servers.take(5, latency_ms=1)
    for server in servers:
        server.post("mode", "error")

    async def main() -> None:
        async with options(servers).open() as engine:
            with pytest.raises(TransientError, match="500"):
                await engine.generate(ask())

    asyncio.run(main())
    assert sorted(s.stats()["requests"] for s in servers) == [0] * (4 - MOVES) + [1] * (1 + MOVES)


def test_a_row_that_every_server_fails_is_rejected_and_the_others_are_not(log_path: Path, ask: Ask) -> None:
    class Poison:
        """An engine in a member's place: it fails one row only."""

        asked = 0

        async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
            await asyncio.sleep(0)
            if "poison" in request.messages[0].content:
                Poison.asked += 1
                raise TransientError("it died of it")
            return [Completion("fine")]

    endpoints = tuple(Endpoint(base_url=f"http://127.0.0.1:{port}/v1") for port in (1, 2, 3))
    chosen = Endpoints(
        endpoints=endpoints, model="m", backoff=0.0, max_backoff=0.1, health_interval=1e6, concurrency=6
    )
    engine = chosen.open()
    for member in engine.members:
        member.engine.generate = Poison().generate  # type: ignore[method-assign]

    async def main() -> list[Any]:
        with CompletionLog(log_path) as log:
            session = Session(engine, chosen, log)
            async with session:
                texts = ["poison", *(f"row {i}" for i in range(200))]
                return await asyncio.gather(
                    *(session.generate(ask(text)) for text in texts), return_exceptions=True
                )

    first, *rest = asyncio.run(main())
    assert isinstance(first, RowRejected) and first.reason == "request failed"
    assert all([c.text for c in r] == ["fine"] for r in rest)
    assert Poison.asked <= chosen.tries * (1 + MOVES)


def test_a_cancelled_wait_gives_its_slot_back(servers: list[FakeServer], ask: Ask) -> None:
    for server in servers:
        server.post("latency", 100)

    async def main() -> None:
        async with options(servers, concurrency=3).open() as engine:
            tasks = [asyncio.create_task(engine.generate(ask(f"row {i}."))) for i in range(12)]
            await asyncio.sleep(0.03)
            for task in tasks[3:9]:
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert sum(isinstance(r, list) for r in found) == 6
            assert all(m.promised == 0 and m.limit.in_flight == 0 for m in engine.members)

    asyncio.run(main())


def test_an_endpoint_that_a_request_closes_during_its_health_check_rests_first() -> None:
    endpoint = Endpoint(base_url="http://127.0.0.1:1/v1")
    engine = Endpoints(endpoints=(endpoint,), model="m", health_interval=0.001).open()
    [member] = engine.members
    checks = 0

    async def health(web: Any, seconds: float) -> tuple[str, str]:
        nonlocal checks
        checks += 1
        for _ in range(3 if checks == 1 else 0):
            member.failed_with(TransientError("it failed"))
        return "well", ""

    async def main() -> None:
        member._health = health  # type: ignore[method-assign,assignment]
        watch = asyncio.create_task(member.watch(None, 0.001, 1.0))  # type: ignore[arg-type]
        await asyncio.wait_for(until(lambda: checks == 1), 5)
        await asyncio.sleep(0.01)
        assert member.state == "closed" and checks == 1
        await asyncio.wait_for(until(lambda: member.state == "trial"), 10)
        await asyncio.sleep(0.05)  # the loop is not held by the watch
        watch.cancel()

    asyncio.run(main())
