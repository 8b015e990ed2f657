"""Ratings by named attributes with a justification, and how strongly one of two answers is preferred.

The layout is that of HelpSteer2 (arXiv 2406.08673) and HelpSteer2-Preference (arXiv 2410.01257): five
attributes from 0 to 4, and a preference from -3 to 3 with the reason for it.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from gristmill.core.engine import Ability, Engine, Message, Sampling
from gristmill.core.prompts import require
from gristmill.core.stages import Estimate
from gristmill.core.verdicts import Verdict
from gristmill.verifiers.evidence import decided, unparseable
from gristmill.verifiers.judges.asking import Asking
from gristmill.verifiers.judges.base import bounds, quoted
from gristmill.verifiers.judges.content import judged_part, judged_parts
from gristmill.verifiers.judges.judge import SYSTEM
from gristmill.verifiers.judges.rubric import Line
from gristmill.verifiers.raters.base import PartRater, Rated, ask_json, evidence

HELPSTEER: dict[str, str] = {
    "helpfulness": "how well it does what was asked, all in all",
    "correctness": "whether all that it states is true and nothing that matters is missing",
    "coherence": "whether it is clear, hangs together and does not contradict itself",
    "complexity": "how much knowledge of the subject it takes to write it, from anybody to an expert",
    "verbosity": "how much it says for what was asked, from terse to long-winded",
}
"""HelpSteer2's attributes, in our own words."""
_RATE = Message(
    "user",
    "{problem}\n\n{response}\n\nRate RESPONSE, an answer to PROBLEM, by each attribute with a whole number "
    "from 0 (not at all) to {highest} (as much as can be):\n{attributes}\n\nAnswer with one JSON object and "
    'nothing else: {"justification": "...", "ratings": {{form}}}.',
)
_PREFER = Message(
    "user",
    "{problem}\n\n{response_a}\n\n{response_b}\n\nWhich of the two answers PROBLEM better, and by how much? "
    "Neither length nor the order of the two matters. A whole number: -3 if A is much better, -2 if it is "
    "better, -1 if it is slightly better, 0 if they are equally good, and 1, 2 and 3 for B likewise. Answer "
    'with one JSON object and nothing else: {"justification": "...", "preference": ...}.',
)
_JSON = Asking(read="json", sampling=Sampling(temperature=0.0, max_tokens=1024))


class AttributeRatings(PartRater, frozen=True, forbid_unknown_fields=True):
    """Rates one answer by several attributes, with a justification; the reference is not used.

    The parts are the mean ratings over the votes, from 0 to ``highest``. The score is their mean over
    ``counted``, divided by ``highest``.
    """

    attributes: Annotated[dict[Line, Line], Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: dict(HELPSTEER)
    )
    """What is rated, by name, and in words what it means; by default the five of HelpSteer2."""
    counted: tuple[Line, ...] = ("helpfulness", "correctness", "coherence")
    """The attributes that count for the score. Of those that are not rated none does; if none is left, all
    that are rated count."""
    highest: Annotated[int, Meta(ge=1, le=100)] = 4
    """The highest rating, 1 to 100; the lowest is 0."""
    accept: Annotated[float, Meta(ge=0, le=1)] = 0.75
    """The lowest score, 0 to 1, that is ``correct``."""
    asking: Asking = _JSON
    """How it is asked: ``votes`` and ``sampling``. The reply is always JSON."""
    prompt: tuple[Message, ...] = (SYSTEM, _RATE)
    """The prompt, with ``{problem}``, ``{response}``, ``{attributes}``, ``{form}``, ``{highest}`` and
    ``{fence}``."""

    def __post_init__(self) -> None:
        require(
            "prompt", self.prompt, "response", "attributes", known=("problem", "form", "highest", "fence")
        )

    @property
    def needs(self) -> frozenset[Ability]:
        """To chat."""
        return frozenset({Ability.CHAT})

    @property
    def part_names(self) -> tuple[str, ...]:
        """The attributes."""
        return tuple(self.attributes)

    def estimate(self, completion: str, reference: str, *, problem: str) -> Estimate:
        """One question a vote, with one repair each."""
        tokens = self.asking.sampling.max_tokens
        return bounds(1, self.asking.votes, "json", tokens, problem, completion, *self.attributes.values())

    async def rate(
        self, completion: str, reference: str, *, problem: str, engine: Engine, seed: int
    ) -> Rated:
        """The ratings; undecided if fewer than half of the votes could be read."""
        shown = judged_part(completion)
        if isinstance(shown, Verdict):
            return Rated(shown, dict.fromkeys(self.part_names))
        values = quoted(seed, problem=problem, response=shown) | {
            "attributes": "\n".join(f"- {name}: {text}" for name, text in self.attributes.items()),
            "form": ", ".join(f'"{name}": ...' for name in self.attributes),
            "highest": str(self.highest),
        }
        parse = partial(_ratings, names=self.part_names, highest=self.highest)
        read, unread = await ask_json(self.asking, self.prompt, values, parse, engine=engine, seed=seed)
        if 2 * len(read) < self.asking.votes:
            return Rated(unparseable("ratings: not read", unread[0]), dict.fromkeys(self.part_names))
        means = {name: sum(r.ratings[name] for r in read) / len(read) for name in self.attributes}
        counted = [means[name] for name in self.counted if name in means] or list(means.values())
        score = sum(counted) / len(counted) / self.highest
        detail = evidence(ratings=means, justification=[r.justification for r in read], unread=unread)
        return Rated(decided(score >= self.accept, rule="ratings", score=score, detail=detail), means)


