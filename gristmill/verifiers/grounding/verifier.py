"""Is every sentence of an answer supported by the passages it was given?

Levels, cheapest first; the first that finds support decides:

1. *quote*: the sentence's words occur in a passage, in that order;
2. *lexical*: the share of its content words, weighted by their rarity in the passages, that occur in a few
   neighbouring sentences of a passage;
3. *embedding*, if there is an encoder: the cosine with such neighbouring sentences;
4. *judge* (``ground``): a model is asked about the sentences that are still open.

A number, a name or a quotation that does not occur in any passage makes a sentence unsupported at every
level. A "not" on one side only, or a sentence that begins with a capitalised word of no passage, is left to
the judge. Words do not show who did what to whom ("A beat B" or "B beat A"), whether a number or name of the
passages is used in another sense, or whether arithmetic is right.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Engine, Message
from gristmill.core.errors import MissingExtraError
from gristmill.core.stages import Estimate
from gristmill.core.verdicts import Verdict
from gristmill.verifiers.evidence import decided, unparseable
from gristmill.verifiers.grounding.claims import Sentence, split
from gristmill.verifiers.grounding.support import (
    Embed,
    GroundingPassage,
    Levels,
    Passages,
    Support,
    SupportEvidence,
)
from gristmill.verifiers.guard import answered, failure
from gristmill.verifiers.judges.asking import Asking, Ballot
from gristmill.verifiers.judges.base import bounds, needs_of, quoted
from gristmill.verifiers.judges.judge import SYSTEM

Cited = Literal["right", "wrong", "out of range", "missing"]
Status = Literal["supported", "undecided", "unsupported", "abstained", "no claim"]

LIMIT = 200_000
"""The largest number of characters of an answer, and of its passages together, that are compared."""

_JUDGED = ("supported", "unsupported")
_PROMPT = Message(
    "user",
    "{passages}\n\n{answer}\n\n{sentence}\n\nIs all that SENTENCE (taken from ANSWER) says stated in "
    "PASSAGES or plainly implied by them? Whether it is true does not matter, nor what you know besides. "
    "{answer_with}",
)


class Citation(Struct, frozen=True):
    """A citation as written, and whether that passage supports the sentence (``missing``: no citation)."""

    mark: str
    found: Cited


class Finding(Struct, frozen=True, omit_defaults=True):
    """One sentence, characters ``start:end`` of the answer, and what was found about it.

    ``by`` is the level that decided, ``missing`` the facts that are in no passage, ``evidence`` the places
    that support it, or the nearest ones. ``open``: the passages neither support nor contradict it.
    """

    start: int
    end: int
    status: Status
    by: str = ""
    why: str = ""
    score: float = 0.0
    missing: tuple[str, ...] = ()
    evidence: tuple[SupportEvidence, ...] = ()
    citations: tuple[Citation, ...] = ()
    open: bool = False


class GroundingReport(Struct, frozen=True):
    """All sentences of an answer in order; in JSON, the ``detail`` of the verdict."""

    counts: dict[str, int]
    unsupported: tuple[tuple[int, int], ...]
    citations: dict[str, int]
    sentences: tuple[Finding, ...]


class Grounding(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Judge whether passages support an answer, sentence by sentence.

    The reference is a JSON list of passages, each a string or an object with ``text`` and optionally ``id``
    and ``title``. A citation names a passage by its id, or otherwise by its number from 1.

    Words in common can only reject a claim: one whose words are all there, and that no passage says so, is
    ``undecided`` here, and the verdict ``unparseable`` (``no judge``) unless another claim decides it. An
    ``encoder`` accepts claims, and so does the judge of ``GroundingJudge``.

    The score is the share of the claims that are supported. Sentences without a claim are not counted, and
    neither are abstentions ("the passages do not say"); an answer that only abstains is ``unparseable`` with
    the rule ``abstained``, since it makes no claim that could be right or wrong.
    """

    lexical: Annotated[float, Meta(gt=0, le=1)] = 0.7
    """The lowest share of a sentence's content words, in (0, 1], without which it is unsupported."""
    embedding: Annotated[float, Meta(gt=0, le=1)] = 0.8
    """The lowest cosine, in (0, 1], that counts as support."""
    window: Annotated[int, Meta(ge=1, le=20)] = 3
    """How many neighbouring sentences of a passage are compared together, 1 to 20."""
    places: Annotated[int, Meta(ge=1, le=5)] = 1
    """In how many windows together the words may be, 1 to 5. Above 1 an answer may combine several passages,
    and may confuse them ("the Louvre was completed in 1889")."""
    accept: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """The lowest score, in (0, 1], that is ``correct``."""
    citations: Literal["report", "check", "require"] = "check"
    """``check``: a claim is unsupported if it cites a passage that does not support it or does not exist.
    ``require``: also if it cites nothing. ``report``: citations are only listed in the detail."""
    encoder: str | None = None
    """The name of a sentence-transformers model; ``null`` for no embedding level."""

    def __post_init__(self) -> None:
        if self.encoder is not None and find_spec("sentence_transformers") is None:
            raise MissingExtraError("sentence-transformers", install="pip install sentence-transformers")

    def __call__(self, completion: str, reference: str) -> Verdict:
        """Judge ``completion`` by the cheap levels; a reference without passages is an ``error``."""
        return answered(self._verify, completion, reference)

    def _verify(self, completion: str, reference: str) -> Verdict:
        opened = self._open(completion, reference, None)
        return opened if isinstance(opened, Verdict) else self.verdict(self.examine(completion, opened))

    def _open(self, completion: str, reference: str, embed: Embed | None) -> Passages | Verdict:
        try:
            listed = read_passages(reference)
        except ValueError as error:
            return failure("reference unparseable", str(error))
        size = max(len(completion), sum(len(p.text) for p in listed))
        if size > LIMIT:
            return unparseable("too long", f"{size:,} characters, over {LIMIT:,}")
        if embed is None and self.encoder is not None:
            embed = _encoder(self.encoder)
        return Passages(listed, Levels(self.lexical, self.embedding, self.window, self.places), embed)

    def examine(self, completion: str, passages: Passages) -> tuple[Finding, ...]:
        """What the cheap levels find about each sentence, in order."""
        return tuple(self._finding(s, passages) for s in split(completion, passages.ids))

    def _finding(self, sentence: Sentence, passages: Passages) -> Finding:
        start, end = sentence.start, sentence.end
        if sentence.kind == "abstention":
            return Finding(start, end, "abstained")
        if sentence.kind == "no claim":
            missing = passages.missing_facts(sentence.text)
            if missing:
                return Finding(start, end, "unsupported", why="facts of no passage", missing=missing)
            return Finding(start, end, "no claim")
        found = passages.support(sentence.text)
        return self._with_citations(_plain(start, end, found), check_citations(sentence, found, passages))

    def _with_citations(self, finding: Finding, citations: tuple[Citation, ...]) -> Finding:
        finding = replace(finding, citations=citations)
        marks = {c.found for c in citations}
        bad = marks & (
            {"wrong", "out of range"} if self.citations == "check" else {"wrong", "out of range", "missing"}
        )
        if finding.status not in ("supported", "undecided") or not bad or self.citations == "report":
            return finding
        why = f"citation {', '.join(sorted(bad))}"
        # A judge may find support in the cited passage even if its words do not show it.
        return replace(
            finding, status="unsupported", why=why, open="wrong" in bad and "out of range" not in bad
        )

    def verdict(self, findings: Sequence[Finding]) -> Verdict:
        """The verdict on findings; its ``detail`` is the JSON of a ``GroundingReport``."""
        counts = Counter(str(f.status) for f in findings)
        unread = sum((f.by == "judge" and f.open) or f.status == "undecided" for f in findings)
        cited = Counter(str(c.found) for f in findings for c in f.citations)
        spans = tuple((f.start, f.end) for f in findings if f.status == "unsupported")
        report = GroundingReport(dict(counts), spans, dict(cited), tuple(findings))
        detail = msgspec.json.encode(report).decode()
        supported = counts["supported"]
        total = supported + counts["unsupported"] + counts["undecided"]
        if not total:
            rule = "abstained" if counts["abstained"] else "no claim" if findings else "no answer"
            return unparseable(rule, detail)
        rule = f"{supported} of {total} claims supported"
        if supported / total < self.accept <= (supported + unread) / total:
            judged = any(f.by == "judge" and f.open for f in findings)
            return unparseable("judge unread" if judged else "no judge", detail)
        return decided(supported / total >= self.accept, rule=rule, score=supported / total, detail=detail)


