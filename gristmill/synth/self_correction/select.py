"""Trajectories and preference pairs out of what was sampled. No model is called here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from msgspec import Struct, field

from gristmill.core.engine import Ability, Message
from gristmill.core.records import Base, Exploration, Pair, Subset, Trajectory, message_of
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.synth.self_correction.goals import GOALS, GoalName, Want, assign, met, right
from gristmill.synth.self_correction.prompts import (
    LOSS,
    CorrectionDialogue,
    Marker,
    Said,
    assemble,
    dialogue_of,
    marker_of,
)
from gristmill.synth.self_correction.search import evaluation_of, said_in

_ALL = Want(d1=None, d2=None, d3=None)
_SUBSETS: tuple[Subset, ...] = ("D1", "D2", "D3")


class Trajectories(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes D1, D2 and D3 trajectories, at most one of each first attempt.

    Source: arXiv 2502.19613, section 3.1.
    """

    want: Want = _ALL
    """The most trajectories of each subset from one problem; by default all."""
    dialogue: CorrectionDialogue | None = None
    """The words around the model's own in place of the style's."""
    marker: Marker | None = None
    """The endings of a self-evaluation in place of the style's own."""
    train_right_attempt: bool = True
    """Whether the right first attempt of D3 carries loss besides its evaluation, as in the paper, for
    stability."""

    reads: ClassVar[type[Struct]] = Exploration
    writes: ClassVar[type[Struct]] = Trajectory
    needs: ClassVar[frozenset[Ability]] = frozenset()

    async def __call__(self, record: Exploration, context: Context) -> list[Struct]:
        """The trajectories of one exploration, or the reason why there is none."""
        marker = self.marker or marker_of(record.style)
        served = assign(record.bases, self.want)
        made: list[Struct] = []
        for base in record.bases:
            subset = next((s for s in _SUBSETS if s in served.get(base.index, ())), None)
            if subset is not None:
                made.append(self.trajectory(record, base, subset, marker))
        return made or [Rejection(record.id, f"no trajectory: {why_none(record)}")]

    def trajectory(self, record: Exploration, base: Base, subset: Subset, marker: Marker) -> Trajectory:
        """The trajectory of a first attempt that serves ``subset``."""
        goal = GOALS[subset]
        parts = _parts(base, subset == "D3", True if goal.outcomes else None, marker)
        trained = (LOSS[subset][0] and self.train_right_attempt, *LOSS[subset][1:])
        return Trajectory(
            id=f"{record.id}/{base.index}",
            problem_id=record.id,
            problem=record.problem,
            answer=record.answer,
            subset=subset,
            style=record.style,
            turns=assemble(
                record.style,
                self.dialogue or dialogue_of(record.style),
                record.problem,
                list(zip(parts, trained, strict=False)),
            ),
        )

    def estimate(self, record: Exploration) -> Estimate:
        """Nothing: no engine is called."""
        return Estimate(0, 0, 0, 0, rows_max=len(record.bases))


def why_none(record: Exploration) -> str:
    """The furthest that any attempt of a problem came."""
    decided = [b for b in record.bases if b.attempt.verdict.decided]
    if not decided:
        return "no attempt with a decided answer"
    if not any(e.says_correct is not None for b in decided for e in b.evaluations):
        return "no self-evaluation with a verdict"
    if any(b.corrections for b in decided):
        return "no right correction"
    return "no verdict that fits"


class CorrectionPairs(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes the M-DPO preference pairs M-D1, M-D2 and M-D3 (arXiv 2502.19613, section 3.2).

    Both sides share the first attempt. (wrong, "wrong", wrong) against (wrong, "correct") is never made.
    """

    want: Want = field(
        default_factory=lambda: Want(d1=0, d2=0, d3=0, m_d1=None, m_d2=None, m_d3w=None, m_d3r=None)
    )
    """The most pairs of each kind from one problem; by default all."""
    dialogue: CorrectionDialogue | None = None
    """The words around the model's own in place of the style's."""
    marker: Marker | None = None
    """The endings of a self-evaluation in place of the style's own."""

    reads: ClassVar[type[Struct]] = Exploration
    writes: ClassVar[type[Struct]] = Pair
    needs: ClassVar[frozenset[Ability]] = frozenset()

    async def __call__(self, record: Exploration, context: Context) -> list[Struct]:
        """The pairs of one exploration, or a rejection where no two samples differ in the right way."""
        served = assign(record.bases, self.want)
        made: list[Struct] = [
            self.pair(record, base, name)
            for base in record.bases
            for name in served.get(base.index, ())
            if not GOALS[name].exclusive and met(GOALS[name], base)
        ]
        return made or [Rejection(record.id, "no pair: no two samples of one attempt differ in outcome")]

    def pair(self, record: Exploration, base: Base, name: GoalName) -> Pair:
        """The pair of one kind from a first attempt that has both sides."""
        if name in ("M-D1", "M-D2"):
            chosen, rejected = self.side(record, base, False, True), self.side(record, base, False, False)
        elif name == "M-D3w":
            chosen, rejected = self.side(record, base, False, True), self.side(record, base, True, None)
        else:
            chosen, rejected = self.side(record, base, True, None), self.side(record, base, False, False)
        shared = sum(1 for _ in _common(chosen, rejected))
        return Pair(
            id=f"{record.id}/{base.index}/{name}",
            problem_id=record.id,
            kind=name,
            prompt=tuple(chosen[:shared]),
            chosen=tuple(chosen[shared:]),
            rejected=tuple(rejected[shared:]),
        )

    def side(self, record: Exploration, base: Base, said: bool, outcome: bool | None) -> list[Message]:
        """The conversation with the first such evaluation and correction (``None``: no correction)."""
        marker = self.marker or marker_of(record.style)
        turns = assemble(
            record.style,
            self.dialogue or dialogue_of(record.style),
            record.problem,
            [(part, False) for part in _parts(base, said, outcome, marker)],
        )
        return [message_of(t) for t in turns]

    def estimate(self, record: Exploration) -> Estimate:
        """Nothing: no engine is called."""
        return Estimate(0, 0, 0, 0, rows_max=len(GOALS) * len(record.bases))


def _parts(base: Base, said: bool, outcome: bool | None, marker: Marker) -> list[Said]:
    """The attempt, its first evaluation of that verdict, and its first correction of that outcome (``None``:
    no correction)."""
    parts = [said_in(base.attempt.completion), evaluation_of(base, said, marker) or Said("")]
    if outcome is not None:
        parts.append(next(said_in(c.completion) for c in base.corrections if right(c) is outcome))
    return parts


def _common(left: list[Message], right: list[Message]) -> Iterator[Message]:
    """The turns that both sides begin with."""
    for a, b in zip(left, right, strict=False):
        if a != b:
            return
        yield a
