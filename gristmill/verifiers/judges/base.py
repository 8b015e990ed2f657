"""Verifiers that need a model: their protocol, and how a text to be judged is put before a model.

A judged text is hostile until shown otherwise: it may hold a verdict, a delimiter or the tokens that end a
chat turn. It stands between two lines with a code that is in none of the texts, and its chat tokens are
broken.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol, TypeVar

from msgspec import Struct

from gristmill.core.engine import Ability, Completion, Engine, Request
from gristmill.core.stages import Estimate, derive_seed
from gristmill.core.verdicts import Verdict

# Tokens that a chat template gives a meaning, which many servers also read inside a message's text.
_CHAT_TOKEN = re.compile(
    r"<(?=[|｜][^<>\s]{1,40}[|｜]>|/?s>|(?:start|end)_of_turn>|[be]os>)|\[(?=/?(?:INST|SYSTEM_PROMPT)\])",
    re.IGNORECASE,
)


V = TypeVar("V")
Way = Literal["auto", "probabilities", "text", "json", "published"]
Winner = Literal["first", "second", "tie"]
_CHARS_PER_TOKEN = 4
_FRAME = 1200
"""Characters that a prompt has beside the texts to be judged, about; for estimates only."""


class ModelVerifier(Protocol):
    """A verifier that asks a model: a frozen ``Struct`` of options that is called with an engine.

    It raises what ``engine`` raises and nothing else, whatever the texts hold. The same texts, options and
    seed send the same requests, so the completion log answers them a second time. Registered under the
    entry point group ``gristmill.model_verifiers``.
    """

    @property
    def needs(self) -> frozenset[Ability]:
        """What the engine must be able to do."""
        ...

    def estimate(self, completion: str, reference: str, *, problem: str) -> Estimate:
        """Bounds on what one call will cost."""
        ...

    async def __call__(
        self, completion: str, reference: str, *, problem: str, engine: Engine, seed: int
    ) -> Verdict:
        """Judge ``completion``, an answer to ``problem``; ``reference`` may be blank where none is needed."""
        ...


def with_row(verifier: V, row: Mapping[str, Any]) -> V:
    """``verifier`` with what it reads from a row (its method ``for_row``), or as it is if it reads nothing.

    ``RowRejected`` for a row that lacks what it reads.
    """
    found: V = verifier.for_row(row) if hasattr(verifier, "for_row") else verifier
    return found


class Comparison(Struct, frozen=True):
    """Two answers compared. ``winner`` is ``None`` where it could not be told.

    ``first`` and ``second`` are their strengths: for a judge the probability (or share of votes) that the one
    is better, averaged over both orders; for a checklist the scores. ``orders`` holds the judge's probability
    that the first is better, with the first shown first and shown second.
    """

    winner: Winner | None
    first: float | None = None
    second: float | None = None
    orders: tuple[float, float] | None = None
    detail: str = ""


class Comparer(Protocol):
    """A model verifier that compares two answers to one problem."""

    @property
    def needs(self) -> frozenset[Ability]:
        """What the engine must be able to do."""
        ...

    async def compare(
        self, first: str, second: str, *, problem: str, engine: Engine, seed: int
    ) -> Comparison:
        """Which of the two is better. Raises what ``engine`` raises."""
        ...

    def estimate_pair(self, first: str, second: str, *, problem: str) -> Estimate:
        """Bounds on what one comparison will cost."""
        ...


def needs_of(read: Way) -> frozenset[Ability]:
    """What an engine must be able to do whose choices are read in this way."""
    return frozenset({Ability.CHAT} | ({Ability.LOGPROBS} if read == "probabilities" else set()))


def bounds(questions: int, votes: int, read: Way, tokens: int, *texts: str) -> Estimate:
    """What so many questions about ``texts`` cost, each put ``votes`` times; JSON may be asked for twice.

    ``tokens`` is the greatest length of an answer.
    """
    json = read == "json"
    prompt = (sum(map(len, texts)) + _FRAME) // _CHARS_PER_TOKEN + (tokens if json else 0)
    least = questions * votes
    return Estimate(least, least * (2 if json else 1), prompt, tokens)


def fence(seed: int, texts: Iterable[str]) -> str:
    """Eight hexadecimal digits that are in none of ``texts``: a function of these and the seed."""
    texts = [t.casefold() for t in texts]
    codes = (f"{derive_seed(seed, 'fence', i):08x}" for i in itertools.count())
    return next(code for code in codes if not any(code in t for t in texts))


def quote(name: str, text: str, code: str) -> str:
    """``text`` between two lines that name it and carry ``code``; chat tokens in it get a blank inside."""
    inert = _CHAT_TOKEN.sub(lambda m: m[0] + " ", text)
    return f"[BEGIN {name} {code}]\n{inert}\n[END {name} {code}]"


def quoted(seed: int, **texts: str | None) -> dict[str, str]:
    """The values of a prompt's places: every text quoted under its name, ``None`` as nothing at all.

    ``response_a="x"`` is quoted as ``RESPONSE A``. ``fence`` is the code that all of them share.
    """
    code = fence(seed, (t for t in texts.values() if t is not None))
    values = {
        name: "" if text is None else quote(name.replace("_", " ").upper(), text, code)
        for name, text in texts.items()
    }
    return {**values, "fence": code}


async def draw(engine: Engine, request: Request, n: int) -> list[Completion]:
    """Samples 0 to ``n - 1`` of a request, in one call where the engine can do that."""
    if n == 1 or Ability.MANY in engine.abilities:
        return await engine.generate(request, n=n)
    drawn = await asyncio.gather(*(engine.generate(request, first=i) for i in range(n)))
    return [completion for [completion] in drawn]
