"""What a server says when it does not answer, as the errors that a session knows."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from functools import lru_cache
from time import time
from typing import Any

import msgspec
from msgspec import Struct

from gristmill.core.errors import EngineError, RequestRefusedError, ServerRefusedError, TransientError
from gristmill.core.secrets import Secrets, without_controls
from gristmill.engines.pace import Hint

_SNIPPET = 200
_CONGESTED = frozenset({429, 503, 529})
TRANSIENT = _CONGESTED | {408, 409, 425, 500, 502, 504, 520, 521, 522, 523, 524}
_SERVER = frozenset({401, 402, 403, 404, 405, 407, 410, 501})
"""Statuses that are not about one request; so are redirects."""
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for a body that is not JSON of the right shape, or is nested too deeply."""

# What servers say, in codes and in words; each was seen in the documentation that docs/servers.md names.
_NO_MONEY = re.compile(
    r"insufficient[ _](?:quota|balance|credit|fund)|credit balance is too low|not enough credit"
    r"|out of credit|billing_(?:hard_limit|not_active)|quotaId\S* ?:? ?'?\w*PerDay",
    re.IGNORECASE,
)
_OWN = re.compile(
    r"context[ _](?:length|window|size)|maximum (?:context|prompt|input|sequence)"
    r"|(?:prompt|input|request|message)\S* (?:is |are )?too (?:long|large|many)|too many (?:input )?tokens"
    r"|string_(?:too_long|above_max_length)|flagged|moderation|invalid_prompt|responsible ?ai"
    r"|(?:content|input|prompt)[ _](?:filter|policy|management)|data_inspection|inappropriate|safety"
    r"|usage policies",
    re.IGNORECASE,
)
_FIELD = re.compile(
    r"unsupported[ _](?:parameter|value)|unknown_parameter|extra_forbidden"
    r"|(?:unknown|unrecognized|unexpected) (?:request )?(?:parameter|argument|field|name)"
    r"|(?:inputs|fields|properties) (?:are|is|were) not (?:permitted|allowed)"
    r"|(?:parameter|field|argument)\S* (?:\S+ ){0,3}(?:is|are) not supported",
    re.IGNORECASE,
)
_AGAIN = re.compile(
    r"(?:again|retry|wait)\b[^.]{0,30}?\b(?:in|after|for)\s+((?:\d+(?:\.\d+)?\s*[a-z]+\s*)+)", re.IGNORECASE
)
_PART = re.compile(
    r"(\d+(?:\.\d+)?)\s*(ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hours?|d|days?)(?![a-z])",
    re.IGNORECASE,
)
_UNITS = {"ms": 0.001, "milli": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST = 366 * 86400.0
_REMEDIES = {
    401: "Set the variable that api_key_env names to a key that this server accepts.",
    402: "Top up the account or use another key, then run again.",
    403: "Use a key that may use this model.",
    404: "Correct base_url (most end in /v1) or model.",
    407: "Correct the proxy in the environment (HTTPS_PROXY).",
}
_FIELDS = (
    "Leave a field that the server does not know out with 'omit: [NAME]', send it under its own name with "
    "'rename: {NAME: OTHER}', or set max_tokens_field."
)


class _Said(Struct):
    """What a body says: the message, and everything of the error in one text."""

    message: str
    all: str
    wait: float | None


def failure(
    url: object, secrets: Secrets, status: int, headers: Mapping[str, str], body: bytes
) -> EngineError:
    """The error that HTTP ``status`` stands for; ``secrets`` are taken out of what the server says."""
    said = _said(body)
    message = f"HTTP {status} from {url}: {secrets.out_of(said.message) or 'no reason given'}"
    if 300 <= status < 400:
        to = secrets.out_of(snippet(headers.get("Location", "?")))
        return ServerRefusedError(
            f"{message} (redirects to {to})", remedy="Set base_url to where it redirects."
        )
    wait = wait_of(headers, said.wait)
    field = status in {400, 422} and _FIELD.search(said.all)
    if status in {400, 402, 403, 429} and _NO_MONEY.search(said.all):
        return ServerRefusedError(message, remedy=_REMEDIES[402])
    if status in {400, 403, 413, 422} and _OWN.search(said.all) and not field:
        return RequestRefusedError(message, own=True)
    if status == 429 and "request too large" in said.all.lower():  # more than a minute's tokens by itself
        return RequestRefusedError(message, own=True)
    if status in {402, 429} and (status == 429 or wait is not None):
        return TransientError(message, retry_after=wait, congested=True, cause="limited")
    if status in TRANSIENT:
        return TransientError(message, retry_after=wait, congested=status in _CONGESTED)
    if field or status in _SERVER:
        return ServerRefusedError(message, remedy=_FIELDS if field else _REMEDIES.get(status, _REMEDIES[404]))
    return RequestRefusedError(message, own=status == 413)


def _said(body: bytes) -> _Said:
    """The message of an error's body, in any of the forms that servers use."""
    try:
        problem = msgspec.json.decode(body)
        if isinstance(problem, list) and problem:  # Gemini wraps it in a list
            problem = problem[0]
        if not isinstance(problem, dict):
            return _Said(readable(body), "", None)
        error = problem.get("error") or problem.get("message") or problem.get("detail")
        every = f"{error}"[: 20 * _SNIPPET]
    except UNREADABLE:
        return _Said(readable(body), "", None)
    if isinstance(error, dict):
        message = str(error.get("message") or error)
        wait = next((duration(w) for w in _delays(error.get("details"))), None)
    else:
        message, wait = str(error or ""), None
    found = _AGAIN.search(message)
    if wait is None and found:
        wait = duration(found[1])
    every = f"{problem.get('type', '')} {problem.get('code', '')} {every}"
    return _Said(snippet(message) if error else readable(body), every, wait)


def _delays(details: Any) -> Iterator[str]:
    """The waits in Google's error details (``RetryInfo``)."""
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict) and isinstance(detail.get("retryDelay"), str):
            yield detail["retryDelay"]


