"""The server that the run starts: against a stand-in that is really killed, stopped and orphaned."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from engines import processes

from gristmill.core.engine import Message, Request, Sampling
from gristmill.core.errors import EngineError, RecipeError, RunStopped
from gristmill.engines.log.store import CompletionLog
from gristmill.engines.session import Session
from gristmill.engines.vllm.server import VllmServer, VllmServerEngine

FAKE = Path(__file__).parent / "fake_vllm.py"


class Fake:
    """A ``python`` that starts the stand-in, and what it has seen."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "python"
        self.path.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} {FAKE} "$@"\n')
        self.path.chmod(0o755)
        self._state = folder / "state.json"
        os.environ["FAKE_STATE"] = str(self._state)

    def options(self, **options: Any) -> VllmServer:
        common = {"model": "some/model", "python": str(self.path), "concurrency": 8, "backoff": 0.05}
        return VllmServer(**common | options)

    @property
    def starts(self) -> list[list[str]]:
        return json.loads(self._state.read_text())["starts"]

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return json.loads(self._state.read_text())["bodies"]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.setenv("FAKE_STATE", "")
    return Fake(tmp_path)


def ask(text: str, **sampling: Any) -> Request:
    return Request((Message("user", text),), Sampling(**sampling), 3)


def use(options: VllmServer, work: Callable[[VllmServerEngine], Awaitable[None]]) -> None:
    async def go() -> None:
        async with options.open() as engine:
            await work(engine)

    before = processes.descendants(os.getpid())
    asyncio.run(go())
    assert processes.descendants(os.getpid()).keys() <= before.keys(), "no process is left"


def test_it_is_started_with_the_arguments_by_vllm_s_names_and_stopped(fake: Fake) -> None:
    async def work(engine: VllmServerEngine) -> None:
        (answer,) = await engine.generate(ask("hello"))
        assert answer.text == "hello 1"

    args = {"max_model_len": 512, "enforce_eager": True, "async_scheduling": False, "hf_overrides": {"a": 1}}
    use(fake.options(args=args), work)
    (command,) = fake.starts
    assert command[1:3] == ["serve", "some/model"]
    assert " ".join(command).endswith(
        '--max-model-len 512 --enforce-eager --no-async-scheduling --hf-overrides {"a":1}'
    )
    assert "VLLM_API_KEY" not in " ".join(command), "a command line is public"


def test_nothing_is_left_to_the_model_s_generation_config(fake: Fake) -> None:
    async def work(engine: VllmServerEngine) -> None:
        await engine.generate(ask("hello"))

    use(fake.options(chat_template_kwargs={"enable_thinking": False}), work)
    (body,) = fake.bodies
    assert {k: body[k] for k in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")} == {
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
    }
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


@pytest.mark.parametrize("accident", ["die", "hang"])
def test_after_an_accident_it_is_started_again_and_no_row_is_lost(
    fake: Fake, accident: str, tmp_path: Path
) -> None:
    """What was in flight is asked again; the process below the dead server is gone too."""
    options = fake.options(hang_timeout=1.0, tries=8, max_backoff=0.5)

    async def go() -> None:
        with CompletionLog(tmp_path / "log.sqlite") as log:
            async with Session(options.open(), options, log) as session:
                first = await session.generate(ask("first"))
                texts = ["one", "two", accident, "three"]
                answers = await asyncio.gather(*(session.generate(ask(t)) for t in texts))
                assert [a.text.split()[0] for (a,) in answers] == texts
                assert first[0].text == "first 1"
                assert answers[2][0].text == f"{accident} 2", "answered by the second server"

    before = processes.descendants(os.getpid())
    asyncio.run(go())
    assert len(fake.starts) == 2
    assert processes.descendants(os.getpid()).keys() <= before.keys()


