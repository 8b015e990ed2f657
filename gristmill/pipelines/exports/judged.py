"""What judges have given, as rows of files: labels for verifiers, principles, instructions, marked spans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta, Struct

from gristmill.core.engine import Message
from gristmill.core.errors import RowRejected
from gristmill.core.exports import Export
from gristmill.core.records import Sampled, score_of
from gristmill.synth.judged.principles import PrincipleRow
from gristmill.synth.judged.traces import VerifierRow
from gristmill.verifiers.raters.instructed import JudgePrompt
from gristmill.verifiers.raters.segments import ErrorSpan


class VerifierRows(Export, frozen=True, forbid_unknown_fields=True):
    """Question, reference, answer and label, to train a verifier with."""

    reads: ClassVar[type[Struct]] = VerifierRow
    writes: ClassVar[type[Struct]] = VerifierRow

    def rows(self, record: VerifierRow, /) -> Sequence[VerifierRow]:
        """The record."""
        return [record]


class PrincipleRows(Export, frozen=True, forbid_unknown_fields=True):
    """Problem, answer, principle, whether it is satisfied, and the words of the feedback that say so."""

    reads: ClassVar[type[Struct]] = PrincipleRow
    writes: ClassVar[type[Struct]] = PrincipleRow

    def rows(self, record: PrincipleRow, /) -> Sequence[PrincipleRow]:
        """The record."""
        return [record]


class JudgePrompts(Export, frozen=True, forbid_unknown_fields=True):
    """Instructions for judges with their accuracies; ``instructed_judge`` reads such a file."""

    reads: ClassVar[type[Struct]] = JudgePrompt
    writes: ClassVar[type[Struct]] = JudgePrompt

    def rows(self, record: JudgePrompt, /) -> Sequence[JudgePrompt]:
        """The record."""
        return [record]


class SegmentRow(Struct, frozen=True):
    """A conversation with the spans of its last turn that have an error: characters ``start:end``."""

    id: str
    prompt: tuple[Message, ...]
    completion: str
    segments: tuple[ErrorSpan, ...]


class SegmentRows(Export, frozen=True, forbid_unknown_fields=True):
    """The marked spans of every sample, for fine-grained rewards; an answer without errors has none."""

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = SegmentRow

    score: Annotated[str, Meta(min_length=1)] = "segments"
    """The name of the score that the scorer ``segments`` wrote."""

    def rows(self, record: Sampled, /) -> Sequence[SegmentRow]:
        """The row. ``RowRejected`` where nothing was marked, or not all of it was found in the answer."""
        score = score_of(record, self.score)
        if score is None or score.verdict is None or not score.verdict.decided:
            raise RowRejected("no segments", f"the score {self.score!r} has no decided verdict")
        marked = msgspec.json.decode(score.verdict.detail, type=_Marked).segments
        return [SegmentRow(record.id, record.messages, record.completion, marked)]


class _Marked(Struct, frozen=True):
    segments: tuple[ErrorSpan, ...]
