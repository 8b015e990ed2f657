"""Behaviours of the odd server: what answers may look like."""

from __future__ import annotations

from odd_server import Answer, Visit, behaviour, completion


@behaviour()
async def plain(visit: Visit) -> Answer:
    return completion(*[f"The answer to {visit.last} is \\boxed{{1}}."] * visit.body.get("n", 1))