class PreferenceJudge(Struct, frozen=True, forbid_unknown_fields=True):
    """How strongly one of two answers is preferred, with the justification, asked in both orders."""

    asking: Asking = _JSON
    """How it is asked: ``votes`` and ``sampling``. The reply is always JSON."""
    prompt: tuple[Message, ...] = (SYSTEM, _PREFER)
    """The prompt, with ``{problem}``, ``{response_a}``, ``{response_b}`` and ``{fence}``."""

    def __post_init__(self) -> None:
        require("prompt", self.prompt, "response_a", "response_b", known=("problem", "fence"))

    async def prefer(
        self, first: str, second: str, *, problem: str, engine: Engine, seed: int
    ) -> PreferenceStrength:
        """The strength from -3 (the second is much better) to 3 (the first is).

        Orders that prefer different answers make 0. Not told if an order could not be read.
        """
        shown = judged_parts(first, second)
        if isinstance(shown, str):
            return PreferenceStrength(None, why=shown)
        orders = await asyncio.gather(
            *(self._order(a, b, problem, engine, seed) for a, b in (shown, shown[::-1]))
        )
        for read, unread in orders:
            if 2 * len(read) < self.asking.votes:
                return PreferenceStrength(None, why=unread[0])
        ahead, behind = (sum(r.preference for r in read) / len(read) for read, _ in orders)
        justification = tuple(r.justification for read, _ in orders for r in read)
        agree = ahead * behind < 0
        return PreferenceStrength((behind - ahead) / 2 if agree else 0.0, (-ahead, behind), justification)

    async def _order(
        self, a: str, b: str, problem: str, engine: Engine, seed: int
    ) -> tuple[list[PreferenceReply], list[str]]:
        values = quoted(seed, problem=problem, response_a=a, response_b=b)
        return await ask_json(self.asking, self.prompt, values, _preference, engine=engine, seed=seed)

    def estimate_pair(self, first: str, second: str, *, problem: str) -> Estimate:
        """A question a vote for each of the two orders, with one repair each."""
        tokens = self.asking.sampling.max_tokens
        return bounds(2, self.asking.votes, "json", tokens, problem, first, second)


class PreferenceStrength(Struct, frozen=True):
    """A preference from -3 to 3, above 0 for the first answer; ``None`` if it could not be told, with why.

    ``orders`` are the means with the first shown first and shown second.
    """

    value: float | None
    orders: tuple[float, float] | None = None
    justification: tuple[str, ...] = ()
    why: str = ""


class PreferenceReply(Struct, frozen=True):
    """What a judge of two answers says: below 0 for A."""

    justification: str
    preference: Annotated[int, Meta(ge=-3, le=3)]


class _Ratings(Struct, frozen=True):
    justification: str
    ratings: dict[str, int]


def _ratings(text: str, names: tuple[str, ...], highest: int) -> _Ratings:
    found = msgspec.json.decode(text, type=_Ratings)
    if set(found.ratings) != set(names):
        raise ValueError(f"ratings are of {', '.join(found.ratings) or 'nothing'}, not of {', '.join(names)}")
    for name, rating in found.ratings.items():
        if not 0 <= rating <= highest:
            raise ValueError(f"{name} is {rating}, not from 0 to {highest}")
    return found


def _preference(text: str) -> PreferenceReply:
    return msgspec.json.decode(text, type=PreferenceReply)
