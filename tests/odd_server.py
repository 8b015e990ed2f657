"""A server that speaks the chat completions protocol oddly, a behaviour per path; see ``odd_*.py``.

    python tests/odd_server.py [--port N] [--seconds 3600]        prints its port

A behaviour NAME is reached under ``/NAME/v1``: a function of the ``Visit`` that returns the JSON of an answer
or a response. ``/NAME/v1/models`` lists the model ``m``, unless the behaviour is registered with
``models=True`` and answers that path too. ``/stats`` gives the requests that each path got.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from aiohttp import web


class Visit:
    """One request to one behaviour."""

    def __init__(self, name: str, path: str, request: web.Request, body: Any, number: int) -> None:
        self.name = name
        self.path = path
        """What follows ``/NAME/v1/``: ``chat/completions``, ``models``, ..."""
        self.request = request
        self.body = body
        """The JSON that was sent, ``None`` without a body."""
        self.number = number
        """How many requests this behaviour got before, on this path."""

    @property
    def last(self) -> str:
        """The text of the last message."""
        return str(self.body["messages"][-1]["content"])


Answer = dict[str, Any] | web.StreamResponse
Behaviour = Callable[[Visit], Awaitable[Answer]]

_BEHAVIOURS: dict[str, tuple[Behaviour, bool]] = {}


def behaviour(*, models: bool = False) -> Callable[[Behaviour], Behaviour]:
    """Register a behaviour under the function's name, with dashes; ``models``: it answers ``/models`` too."""

    def register(function: Behaviour) -> Behaviour:
        name = function.__name__.replace("_", "-")
        assert name not in _BEHAVIOURS, name
        _BEHAVIOURS[name] = function, models
        return function

    return register


def completion(*texts: str | None, usage: Any = (10, 5), **choice: Any) -> dict[str, Any]:
    """An answer as it should be, with each of ``texts`` as a choice; ``choice`` replaces fields of each."""
    counts = dict(zip(("prompt_tokens", "completion_tokens"), usage, strict=True)) if usage else None
    choices = [
        {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", **choice}
        for i, text in enumerate(texts)
    ]
    return {"id": "1", "object": "chat.completion", "model": "m", "choices": choices, "usage": counts}


class OddServer:
    """All behaviours in one application; ``visits`` has every request, in order."""

    def __init__(self) -> None:
        for path in sorted(Path(__file__).parent.glob("odd_*.py")):
            if path.stem != "odd_server":
                importlib.import_module(path.stem)
        self.visits: list[Visit] = []
        self.counts: Counter[tuple[str, str]] = Counter()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        name, path = request.match_info["name"], request.match_info["path"]
        body = (
            await request.json() if request.can_read_body and request.content_type.endswith("json") else None
        )
        visit = Visit(name, path, request, body, self.counts[name, path])
        self.counts[name, path] += 1
        self.visits.append(visit)
        answers, models = _BEHAVIOURS[name]
        if path == "models" and not models:
            return web.json_response({"object": "list", "data": [{"id": "m", "object": "model"}]})
        answer = await answers(visit)
        return answer if isinstance(answer, web.StreamResponse) else web.json_response(answer)

    async def stats(self, request: web.Request) -> web.Response:
        return web.json_response({f"{name}/{path}": n for (name, path), n in sorted(self.counts.items())})

    async def start(self, port: int = 0) -> tuple[web.AppRunner, int]:
        """Serve on the loopback address; the runner to clean up, and the port."""
        app = web.Application(client_max_size=1 << 30)
        app.add_routes([web.get("/stats", self.stats), web.route("*", "/{name}/v1/{path:.*}", self.handle)])
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return runner, runner.addresses[0][1]


class Odd:
    """An odd server in a thread of this process, while the ``with`` lasts."""

    def __enter__(self) -> Odd:
        self.server = OddServer()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runner, self.port = self._call(self.server.start())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def url(self, name: str) -> str:
        """The base URL of a behaviour, by its name with dashes."""
        assert name in _BEHAVIOURS, sorted(_BEHAVIOURS)
        return f"http://127.0.0.1:{self.port}/{name}/v1"

    @property
    def visits(self) -> list[Visit]:
        """Every request so far."""
        return self.server.visits


async def _main(port: int, seconds: float) -> None:
    runner, port = await OddServer().start(port)
    print(port, flush=True)
    await asyncio.sleep(seconds)  # a test that dies leaves no server behind for ever
    await runner.cleanup()


if __name__ == "__main__":
    from odd_server import OddServer  # the module that the behaviours register with

    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=3600)
    arguments = parser.parse_args()
    asyncio.run(_main(arguments.port, arguments.seconds))
