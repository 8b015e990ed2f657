"""What servers answer, however odd: every behaviour of ``odd_server`` through the engine."""

from __future__ import annotations

import asyncio

from odd_server import Odd

from gristmill.core.engine import Message, Request, Sampling
from gristmill.engines.openai import OpenAI


def test_the_plain_one(odd: Odd) -> None:
    async def asked() -> str:
        async with OpenAI(base_url=odd.url("plain"), model="m").open() as engine:
            [got] = await engine.generate(Request((Message("user", "q"),), Sampling()))
        return got.text

    assert asyncio.run(asked()) == "The answer to q is \\boxed{1}."
    assert [(v.name, v.path) for v in odd.visits] == [("plain", "chat/completions")]
