"""A chat server on 127.0.0.1 that answers, or misbehaves, as a test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from gristmill.core.engine import Message, Request, Sampling
from gristmill.engines.log.store import CompletionLog

Handler = Callable[[dict[str, Any], int], Awaitable[bytes] | bytes]


class Server:
    """Speaks HTTP/1.1 with keep-alive. ``handler`` gets the body and the count of requests before it, and
    gives the raw bytes to send; bytes of a response that is not whole are followed by a close."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.in_flight = self.most_in_flight = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    (
                        int(h.split(":")[1])
                        for h in head.split("\r\n")
                        if h.lower().startswith("content-length")
                    ),
                    0,
                )
                body = json.loads(await reader.readexactly(length) or b"{}")
                self.heads.append(head)
                self.bodies.append(body)
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                try:
                    answer = self._handler(body, len(self.bodies) - 1)
                    data = answer if isinstance(answer, bytes) else await answer
                finally:
                    self.in_flight -= 1
                writer.write(data)
                await writer.drain()
                if not _whole(data):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def _whole(data: bytes) -> bool:
    head, _, body = data.partition(b"\r\n\r\n")
    return f"Content-Length: {len(body)}\r\n".encode() in head + b"\r\n"


def http(body: bytes | dict[str, Any], status: int = 200, **headers: str) -> bytes:
    """A whole response."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def chat(*texts: str | None, reason: str = "stop", usage: tuple[int, int] | None = (7, 10)) -> dict[str, Any]:
    """A chat completion with one choice a text."""
    choices = [
        {"index": i, "message": {"role": "assistant", "content": t}, "finish_reason": reason}
        for i, t in enumerate(texts)
    ]
    counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1]} if usage else None
    return {"id": "x", "object": "chat.completion", "choices": choices, "usage": counts}


class Wire:
    """What the tests of the engines need of this module."""

    server = Server
    http = staticmethod(http)
    chat = staticmethod(chat)


@pytest.fixture
def wire() -> type[Wire]:
    return Wire


@pytest.fixture
def ask() -> Callable[..., Request]:
    def make(text: str = "2 + 2 = ?", seed: int | None = 5, prefix: str = "", **sampling: Any) -> Request:
        return Request((Message("user", text),), Sampling(**sampling), seed, prefix)

    return make


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "completions.sqlite"


@pytest.fixture
def log(log_path: Path) -> Iterator[CompletionLog]:
    with CompletionLog(log_path) as log:
        yield log
