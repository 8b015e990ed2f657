"""vLLM itself on its real model: crashes, adapters, the prefix cache, and what is left behind."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engines import behaviour, processes
from engines.behaviour import ask, one
from engines.vllm import vllm_model
from paths import ROOT
from skips import needs_time

from gristmill.core.engine import Ability, Engine
from gristmill.core.errors import EngineError, RecipeError, TransientError
from gristmill.engines.log.store import CompletionLog
from gristmill.engines.options import EngineOptions
from gristmill.engines.session import Session
from gristmill.engines.vllm.engine import Vllm, VllmEngine
from gristmill.engines.vllm.server import VllmServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
QUESTIONS = [ask(f"What is {i} + {i}?", temperature=0.0, max_tokens=40) for i in range(6)]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    vllm_model.prepare(monkeypatch)


@pytest.fixture(scope="module")
def opened() -> Iterator[tuple[asyncio.Runner, VllmEngine]]:
    vllm_model.here()
    options = Vllm(model=vllm_model.model(), args=vllm_model.ARGS)
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        vllm_model.prepare(patch)
        engine = options.open()
        before = processes.descendants(os.getpid())
        runner.run(engine.__aenter__())
        yield runner, engine
        runner.run(engine.__aexit__(None, None, None))
        left = processes.descendants(os.getpid())
        assert left.keys() <= before.keys(), f"shutdown left processes: {left}"


@pytest.mark.timeout(1500)
def test_these_and_the_engines_behaviour_in_the_python_that_has_vllm() -> None:
    """Here, where most are skipped, so that they are run beside others, and by whom names that Python.

    With the engine ``transformers``, since that Python has what it needs.
    """
    if importlib.util.find_spec("vllm") is not None:
        pytest.skip("this Python has vLLM: they are run in it")
    vllm_model.model()
    files = ["tests/engines/test_behaviour.py", "tests/engines/vllm/test_vllm.py"]
    words = ["-m", "slow", "--timeout", "400", "-k", "transformers or (test_vllm and not server)"]
    done = subprocess.run(
        [vllm_model.python(), "-m", "pytest", *words, *files], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]


@behaviour.every_check
def test_it_behaves_as_every_engine(
    opened: tuple[asyncio.Runner, VllmEngine], check: behaviour.Check, needs: frozenset[Ability]
) -> None:
    """On the engine of the tests below, since starting one takes a minute."""
    runner, engine = opened
    assert needs <= engine.abilities
    runner.run(check(engine))


def test_a_prompt_is_computed_once_for_its_samples_and_continuations(
    opened: tuple[asyncio.Runner, VllmEngine],
) -> None:
    """Whole blocks of the cache, that is: what is left of the last one is computed again."""
    runner, engine = opened

    async def go() -> None:
        request = ask("Tell me of " + "cats and dogs, " * 40, temperature=1.0, max_tokens=4)
        await engine._ask(request, first=0, n=1)
        four = await engine._ask(request, first=1, n=4)
        known, asked = four.num_cached_tokens, len(four.prompt_token_ids)
        assert asked - known < 2 * engine._loaded.llm.vllm_config.cache_config.block_size
        longer = ask(request.messages[0].content, prefix="I know a cat", max_tokens=4)
        assert (await engine._ask(longer, first=0, n=1)).num_cached_tokens >= known - 16

    runner.run(go())


def test_a_cancelled_request_leaves_the_batch(opened: tuple[asyncio.Runner, VllmEngine]) -> None:
    runner, engine = opened

    async def go() -> None:
        long = ask("Count from 1 to 500.", temperature=0.0, max_tokens=400)
        task = asyncio.ensure_future(engine.generate(long, n=1))
        await one(engine, ask("Name an animal.", max_tokens=2))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert engine._loaded is not None
        assert engine._loaded.llm.get_num_unfinished_requests() == 0

    runner.run(go())


def test_ctrl_c_does_not_reach_the_model(opened: tuple[asyncio.Runner, VllmEngine]) -> None:
    """The terminal signals the whole foreground group; the run decides what becomes of the requests."""
    runner, engine = opened
    for pid, name in processes.descendants(os.getpid()).items():
        if "VLLM" in name:
            os.kill(pid, signal.SIGINT)
    assert runner.run(one(engine, QUESTIONS[0])).text


def test_an_answer_that_takes_too_long_is_tried_again_later(
    opened: tuple[asyncio.Runner, VllmEngine],
) -> None:
    runner, engine = opened
    hasty = VllmEngine(Vllm(model=vllm_model.model(), args=vllm_model.ARGS, request_timeout=0.01))
    hasty._loaded = engine._loaded
    with pytest.raises(TransientError, match=r"within 0\.01 s") as caught:
        runner.run(one(hasty, ask("Count from 1 to 500.", temperature=0.0, max_tokens=400)))
    assert caught.value.congested


def test_a_dead_engine_is_started_again_and_no_row_is_lost(
    opened: tuple[asyncio.Runner, VllmEngine], tmp_path: Path
) -> None:
    runner, engine = opened
    before = [runner.run(one(engine, q)).text for q in QUESTIONS]
    pid = next(p for p, n in processes.descendants(os.getpid()).items() if "EngineCore" in n)
    runner.run(_killed(engine, engine._options, pid, tmp_path, before))


async def _killed(engine: Engine, options: EngineOptions, pid: int, folder: Path, before: list[str]) -> None:
    with CompletionLog(folder / "log.sqlite") as log:
        session = Session(engine, options, log)
        tasks = [asyncio.ensure_future(session.generate(q)) for q in QUESTIONS]
        await asyncio.wait(tasks, timeout=0.2)
        assert not any(task.done() for task in tasks), "it is killed under the requests"
        os.kill(pid, signal.SIGKILL)
        answers = await asyncio.gather(*tasks)
    assert [a.text for (a,) in answers] == before
    assert session.stats.failures == 0, "a death is no failure of the requests"


def test_a_real_server_is_started_again_and_no_row_is_lost(tmp_path: Path) -> None:
    needs_time("a stand-in for the server dies in test_vllm_server.py")
    options = VllmServer(model=vllm_model.model(), python=vllm_model.python(), args=vllm_model.ARGS)

    async def go() -> None:
        async with options.open() as engine:
            before = [(await one(engine, q)).text for q in QUESTIONS]
            below = processes.descendants(os.getpid())
            pid = next(p for p, n in below.items() if " serve " in n and "guard" not in n)
            await _killed(engine, options, pid, tmp_path, before)

    asyncio.run(go())
    assert not [n for n in processes.descendants(os.getpid()).values() if "serve" in n]


@pytest.mark.parametrize("when", ["loading", "ready"])
def test_nothing_outlives_us_when_we_are_killed(tmp_path: Path, when: str) -> None:
    vllm_model.here()
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio\n"
        "from gristmill.engines.vllm.engine import Vllm\n"
        "async def go():\n"
        f"    async with Vllm(model={vllm_model.model()!r}, args={vllm_model.ARGS!r}).open():\n"
        "        print('ready', flush=True)\n"
        "        await asyncio.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(go())\n"
    )
    us = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True)
    assert us.stdout is not None
    below: dict[int, str] = {}
    if when == "ready":
        assert us.stdout.readline() == "ready\n", "and vLLM wrote nothing to standard output"
    # The engine renames itself when it begins, and its worker is one more process below it.
    while not any("EngineCore" in name for name in below.values()) or len(below) < 3:
        assert us.poll() is None
        below = processes.descendants(us.pid)
    us.send_signal(signal.SIGKILL)
    us.wait()
    us.stdout.close()
    deadline = time.monotonic() + 60
    while left := [pid for pid in below if processes.alive(pid)]:
        assert time.monotonic() < deadline, [below[pid] for pid in left]
        time.sleep(0.1)


def _adapter(folder: Path, scale: float) -> str:
    """A LoRA adapter of SmolLM2-135M with random weights."""
    import numpy
    from safetensors.numpy import save_file

    draw = numpy.random.default_rng(0)
    folder.mkdir()
    tensors: dict[str, Any] = {}
    for layer in range(30):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_"
        tensors[f"{name}A.weight"] = draw.normal(size=(4, 576)).astype("float32")
        tensors[f"{name}B.weight"] = (scale * draw.normal(size=(576, 4))).astype("float32")
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 4,
        "lora_alpha": 4,
        "target_modules": ["q_proj"],
        "base_model_name_or_path": "smol",
        "bias": "none",
        "lora_dropout": 0.0,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return str(folder)


def test_an_adapter_is_used(tmp_path: Path) -> None:
    vllm_model.here()
    lora = _adapter(tmp_path / "lora", 0.05)
    request = ask("Count from 1 to 50.", temperature=0.0, max_tokens=16)

    async def go() -> None:
        async with Vllm(model=vllm_model.model(), args=vllm_model.ARGS, lora=lora).open() as engine:
            adapted = await one(engine, request)
            assert engine._loaded is not None
            engine._loaded = engine._loaded._replace(lora=None)
            assert (await one(engine, request)).text != adapted.text

    asyncio.run(go())


def test_what_vllm_cannot_load_is_an_error_with_its_name(tmp_path: Path) -> None:
    vllm_model.here()
    (tmp_path / "config.json").write_text('{"model_type": "nonsense"}')

    async def start(options: Vllm) -> None:
        async with options.open():
            raise AssertionError("it must not start")

    with pytest.raises(RecipeError, match="no engine argument 'max_model_length'"):
        asyncio.run(start(Vllm(model=vllm_model.model(), args={"max_model_length": 5})))
    with pytest.raises(EngineError, match=f"cannot load {tmp_path}"):
        asyncio.run(start(Vllm(model=str(tmp_path))))
