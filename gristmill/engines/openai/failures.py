"""What a server says when it does not answer, as the errors that a session knows."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import msgspec
from msgspec import Struct

from gristmill.core.errors import EngineError, RequestRefusedError, TransientError

_SNIPPET = 200
_CONGESTED = frozenset({429, 503, 529})
TRANSIENT = _CONGESTED | {408, 409, 425, 500, 502, 504, 520, 521, 522, 523, 524}
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for a body that is not JSON of the right shape, or is nested too deeply."""


class _Problem(Struct):
    error: Any = None
    message: Any = None
    detail: Any = None


_decode_problem = msgspec.json.Decoder(_Problem).decode


def failure(url: object, key: str, status: int, headers: Any, body: bytes) -> EngineError:
    """The error that HTTP ``status`` stands for; ``key`` is removed from what the server says."""
    code, text = _reason(body)
    if key:
        text = text.replace(key, "***")
    message = f"HTTP {status} from {url}: {text or 'no reason given'}"
    if 300 <= status < 400:
        message += f" (redirects to {headers.get('Location', '?')}; set base_url to that)"
    if status in TRANSIENT and code != "insufficient_quota":
        return TransientError(
            message, retry_after=_retry_after(headers.get("Retry-After")), congested=status in _CONGESTED
        )
    return RequestRefusedError(message)


def _reason(body: bytes) -> tuple[str, str]:
    """The code and the message of an error's body, in any of the forms that servers use."""
    try:
        problem = _decode_problem(body)
    except UNREADABLE:
        return "", readable(body)
    error = problem.error or problem.message or problem.detail
    if isinstance(error, dict):
        return str(error.get("code") or ""), snippet(str(error.get("message") or error))
    return "", snippet(str(error)) if error else readable(body)


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from a Retry-After header of either form (RFC 9110, section 10.2.3)."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except ValueError:
        return None


def readable(body: bytes) -> str:
    """The beginning of a body as text, for a message."""
    return snippet(body[: 4 * _SNIPPET].decode(errors="replace")) or "an empty body"


def snippet(text: str) -> str:
    """The beginning of ``text`` on one line."""
    text = " ".join(text[: 4 * _SNIPPET].split())
    return text if len(text) <= _SNIPPET else text[:_SNIPPET] + "..."
