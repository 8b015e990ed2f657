"""An engine with given answers, for tests, demonstrations and dry runs. No model, no network."""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Self

import msgspec
from msgspec import Meta, Struct

from gristmill.core.engine import Ability, Completion, Message, Request, TokenLogprob, TokenScore
from gristmill.core.errors import InputError, RecipeError, RequestRefusedError, TransientError
from gristmill.engines.options import EngineOptions

Text = Annotated[str | Completion, Meta(description="a text, or a whole completion")]
ABILITIES = frozenset(Ability) - {Ability.LOGPROBS, Ability.SCORE, Ability.REWARD}

Score = Callable[[tuple[Message, ...], str], Sequence[TokenLogprob]]
"""From the messages and a text to the text's scored tokens."""
_ASKING = ("user", "tool")

_encode = msgspec.json.Encoder().encode
_WORDS = re.compile(r"\n|[^\S\n]*\S+")
"""The tokens of a text: words with the space before them, and line breaks, which end steps."""


class Reply(Struct, frozen=True, forbid_unknown_fields=True):
    """Answers to the prompts whose last message of the user, or last result of a tool, matches."""

    texts: Annotated[tuple[Text, ...], Meta(min_length=1)]
    """The answers, each a text or a whole completion; at least one."""
    match: str = ""
    """The text that the last message of the user, or the last result of a tool, must contain; empty matches
    every message. A reward model is asked about an answer: it is looked for in the message, a line break
    and the answer."""
    regex: bool = False
    """Whether ``match`` is a regular expression (in the syntax of Python's ``re``) to be searched for."""


class TextLikelihood(Struct, frozen=True, forbid_unknown_fields=True):
    """How likely the engine finds texts that match."""

    logprob: Annotated[float, Meta(lt=0)]
    """The mean natural-log probability of a word of such a text; single words have from half to one and a
    half of it, as the word and those before it decide."""
    match: str = ""
    """The regular expression to be found in the text; empty fits every text."""
    asked: str = ""
    """The regular expression to be found in the messages before it, as one text."""


class Scripted(EngineOptions, frozen=True, kw_only=True):
    """Given answers instead of a model.

    The first reply that matches is used. Which of its texts is a pure function of the messages, the prefix
    and seed + sample index. Latencies and failures are pure functions of the request and the try.
    """

    replies: tuple[Reply, ...] = ()
    """The answers; the first that matches a prompt is used."""
    path: str | None = None
    """A YAML or JSON file with a list of further replies, tried after those of ``replies``."""
    likelihoods: tuple[TextLikelihood, ...] = ()
    """Log-probabilities, of the answers and of any text that is to be scored: the first that matches counts.
    Empty for an engine that has none."""
    reward: bool = False
    """A reward model: the texts are what its server would answer, in JSON: ``[[0.5]]``."""
    model: str = "scripted"
    """The name under which the completions are kept in the log."""
    latency: Annotated[float, Meta(ge=0)] = 0.0
    """The mean time in seconds that an answer takes; times are spread evenly from half to one and a half of
    it, so that answers overtake each other."""
    failure_rate: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """The share of tries that fail, from 0 to 1."""

    def open(self) -> ScriptedEngine:
        """The engine. ``RecipeError`` without replies, ``InputError`` for a file without such a list."""
        replies = self.replies if self.path is None else self.replies + _read(Path(self.path))
        if not replies:
            raise RecipeError(
                "scripted: there are no replies.", remedy="Add 'replies:' or 'path:' to the engine."
            )
        texts = [text for reply in replies for text in reply.texts]
        scored = all(isinstance(text, Completion) and text.logprobs is not None for text in texts)
        score = _scorer(self.likelihoods) if self.likelihoods else None
        able = ABILITIES | {Ability.LOGPROBS} if scored or score else ABILITIES
        return ScriptedEngine(
            _answer(replies),
            model=self.model,
            abilities=able | {Ability.REWARD} if self.reward else able,
            concurrency=self.concurrency,
            latency=self.latency,
            failure_rate=self.failure_rate,
            score=score,
        )


