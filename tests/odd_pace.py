"""Behaviours of the odd server: limits on the pace, and refusals."""

from __future__ import annotations

import asyncio
from time import monotonic

from aiohttp import web
from odd_server import Answer, Visit, behaviour, completion


def refusal(status: int, message: str, code: str = "", **headers: str) -> web.Response:
    """An error in the form that most servers use."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response({"error": {"message": message, "code": code}}, status=status, headers=named)


class Window:
    """A limit of ``most`` requests in a time of ``seconds``, which begins anew when it is over."""

    def __init__(self, most: int, seconds: float) -> None:
        self.most = most
        self.seconds = seconds
        self._began = monotonic()
        self._taken = 0

    def take(self) -> tuple[int, float]:
        """How many are left after this one (-1: it is refused), and the seconds until the next window."""
        now = monotonic()
        if now - self._began >= self.seconds:
            self._began, self._taken = now, 0
        self._taken += 1
        return max(-1, self.most - self._taken), self._began + self.seconds - now


_windows: dict[int, Window] = {}


def window(visit: Visit, most: int, seconds: float) -> tuple[int, float]:
    """The window of this behaviour at this server."""
    app = id(visit.request.app)
    if visit.number == 0:
        _windows[app] = Window(most, seconds)
    return _windows[app].take()


@behaviour()
async def limited(visit: Visit) -> Answer:
    """30 requests a second, and no hint how long to wait."""
    left, _ = window(visit, 30, 1.0)
    if left < 0:
        return refusal(429, "Too many requests")
    await asyncio.sleep(0.02)
    return completion("4")


@behaviour()
async def limited_in_words(visit: Visit) -> Answer:
    """20 requests in half a second; the message says when to come again."""
    left, rest = window(visit, 20, 0.5)
    if left < 0:
        return refusal(
            429, f"Rate limit reached for m. Please try again in {rest * 1000:.0f}ms.", "rate_limit"
        )
    return completion("4")


@behaviour()
async def limited_with_headers(visit: Visit) -> Answer:
    """20 requests in half a second; every answer says what is left."""
    left, rest = window(visit, 20, 0.5)
    headers = {
        "x-ratelimit-limit-requests": "20",
        "x-ratelimit-remaining-requests": str(max(0, left)),
        "x-ratelimit-reset-requests": f"{rest * 1000:.0f}ms",
    }
    if left < 0:
        return refusal(429, "Too many requests", **{k.replace("-", "_"): v for k, v in headers.items()})
    return web.json_response(completion("4"), headers=headers)


@behaviour()
async def limited_a_day(visit: Visit) -> Answer:
    """Three requests, then none for an hour."""
    return completion("4") if visit.number < 3 else refusal(429, "Daily limit reached", Retry_After="3600")


@behaviour()
async def milliseconds(visit: Visit) -> Answer:
    """One refusal with a wait in milliseconds, which is more exact than the one in seconds."""
    if visit.number == 0:
        return refusal(429, "later", retry_after_ms="40", Retry_After="1")
    return completion("4")


def _keyed(visit: Visit) -> str:
    return visit.request.headers.get("Authorization", "").removeprefix("Bearer ")


@behaviour()
async def keyed(visit: Visit) -> Answer:
    """Repeats keys that begin with ``good``, also from behind; one has no money, one is over its limit."""
    key = _keyed(visit)
    if key.startswith("empty"):
        return refusal(429, f"You exceeded your current quota, key {key}", "insufficient_quota")
    if key.startswith("tired"):
        return refusal(429, "Too many requests", Retry_After="5")
    if not key.startswith("good"):
        return refusal(401, f"Incorrect API key provided: {key}", "invalid_api_key")
    return completion(f"{key} {key[::-1]}")


@behaviour()
async def long_prompts(visit: Visit) -> Answer:
    """Refuses prompts that contain ``long``, as vLLM does."""
    if "long" in visit.last:
        return refusal(
            400,
            "This model's maximum context length is 2048 tokens. However, you requested 4000 tokens in the "
            "messages, please reduce their length.",
        )
    return completion("4")


@behaviour()
async def one_turn_refused(visit: Visit) -> Answer:
    """Answers every turn, except that the follow-up of one conversation is flagged."""
    turns = [m["content"] for m in visit.body["messages"] if m["role"] == "assistant"]
    if turns and turns[0] == "2 + 2 = 3. \\boxed{3}":
        return refusal(400, "The prompt was flagged by the content filter", "content_filter")
    if turns:
        return completion("2 + 2 = 4, so it is right. [VERIFY] correct.")
    return completion(*(f"2 + 2 = {i}. \\boxed{{{i}}}" for i in range(visit.body.get("n", 1))))
