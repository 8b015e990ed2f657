"""``grounding_rows``: passages with sentences that they support, do not support, or contradict.

After MiniCheck (arXiv 2404.10774), whose data are made from documents to claims and from claims to documents;
here no model writes anything. From a document to claims: its own sentences, and changes of them
(``changes``). From a claim to documents: the passage without the sentence that says it, and a sentence of
another passage that is near. Each label is then looked at by ``grounding``, which did not make it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from gristmill.core.records import Passage
from gristmill.core.schema import from_frame, to_frame
from gristmill.core.stages import REJECTED_REASON, Relation
from gristmill.filters.order import seeded_order
from gristmill.filters.tables import with_rejected
from gristmill.synth.rag.changes import Label, changes
from gristmill.synth.rag.index import index
from gristmill.verifiers.grounding.claims import content, split, stems
from gristmill.verifiers.grounding.clauses import Statement
from gristmill.verifiers.grounding.lexicon import AUXILIARIES
from gristmill.verifiers.grounding.nearest import Rank
from gristmill.verifiers.grounding.verifier import Grounding, GroundingReport

if TYPE_CHECKING:
    import polars as pl

Checked = Literal["agrees", "open"]

_SENTENCE = re.compile(r"[A-Z][^\n|\[\]:]{15,300}[.]")
_POINTS_BACK = re.compile(r"(?:It|He|She|They|This|That|These|Those|His|Her|Its|Their|There|Such|Here)\b")
"""A sentence that begins so says of what only the sentences before it tell."""


class GroundingRow(Struct, frozen=True):
    """A passage and a sentence, with what the one makes of the other.

    ``kind`` says how the row was made: ``own``, the ``kind`` of a change, ``left out`` or ``near``.
    ``source_id`` is the passage that the sentence comes from, and ``sentence_of`` that sentence,
    unchanged. ``checked``: whether ``grounding`` ``agrees`` with the label, or leaves it ``open``.
    """

    id: str
    passage: str
    sentence: str
    label: Label
    kind: str
    source_id: str
    sentence_of: str
    checked: Checked


class _Made(NamedTuple):
    passage: str
    sentence: str
    label: Label
    kind: str
    sentence_of: str


class GroundingRows(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes rows for training a grounding encoder from passages, without asking a model.

    A passage gives, of each of some sentences, the row ``own`` (supported), one change of each kind that the
    sentence allows (``roles``, ``number``, ``name``, ``order``, ``negation``, ``opposite``, ``modality``:
    contradicted or unsupported), ``left out`` (the passage without it: unsupported) and ``near`` (a sentence
    of another passage that has most of its words: unsupported).

    A row whose label ``grounding`` refutes is dropped; with ``keep: agrees`` so is one that it leaves open.
    A passage that gives no row is rejected.
    """

    reads: ClassVar[type[Struct]] = Passage
    writes: ClassVar[type[Struct] | None] = GroundingRow

    per_passage: Annotated[int, Meta(ge=1)] | None = 3
    """The most sentences of a passage that rows are made of, drawn by a seeded hash; ``null``: all."""
    kinds: tuple[str, ...] = (
        "own",
        "roles",
        "number",
        "name",
        "order",
        "negation",
        "opposite",
        "modality",
        "left out",
        "near",
    )
    """The kinds of rows that are made."""
    keep: Literal["open", "agrees"] = "open"
    """``open``: rows whose label ``grounding`` does not refute. ``agrees``: those alone with which it
    agrees."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The rows in the order of the passages; all are held in memory."""
        import polars as pl

        passages = from_frame(frames[0].select(Passage.__struct_fields__).collect(), Passage)
        rank = index([passage.text for passage in passages], "bm25", None, 4)
        said = [_sentences(passage.text) for passage in passages]
        rows: list[GroundingRow] = []
        none: list[str] = []
        for number, passage in enumerate(passages):
            made: list[GroundingRow] = []
            for place in self._drawn(passage.id, len(said[number]), seed):
                of = self._made(passage.text, said[number][place], _near(said, rank, number, place))
                made += self._checked(of, f"{passage.id}/{place}", passage.id)
            rows += made
            if not made:
                none.append(passage.id)
        table = to_frame(rows, GroundingRow).lazy()
        reason = pl.lit("grounding_rows: no sentence gives a row").alias(REJECTED_REASON)
        return with_rejected(table, pl.LazyFrame({"id": none}, schema={"id": pl.String}).with_columns(reason))

    def _drawn(self, passage_id: str, count: int, seed: int) -> list[int]:
        if self.per_passage is None:
            return list(range(count))
        order = seeded_order(seed, [f"{passage_id}/{place}" for place in range(count)])
        return sorted(order[: self.per_passage])

    def _made(self, passage: str, sentence: str, near: str | None) -> Iterator[_Made]:
        """The rows of one sentence, before they are checked: one of each kind."""
        yield _Made(passage, sentence, "supported", "own", sentence)
        seen: set[str] = set()
        for change in changes(sentence, passage):
            if change.kind not in seen and change.text != sentence:
                seen.add(change.kind)
                yield _Made(passage, change.text, change.label, change.kind, sentence)
        rest = " ".join(passage.replace(sentence, " ").split())
        if rest and not _POINTS_BACK.match(sentence):
            yield _Made(rest, sentence, "unsupported", "left out", sentence)
        if near is not None:
            yield _Made(passage, near, "unsupported", "near", sentence)

    def _checked(self, made: Iterator[_Made], prefix: str, source: str) -> list[GroundingRow]:
        """The rows that ``grounding`` does not refute."""
        kept: list[GroundingRow] = []
        for one in made:
            if one.kind not in self.kinds:
                continue
            apart = one.kind == "near"
            checked = check(one.passage, one.sentence, one.label, apart=apart)
            if checked is not None and (self.keep == "open" or checked == "agrees"):
                name = f"{prefix}/{one.kind.replace(' ', '_')}"
                kept.append(
                    GroundingRow(
                        name, one.passage, one.sentence, one.label, one.kind, source, one.sentence_of, checked
                    )
                )
        return kept

    def rows_max(self, rows: Sequence[int]) -> int | None:
        """A row of each kind for each sentence that is drawn."""
        return None if self.per_passage is None else rows[0] * self.per_passage * len(self.kinds)