def read_passages(reference: str) -> tuple[GroundingPassage, ...]:
    """The passages of a reference in JSON. ``ValueError`` for anything else, or for a repeated id."""
    try:
        given = msgspec.json.decode(reference, type=list[str | GroundingPassage])
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    passages = tuple(GroundingPassage(text=p) if isinstance(p, str) else p for p in given)
    ids = Counter(str(p.id) for p in passages if p.id is not None)
    twice = [name for name, n in ids.items() if n > 1]
    if twice:
        raise ValueError(f"several passages have the id {twice[0]!r}")
    return passages


def check_citations(sentence: Sentence, found: Support, passages: Passages) -> tuple[Citation, ...]:
    """Each citation of a sentence: ``right`` if that passage supports it, or is needed for the support by all
    cited passages together. A supported sentence without citations has one that is ``missing``."""
    marks = [part for mark in sentence.cited for part in passages.resolve(mark)]
    if not marks:
        return (Citation("", "missing"),) if found.near else ()
    known = frozenset(index for _, index in marks if index is not None)
    together = bool(known) and passages.support(sentence.text, known).near
    results: list[Citation] = []
    for mark, index in marks:
        if index is None:
            results.append(Citation(mark, "out of range"))
            continue
        right = together and (
            passages.support(sentence.text, frozenset((index,))).near
            or not passages.support(sentence.text, known - {index}).near
        )
        results.append(Citation(mark, "right" if right else "wrong"))
    return tuple(results)


