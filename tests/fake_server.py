"""An OpenAI-compatible chat server for tests, in a process of its own; counts every attempt.

    python tests/fake_server.py [--latency-ms 20]        prints its port

A conversation is known by its first user message and the number of assistant turns in it. A POST to
``/latency`` with a number sets the latency in milliseconds; ``/stats`` gives the counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter

from aiohttp import web


class Server:
    def __init__(self, latency_ms: float) -> None:
        self.latency_ms = latency_ms
        self.attempts: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.in_flight = self.most_in_flight = self.aborted = 0

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
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        finally:
            self.in_flight -= 1
        self.answered[key] += 1
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": f"answer {turn} to {first} \\boxed{{1}}"},
            "finish_reason": "stop",
        }
        usage = {"prompt_tokens": 10, "completion_tokens": 5}
        return web.json_response(
            {"id": key, "object": "chat.completion", "choices": [choice], "usage": usage}
        )

    async def stats(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "requests": self.attempts.total(),
                "keys": len(self.attempts),
                "answered": self.answered.total(),
                "in_flight": self.in_flight,
                "most_in_flight": self.most_in_flight,
                "aborted": self.aborted,
            }
        )

    async def set_latency(self, request: web.Request) -> web.Response:
        self.latency_ms = float(json.loads(await request.text()))
        return web.json_response({})


async def main(latency_ms: float) -> None:
    server = Server(latency_ms)
    app = web.Application()
    app.add_routes(
        [
            web.post("/v1/chat/completions", server.chat),
            web.get("/stats", server.stats),
            web.post("/latency", server.set_latency),
        ]
    )
    # A client that goes away cancels its request, so that it is counted as aborted.
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.sleep(600)  # a test that dies leaves no server behind for ever


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency-ms", type=float, default=20)
    asyncio.run(main(parser.parse_args().latency_ms))
