"""An OpenAI-compatible chat server for tests, in a process of its own; counts every attempt.

    python tests/fake_server.py [--latency-ms 20] [--port N] [--seconds 3600]        prints its port

A conversation is known by its first user message and the number of assistant turns in it. A POST to
``/latency`` with a number sets the latency in milliseconds; one to ``/mode`` with a name of ``MODES`` how
chats are answered, and one to ``/health`` with a status how ``/v1/models`` is; ``/stats`` gives the counts.
One to ``/reset`` with a latency makes it what it was at the start, once all that is in flight has ended.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from typing import Any

from aiohttp import web

FAILED = {
    "abort": {"finish_reason": "abort"},
    "null": {"message": {"role": "assistant", "content": None}},
    "deep": {"message": json.loads('{"content":' * 400 + "1" + "}" * 400)},
}
"""Answers at HTTP 200 that are none, by what is odd about their choice."""
MODES = ("well", "hang", "garbage", "cut", "error", "refuse", "unfit", "busy", "limited", "odd", *FAILED)
"""Answers as they should be; never; not JSON; half of it; HTTP 500; 404; 422; 429; 429 with the time to wait;
oddly, and right nevertheless; or one of ``FAILED``."""


class Server:
    def __init__(self, latency_ms: float) -> None:
        self.in_flight = 0
        self.begin(latency_ms)

    def begin(self, latency_ms: float) -> None:
        self.latency_ms = latency_ms
        self.attempts: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.most_in_flight = self.aborted = 0
        self.mode = "well"
        self.health = 200
        self.checks = 0

    async def chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        first = next(m["content"] for m in body["messages"] if m["role"] == "user")
        turn = sum(m["role"] == "assistant" for m in body["messages"])
        key = f"{first}/{turn}"
        self.attempts[key] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.latency_ms / 1000)
            while self.mode == "hang":
                await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        finally:
            self.in_flight -= 1
        if self.mode not in ("well", "odd", *FAILED):
            return self.misbehave()
        text = f"answer {turn} to {first} \\boxed{{1}}"
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
        }
        usage: dict[str, Any] = {"prompt_tokens": 10, "completion_tokens": 5}
        if self.mode == "odd":
            parts = [{"type": "thinking", "thinking": "So ..."}, {"type": "text", "text": text}]
            choice |= {"message": {"role": "assistant", "content": parts}, "finish_reason": "eos"}
            usage = {"prompt_tokens": "10.0", "completion_tokens": 2**63}
        choice |= FAILED.get(self.mode, {})
        self.answered[key] += self.mode not in FAILED
        return web.json_response(
            {"id": key, "object": "chat.completion", "choices": [choice], "usage": usage}
        )

    def misbehave(self) -> web.Response:
        if self.mode == "garbage":
            return web.Response(text="<html>no chat completion</html>", content_type="text/html")
        if self.mode == "cut":
            return web.Response(text='{"choices": [{"message": {"content": "answ', content_type="text/html")
        status = {"refuse": 404, "unfit": 422, "busy": 429, "limited": 429}.get(self.mode, 500)
        headers = {"retry-after-ms": "300"} if self.mode == "limited" else None
        return web.json_response({"error": {"message": self.mode}}, status=status, headers=headers)

    async def models(self, request: web.Request) -> web.Response:
        self.checks += 1
        return web.json_response({"data": []}, status=self.health)

    async def stats(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "requests": self.attempts.total(),
                "keys": len(self.attempts),
                "answered": self.answered.total(),
                "in_flight": self.in_flight,
                "most_in_flight": self.most_in_flight,
                "aborted": self.aborted,
                "checks": self.checks,
                "most_of_one": max(self.attempts.values(), default=0),
            }
        )

    async def set_latency(self, request: web.Request) -> web.Response:
        self.latency_ms = float(json.loads(await request.text()))
        return web.json_response({})

    async def reset(self, request: web.Request) -> web.Response:
        self.mode = "well"  # lets go of those that hang
        while self.in_flight:
            await asyncio.sleep(0.01)
        self.begin(float(await request.text()))
        return web.json_response({})

    async def set_mode(self, request: web.Request) -> web.Response:
        mode = await request.text()
        assert mode in MODES, mode
        self.mode = mode
        return web.json_response({})

    async def set_health(self, request: web.Request) -> web.Response:
        self.health = int(await request.text())
        return web.json_response({})


async def main(latency_ms: float, port: int, seconds: float) -> None:
    server = Server(latency_ms)
    app = web.Application()
    app.add_routes(
        [
            web.post("/v1/chat/completions", server.chat),
            web.get("/v1/models", server.models),
            web.get("/stats", server.stats),
            web.post("/latency", server.set_latency),
            web.post("/mode", server.set_mode),
            web.post("/reset", server.reset),
            web.post("/health", server.set_health),
        ]
    )
    # A client that goes away cancels its request, so that it is counted as aborted.
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.sleep(seconds)  # a test that dies leaves no server behind for ever


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency-ms", type=float, default=20)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=3600)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.latency_ms, arguments.port, arguments.seconds))
