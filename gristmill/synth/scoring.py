"""Named scores on samples and preference pairs: verdicts of the recipe's verifiers, and simple measures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeVar, cast

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Completion, FinishReason, Message
from gristmill.core.errors import RecipeError
from gristmill.core.prompts import RowValues
from gristmill.core.records import Pair, Sampled, Score, with_score
from gristmill.core.registry import suggest
from gristmill.core.stages import Context, Estimate, RowStage
from gristmill.core.verdicts import Verdict, unfinished

R = TypeVar("R", Sampled, Pair)
ScoreName = Annotated[str, Meta(min_length=1)]
VERDICT = "verdict"
"""The name under which a verdict on a sample is the sample's own, not one of its scores."""

_NOTHING = Estimate(0, 0, 0, 0, rows_max=1)


def with_verdict(record: R, name: str, verdict: Verdict) -> R:
    """``record`` with a verdict under ``name``: a sample's own verdict, or a score with its evidence."""
    if name == VERDICT and isinstance(record, Sampled):
        return replace(record, verdict=verdict)
    return with_score(record, Score(name, verdict.score, verdict))


def cut_off(sample: Sampled) -> Verdict | None:
    """The verdict on a sample that was cut off, which is not an answer, right or wrong; otherwise
    ``None``."""
    return unfinished(Completion(sample.completion, cast(FinishReason, sample.finish_reason)))


def said(messages: Sequence[Message]) -> str:
    """All that the assistant's turns of a pair's side say."""
    return "\n\n".join(m.content for m in messages if m.role == "assistant")


def verifier_of(context: Context, name: str | None) -> Callable[[str, str], Awaitable[Verdict]]:
    """The recipe's verifier of that name, ``None`` for its main one. ``RecipeError`` if there is none."""
    if name is None:
        return context.verify
    if name not in context.verifiers:
        raise RecipeError(
            f"there is no verifier named {name!r}.",
            remedy=f"{suggest(name, context.verifiers)} Or add it to the recipe under "
            f"verifiers: {{{name}: {{kind: ...}}}}.",
        )
    return context.verifiers[name]


def reference_in(row: Mapping[str, Any], column: str | None) -> str | None:
    """The reference in a column of a row, as JSON where it is not a text; "" for no column, ``None`` where
    the row has none."""
    found = "" if column is None else row.get(column)
    return found if found is None or isinstance(found, str) else msgspec.json.encode(found).decode()


