"""What judges have given, as rows of files: labels for verifiers, principles, instructions, marked spans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta, Struct

from gristmill.core.engine import Message
from gristmill.core.errors import RowRejected
from gristmill.core.exports import Contents, Export
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
    contents: ClassVar[Contents] = Contents(prompts=("prompt",), filled=("completion",))

    score: Annotated[str, Meta(min_length=1)] = "segments"
    """The name of the score that the scorer ``segments`` wrote."""

    def rows(self, record: Sampled, /) -> Sequence[SegmentRow]:
        """The row. ``RowRejected`` where nothing was marked, or not all of it was found in the answer."""
        score = score_of(record, self.score)
        if score is None or score.verdict is None or not score.verdict.decided:
            raise RowRejected("no segments", f"the score {self.score!r} has no decided verdict")
        marked = msgspec.json.decode(score.verdict.detail, type=_Marked).segments
        return [SegmentRow(record.id, record.messages, record.completion, marked)]


class NamedScore(Struct, frozen=True):
    """A score by its name."""

    name: str
    value: float


class ScoredAnswer(Struct, frozen=True):
    """An answer with its scores, for a reward model with an output for each."""

    id: str
    prompt: tuple[Message, ...]
    completion: tuple[Message, ...]
    scores: tuple[NamedScore, ...]


class ScoredAnswers(Export, frozen=True, forbid_unknown_fields=True):
    """Every sample with the numbers among its scores, for ``gristmill train reward`` with ``attributes``.

    A sample that was cut off is dropped, and so is one without a number.
    """

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = ScoredAnswer
    contents: ClassVar[Contents] = Contents(prompts=("prompt",), answers=("completion",), filled=("scores",))

    names: tuple[Annotated[str, Meta(min_length=1)], ...] = ()
    """The scores to write; empty for all that are numbers."""

    def rows(self, record: Sampled, /) -> Sequence[ScoredAnswer]:
        """One row."""
        if record.finish_reason != "stop":
            raise RowRejected("cut off", f"its finish reason is {record.finish_reason!r}")
        found = [
            NamedScore(score.name, score.value)
            for score in record.scores
            if score.value is not None and (not self.names or score.name in self.names)
        ]
        if not found:
            raise RowRejected("no scores", f"it has {[score.name for score in record.scores]}")
        answer = Message("assistant", record.completion)
        return [ScoredAnswer(record.id, record.messages, (answer,), tuple(found))]


class _Marked(Struct, frozen=True):
    segments: tuple[ErrorSpan, ...]
