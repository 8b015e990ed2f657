"""Behaviours of the odd server: reward models, whose reward is known from the answer."""

from __future__ import annotations

from aiohttp import web
from odd_server import Answer, Visit, behaviour


@behaviour()
async def rewards(visit: Visit) -> Answer:
    """``/score``: the length of the second text; refuses one that is too long for the model."""
    text = visit.body["text_2"]
    if len(text) > 100:
        error = {"message": "the input is too long: it is over the maximum context length"}
        return web.json_response({"error": error}, status=400)
    return {"data": [{"index": 0, "object": "score", "score": float(len(text))}], "usage": None}
