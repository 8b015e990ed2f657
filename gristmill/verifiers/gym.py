"""Verdicts over HTTP, as NeMo Gym asks a resources server for them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from gristmill.verifiers.rewards import AnyVerifier, as_verl_reward

if TYPE_CHECKING:
    from aiohttp import web


def reward_app(verifier: AnyVerifier = "math", **settings: Any) -> web.Application:
    """An aiohttp application that answers ``POST /seed_session`` and ``POST /verify``.

    The body of ``/verify`` is a row with ``expected_answer``, ``question`` and ``response`` (an object of
    OpenAI's Responses API); the answer is the same with ``reward``. What is judged is the text of the
    response's last message; a response without one is worth what a wrong answer is. ``settings`` are those of
    ``as_verl_reward``. A body that is none of this is answered with status 422 and the reason.
    """
    from aiohttp import web

    price = as_verl_reward(verifier, **settings)

    async def seed_session(request: web.Request) -> web.Response:
        return web.json_response({})

    async def verify(request: web.Request) -> web.Response:
        try:
            body = await request.json()
            said = _last_message(body["response"]["output"])
            row = {"problem": body.get("question", ""), **body}
            gold = body["expected_answer"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            told = f"not a row with its response: {type(error).__name__}: {error}"
            return web.json_response({"error": told}, status=422)
        reward = await asyncio.to_thread(price, "", said, gold, row)
        return web.json_response({**body, "reward": reward})

    app = web.Application(client_max_size=64 << 20)
    app.add_routes([web.post("/seed_session", seed_session), web.post("/verify", verify)])
    return app


def serve_rewards(verifier: AnyVerifier = "math", host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve ``reward_app`` until it is interrupted."""
    from aiohttp import web

    web.run_app(reward_app(verifier), host=host, port=port)


def _last_message(output: list[dict[str, Any]]) -> str:
    """The text of the last message among the items of a response; empty where there is none."""
    for item in reversed(output):
        if item.get("type") == "message":
            content = item["content"]
            if isinstance(content, str):
                return content
            return "".join(part.get("text", "") for part in content)
    return ""