class Verifying(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the stages that apply one of the recipe's verifiers."""

    verifier: str | None = None
    """The name of a verifier under the recipe's ``verifiers``; ``null`` is the recipe's ``verifier``."""
    score: ScoreName | None = None
    """The name under which the verdict is kept; ``null`` is the verifier's name, and ``verdict`` for the
    recipe's main one. What is kept under that name already is replaced."""
    reference: str | None = "answer"
    """The field or column that holds the reference. A row in which it is missing or null is left as it is.
    ``null``: the verifier needs no reference and gets an empty one."""

    @property
    def verifiers(self) -> tuple[str, ...]:
        """The name of the verifier, where it is not the recipe's main one."""
        return () if self.verifier is None else (self.verifier,)

    @property
    def verifies(self) -> bool:
        """Whether the main verifier judges by the rows' own answers."""
        return self.verifier is None and self.reference == "answer"

    @property
    def name(self) -> str:
        """The name under which the verdict is kept."""
        return self.score or self.verifier or VERDICT

    def estimate(self, record: Sampled | Pair) -> Estimate:
        """Nothing: no engine is called."""
        return _NOTHING

    def judge(self, context: Context) -> Callable[[str, str], Awaitable[Verdict]]:
        """The verifier; see ``verifier_of``."""
        return verifier_of(context, self.verifier)

    def reference_of(self, record: Sampled | Pair) -> str | None:
        """The reference, as JSON where it is not a text; ``None`` where the row has none."""
        return reference_in(RowValues(record), self.reference)


class Verify(Verifying, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Applies one of the recipe's verifiers to every sample.

    The verdict is kept with its evidence, as the sample's own or as a named score, so that several verifiers
    are applied in turn and used together later. A sample that was cut off is ``unparseable``. No sample is
    rejected: that is the task of a filter.
    """

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = Sampled

    turns_back: Annotated[int, Meta(ge=0)] = 0
    """Which of the model's turns is judged: 0 is the last, 1 the answer before the last follow-up, and so on;
    worked examples count as turns. A sample that has fewer is left as it is."""

    async def __call__(self, sample: Sampled, context: Context) -> Sequence[Sampled]:
        """The sample with its verdict."""
        judge = self.judge(context)
        reference = self.reference_of(sample)
        turns = [*(m.content for m in sample.messages if m.role == "assistant"), sample.completion]
        if reference is None or self.turns_back >= len(turns):
            return [sample]
        # Only the last turn can have been cut off.
        verdict = None if self.turns_back else cut_off(sample)
        if verdict is None:
            verdict = await judge(turns[-1 - self.turns_back], reference)
        else:
            context.count(verdict)
        return [with_verdict(sample, self.name, verdict)]


class VerifyPairs(Verifying, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Applies one of the recipe's verifiers to both sides of every preference pair.

    The verdicts are the scores ``chosen_NAME`` and ``rejected_NAME``. A side's text is all that its assistant
    turns say. No pair is rejected: that is the task of a filter.
    """

    reads: ClassVar[type[Struct]] = Pair
    writes: ClassVar[type[Struct]] = Pair

    async def __call__(self, pair: Pair, context: Context) -> Sequence[Pair]:
        """The pair with the verdicts on its sides."""
        judge = self.judge(context)
        reference = self.reference_of(pair)
        if reference is None:
            return [pair]
        pair = with_verdict(pair, f"chosen_{self.name}", await judge(said(pair.chosen), reference))
        return [with_verdict(pair, f"rejected_{self.name}", await judge(said(pair.rejected), reference))]


SideMeasure = Literal["characters", "words", "turns"]
SampleMeasure = Literal["characters", "words", "turns", "tokens_in", "tokens_out"]


class Measure(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Puts simple measures of every sample among its scores."""

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = Sampled

    scores: Annotated[dict[ScoreName, SampleMeasure], Meta(min_length=1)]
    """What is measured, by the name of its score: ``characters`` and ``words`` (between white space) of the
    completion, ``turns`` of the conversation with the completion, ``tokens_in`` and ``tokens_out``, the
    tokens of prompts and completions that were paid for this sample."""

    async def __call__(self, sample: Sampled, context: Context) -> Sequence[Sampled]:
        """The sample with its scores."""
        for name, what in self.scores.items():
            if what == "tokens_in":
                value = sample.prompt_tokens
            elif what == "tokens_out":
                value = sample.completion_tokens
            else:
                value = _size(what, sample.completion, len(sample.messages) + 1)
            sample = with_score(sample, Score(name, float(value)))
        return [sample]

    def estimate(self, sample: Sampled) -> Estimate:
        """Nothing: no engine is called."""
        return _NOTHING


class MeasurePairs(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Puts simple measures of both sides of every pair among its scores, as ``chosen_NAME`` and
    ``rejected_NAME``."""

    reads: ClassVar[type[Struct]] = Pair
    writes: ClassVar[type[Struct]] = Pair

    scores: Annotated[dict[ScoreName, SideMeasure], Meta(min_length=1)]
    """What is measured, by the NAME of its score: ``characters`` and ``words`` (between white space) of the
    side's assistant turns, ``turns`` of the conversation with the prompt."""

    async def __call__(self, pair: Pair, context: Context) -> Sequence[Pair]:
        """The pair with its scores."""
        for name, what in self.scores.items():
            for side, messages in (("chosen", pair.chosen), ("rejected", pair.rejected)):
                value = _size(what, said(messages), len(pair.prompt) + len(messages))
                pair = with_score(pair, Score(f"{side}_{name}", float(value)))
        return [pair]

    def estimate(self, pair: Pair) -> Estimate:
        """Nothing: no engine is called."""
        return _NOTHING


def _size(what: SideMeasure, text: str, turns: int) -> int:
    return {"characters": len(text), "words": len(text.split()), "turns": turns}[what]
