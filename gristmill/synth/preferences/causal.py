"""``causal_pairs``: answers with one attribute of their quality made better or worse."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Message, Sampling
from gristmill.core.errors import RowRejected
from gristmill.core.prompts import RowValues, fill, require
from gristmill.core.records import Pair, Sampled
from gristmill.core.stages import Context, Estimate, Rejection
from gristmill.synth.preferences.better import Authored, Preferring, likeness, side, told, written
from gristmill.synth.preferences.contrast import Share
from gristmill.synth.scorers.base import of_sample
from gristmill.verifiers.judges.base import quoted

Change = Literal["upgrade", "degrade"]
_ATTRIBUTES = (
    "{problem}\n\nPROBLEM is a request. Name what makes an answer to it good, at most {count} attributes "
    "that are causes of quality and not matters of style: each a few words on a line of its own, and nothing "
    "else."
)
_UPGRADE = (
    "{problem}\n\n{response}\n\nRESPONSE answers PROBLEM. Write it again so that it is clearly better in "
    "this one respect: {attribute}. Leave all else as it is. Write the new response alone."
)
_DEGRADE = (
    "{problem}\n\n{response}\n\nRESPONSE answers PROBLEM. Write it again so that it is clearly worse in "
    "this one respect: {attribute}. Leave all else as it is, and do not say that it is worse. Write the new "
    "response alone."
)
_CALL = 24
_LONGEST = 120
"""Characters of an attribute; a longer line is prose."""
_BULLET = re.compile(r"^\s*(?:[-*•–]|\(?[0-9]{1,2}[.):])\s+|\*\*")


def read_attributes(text: str, most: int) -> list[str]:
    """The attributes of a reply with one a line, without bullets, numbers and repetitions.

    Lines that end with a colon introduce, and lines above 120 characters explain: neither is an attribute.
    """
    lines = (_BULLET.sub("", line).strip(" \t*.;") for line in text.splitlines())
    listed = (line for line in lines if re.search(r"[^\W\d_]", line) and not line.endswith(":"))
    found: dict[str, str] = {}
    for line in listed:
        if len(line) <= _LONGEST:
            found.setdefault(line.casefold(), line)
    return [*found.values()][:most]


class CausalPairs(Preferring, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Crome's causal augmentations (arXiv 2506.16507): a model lists the attributes that make an answer to
    the prompt good, and rewrites a sample so that one of them becomes better, or worse.

    An upgrade is preferred to the sample, the sample to a degraded one. ``check`` asks whether that is so,
    with the options that say which side is better; the paper takes the writer's word, and keeps instead the
    pairs of which a reward model is unsure or wrong: ``score_pairs`` and ``where`` do that. ``neutral_ties``
    makes the neutral augmentations of these pairs.

    A rewrite that is cut off, blank, the same, or less alike than ``least`` is rejected by itself, and a
    sample whose prompt got no attributes. ``meta`` has the ``attribute``, the ``change`` and the sample's id.
    """

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = Pair

    attributes: Annotated[int, Meta(ge=1, le=20)] = 5
    """The most attributes that are listed; samples of one problem share the list."""
    each: Annotated[int, Meta(ge=1, le=20)] = 1
    """The attributes that are changed of each sample, chosen by seed."""
    changes: Annotated[tuple[Change, ...], Meta(min_length=1)] = ("upgrade", "degrade")
    """What is done to each of them."""
    check: bool = True
    """Whether a pair is kept only where judge, scorer or verifier finds its chosen side better. Without it
    the label is the writer's word."""
    least: Share = 0.2
    """The least likeness of a rewrite and its sample, 0 to 1 (rapidfuzz's ratio): less is another answer."""
    listing: str = _ATTRIBUTES
    """The prompt that asks for attributes, with ``{problem}``, ``{count}`` and ``{fence}``."""
    upgrade: str = _UPGRADE
    """The prompt that asks for a better rewrite, with ``{problem}``, ``{response}``, ``{attribute}`` and
    ``{fence}``; problem and response are quoted between fences."""
    degrade: str = _DEGRADE
    """The prompt that asks for a worse rewrite, with the same places."""
    sampling: Sampling = Sampling(temperature=0.7)
    """How attributes and rewrites are sampled."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("listing", self.listing, "problem", known=("count", "fence"))
        for name in ("upgrade", "degrade"):
            require(name, getattr(self, name), "response", "attribute", known=("problem", "fence"))

    async def __call__(self, sample: Sampled, context: Context) -> Sequence[Pair | Rejection]:
        """A pair for each changed attribute, or its rejection."""
        if sample.finish_reason != "stop" or not sample.completion.strip():
            return [Rejection(sample.id, "causal: the sample was cut off or is blank")]
        attributes = await self._attributes(sample, context)
        chance = random.Random(context.seed_for(sample.id, _CALL))
        chosen = chance.sample(attributes, min(self.each, len(attributes)))
        wanted = [(a, change) for a in chosen for change in dict.fromkeys(self.changes)]
        return [await self._one(sample, i, *one, context) for i, one in enumerate(wanted)]

    async def _attributes(self, sample: Sampled, context: Context) -> list[str]:
        seed = context.seed_for(sample.problem_id, _CALL)
        asked = fill(self.listing, count=self.attributes, **quoted(seed, problem=sample.problem))
        reply = await written(context.engine, _user(asked), self.sampling, seed, "attributes")
        found = read_attributes(reply.text, self.attributes)
        if not found:
            raise RowRejected("causal: no attributes could be read", reply.text[:200])
        return found

    async def _one(
        self, sample: Sampled, index: int, attribute: str, change: Change, context: Context
    ) -> Pair | Rejection:
        """The pair of one rewrite."""
        id = f"{sample.id}/causal/{index}"
        seed = context.seed_for(sample.id, _CALL + 1 + index)
        texts = quoted(seed, problem=sample.problem, response=sample.completion)
        asked = fill(self.upgrade if change == "upgrade" else self.degrade, attribute=attribute, **texts)
        try:
            new = await written(context.engine, _user(asked), self.sampling, seed, "causal")
        except RowRejected as error:
            return Rejection(id, error.reason, error.message)
        alike = likeness(sample.completion, new.text)
        if texts["fence"] in new.text:
            return Rejection(id, "causal: the rewrite repeats the prompt", new.text[:200])
        if alike == 1:
            return Rejection(id, "causal: the rewrite says the same", f"{change}: {attribute}")
        if alike < self.least:
            return Rejection(id, "causal: the rewrite is another answer", f"likeness {alike:.2f}")
        return await self._labelled(id, sample, new, attribute, change, context)

    async def _labelled(
        self, id: str, sample: Sampled, new: Authored, attribute: str, change: Change, context: Context
    ) -> Pair | Rejection:
        own = Authored(sample.completion, sample.reasoning).turn
        sides = of_sample(sample), side(sample, sample.messages, new.text, RowValues(sample), change)
        meta = told(sample.meta, attribute=attribute, change=change, sample_id=sample.id)
        pair = Pair(id, sample.problem_id, change, sample.messages, own, new.turn, meta=meta)
        if change == "upgrade":
            pair, sides = replace(pair, chosen=new.turn, rejected=own), (sides[1], sides[0])
        return await self.pair(pair, sides, sample, context) if self.check else pair

    def estimate(self, sample: Sampled) -> Estimate | None:
        """The attributes, the rewrites, and their comparisons."""
        rewrites = self.each * len(set(self.changes))
        weighed = rewrites if self.check else 0
        return self.cost(of_sample(sample), 1 + rewrites, weighed, self.sampling.max_tokens, rewrites)


def _user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)