def wait_of(headers: Mapping[str, str], said: float | None = None) -> float | None:
    """Seconds to wait: from ``retry-after-ms``, ``Retry-After`` (RFC 9110, section 10.2.3), what the body
    ``said``, or the time at which a limit of which nothing is left is whole again."""
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        if (wait := duration(headers.get(name, ""), scale=0.001)) is not None:
            return wait
    wait = duration(headers.get("Retry-After", ""))
    if wait is None:
        wait = said
    if wait is None:
        wait = max((h.reset for h in hints(headers) if not h.remaining), default=None)
    return wait


def hints(headers: Mapping[str, str]) -> list[Hint]:
    """What the headers say of limits: ``x-ratelimit-remaining-requests`` and ``-reset-requests``, the same of
    tokens, without either, and Anthropic's. A limit of which ``-1`` is left is not one."""
    if not _hinted(tuple(headers)):
        return []
    found = []
    for what, names in _HINTS.items():
        for remaining, reset in names:
            left, until = headers.get(remaining), duration(headers.get(reset, ""))
            if left is None or until is None:
                continue
            try:
                amount = float(left)
            except ValueError:
                continue
            if amount >= 0 and math.isfinite(amount):
                found.append(Hint(what, amount, until))
            break
    return found


@lru_cache(64)  # a server sends the same headers with every answer
def _hinted(names: tuple[str, ...]) -> bool:
    return any("ratelimit" in name.lower() for name in names)


_HINTS = {
    what: (
        (f"x-ratelimit-remaining-{what}", f"x-ratelimit-reset-{what}"),
        (f"anthropic-ratelimit-{what}-remaining", f"anthropic-ratelimit-{what}-reset"),
        *(
            (("x-ratelimit-remaining", "x-ratelimit-reset"), ("ratelimit-remaining", "ratelimit-reset"))
            * plain
        ),
    )
    for what, plain in (("requests", 1), ("tokens", 0))
}


def duration(text: str, *, scale: float = 1.0) -> float | None:
    """Seconds from ``7``, ``6m0s``, ``20ms``, ``1.5 seconds``, a date, or a Unix time in seconds or
    milliseconds; a number is in ``scale`` seconds. Never negative; ``None`` for anything else."""
    text = text.strip()
    if not text:
        return None
    try:
        number = float(text) * scale
    except ValueError:
        parts = _PART.findall(text)
        if parts and not _PART.sub("", text).strip():
            number = sum(
                float(n) * _UNITS["milli" if u[:2] in ("ms", "mi") and u[2:3] != "n" else u[0]]
                for n, u in parts
            )
        else:
            return _date(text)
    if not math.isfinite(number):
        return None
    if number > 1e11:
        number /= 1000
    if number > 1e9:
        number -= time()
    return min(_LONGEST, max(0.0, number))


def _date(text: str) -> float | None:
    from datetime import datetime

    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            return min(_LONGEST, max(0.0, read(text).timestamp() - time()))
        except (ValueError, OverflowError):
            continue
    return None


def readable(body: bytes) -> str:
    """The beginning of a body as text, for a message."""
    return snippet(body[: 4 * _SNIPPET].decode(errors="replace")) or "an empty body"


def snippet(text: str) -> str:
    """The beginning of ``text`` on one line, without control characters."""
    text = " ".join(without_controls(text[: 4 * _SNIPPET]).split())
    return text if len(text) <= _SNIPPET else text[:_SNIPPET] + "..."
