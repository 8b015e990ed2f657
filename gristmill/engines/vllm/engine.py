"""vLLM in process: its asynchronous engine, with continuous batching and prefix caching.

vLLM runs the model in processes of its own. This module makes the prompts and requests and reads the answers.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import itertools
import multiprocessing
import os
import signal
from collections.abc import Sequence
from multiprocessing import resource_tracker
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from msgspec.structs import replace

from gristmill.core.engine import Ability, Completion, Request, TokenLogprob, TokenScore
from gristmill.core.errors import (
    EngineError,
    MissingExtraError,
    RecipeError,
    RequestRefusedError,
    TransientError,
)
from gristmill.engines import scoring
from gristmill.engines.guard import Guard, Order
from gristmill.engines.options import FinishMeaning
from gristmill.engines.reading import ReplyReader, phases, sent
from gristmill.engines.revival import Revival
from gristmill.engines.vllm.options import ADAPTER, VllmOptions, arguments, check, identity

_SHUTDOWN_SECONDS = 20.0
_POLL_SECONDS = 0.2

# Set before vLLM is imported, unless the user has set them. A fork would copy this process with its threads
# (the completion log's, for example) in whatever state their locks are; by default vLLM writes its log to our
# standard output and sends usage statistics.
_ENVIRONMENT = {
    "VLLM_WORKER_MULTIPROCESSING_METHOD": "spawn",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}


class Vllm(VllmOptions, frozen=True, kw_only=True):
    """A model that vLLM runs on this machine's accelerators (or, with its CPU build, on its cores).

    A ``max_tokens`` that is too large is reduced to the tokens that the context has left.

    vLLM starts processes that import the main module again, so a script that uses this engine needs
    ``if __name__ == "__main__":``.
    """

    @property
    def self_paced(self) -> bool:
        """Always: vLLM queues what it cannot compute yet, and its latency rises with its batch by design."""
        return True

    def open(self) -> VllmEngine:
        """The engine; the model is loaded with ``async with``."""
        if importlib.util.find_spec("vllm") is None:
            raise MissingExtraError("vllm (the engine in process)", install="pip install 'gristmill[vllm]'")
        check(self)
        return VllmEngine(self)


class _Loaded(NamedTuple):
    """vLLM with a loaded model. ``template`` is a chat template or ``None`` for the model's own, ``lora`` the
    adapter of every request."""

    llm: Any
    template: str | None
    lora: Any


class VllmEngine:
    """vLLM's ``AsyncLLM``, restarted after a crash; see ``Engine`` and ``Vllm``.

    Sample ``i`` is drawn with seed ``seed + i``; for several samples vLLM adds the index itself. Samples with
    one seed are equal as long as the arithmetic is: with 16-bit weights, the other requests in a batch can
    decide between two tokens that are almost equally likely.
    """

    def __init__(self, options: VllmOptions) -> None:
        self._options = options
        self.model = identity(options)
        self._reading = ReplyReader(options, "vllm")
        self.abilities = frozenset(Ability) - {Ability.REWARD, Ability.TOOLS}
        self.concurrency = options.concurrency
        self._loaded: _Loaded | None = None
        self._guard: Guard | None = None
        self._numbers = itertools.count()
        self._revival = Revival(
            "vLLM",
            alive=lambda: self._loaded is not None and not self._loaded.llm.errored,
            start=self._start,
            stop=self._stop,
            last_words=lambda: "See its own messages above.",
            remedy="Run the same command again to continue; a smaller max_model_len needs less memory.",
        )

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._revival.end()
        await self._stop()

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        """Completions ``first .. first + n - 1`` of ``request``, by one request to vLLM."""
        return await self._revival.through(lambda: self._generate(request, first, n))

    async def _generate(self, request: Request, first: int, n: int) -> list[Completion]:
        if request.score:
            # The same text has the same scores, so one answer serves all n.
            scored = await self._score(request)
            return [scored, *(replace(scored, prompt_tokens=0) for _ in range(n - 1))]
        if n > 1 and not request.sampling.temperature:  # vLLM refuses n > 1 at temperature 0
            alone = [(await self._generate(request, first + i, 1))[0] for i in range(n)]
            return [alone[0], *(replace(c, prompt_tokens=0) for c in alone[1:])]
        output = await self._ask(request, first=first, n=n)
        outputs = sorted(output.outputs, key=lambda o: o.index)
        return [
            completion_of(o, request, len(output.prompt_token_ids) if i == 0 else 0, self._reading)
            for i, o in enumerate(outputs)
        ]

    async def _score(self, request: Request) -> Completion:
        output = await self._ask(request, first=0, n=1)
        tokens: list[tuple[str, float | None]] = [("", None)]
        for own, entries in zip(output.prompt_token_ids[1:], output.prompt_logprobs[1:], strict=True):
            tokens.append((entries[own].decoded_token or "", entries[own].logprob))
        return scoring.scored(tokens, request.prefix, "vllm", len(output.prompt_token_ids))

    async def _ask(self, request: Request, *, first: int, n: int) -> Any:
        """One request to vLLM and its complete answer. A cancelled request leaves vLLM's batch."""
        from vllm.exceptions import VLLMClientError, VLLMServerError

        try:
            async with asyncio.timeout(self._options.request_timeout):
                return await self._answer(request, first, n)
        except TimeoutError as error:
            raise TransientError(
                f"vLLM did not answer within {self._options.request_timeout:g} s", congested=True
            ) from error
        except (VLLMClientError, ValueError) as error:  # ValueError: the chat template refuses the messages
            raise RequestRefusedError(f"vllm: {error}") from error
        except VLLMServerError as error:
            cause = f" ({error.__cause__})" if error.__cause__ is not None else ""
            raise TransientError(f"vllm: {error}{cause}") from error

    async def _answer(self, request: Request, first: int, n: int) -> Any:
        assert self._loaded is not None, "the engine is used outside 'async with engine'"
        llm, _, lora = self._loaded
        prompt, params = await self._prompt(request), _params(request, first, n)
        answers = llm.generate(prompt, params, str(next(self._numbers)), lora_request=lora)
        whole = [answer async for answer in answers]  # exactly one, since only the final answer is requested
        if not whole:
            raise TransientError("vllm: the request was aborted")
        return whole[-1]

    async def _prompt(self, request: Request) -> Any:
        """The conversation in the model's own template, as vLLM's server renders it."""
        from vllm.renderers import ChatParams

        assert self._loaded is not None
        messages = sent(request.messages, self._options.reasoning_as)
        if request.prefix:
            messages.append({"role": "assistant", "content": request.prefix})
        turn = {"add_generation_prompt": not request.prefix, "continue_final_message": bool(request.prefix)}
        params = ChatParams(
            chat_template=self._loaded.template,
            chat_template_kwargs={**self._options.chat_template_kwargs, **turn},
        )
        _, (prompt,) = await self._loaded.llm.renderer.render_chat_async([messages], params)
        return prompt

    async def _start(self) -> None:
        # In a call of its own: if a module keeps an exception from its import, the exception keeps its frames
        # and with them everything that a caller of the import holds, such as this engine.
        await asyncio.to_thread(_import)
        loading = asyncio.ensure_future(asyncio.to_thread(_load, self._options))
        try:
            # vLLM's engine process does not notice when we are killed, while it loads or later.
            self._guard = await Guard.start(Order())
            while not loading.done():
                await asyncio.wait((loading,), timeout=_POLL_SECONDS)
                self._guard.watch(_engines())
            self._loaded = loading.result()
        except BaseException:
            await asyncio.wait((loading,))  # vLLM cannot be stopped while it loads
            if loading.exception() is None:
                self._loaded = loading.result()
            await self._stop()
            raise

    async def _stop(self) -> None:
        loaded, self._loaded = self._loaded, None
        whole = loaded is not None  # otherwise vLLM failed while loading, and may have left processes
        if loaded is not None:
            if loaded.llm.output_handler is not None:  # it would report the end of the engine as a crash
                loaded.llm.output_handler.cancel()
            await asyncio.to_thread(loaded.llm.shutdown, _SHUTDOWN_SECONDS)
            multiprocessing.active_children()  # which reaps those that have ended
            # vLLM's object is in a cycle, and complains if it is still there when Python ends.
            del loaded
            gc.collect()
        guard, self._guard = self._guard, None
        if guard is not None:
            await guard.stop(done=whole)


