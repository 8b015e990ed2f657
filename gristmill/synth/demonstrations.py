"""Samples as conversations to imitate: the selection step of rejection sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from gristmill.core.engine import Ability
from gristmill.core.errors import RecipeError
from gristmill.core.prompts import RowValues, opening, require_row, row_places
from gristmill.core.records import Demonstration, Sampled, Turn, turn_of
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.core.verdicts import Outcome


class Demonstrations(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keeps the samples with certain verdicts as conversations whose last turn is trained.

    This is the data of RAFT (arXiv 2304.06767) and of rejection-sampling fine-tuning (arXiv 2308.01825).
    A sample that was cut off is rejected whatever its verdict.
    """

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = Demonstration
    needs: ClassVar[frozenset[Ability]] = frozenset()

    outcomes: tuple[Outcome, ...] = (Outcome.CORRECT,)
    """The verdicts of the samples to keep; empty: all finished samples, those without a verdict too."""
    kind: Annotated[str, Meta(min_length=1)] = "sample"
    """What is written into the ``kind`` of every record."""
    prompt: str | None = None
    """The user turn in place of all turns that were sent, worked examples included, with places for the
    row's columns such as ``{problem}``: what the model is to do without the help that it was sampled with.
    ``null`` keeps the turns that were sent."""
    system: str | None = None
    """The system message before ``prompt``, with places like it."""

    def __post_init__(self) -> None:
        if self.prompt is not None:
            require_row("demonstrations", "prompt", self.places["prompt"])
        if self.system is not None and self.prompt is None:
            raise RecipeError(
                "demonstrations: system is given without a prompt.", remedy="Set prompt, such as '{problem}'."
            )

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        return row_places(prompt=self.prompt, system=self.system)

    async def __call__(self, sample: Sampled, context: Context) -> Sequence[Demonstration | Rejection]:
        """One record, or a ``Rejection`` with the sample's verdict."""
        if sample.finish_reason != "stop":
            return [Rejection(sample.id, "unfinished", f"finish_reason {sample.finish_reason}")]
        said = sample.verdict.outcome if sample.verdict else None
        if self.outcomes and said not in self.outcomes:
            return [Rejection(sample.id, "no verdict" if said is None else f"verdict {said}")]
        asked = sample.messages
        if self.prompt is not None:
            asked = opening(RowValues(sample), self.prompt, self.system)
        turns = [turn_of(m) for m in asked]
        turns.append(Turn("assistant", sample.completion, train=True, reasoning=sample.reasoning))
        return [
            Demonstration(
                sample.id, sample.problem_id, sample.problem, sample.answer, self.kind, tuple(turns)
            )
        ]

    def estimate(self, sample: Sampled) -> Estimate:
        """It calls no engine."""
        return Estimate(0, 0, 0, 0, rows_max=1)