class ScriptedEngine:
    """An engine that answers by calling ``function(request, sample index)``; see ``Scripted``.

    ``score(messages, text)`` returns the scored tokens of a text; with it the engine has ``Ability.SCORE``.
    With ``Ability.REWARD`` among ``abilities`` the function answers those requests, with JSON.
    The tokens of a plain text and of its prompt are counted as words. ``requests`` counts the tries.
    """

    def __init__(
        self,
        function: Callable[[Request, int], Completion | str],
        *,
        model: str = "scripted",
        abilities: frozenset[Ability] = ABILITIES,
        concurrency: int = 64,
        latency: float = 0.0,
        failure_rate: float = 0.0,
        score: Score | None = None,
    ) -> None:
        self._function = function
        self._score = score
        self.model = model
        self.abilities = abilities if score is None else abilities | {Ability.SCORE}
        self.concurrency = concurrency
        self.requests = 0
        self._latency = latency
        self._failure_rate = failure_rate
        self._failed: dict[bytes, int] = {}  # tries so far, of requests that have only failed until now

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        """Completions ``first .. first + n - 1`` after the latency, or a scripted failure."""
        self.requests += 1
        if self._latency or self._failure_rate:
            digest = _digest(_encode((request, first, n)))
            tries = self._failed.pop(digest, 0)
            if self._latency:
                await asyncio.sleep(self._latency * (0.5 + _unit(digest, b"latency", tries)))
            if _unit(digest, b"failure", tries) < self._failure_rate:
                self._failed[digest] = tries + 1
                raise TransientError(f"scripted failure of try {tries + 1}")
        return [self._completion(request, first + i, counted=i == 0) for i in range(n)]

    def _completion(self, request: Request, index: int, *, counted: bool) -> Completion:
        if request.score and Ability.REWARD not in self.abilities:
            if self._score is None:
                raise RequestRefusedError("scripted: this engine has no function that scores a text")
            tokens = tuple(self._score(request.messages, request.prefix))
            return Completion(
                request.prefix,
                prompt_tokens=_words(request) + len(tokens) if counted else 0,
                logprobs=tokens,
            )
        answer = self._function(request, index)
        if isinstance(answer, Completion):
            if answer.logprobs is not None and request.sampling.logprobs is None:
                return msgspec.structs.replace(answer, logprobs=None, reasoning_logprobs=None)
            return answer
        score = None if request.sampling.logprobs is None else self._score
        return Completion(
            text=answer,
            prompt_tokens=_words(request) if counted else 0,
            completion_tokens=len(answer.split()),
            logprobs=None if score is None else tuple(score(request.messages, answer)),
        )


def _words(request: Request) -> int:
    return sum(len(m.content.split()) for m in request.messages)


def _answer(replies: tuple[Reply, ...]) -> Callable[[Request, int], Completion | str]:
    fits = [_matcher(reply) for reply in replies]

    def answer(request: Request, index: int) -> Completion | str:
        asked = next((m.content for m in reversed(request.messages) if m.role in _ASKING), "")
        asked += f"\n{request.prefix}" if request.score else ""
        reply = next((reply for reply, fit in zip(replies, fits, strict=True) if fit(asked)), None)
        if reply is None:
            raise RequestRefusedError(f"scripted: no reply matches {asked[:80]!r}")
        if len(reply.texts) == 1:
            return reply.texts[0]
        drawn = _digest(_encode((request.messages, request.prefix, (request.seed or 0) + index)))
        return reply.texts[int.from_bytes(drawn, "big") % len(reply.texts)]

    return answer


def _scorer(likelihoods: tuple[TextLikelihood, ...]) -> Score:
    found = [(_compiled(one.match), _compiled(one.asked), one.logprob) for one in likelihoods]

    def score(messages: tuple[Message, ...], text: str) -> list[TokenLogprob]:
        before = "\n".join(m.content for m in messages)
        fits = (mean for match, asked, mean in found if match(text) and asked(before))
        mean = next(fits, None)
        if mean is None:
            raise RequestRefusedError(f"scripted: no likelihood matches {text[:80]!r}")
        words = _WORDS.findall(text) or [text]
        return [
            _word(word, mean * (0.5 + _unit(_digest(_encode(words[: i + 1])), b"word", 0)))
            for i, word in enumerate(words)
        ]

    return score


def _word(word: str, logprob: float) -> TokenLogprob:
    """A word with its alternatives: itself, and one that has the rest of the probability."""
    rest = math.log(-math.expm1(logprob))
    return TokenLogprob(word, logprob, (TokenScore(word, logprob), TokenScore(f"{word}?", rest)))


def _matcher(reply: Reply) -> Callable[[str], Any]:
    if not reply.regex:
        return lambda asked: reply.match in asked
    return _compiled(reply.match)


def _compiled(match: str) -> Callable[[str], Any]:
    try:
        return re.compile(match).search
    except re.error as error:
        raise RecipeError(
            f"scripted: {match!r} is not a valid regular expression: {error}.",
            remedy="Correct it, or leave out 'regex' to search for the text as it is.",
        ) from error


def _read(path: Path) -> tuple[Reply, ...]:
    import yaml

    try:
        data = yaml.safe_load(path.read_bytes())
        return msgspec.convert(data, tuple[Reply, ...])
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror or error}.", path=str(path), remedy="Check the path."
        ) from error
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise InputError(
            f"not a list of replies: {error}.",
            path=str(path),
            remedy="Write '- {match: TEXT, texts: [ANSWER]}' for each.",
        ) from error


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=8).digest()


def _unit(digest: bytes, use: bytes, tries: int) -> float:
    """A pseudo-random number in [0, 1) for one use of one try."""
    return int.from_bytes(_digest(b"%b %b %d" % (digest, use, tries)), "big") / 2**64