def _engines() -> list[int]:
    """The ids of vLLM's engine processes: one, or one for each data parallel rank."""
    return [p.pid for p in multiprocessing.active_children() if p.pid and "EngineCore" in p.name]


def _import() -> None:
    """Import vLLM, which takes seconds. ``EngineError`` if that fails."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import vllm.engine.arg_utils
        import vllm.v1.engine.async_llm  # noqa: F401
    except ImportError as error:
        raise EngineError(f"vLLM cannot be imported, or its version is not supported: {error}") from error


def _load(options: VllmOptions) -> _Loaded:
    """Load the model, in a thread of its own. ``RecipeError`` or ``EngineError`` if that fails."""
    # The processes that vLLM starts inherit the blocked signal: Ctrl-C reaches the whole foreground group,
    # but the run decides what happens to the requests in flight. The resource tracker is started first,
    # since starting it unblocks the signal again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return _create(options)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _create(options: VllmOptions) -> _Loaded:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.exceptions import VLLMError
    from vllm.lora.request import LoRARequest
    from vllm.platforms import current_platform
    from vllm.v1.engine.async_llm import AsyncLLM

    given = {"disable_log_stats": True, "use_tqdm_on_load": False} | arguments(options)
    if current_platform.is_cpu():
        # With seeds, a prompt that is computed in two steps crashes vLLM's CPU engine (0.32: "CPU Generator
        # does not use offset").
        given.setdefault("enable_chunked_prefill", False)
        # Prompts share only whole blocks of the cache, and many prompts are shorter than the default of 128.
        given.setdefault("block_size", 32)
    if unknown := sorted(given.keys() - AsyncEngineArgs.__dataclass_fields__.keys()):
        raise RecipeError(
            f"args: vLLM has no engine argument {unknown[0]!r}.",
            remedy="'vllm serve --help=all' lists them, written with dashes.",
        )
    try:
        llm = AsyncLLM.from_engine_args(AsyncEngineArgs(model=options.model, **given))
    except (VLLMError, ValueError, TypeError, RuntimeError, OSError, ImportError) as error:
        raise EngineError(f"vLLM cannot load {options.model}: {_first_line(error)}") from error
    return _Loaded(
        llm,
        Path(options.chat_template).read_text(encoding="utf-8") if options.chat_template else None,
        LoRARequest(ADAPTER, 1, options.lora) if options.lora else None,
    )


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__


def _params(request: Request, first: int, n: int) -> Any:
    """vLLM's sampling parameters: all of them, so that none comes from the model's generation_config."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    if request.score:
        return SamplingParams(
            temperature=0.0, max_tokens=1, prompt_logprobs=0, output_kind=RequestOutputKind.FINAL_ONLY
        )
    sampling = request.sampling
    return SamplingParams(
        n=n,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        max_tokens=sampling.max_tokens,
        stop=list(sampling.stop),
        logprobs=sampling.logprobs,
        seed=None if request.seed is None else request.seed + first,
        structured_outputs=None if sampling.schema is None else StructuredOutputsParams(json=sampling.schema),
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _meaning(output: Any, reading: ReplyReader) -> FinishMeaning:
    """Why an output ended; one without a reason did not."""
    return "error" if output.finish_reason is None else reading.meaning(output.finish_reason)


def completion_of(output: Any, request: Request, prompt_tokens: int, reading: ReplyReader) -> Completion:
    """One of vLLM's outputs as a completion. ``TransientError`` for one that was aborted."""
    most, reason = request.sampling.logprobs, _meaning(output, reading)
    if reason == "error":
        raise TransientError("vllm: the request was aborted")
    answer = reading.apart(request, output.text, "", reason)
    logprobs = None if most is None else _logprobs(output.token_ids, output.logprobs, most)
    tokens = phases(logprobs, answer)
    return Completion(
        text=answer.text,
        finish_reason=answer.reason,
        prompt_tokens=prompt_tokens,
        completion_tokens=len(output.token_ids),
        logprobs=tokens.answer,
        reasoning=answer.reasoning,
        reasoning_logprobs=tokens.reasoning,
    )


def _logprobs(tokens: Sequence[int], positions: Sequence[Any], most: int) -> tuple[TokenLogprob, ...]:
    """Each sampled token with its ``most`` likeliest alternatives, likeliest first."""
    found = []
    for token, entries in zip(tokens, positions, strict=True):
        own = entries[token]
        top = sorted((e for e in entries.values() if e.rank <= most), key=lambda e: e.rank)
        scores = tuple(TokenScore(e.decoded_token or "", e.logprob) for e in top)
        found.append(TokenLogprob(own.decoded_token or "", own.logprob, scores))
    return tuple(found)
