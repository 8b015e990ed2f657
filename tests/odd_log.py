"""Odd behaviours that the completion log must stand."""

from __future__ import annotations

import asyncio

from odd_server import Answer, Visit, behaviour, completion


@behaviour()
async def never_twice(visit: Visit) -> Answer:
    """No text is ever given again."""
    await asyncio.sleep(0.02)
    return completion(f"{visit.last} {visit.number}")


@behaviour()
async def poisoned_count(visit: Visit) -> Answer:
    """More tokens than 64 bits hold."""
    return completion("4", usage=(2**63, 5))
