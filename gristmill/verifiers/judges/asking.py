"""How a model is asked to choose among words, and how its choice is read.

There are three ways. *Probabilities*: it answers with only the word, and the probabilities of the words'
tokens count (the generative judge of SCIR, arXiv 2502.08922). *Text*: it reasons and ends with ``[[word]]``.
*JSON*: an object that is validated, with one attempt to repair it. An answer that cannot be read counts as no
choice.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Completion, Engine, Message, Request, Sampling, TokenLogprob
from gristmill.core.errors import RecipeError
from gristmill.core.prompts import fill, fill_messages, require
from gristmill.verifiers.judges.base import draw
from gristmill.verifiers.judges.published import read_published
from gristmill.verifiers.judges.replies import Unread, parsed, read_marked

T = TypeVar("T")
Read = Literal["auto", "probabilities", "text", "json", "published"]
Way = Literal["probabilities", "text", "json"]

_DIRECT_TOKENS = 8
"""Room for one word and its full stop."""
_ALTERNATIVES = 20


class Ballot(Struct, frozen=True):
    """The result of a choice among ``labels``. ``shares`` sum to 1; empty if nothing could be read.

    ``detail`` is the evidence: the votes, or why nothing could be read.
    """

    labels: tuple[str, ...]
    shares: tuple[float, ...]
    way: Way
    detail: str = ""

    @property
    def best(self) -> str | None:
        """The label with the greatest share; ``None`` if there is none or several have it."""
        top = max(self.shares, default=0.0)
        winners = [label for label, s in zip(self.labels, self.shares, strict=False) if s == top]
        return winners[0] if len(winners) == 1 else None

    def share(self, label: str) -> float | None:
        """The share of one label; ``None`` if nothing could be read."""
        return self.shares[self.labels.index(label)] if self.shares else None


class Asking(Struct, frozen=True, forbid_unknown_fields=True):
    """How a model is asked to choose.

    The texts ``direct``, ``reasoned`` and ``structured`` replace ``{answer_with}`` in a prompt; in them
    ``{labels}`` is the list of words, and ``{marked}`` the same in double brackets.
    """

    read: Read = "auto"
    """How the choice is read: from the ``probabilities`` of the words, from ``text``, from ``json``, or in
    any of the forms of ``published`` judges (docs/judges.md), for a model that was trained to one of them.
    ``auto``: probabilities if the engine returns them and there is one vote, otherwise text."""
    votes: Annotated[int, Meta(ge=1, le=1000)] = 1
    """The number of samples per question, 1 to 1000. Shares are of the votes that can be read; if fewer than
    half of them can, nothing is decided."""
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=1024)
    """How the answers are sampled; several votes need a temperature above 0."""
    min_mass: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """The lowest total probability of the words, 0 to 1, with which their shares count."""
    prefix: str = "Verdict:"
    """The beginning of the answer whose probabilities are read, so that its next token is the word. It is
    used only if the engine can continue a turn."""
    direct: str = "Answer with one of these words and nothing else: {labels}."
    """Tells the model to answer with only the word."""
    reasoned: str = (
        "Give your reasons in brief. Then end with your verdict in double brackets, written only once and "
        "as the last thing: {marked}."
    )
    """Tells the model to reason and end with its verdict."""
    structured: str = (
        'Answer with one JSON object and nothing else: {"reason": "...", "verdict": "..."}. '
        "The verdict is one of: {labels}."
    )
    """Tells the model to answer with JSON."""
    repair: str = "That answer could not be read: {error}. Answer again, with the JSON object alone."
    """Asks for another answer after one that is not the requested JSON; ``{error}`` says what is wrong."""

    def __post_init__(self) -> None:
        for name in ("direct", "reasoned", "structured"):
            require(f"asking.{name}", getattr(self, name), known=("labels", "marked"))
        require("asking.repair", self.repair, known=("error",))
        if self.votes > 1 and self.sampling.temperature == 0:
            raise RecipeError(
                f"asking: {self.votes} votes at temperature 0 are all the same, so they count as one vote.",
                remedy="Set sampling.temperature to 0.7.",
            )
        if self.votes > 1 and self.read == "probabilities":
            raise RecipeError(
                f"asking: {self.votes} votes read from the same probability distribution are equal.",
                remedy="Set votes to 1, or read to text.",
            )

    def way(self, engine: Engine, labels: Sequence[str]) -> Way:
        """How a choice among ``labels`` is read. ``RecipeError`` if the engine does not support it."""
        if self.read in ("text", "json", "published"):
            return "json" if self.read == "json" else "text"
        # The token "1" may be the beginning of the word "10": then tokens do not distinguish the words.
        clear = not any(a != b and b.startswith(a) for a in labels for b in labels)
        able = Ability.LOGPROBS in engine.abilities and clear
        if self.read == "probabilities" and not able:
            why = (
                f"the engine {engine.model} does not return token probabilities"
                if clear
                else "one of the words begins with another"
            )
            raise RecipeError(f"asking: cannot read probabilities: {why}.", remedy="Set read to text.")
        return "probabilities" if able and self.votes == 1 else "text"

    async def choose(
        self,
        prompt: Sequence[Message],
        values: dict[str, str],
        labels: tuple[str, ...],
        *,
        engine: Engine,
        seed: int,
    ) -> Ballot:
        """One choice. ``prompt`` is filled with ``values`` and the instruction on how to answer."""
        way = self.way(engine, labels)
        told = {"probabilities": self.direct, "text": self.reasoned, "json": self.structured}[way]
        words = {"labels": ", ".join(labels), "marked": " or ".join(f"[[{word}]]" for word in labels)}
        messages = fill_messages(prompt, **values, answer_with=fill(told, **words))
        if way == "probabilities":
            sampling = replace(self.sampling, max_tokens=_DIRECT_TOKENS, logprobs=_ALTERNATIVES)
            prefix = self.prefix if Ability.CONTINUE in engine.abilities else ""
            [answer] = await engine.generate(Request(messages, sampling, seed, prefix))
            return self._weighed(answer, labels)
        request = Request(messages, self.sampling, seed)
        if way == "text":
            reader = read_published if self.read == "published" else read_marked
            read = [reader(c, labels) for c in await draw(engine, request, self.votes)]
        else:
            parse = partial(_verdict, labels=labels)
            read = await self.structure(request, parse, engine=engine, n=self.votes)
        return _counted(read, labels, way)

    async def structure(
        self, request: Request, parse: Callable[[str], T], *, engine: Engine, n: int = 1
    ) -> list[T | Unread]:
        """``n`` samples of a request whose answers are JSON, each with one attempt to repair it.

        ``parse`` raises ``ValueError`` for a text that is not as requested; the model is then shown its own
        answer and that error.
        """
        drawn = await draw(engine, request, n)
        return await asyncio.gather(
            *(self._repaired(request, i, answer, parse, engine) for i, answer in enumerate(drawn))
        )

    async def _repaired(
        self, request: Request, index: int, answer: Completion, parse: Callable[[str], T], engine: Engine
    ) -> T | Unread:
        found = parsed(answer, parse)
        if not isinstance(found, Unread):
            return found
        again = Message("assistant", answer.text), Message("user", fill(self.repair, error=found.why))
        repeat = replace(request, messages=(*request.messages, *again))
        # Samples with equal answers send equal repairs; the index keeps their completions apart.
        [answer] = await engine.generate(repeat, first=index)
        return parsed(answer, parse)

    def _weighed(self, answer: Completion, labels: tuple[str, ...]) -> Ballot:
        lines = [line.strip(" \t.*\"'`[]") for line in answer.text.splitlines() if line.strip()]
        said = lines[0] if lines else ""
        if answer.finish_reason not in ("stop", "length"):
            return Ballot(labels, (), "probabilities", f"finish_reason {answer.finish_reason}")
        if said.casefold() not in (label.casefold() for label in labels):
            # "A closer look ..." begins with the token of a verdict without being one.
            return Ballot(labels, (), "probabilities", f"no verdict: {said[:60]!r}")
        masses = masses_of(answer.logprobs or (), labels)
        total = sum(masses)
        if total == 0 or total < self.min_mass:
            return Ballot(labels, (), "probabilities", f"the words hold {total:.3f} of the probability")
        shares = tuple(m / total for m in masses)
        told = ", ".join(f"{label} {s:.3f}" for label, s in zip(labels, shares, strict=True))
        return Ballot(labels, shares, "probabilities", told)


def masses_of(tokens: Sequence[TokenLogprob], labels: Sequence[str]) -> tuple[float, ...]:
    """The probability of each label at the first token that contains a letter or digit.

    A token counts for the only label that it equals or begins; ``" Yes"`` and ``"[[yes"`` are ``yes``.
    """
    masses = [0.0] * len(labels)
    position = next((t for t in tokens if re.search(r"\w", t.token)), None)
    if position is not None:
        # The sampled token may be among its own alternatives as well.
        candidates = {position.token: position.logprob} | {s.token: s.logprob for s in position.top}
        for token, logprob in candidates.items():
            fits = _fits(token, labels)
            if len(fits) == 1:
                masses[fits[0]] += math.exp(logprob)
    return tuple(masses)


def _fits(token: str, labels: Sequence[str]) -> list[int]:
    """The labels that ``token`` equals or begins."""
    word = re.search(r"\w+", token)
    if word is None:
        return []
    part, closed = word[0].casefold(), bool(token[word.end() :].strip())
    known = [label.casefold() for label in labels]
    return [i for i, k in enumerate(known) if k == part or (not closed and k.startswith(part))]


def _verdict(text: str, labels: tuple[str, ...]) -> str:
    verdict: str = msgspec.json.decode(text, type=_reply(labels)).verdict
    return verdict


@cache
def _reply(labels: tuple[str, ...]) -> Any:
    return msgspec.defstruct("Reply", [("verdict", Literal[labels])])


def _counted(read: Sequence[str | Unread], labels: tuple[str, ...], way: Way) -> Ballot:
    votes = Counter(r for r in read if not isinstance(r, Unread))
    total, reasons = votes.total(), [r.why for r in read if isinstance(r, Unread)]
    told = [f"{label} {votes[label]}" for label in labels] if total else []
    told += [f"unread {len(reasons)} ({reasons[0]})"] if reasons else []
    shares = tuple(votes[label] / total for label in labels) if total and 2 * total >= len(read) else ()
    return Ballot(labels, shares, way, ", ".join(told))
