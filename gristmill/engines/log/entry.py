"""What one entry of the completion log is: its key, its family, its text and the seal that guards the
text."""

from __future__ import annotations

import hashlib
import zlib
from functools import lru_cache
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from gristmill.core.engine import Completion, Request, Sampling

_MOST_TOKENS = 1 << 40
_LIMIT = '"max_tokens":'
_NO_LIMIT = Sampling().max_tokens
_CUT = frozenset({"length", "other"})

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Completion).decode


class LogKey(NamedTuple):
    """What finds a completion, with its sample index: a 16-byte digest and the texts that it is made of."""

    digest: bytes
    model: str
    request: str


def request_key(model: str, request: Request) -> LogKey:
    """The key of a request: BLAKE2b-128 of the JSON of ``[model, request]`` in the order of the fields.

    ``UnicodeEncodeError`` for text with lone surrogates, which cannot be sent as JSON either.
    """
    body = _encode(request)
    return LogKey(_digest(model, body), model, body.decode())


def key_of(model: str, request: str) -> bytes:
    """The digest of a key, from the texts that it is made of."""
    return _digest(model, request.encode())


@lru_cache(512)  # asked for at the look-up and again at the put
def family(model: str, request: str) -> int:
    """A number of 32 bits that a request shares with those that differ from it in ``max_tokens`` only, and by
    chance with few others."""
    rest, _ = without_limit(request)
    return zlib.crc32(rest.encode(), zlib.crc32(model.encode()))


def _digest(model: str, body: bytes) -> bytes:
    return hashlib.blake2b(b"[%b,%b]" % (_encode(model), body), digest_size=16).digest()


def without_limit(request: str) -> tuple[str, int]:
    """The JSON of a request without its ``max_tokens``, and that number.

    The name with its quotes and its colon stands nowhere else: quotes inside a text are escaped.
    """
    at = request.rfind(_LIMIT)  # it is near the end
    if at < 0:
        return request, _NO_LIMIT
    start = end = at + len(_LIMIT)
    while request[end].isdigit():
        end += 1
    limit = int(request[start:end])
    if request[at - 1] == ",":
        at -= 1
    elif request[end] == ",":
        end += 1
    return request[:at] + request[end:], limit


def serves(completion: Completion, given: int, asked: int) -> bool:
    """Whether an answer to a request with ``max_tokens`` ``given`` is one to the same request with ``asked``.

    It must have ended by itself, within what is asked for: with as many tokens as allowed it might have been
    cut off, since some servers do not count the token that ends it.
    """
    if completion.finish_reason in _CUT:
        return False
    return given <= asked or 0 < completion.completion_tokens < asked


def plain(completion: Completion) -> Completion:
    """The completion with token counts that can be: one outside 0 to 2**40 is unknown, which is 0."""
    counts = (completion.prompt_tokens, completion.completion_tokens)
    if 0 <= counts[0] <= _MOST_TOKENS and 0 <= counts[1] <= _MOST_TOKENS:
        return completion
    prompt, answer = (count if 0 <= count <= _MOST_TOKENS else 0 for count in counts)
    return replace(completion, prompt_tokens=prompt, completion_tokens=answer)


def written(completion: Completion) -> bytes:
    """The text of a completion in the log. ``UnicodeEncodeError`` for lone surrogates."""
    return _encode(completion)


def seal(key: bytes, sample: int, text: bytes) -> int:
    """The checksum (CRC-32) of a completion's text and its place, which tells a flipped bit."""
    return zlib.crc32(text, zlib.crc32(b"%b%d" % (key, sample)))


def read(key: bytes, sample: int, text: bytes | None, sealed: int | None) -> Completion | None:
    """The completion of an entry; ``None`` for one that is broken. An entry without a seal, which is older
    than seals are, only has to be readable."""
    if text is None or (sealed is not None and seal(key, sample, text) != sealed):
        return None
    try:
        return plain(_decode(text))
    except msgspec.DecodeError:
        return None
