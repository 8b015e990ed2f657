"""Labels of spans by kind of error, as in Fine-Grained Human Feedback (arXiv 2306.01693).

A judge quotes what is wrong; the quote is looked for in the answer, and a span is kept only if it is found.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Engine, Message, Sampling
from gristmill.core.prompts import require
from gristmill.core.stages import Estimate
from gristmill.core.verdicts import Verdict
from gristmill.verifiers.evidence import decided, unparseable
from gristmill.verifiers.judges.asking import Asking
from gristmill.verifiers.judges.base import bounds, quoted
from gristmill.verifiers.judges.content import judged_part
from gristmill.verifiers.judges.judge import SYSTEM
from gristmill.verifiers.judges.rubric import Line
from gristmill.verifiers.raters.base import PartRater, Rated, ask_json, evidence

KINDS: dict[str, str] = {
    "irrelevant": "does not serve the question, repeats itself or hangs together with nothing",
    "untrue": "states something that is not so, or that nothing supports",
    "incomplete": "leaves out what the question asks for where it should be said",
}
"""The three kinds of error of the paper, in our own words."""
_MARK = Message(
    "user",
    "{problem}\n\n{reference}\n\n{response}\n\nMark every passage of RESPONSE that has one of these errors, "
    "and none that has not:\n{kinds}\n\nCopy each passage word for word from RESPONSE, no longer than it has "
    "to be. Answer with one JSON object and nothing else: "
    '{"segments": [{"kind": "...", "quote": "...", "why": "..."}, ...]}; the list is empty if there is '
    "nothing to mark.",
)


class ErrorSpan(Struct, frozen=True):
    """Characters ``start:end`` of an answer with an error of a kind."""

    kind: str
    start: int
    end: int
    quote: str
    why: str = ""


class Segments(PartRater, frozen=True, forbid_unknown_fields=True):
    """Marks what is wrong in an answer, by kinds of error.

    A part is the share of the answer's characters, without white space, that no span of its kind covers; the
    score is that of all kinds together. Reasoning before the answer is neither shown nor counted. ``correct``
    is an answer without a span. A quote that is not in the answer leaves its kind and the verdict open:
    something was found, but not where.
    """

    kinds: Annotated[dict[Line, Line], Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: dict(KINDS)
    )
    """The kinds of error by name, and in words what each is; by default irrelevant, untrue, incomplete."""
    asking: Asking = Asking(read="json", sampling=Sampling(temperature=0.0, max_tokens=2048))
    """How it is asked: ``sampling``. The reply is always JSON, and there is one vote."""
    prompt: tuple[Message, ...] = (SYSTEM, _MARK)
    """The prompt, with ``{problem}``, ``{reference}``, ``{response}``, ``{kinds}`` and ``{fence}``."""

    def __post_init__(self) -> None:
        require("prompt", self.prompt, "response", "kinds", known=("problem", "reference", "fence"))

    @property
    def needs(self) -> frozenset[Ability]:
        """To chat."""
        return frozenset({Ability.CHAT})

    @property
    def part_names(self) -> tuple[str, ...]:
        """The kinds."""
        return tuple(self.kinds)

    def estimate(self, completion: str, reference: str, *, problem: str) -> Estimate:
        """One question, with one repair."""
        return bounds(1, 1, "json", self.asking.sampling.max_tokens, problem, completion, reference)

    async def rate(
        self, completion: str, reference: str, *, problem: str, engine: Engine, seed: int
    ) -> Rated:
        """The spans, in the verdict's detail as JSON: ``segments`` and, if any, ``not_found``."""
        shown = judged_part(completion)
        nothing = dict.fromkeys(self.part_names)
        if isinstance(shown, Verdict):
            return Rated(shown, nothing)
        told = "\n".join(f"- {name}: {text}" for name, text in self.kinds.items())
        values = quoted(seed, problem=problem, reference=reference or None, response=shown) | {"kinds": told}
        parse = partial(_marked, kinds=self.part_names)
        asking = replace(self.asking, votes=1)
        read, unread = await ask_json(asking, self.prompt, values, parse, engine=engine, seed=seed)
        if not read:
            return Rated(unparseable("segments: not read", unread[0]), nothing)
        found, missing = place(read[0], shown)
        parts: dict[str, float | None] = {
            name: None
            if any(m.kind == name for m in missing)
            else clean([s for s in found if s.kind == name], shown)
            for name in self.kinds
        }
        before = max(0, completion.rfind(shown))  # the reasoning, which the judge was not shown
        moved = [replace(s, start=s.start + before, end=s.end + before) for s in found]
        detail = evidence(segments=moved, not_found=missing)
        if missing:
            rule = f"segments: {len(missing)} of {len(read[0])} quotes are not in the answer"
            return Rated(unparseable(rule, detail), parts)
        rule = f"segments: {len(found)} marked"
        return Rated(decided(not found, rule=rule, score=clean(found, shown), detail=detail), parts)


class Quote(Struct, frozen=True):
    """A passage as a judge quotes it."""

    kind: str
    quote: str
    why: str = ""


class _Reply(Struct, frozen=True):
    segments: tuple[Quote, ...]


def _marked(text: str, kinds: Sequence[str]) -> tuple[Quote, ...]:
    found = msgspec.json.decode(text, type=_Reply).segments
    for one in found:
        if one.kind not in kinds:
            raise ValueError(f"{one.kind!r} is not one of the kinds {', '.join(kinds)}")
        if not one.quote.strip():
            raise ValueError("a quote is blank")
    return found


def place(quotes: Sequence[Quote], text: str) -> tuple[list[ErrorSpan], list[Quote]]:
    """The spans of quotes in a text, by their order in it, and the quotes that are not in it.

    White space, case and the shape of quotation marks may differ. A quote that occurs more than once is at
    the first place that an equal quote before it has not taken.
    """
    found: list[ErrorSpan] = []
    missing: list[Quote] = []
    taken: set[tuple[str, int]] = set()
    for one in quotes:
        pattern = r"\s+".join(_loosely(word) for word in one.quote.strip().strip("…").split())
        free = (m for m in re.finditer(pattern, text, re.IGNORECASE) if (one.kind, m.start()) not in taken)
        match = next(free, None) if pattern else None
        if match is None:
            missing.append(one)
            continue
        taken.add((one.kind, match.start()))
        found.append(ErrorSpan(one.kind, match.start(), match.end(), match[0], one.why))
    return sorted(found, key=lambda s: (s.start, s.end, s.kind)), missing


def _loosely(word: str) -> str:
    return re.sub(r"['’‘]", "['’‘]", re.sub(r"[\"“”]", '["“”]', re.escape(word)))


def clean(segments: Sequence[ErrorSpan], text: str) -> float:
    """The share of a text's characters, without white space, that no span covers; 1 for an empty text."""
    marked = {i for s in segments for i in range(s.start, s.end) if not text[i].isspace()}
    whole = sum(not c.isspace() for c in text)
    return 1 - len(marked) / whole if whole else 1.0
