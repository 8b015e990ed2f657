"""Samples as conversations to imitate: the selection step of rejection sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from gristmill.core.engine import Ability
from gristmill.core.errors import RecipeError
from gristmill.core.prompts import opening
from gristmill.core.records import Demonstration, Sampled, Turn
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.core.verdicts import Outcome


class Demonstrations(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keeps the samples whose verdict is one of ``outcomes`` as conversations whose last turn is trained.

    This is the data of RAFT (arXiv 2304.06767) and of rejection-sampling fine-tuning (arXiv 2308.01825).
    A sample that was cut off is dropped whatever its verdict; one without a verdict only where
    ``outcomes`` is empty, which keeps all finished samples. ``kind`` is written into every record.

    The turns before the last are those that were sent, worked examples included; with ``prompt`` (and
    ``system``) they are that alone, in which ``{problem}`` stands for the problem's text: what a model is
    to do without the help that it was sampled with.
    """

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = Demonstration
    needs: ClassVar[frozenset[Ability]] = frozenset()

    outcomes: tuple[Outcome, ...] = (Outcome.CORRECT,)
    kind: Annotated[str, Meta(min_length=1)] = "sample"
    prompt: Annotated[str, Meta(pattern=r"\{problem\}")] | None = None
    system: str | None = None

    def __post_init__(self) -> None:
        if self.system is not None and self.prompt is None:
            raise RecipeError(
                "demonstrations: system is given without a prompt.", remedy="Set prompt, such as '{problem}'."
            )

    async def __call__(self, sample: Sampled, context: Context) -> Sequence[Demonstration | Rejection]:
        """One record, or a ``Rejection`` with the sample's verdict."""
        if sample.finish_reason != "stop":
            return [Rejection(sample.id, "unfinished", f"finish_reason {sample.finish_reason}")]
        said = sample.verdict.outcome if sample.verdict else None
        if self.outcomes and said not in self.outcomes:
            return [Rejection(sample.id, "no verdict" if said is None else f"verdict {said}")]
        asked = sample.messages
        if self.prompt is not None:
            asked = opening(sample.problem, self.prompt, self.system)
        turns = [Turn(m.role, m.content, train=False) for m in asked]
        turns.append(Turn("assistant", sample.completion, train=True))
        return [
            Demonstration(
                sample.id, sample.problem_id, sample.problem, sample.answer, self.kind, tuple(turns)
            )
        ]

    def estimate(self, sample: Sampled) -> Estimate:
        """It calls no engine."""
        return Estimate(0, 0, 0, 0)
