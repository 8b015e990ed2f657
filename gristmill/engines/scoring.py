"""Log-probabilities of a given text, as vLLM's chat completions return them.

The text is sent as an assistant message to be continued, with ``prompt_logprobs: 0``. The answer then holds
a list of the whole prompt's tokens: the first is null and each other one is an object with one entry,
``{token id: {logprob, rank, decoded_token}}``. Which of them belong to the text is found from the end, by
spelling the text backwards. One token is generated, the fewest that a server accepts, and thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gristmill.core.engine import Completion, TokenLogprob
from gristmill.core.errors import RequestRefusedError, TransientError
from gristmill.engines.reading import token_count

_UNKNOWN = "\ufffd"
"""How a token is shown that is only a part of a character."""
_MOST_BYTES = 4
"""The most bytes that a character has in UTF-8."""


class _Entry(Struct):
    logprob: float
    decoded_token: str | None = None


class _Usage(Struct):
    prompt_tokens: Any = None


class _Response(Struct):
    choices: list[Any] | None = None
    prompt_logprobs: list[dict[str, _Entry] | None] | None = None
    usage: _Usage | None = None


_decode = msgspec.json.Decoder(_Response).decode


def fields(max_tokens_field: str) -> dict[str, Any]:
    """Fields that turn the body of a request that continues a text into one that scores it."""
    return {max_tokens_field: 1, "prompt_logprobs": 0, "temperature": 0.0, "top_p": 1.0}


def completion(body: bytes, text: str, url: str) -> Completion:
    """The scored ``text`` from a response's body.

    ``TransientError`` for a body that is not an answer; ``RequestRefusedError`` if the server does not return
    these log-probabilities, or if its tokens do not spell ``text``.
    """
    try:
        response = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        shown = " ".join(body[:200].decode(errors="replace").split())
        raise TransientError(f"{url}: not a scored chat completion ({error}): {shown}") from error
    if not response.choices:
        raise TransientError(f"{url}: not a chat completion: it has no choices")
    if not response.prompt_logprobs:
        raise RequestRefusedError(
            f"{url}: the server did not return prompt_logprobs; leave 'score' out of the engine's abilities"
        )
    usage = response.usage or _Usage()
    tokens = [_token(entries) for entries in response.prompt_logprobs]
    return scored(tokens, text, url, token_count(usage.prompt_tokens) or 0)


def scored(
    tokens: Sequence[tuple[str, float | None]], text: str, where: str, prompt_tokens: int
) -> Completion:
    """The scored ``text``, from the ``tokens`` (with log-probabilities) of a prompt that ends with it.

    ``RequestRefusedError``, which names ``where``, if the tokens do not spell the text or lack a
    log-probability.
    """
    pieces = spell(text, [token for token, _ in tokens])
    if pieces is None:
        end = "".join(token for token, _ in tokens[-8:])[-60:]
        raise RequestRefusedError(
            f"{where}: the prompt's tokens end in {end!r} and do not spell the text to score"
        )
    logprobs = [logprob for _, logprob in tokens[len(tokens) - len(pieces) :]]
    if None in logprobs:
        raise RequestRefusedError(f"{where}: a token of the text to score has no log-probability")
    return Completion(
        text=text,
        prompt_tokens=prompt_tokens,
        logprobs=tuple(TokenLogprob(t, p) for t, p in zip(pieces, logprobs, strict=True) if p is not None),
    )


def _token(entries: dict[str, _Entry] | None) -> tuple[str, float | None]:
    """A position's own token, which is the first entry that the server returns for it."""
    entry = next(iter(entries.values()), None) if entries else None
    return ("", None) if entry is None else (entry.decoded_token or "", entry.logprob)


def spell(text: str, tokens: Sequence[str]) -> tuple[str, ...] | None:
    """The parts of ``text`` that the last of ``tokens`` represent; joined they are ``text``.

    ``None`` if they do not spell it. Tokens need not match its parts exactly:

    - white space at an end of the text that the chat template removed goes to the nearest token;
    - a space that a token lost when it was decoded alone (SentencePiece) goes to that token;
    - of several tokens that are bytes of one character, shown as U+FFFD or as nothing, the last gets the
      character and the others get an empty part;
    - a token that begins before the text and ends in it (a merge over the boundary) counts as a whole, and
      gets the part that is in the text.
    """
    rest = text.rstrip()
    trailing = text[len(rest) :]
    pieces: list[str] | None = None
    for ending in dict.fromkeys((text, rest)):  # with the white space at the end, or without it
        pieces = _backward(ending, tokens)
        if pieces:
            if ending is not text:
                pieces[0] += trailing
            break
    return tuple(reversed(pieces)) if pieces else None


def _backward(text: str, tokens: Sequence[str]) -> list[str] | None:
    """The pieces of ``text`` from its end; ``None`` if it cannot be spelled."""
    rest, at, pieces = text, len(tokens), list[str]()
    while rest:
        token = tokens[at - 1] if at else ""
        bytes_of = _bytes(rest, tokens, at) if _UNKNOWN in token and not rest.endswith(token) else None
        if token.endswith(rest):
            pieces.append(rest)
            break
        if at and rest.endswith(token):
            pieces.append(token)
            rest, at = rest[: len(rest) - len(token)], at - 1
        elif bytes_of is not None:
            count, piece = bytes_of
            pieces += [piece] + [""] * (count - 1)
            rest, at = rest[: len(rest) - len(piece)], at - count
        elif pieces and at and rest[-1] == " " and rest[:-1].endswith(token):
            pieces[-1], rest = " " + pieces[-1], rest[:-1]
        elif pieces and not rest.strip():
            pieces[-1], rest = rest + pieces[-1], ""
        else:
            return None
    return pieces


def _bytes(rest: str, tokens: Sequence[str], end: int) -> tuple[int, str] | None:
    """How many tokens before ``end`` are bytes of characters, and the end of ``rest`` that they spell.

    That is the shortest end for which the token before them fits as well.
    """
    start = end
    while start and _UNKNOWN in tokens[start - 1]:
        start -= 1
    before = tokens[start - 1] if start else ""
    for length in range(1, min(len(rest), _MOST_BYTES * (end - start)) + 1):
        head, piece = rest[: len(rest) - length], rest[len(rest) - length :]
        fits = head.endswith(before) or before.endswith(head)
        if fits and len(piece.encode(errors="replace")) >= end - start:
            return end - start, piece
    return None