def check(passage: str, sentence: str, label: Label, *, apart: bool = False) -> Checked | None:
    """What ``grounding`` says of a label: it agrees, leaves it open, or (``None``) refutes it.

    It refutes "supported" where it finds the sentence unsupported, and the other two where it finds it
    supported. A clash with the passage agrees with both "contradicted" and "unsupported", as does a fact that
    is not there. A sentence that is not made from the passage (``apart``) has to have such a fact: it may say
    the same in other words, or, where it clashes, contradict it.
    """
    verdict = Grounding(citations="report")(sentence, msgspec.json.encode([passage]).decode())
    report = msgspec.json.decode(verdict.detail, type=GroundingReport)
    found = {finding.status for finding in report.sentences}
    if label == "supported":
        return None if "unsupported" in found else "agrees" if found == {"supported"} else "open"
    if found == {"supported"} or (apart and any(finding.clash for finding in report.sentences)):
        return None
    if apart and "unsupported" not in found:
        return None
    return "agrees" if "unsupported" in found else "open"


def _sentences(text: str) -> list[str]:
    """The plain sentences of a passage that claim something, each once and word for word."""
    spans = (text[s.start : s.end] for s in split(text) if s.kind == "claim")
    plain = (s for s in dict.fromkeys(spans) if _SENTENCE.fullmatch(s) and text.count(s) == 1)
    return [s for s in plain if Statement(s).verbs or not AUXILIARIES.isdisjoint(stems(s))]


def _near(said: Sequence[Sequence[str]], rank: Rank, number: int, place: int) -> str | None:
    """A sentence of one of the passages nearest to a sentence's own that shares most of its words."""
    own = set(content(said[number][place]))
    found: list[tuple[int, str]] = []
    for other, _ in rank(said[number][place]):
        if other == number:
            continue
        found += [
            (len(own & set(content(sentence))), sentence)
            for sentence in said[other]
            if not _POINTS_BACK.match(sentence)
        ]
    best = max(found, key=lambda one: one[0], default=(0, ""))
    return best[1] if best[0] >= 2 else None