def _plain(start: int, end: int, found: Support) -> Finding:
    return Finding(
        start,
        end,
        "supported" if found.supported else "undecided" if found.near else "unsupported",
        by=found.by,
        why=found.why,
        score=round(found.score, 4),
        missing=found.missing,
        evidence=found.evidence,
        open=found.open,
    )


@cache
def _encoder(name: str) -> Embed:
    model: Any = import_module("sentence_transformers").SentenceTransformer(name)
    return lambda text: [float(x) for x in model.encode(text)]


async def judge_support(
    sentence: str,
    passages: Sequence[GroundingPassage],
    engine: Engine,
    seed: int,
    *,
    answer: str | None = None,
    asking: Asking | None = None,
) -> Ballot:
    """Ask whether ``passages`` support ``sentence``: a ballot between ``supported`` and ``unsupported``.

    ``answer`` is the text that the sentence is taken from, so that its pronouns can be understood. Raises the
    engine's errors.
    """
    shown = "\n\n".join(f"[{i}] {p.heading}{p.text}" for i, p in enumerate(passages, 1))
    values = quoted(seed, passages=shown, answer=answer, sentence=sentence)
    return await (asking or Asking()).choose((SYSTEM, _PROMPT), values, _JUDGED, engine=engine, seed=seed)


async def ground(
    completion: str,
    reference: str,
    engine: Engine,
    *,
    seed: int,
    options: Grounding | None = None,
    asking: Asking | None = None,
    embed: Embed | None = None,
) -> Verdict:
    """As ``Grounding``, with a judge for the sentences that the cheap levels leave open.

    A sentence with citations is judged by the cited passages first, and if they do not support it, by all
    passages. ``embed`` is any function from a text to a vector. If the judge's answer cannot be read and
    would matter, the verdict is ``unparseable``. Raises the engine's errors.
    """
    options = options or Grounding()
    opened = options._open(completion, reference, embed)
    if isinstance(opened, Verdict):
        return opened
    passages = opened
    sentences = split(completion, passages.ids)
    findings = options.examine(completion, passages)

    async def judged(sentence: Sentence, finding: Finding) -> Finding:
        if not finding.open:
            return finding
        marks = [part for mark in sentence.cited for part in passages.resolve(mark)]
        known = sorted({i for _, i in marks if i is not None})
        whole = range(len(passages.listed))
        for shown in [known, whole] if known and len(known) < len(whole) else [whole]:
            of = [passages.listed[i] for i in shown]
            ballot = await judge_support(sentence.text, of, engine, seed, answer=completion, asking=asking)
            if ballot.best is None:
                return replace(finding, by="judge", why=f"unread: {ballot.detail}")
            if ballot.best == "supported":
                found = replace(finding, status="supported", by="judge", why="", open=False)
                right = shown is known or len(known) == len(whole)
                return options._with_citations(found, _judged(marks, right=right))
        return replace(finding, status="unsupported", by="judge", why="the judge sees no support", open=False)

    paired = zip(sentences, findings, strict=True)
    return options.verdict(await asyncio.gather(*(judged(s, f) for s, f in paired)))


class GroundingJudge(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``ground`` as a model verifier: the cheap levels, then a judge for what they leave open.

    The reference is as for ``Grounding``; the problem is not used.
    """

    grounding: Grounding = Grounding()
    """The options of the cheap levels."""
    asking: Asking = Asking()
    """How the judge is asked."""

    @property
    def needs(self) -> frozenset[Ability]:
        """Token probabilities if ``asking`` reads nothing else."""
        return needs_of(self.asking.read)

    def estimate(self, completion: str, reference: str, *, problem: str) -> Estimate:
        """One or two questions for each sentence that the cheap levels leave open."""
        opened = self.grounding._open(completion, reference, None)
        found = () if isinstance(opened, Verdict) else self.grounding.examine(completion, opened)
        asking, count = self.asking, sum(f.open for f in found)
        tokens = asking.sampling.max_tokens
        cost = bounds(count, asking.votes, asking.read, tokens, completion, reference)
        return replace(cost, completions_max=2 * cost.completions_max)

    async def __call__(
        self, completion: str, reference: str, *, problem: str, engine: Engine, seed: int
    ) -> Verdict:
        """Judge one answer by the passages in ``reference``."""
        options, asking = self.grounding, self.asking
        return await ground(completion, reference, engine, seed=seed, options=options, asking=asking)


def _judged(marks: Sequence[tuple[str, int | None]], *, right: bool) -> tuple[Citation, ...]:
    if not marks:
        return (Citation("", "missing"),)
    known: Cited = "right" if right else "wrong"
    return tuple(Citation(mark, "out of range" if i is None else known) for mark, i in marks)
