"""Rationales: ``rationale_labels`` says which are good, ``rationale_contexts`` mixes them with passages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct

from gristmill.core.engine import Ability, Message
from gristmill.core.errors import RowRejected
from gristmill.core.prompts import fill, require, row_places
from gristmill.core.records import Demonstration, Labelled, Sampled, Score, Turn
from gristmill.core.stages import Context, Estimate, RowStage, derive_seed
from gristmill.synth.rag.metrics import read_answer, references_of
from gristmill.synth.rag_methods.base import held, numbered
from gristmill.synth.refusal.passages import holds
from gristmill.verifiers.evidence import read_references
from gristmill.verifiers.grounding.verifier import Grounding

NOTHING = Estimate(0, 0, 0, 0, rows_max=1)
GROUNDED = "grounding"
Form = Literal["rationale", "passages", "both"]


class RationaleLabels(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Labels rationales for a model that ranks them (arXiv 2308.04711): is what one says true by the
    passages, and does it lead to the answer?

    Reads samples whose completion is a rationale, on questions with passages. Not wanted: one that does not
    hold the reference answer as whole words, and one with a claim that ``grounding`` finds unsupported.
    Wanted: one that holds the answer and is all supported; with ``accept_open`` also one in which the rules
    can decide nothing against it. ``meta.why`` says which rule it was, and the score ``grounding`` is the
    rules' verdict. No model is asked.

    Rejected: what was cut off or declines, what the rules leave open, and a sample without a reference.
    """

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = Labelled
    needs: ClassVar[frozenset[Ability]] = frozenset()

    accept_open: bool = False
    """Whether a rationale that holds the answer, and of which the rules find no claim unsupported, is wanted
    even where they do not find all of it supported. By rules alone few paraphrases are found supported."""
    grounding: Grounding = Grounding(citations="report")
    """The options of the rules that read claims."""
    references: tuple[str, ...] = ("answers",)
    """The keys of ``meta`` that may hold reference answers, before the sample's own ``answer``."""

    async def __call__(self, record: Sampled, context: Context) -> Sequence[Labelled]:
        """The labelled rationale."""
        meta, found = held(record)
        wanted = references_of(meta, self.references) or read_references(record.answer or "")
        if not wanted:
            raise RowRejected("rationale_labels: no reference answer")
        text = record.completion.strip()
        if record.finish_reason != "stop" or not text:
            raise RowRejected("rationale_labels: cut off or empty", record.finish_reason)
        verdict = self.grounding(text, msgspec.json.encode(found).decode())
        try:
            read = read_answer(text, verdict, wanted)
        except ValueError as error:
            raise RowRejected("rationale_labels: it cannot be read", str(error)) from error
        if read.abstains:
            raise RowRejected("rationale_labels: it declines")
        if not any(holds(text, one) for one in wanted):
            label, why = False, "does not lead to the answer"
        elif read.unsupported:
            label, why = False, "a claim is unsupported"
        elif verdict.correct or (self.accept_open and read.claims):
            label, why = True, "supported" if verdict.correct else "open, and leads to the answer"
        else:
            raise RowRejected("rationale_labels: the rules leave it open", verdict.rule or "")
        return [
            Labelled(
                id=record.id,
                problem_id=record.problem_id,
                prompt=(Message("user", record.problem),),
                completion=(Message("assistant", text),),
                label=label,
                scores=(Score(GROUNDED, verdict.score, verdict),),
                meta=msgspec.json.encode({**meta, "why": why}).decode(),
            )
        ]

    def estimate(self, record: Sampled) -> Estimate:
        """Nothing: no engine is called."""
        return NOTHING


class RationaleContexts(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Conversations that answer from a mixed context (arXiv 2308.04711): a rationale, passages, distractors.

    Reads samples whose completion is a rationale, on questions with passages; the distractors are those of
    ``retrieve``. A row is made in each of ``forms``: the ``rationale`` alone, the ``passages`` alone, or
    ``both``, the rationale among the passages. The order of the parts is seeded and nothing says which is
    which, so that the reader learns to find what helps. Its answer is the reference.

    Rejected: a sample without a reference, and one that was cut off or is empty.
    """

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = Demonstration
    needs: ClassVar[frozenset[Ability]] = frozenset()

    forms: Annotated[tuple[Form, ...], Meta(min_length=1)] = ("both",)
    """The rows that are made of a sample."""
    prompt: str = "{context}\n\n{problem}"
    """The user turn, with the places ``{context}`` and ``{problem}``."""

    def __post_init__(self) -> None:
        require("prompt", self.prompt, "context", "problem", known=())

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row beside what the stage puts in itself, by option."""
        return row_places(("context", "problem"), prompt=self.prompt)

    async def __call__(self, record: Sampled, context: Context) -> Sequence[Demonstration]:
        """A row for each form."""
        _, found = held(record)
        wanted = read_references(record.answer or "")
        if not wanted:
            raise RowRejected("rationale_contexts: no reference answer")
        if record.finish_reason != "stop" or not record.completion.strip():
            raise RowRejected("rationale_contexts: cut off or empty", record.finish_reason)
        rationale = {"text": record.completion.strip()}
        parts = {"rationale": [rationale], "passages": found, "both": [rationale, *found]}
        return [self._row(record, form, parts[form], wanted[0], context.seed) for form in self.forms]

    def _row(
        self, record: Sampled, form: Form, parts: Sequence[dict[str, str]], answer: str, seed: int
    ) -> Demonstration:
        places = range(len(parts))
        order = sorted(places, key=lambda n: (derive_seed(seed, f"{record.id}\x1f{parts[n]['text']}"), n))
        asked = fill(self.prompt, context=numbered([parts[n] for n in order]), problem=record.problem)
        turns = (Turn("user", asked, train=False), Turn("assistant", answer, train=True))
        own = f"{record.id}/{form}"
        return Demonstration(own, record.problem_id, record.problem, record.answer, f"context/{form}", turns)

    def estimate(self, record: Sampled) -> Estimate:
        """Nothing: no engine is called."""
        return msgspec.structs.replace(NOTHING, rows_max=len(self.forms))