def test_a_death_under_hundreds_of_requests_does_not_stop_the_run(fake: Fake, tmp_path: Path) -> None:
    """They all fail at once, which is more than the breaker lets pass; none is a failure of its own."""
    options = fake.options(concurrency=300, tries=2)

    async def go() -> None:
        with CompletionLog(tmp_path / "log.sqlite") as log:
            async with Session(options.open(), options, log) as session:
                texts = [f"wait {i}" for i in range(250)]
                waiting = [asyncio.ensure_future(session.generate(ask(t))) for t in texts]
                while len(fake.bodies) < len(texts):
                    await asyncio.sleep(0.1)
                await session.generate(ask("die"))
                answers = await asyncio.gather(*waiting)
                assert [a.text for (a,) in answers] == [f"{t} 2" for t in texts]
                stats = session.stats
                assert (stats.failures, stats.completions, stats.limit) == (0, 251, 300)

    asyncio.run(go())
    assert len(fake.starts) == 2


def test_a_server_that_cannot_start_says_why_and_where(fake: Fake, tmp_path: Path) -> None:
    async def work(engine: VllmServerEngine) -> None:
        raise AssertionError("it must not start")

    log = tmp_path / "logs" / "server.log"
    with pytest.raises(EngineError, match=r"did not start.*server\.log: ValueError: No supported config"):
        use(fake.options(model="broken/model", log=str(log)), work)


def test_a_server_that_dies_again_and_again_stops_the_run(fake: Fake) -> None:
    async def work(engine: VllmServerEngine) -> None:
        for _ in range(3):
            assert engine._guard is not None
            await engine._guard.stop()
            await engine.generate(ask("hello"))
        await engine._guard.stop()
        with pytest.raises(RunStopped, match="crashed 4 times"):
            await engine.generate(ask("hello"))

    use(fake.options(), work)


def test_a_server_of_someone_else_is_used_and_left_alone(fake: Fake) -> None:
    async def work(engine: VllmServerEngine) -> None:
        options = VllmServer(model="theirs", base_url=str(engine._url.with_path("/v1")))
        async with options.open() as other:
            assert other.model == "theirs"
            with pytest.raises(EngineError, match="401"):
                await other.generate(ask("hello"))
        assert (await engine.generate(ask("still there")))[0].text == "still there 1"

    use(fake.options(), work)
    with pytest.raises(RecipeError, match="apply to a server that Gristmill starts"):
        VllmServer(model="theirs", base_url="http://127.0.0.1:1/v1", args={"dtype": "float32"}).open()


def test_it_does_not_outlive_us_when_we_are_killed(fake: Fake) -> None:
    program = (
        "import asyncio, sys\n"
        "from gristmill.engines.vllm.server import VllmServer\n"
        "async def go():\n"
        f"    async with VllmServer(model='m', python={str(fake.path)!r}).open():\n"
        "        print('ready', flush=True)\n"
        "        await asyncio.sleep(600)\n"
        "asyncio.run(go())\n"
    )
    us = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert us.stdout is not None
    assert us.stdout.readline() == "ready\n"
    below = processes.descendants(us.pid)
    assert len(below) >= 3, "the guard, the server and the process below it"
    us.send_signal(signal.SIGKILL)
    us.wait()
    us.stdout.close()
    deadline = time.monotonic() + 30
    while left := [pid for pid in below if processes.alive(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_options_that_cannot_work_are_refused(fake: Fake, tmp_path: Path) -> None:
    for options, message in (
        ({"args": {"max-model-len": 5}}, "max_model_len"),
        ({"args": {"enable_lora": True}}, "the option 'lora'"),
        ({"model": str(tmp_path / "none")}, r"config\.json"),
        ({"lora": str(tmp_path)}, r"adapter_config\.json"),
        ({"chat_template": str(tmp_path / "none.jinja")}, "does not exist"),
        ({"python": str(tmp_path / "nothing")}, "not a program that can be run"),
    ):
        with pytest.raises(RecipeError, match=message):
            fake.options(**options).open()


def test_a_request_that_its_server_did_not_survive_is_asked_again(fake: Fake) -> None:
    async def work(engine: VllmServerEngine) -> None:
        assert (await engine.generate(ask("die")))[0].text == "die 2"

    use(fake.options(), work)
