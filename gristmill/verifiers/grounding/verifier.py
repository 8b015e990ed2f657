"""Is every sentence of an answer supported by the passages it was given?

Cheapest first; the first that decides it does:

1. *facts*: a number, a name or a quotation that is in no passage makes a sentence unsupported;
2. *quote*: a passage says the sentence word for word and as a whole;
3. *clash*: a passage says something else with its words (``bindings``);
4. *encoder*, if there is one: a model that was trained on entailment;
5. *judge* (``ground``): a model is asked about the sentences that are still open.

What none of them decides is ``undecided``. Words in common never accept: they do not show what is claimed
with them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Engine, Message
from gristmill.core.stages import Estimate
from gristmill.core.verdicts import Verdict
from gristmill.verifiers.evidence import decided, unparseable
from gristmill.verifiers.grounding.claims import Sentence, facts, split
from gristmill.verifiers.grounding.entailment import Entails, load_entailment, need
from gristmill.verifiers.grounding.support import (
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
    that support it or clash with it, or the nearest ones. ``clash`` is the kind of a clash. ``open``: the
    cheap levels found nothing for or against it.
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
    clash: str = ""


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

    The cheap levels reject a claim with a fact of no passage, or one that clashes with a passage. They accept
    only what a passage says word for word. An ``encoder`` accepts and rejects, and so does the judge of
    ``GroundingJudge``. What is left is ``undecided``, and the verdict ``unparseable`` (``undecided``) unless
    another claim decides it.

    The score is the share of the claims that are supported. Sentences without a claim are not counted, and
    neither are abstentions ("the passages do not say"); an answer that only abstains is ``unparseable`` with
    the rule ``abstained``, since it makes no claim that could be right or wrong.
    """

    lexical: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """The lowest share of a sentence's content words, in [0, 1], without which it is unsupported. 0 rejects
    nothing by this: of paraphrases that say the same, many share few words."""
    entailed: Annotated[float, Meta(gt=0.5, le=1)] = 0.9
    """The lowest probability, in (0.5, 1], with which the encoder accepts a claim as entailed, or rejects it
    as contradicted."""
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
    """The name or folder of a sequence classifier in Transformers that was trained on entailment; ``null``
    for none. A sentence is compared with the ``window``s that have most of its words."""

    def __post_init__(self) -> None:
        if self.encoder is not None:
            need()

    def __call__(self, completion: str, reference: str) -> Verdict:
        """Judge ``completion`` by the cheap levels; a reference without passages is an ``error``."""
        return answered(self._verify, completion, reference)

    def _verify(self, completion: str, reference: str) -> Verdict:
        opened = self._open(completion, reference, None)
        return opened if isinstance(opened, Verdict) else self.verdict(self.examine(completion, opened))

    def _open(self, completion: str, reference: str, entails: Entails | None) -> Passages | Verdict:
        try:
            listed = read_passages(reference)
        except ValueError as error:
            return failure("reference unparseable", str(error))
        size = max(len(completion), sum(len(p.text) for p in listed))
        if size > LIMIT:
            return unparseable("too long", f"{size:,} characters, over {LIMIT:,}")
        if entails is None and self.encoder is not None:
            entails = load_entailment(self.encoder)
        return Passages(listed, Levels(self.lexical, self.entailed, self.window, self.places), entails)

    def examine(self, completion: str, passages: Passages) -> tuple[Finding, ...]:
        """What the cheap levels find about each sentence, in order."""
        found: list[Finding] = []
        names: tuple[str, ...] = ()
        for sentence in split(completion, passages.ids):
            finding = self._finding(sentence, passages)
            word_for_word = finding.by == "quote"
            stranger = passages.stranger(sentence.text, names, finding.evidence) if word_for_word else ""
            # "The Louvre is old. It is 330 metres tall.", where a passage says the latter of another.
            if stranger:
                why = f"its pronoun may mean {stranger!r}, which is not in that passage"
                finding = replace(finding, status="undecided", by="lexical", why=why, open=True)
            found.append(finding)
            names = facts(sentence.text).names or names
        return tuple(found)

    def _finding(self, sentence: Sentence, passages: Passages) -> Finding:
        start, end = sentence.start, sentence.end
        if sentence.kind == "abstention":
            return Finding(start, end, "abstained")
        if sentence.kind == "no claim":
            against = passages.against(sentence.text)
            return self._plain(start, end, against) if against else Finding(start, end, "no claim")
        found = passages.support(sentence.text)
        finding = self._plain(start, end, found)
        return self._with_citations(finding, check_citations(sentence, found, passages))

    def _plain(self, start: int, end: int, found: Support) -> Finding:
        undecided = found.open and found.score >= self.lexical
        return Finding(
            start,
            end,
            "supported" if found.supported else "undecided" if undecided else "unsupported",
            by=found.by,
            why=found.why,
            score=round(found.score, 4),
            missing=found.missing,
            evidence=found.evidence,
            open=found.open,
            clash=found.clash,
        )

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
            return unparseable("judge unread" if judged else "undecided", detail)
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
    entails: Entails | None = None,
    recheck: bool = False,
) -> Verdict:
    """As ``Grounding``, with a judge for the sentences that the cheap levels leave open.

    A sentence with citations is judged by the cited passages first, and if they do not support it, by all
    passages. ``entails`` is any function that reads premises and a claim. With ``recheck`` the judge decides
    on what clashes with a passage as well. If the judge's answer cannot be read and would matter, the verdict
    is ``unparseable``. Raises the engine's errors.
    """
    options = options or Grounding()
    opened = options._open(completion, reference, entails)
    if isinstance(opened, Verdict):
        return opened
    passages = opened
    sentences = split(completion, passages.ids)
    findings = options.examine(completion, passages)

    async def judged(sentence: Sentence, finding: Finding) -> Finding:
        if not finding.open and not (recheck and finding.clash):
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
                found = replace(finding, status="supported", by="judge", why="", open=False, clash="")
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
    recheck: bool = False
    """Whether the judge also decides on claims that clash with a passage; otherwise they stay rejected."""

    @property
    def needs(self) -> frozenset[Ability]:
        """Token probabilities if ``asking`` reads nothing else."""
        return needs_of(self.asking.read)

    def estimate(self, completion: str, reference: str, *, problem: str) -> Estimate:
        """One or two questions for each sentence that the cheap levels leave open."""
        opened = self.grounding._open(completion, reference, None)
        found = () if isinstance(opened, Verdict) else self.grounding.examine(completion, opened)
        asking, count = self.asking, sum(f.open or (self.recheck and f.clash != "") for f in found)
        tokens = asking.sampling.max_tokens
        cost = bounds(count, asking.votes, asking.read, tokens, completion, reference)
        return replace(cost, completions_max=2 * cost.completions_max)

    async def __call__(
        self, completion: str, reference: str, *, problem: str, engine: Engine, seed: int
    ) -> Verdict:
        """Judge one answer by the passages in ``reference``."""
        options, asking = self.grounding, self.asking
        again = self.recheck
        return await ground(
            completion, reference, engine, seed=seed, options=options, asking=asking, recheck=again
        )


def _judged(marks: Sequence[tuple[str, int | None]], *, right: bool) -> tuple[Citation, ...]:
    if not marks:
        return (Citation("", "missing"),)
    known: Cited = "right" if right else "wrong"
    return tuple(Citation(mark, "out of range" if i is None else known) for mark, i in marks)
