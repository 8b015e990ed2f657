"""Labels for process reward models, and advantages for reinforcement learning, out of rollouts.

No model is called here: one set of rollouts gives every kind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple

from msgspec import Meta, Struct

from gristmill.core.engine import Ability, Completion, Message
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.records import Judged
from gristmill.core.shares import wilson
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.core.steps import ProcessRow, Step, StepAction, Tally, ValuedSolution, tally
from gristmill.core.verdicts import Verdict
from gristmill.synth.step_values.steps import mathematical_part
from gristmill.synth.step_values.values import (
    Evidence,
    advantages,
    best_of_k,
    effective_reward,
    er_prm,
    hard,
    soft,
)

Kind = Annotated[
    str,
    Meta(
        pattern=r"^(hard|soft|er-prm\(([-+]?inf|[-+]?\d+(\.\d+)?([eE][-+]?\d{1,3})?)\))$",
        description="'hard', 'soft' or 'er-prm(ETA)' with a number, 'inf' or '-inf' for ETA",
    ),
]
"""The name of a label: ``hard``, ``soft``, or ``er-prm(ETA)`` with any real ETA, ``inf`` and ``-inf``."""
Last = Literal["verdict", "rollouts"]
_UNDECIDED = "a step without enough decided rollouts"
_STOPPED = "rollouts of a search without value_k"
_SET_VALUE_K = (
    "the scheme {} stops by what its rollouts come to, so that their share is not a value: set value_k in "
    "step_values, for example to 16, or scheme to fixed (what was drawn is in the log)"
)


class Label(NamedTuple):
    """The value of a step, the counts behind it (none for a value that was not sampled), and those of them
    that an interval may be formed of (``ValuedSolution.evidence``)."""

    value: float
    counts: Tally = Tally()
    measured: Tally = Tally()


class ProcessLabels(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes a row of step values of each of ``kinds`` from a solution's rollouts.

    Where a scheme other than ``fixed`` located the first error, ``hard`` (and ``er-prm(inf)``, which is the
    same in the limit) is that decision: 1 before the error, 0 from it on, as if success once lost stayed
    lost, whatever single rollouts say.

    The other kinds are of rollouts whose number no outcome decided (``ValuedSolution.evidence``): of such a
    scheme they need ``value_k`` in ``step_values``. A step with fewer than ``least`` of them decided has no
    value, unless it is 0 from the located error on. A solution with a step that has none is rejected, kind by
    kind.
    """

    kinds: Annotated[tuple[Kind, ...], Meta(min_length=1)] = ("soft",)
    """The labels, with a row for each: ``hard`` is 1 if any rollout from the step is right, ``soft`` the
    share of right ones, ``er-prm(ETA)`` the entropy-regularised value (arXiv 2412.11006)."""
    confidence: Annotated[float, Meta(gt=0, lt=1)] = 0.95
    """The confidence of the Wilson intervals ``low`` and ``high``."""
    last: Last = "verdict"
    """``verdict`` labels the last step 1 or 0 by the solution's own verdict, since nothing is left to
    complete (as ER-PRM's authors do); ``rollouts`` labels it like any other. A verdict that decides nothing
    leaves it to its rollouts."""
    least: Annotated[int, Meta(ge=1)] = 1
    """The decided rollouts without which a step has no value."""
    graded: bool = False
    """Whether ``soft`` and ``er-prm`` take the verdicts' scores instead of right or wrong."""
    cut_after_error: bool = False
    """Whether what follows the first step whose hard label is 0 is left out, whatever the kind (arXiv
    2501.07301, section 2)."""
    keep: Literal["all", "mathematical"] = "all"
    """``mathematical`` reduces each step to its mathematics, and leaves out a step without any, with its
    value. The step that gives the answer is kept as it is where its mathematics lack the answer."""

    reads: ClassVar[type[Struct]] = ValuedSolution
    writes: ClassVar[type[Struct]] = ProcessRow
    needs: ClassVar[frozenset[Ability]] = frozenset()

    def __post_init__(self) -> None:
        """Refuses two names of one kind: they would give two rows with one id."""
        named = [name_of(kind) for kind in self.kinds]
        if double := next((k for k in named if named.count(k) > 1), None):
            raise RecipeError(
                f"the label {double} is twice in kinds {list(self.kinds)}.", remedy="Name it once."
            )

    async def __call__(self, record: ValuedSolution, context: Context) -> list[Struct]:
        """A row for each kind, or the reason why there is none."""
        made: list[Struct] = []
        for kind in map(name_of, self.kinds):
            try:
                made.append(self.row(record, kind))
            except RowRejected as e:
                made.append(Rejection(f"{record.id}/{kind}", e.reason, e.message))
        return made

    def row(self, record: ValuedSolution, kind: str) -> ProcessRow:
        """The row of one kind; ``RowRejected`` where a step has no value of that kind."""
        steps: list[str] = []
        labels: list[Label] = []
        for i, text in enumerate(self._texts(record)):
            if text:
                steps.append(text)
                labels.append(self.label(record, i, kind))
            if self.cut_after_error and self.label(record, i, "hard").value == 0:
                break
        if not steps:
            raise RowRejected("no steps")
        counts = [label.counts for label in labels]
        intervals = [wilson(m.correct, m.decided, self.confidence) for _, _, m in labels]
        return ProcessRow(
            id=f"{record.id}/{kind}",
            problem_id=record.problem_id,
            problem=record.problem,
            prompt=record.messages,
            steps=tuple(steps),
            values=tuple(label.value for label in labels),
            correct=tuple(c.correct for c in counts),
            decided=tuple(c.decided for c in counts),
            low=tuple(low for low, _ in intervals),
            high=tuple(high for _, high in intervals),
            kind=kind,
            solved=settled(record.verdict),
        )

    def _texts(self, record: ValuedSolution) -> list[str]:
        """What is kept of each step; empty for one that is left out."""
        texts = [step.text for step in record.steps]
        if self.keep == "all" or not texts:
            return texts
        answer = record.verdict.extracted or ""
        holding = [i for i, text in enumerate(texts) if answer and answer in text]
        gives = holding[-1] if holding else len(texts) - 1
        parts = [mathematical_part(text) for text in texts]
        if not parts[gives] or answer not in parts[gives]:
            parts[gives] = texts[gives].strip()
        return parts

    def label(self, record: ValuedSolution, index: int, kind: str) -> Label:
        """The label of step ``index``; ``RowRejected`` where it has none of that kind."""
        if self.last == "verdict" and index == len(record.steps) - 1:
            right = settled(record.verdict)
            if right is not None:
                return Label(float(right))
        counts, seen = tally(record.steps[index].rollouts), record.evidence(index)
        measured = tally(seen)
        searched = record.scheme != "fixed"
        lost = record.first_error is not None and 0 <= record.first_error <= index
        if kind in ("hard", "er-prm(inf)") and searched:
            if record.first_error is not None:
                return Label(float(not lost), counts, measured)
            if counts.decided >= self.least:
                return Label(hard(counts), counts, measured)
        elif searched and not record.valued:
            raise RowRejected(_STOPPED, _SET_VALUE_K.format(record.scheme))
        elif measured.decided >= self.least:
            graded = self.graded and kind != "hard"
            return Label(value_of(kind, _scores(seen) if graded else measured), measured, measured)
        if lost:
            return Label(0.0)
        if kind in ("hard", "er-prm(inf)") and record.first_error is not None:
            return Label(1.0)
        detail = f"step {index + 1} of {len(record.steps)} has {measured.decided}, fewer than {self.least}"
        raise RowRejected(_UNDECIDED, detail)

    def estimate(self, record: ValuedSolution) -> Estimate:
        """Nothing: no engine is called."""
        return Estimate(0, 0, 0, 0, rows_max=len(self.kinds))


class StepActions(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes a (state, action, advantage) row of each step (PAV, arXiv 2410.08146).

    ``value`` is the policy's success share Q after the step, ``advantage`` the prover's Q after it minus
    the prover's Q before it, ``reward`` value + ``alpha`` * advantage. A step for which a Q is missing is
    rejected; the others are kept. Where a step is a turn of a conversation with tools, the turns before it
    are in the row's ``prompt``. A Q is a share of rollouts whose number no outcome decided
    (``ValuedSolution.evidence``): the schemes ``adaptive`` and ``binary`` need ``value_k`` for it.
    """

    prover: Literal["auto", "best-of-k", "rollouts"] = "auto"
    """The prover: the best of ``k`` completions of the policy, or the engine whose ``rollouts`` are in the
    steps; ``auto`` takes that one where the solution has any. It must not be the policy itself, whose
    advantage adds nothing."""
    k: Annotated[int, Meta(ge=2)] = 4
    """The completions of which the prover is the best."""
    alpha: Annotated[float, Meta(ge=0)] = 0.5
    """The weight of the advantage in the reward."""
    last: Last = "verdict"
    """``verdict``: the last step's Q is the solution's own outcome, for policy and prover; ``rollouts``: it
    is counted like any other."""
    least: Annotated[int, Meta(ge=1)] = 1
    """The decided rollouts without which a Q is missing."""

    reads: ClassVar[type[Struct]] = ValuedSolution
    writes: ClassVar[type[Struct]] = StepAction
    needs: ClassVar[frozenset[Ability]] = frozenset()

    async def __call__(self, record: ValuedSolution, context: Context) -> list[Struct]:
        """A row for each step, or the reason why there is none."""
        policy, prover = self._shares(record, prover=False), self._shares(record, prover=True)
        paid = bool(record.start_prover) or any(step.prover for step in record.steps)
        if self.prover == "best-of-k" or (self.prover == "auto" and not paid):
            prover = [None if q is None else best_of_k(q, self.k) for q in policy]
        made: list[Struct] = []
        prefix, asked = "", record.messages
        for i, step in enumerate(record.steps):
            row_id = f"{record.id}/{i}"
            value, before, after = policy[i + 1], prover[i], prover[i + 1]
            if value is None or before is None or after is None:
                made.append(_lacking(record, row_id, i, "policy's" if value is None else "prover's"))
            else:
                made.append(self._action(record, row_id, (asked, prefix), step, (value, before, after)))
            if step.acted:
                asked = (*asked, *step.acted)
            else:
                prefix += step.text
        return made or [Rejection(record.id, "no steps")]

    def _action(
        self,
        record: ValuedSolution,
        row_id: str,
        state: tuple[tuple[Message, ...], str],
        step: Step,
        shares: tuple[float, float, float],
    ) -> StepAction:
        value, before, after = shares
        [advantage] = advantages(before, [after])
        return StepAction(
            id=row_id,
            problem_id=record.problem_id,
            prompt=state[0],
            prefix=state[1],
            action=step.text,
            value=value,
            advantage=advantage,
            reward=effective_reward(value, advantage, self.alpha),
        )

    def _shares(self, record: ValuedSolution, *, prover: bool) -> list[float | None]:
        """Q of the question alone and after each step; ``None`` where it is not known."""
        drawn = [record.start_prover, *(s.prover for s in record.steps)]
        if not prover:
            drawn = [record.evidence(i) for i in range(-1, len(record.steps))]
        counts = [tally(rollouts) for rollouts in drawn]
        shares = [soft(c) if c.decided >= self.least else None for c in counts]
        right = settled(record.verdict)
        if self.last == "verdict" and right is not None and record.steps:
            shares[-1] = float(right)
        return shares

    def estimate(self, record: ValuedSolution) -> Estimate:
        """Nothing: no engine is called."""
        return Estimate(0, 0, 0, 0, rows_max=len(record.steps))


def _lacking(record: ValuedSolution, row_id: str, index: int, whose: str) -> Rejection:
    """Why step ``index`` is not an action."""
    if record.scheme != "fixed" and not record.valued:
        return Rejection(row_id, _STOPPED, _SET_VALUE_K.format(record.scheme))
    if not index and record.screened and not record.evidence(-1):
        detail = "skip_certain took all rollouts from the question: set value_k in step_values"
        return Rejection(row_id, "the question's rollouts only screened it", detail)
    return Rejection(row_id, _UNDECIDED, f"the {whose} before or after step {index + 1}")


def settled(verdict: Verdict) -> bool | None:
    """Whether a solution's answer is right, by the rule of ``Tally``: a solution without a readable answer
    did not reach it, and a verdict of ``timeout`` or ``error`` says nothing (``None``)."""
    counts = tally((Judged(Completion(""), verdict),))
    return bool(counts.correct) if counts.decided else None


def name_of(kind: str) -> str:
    """The one name of a kind, however its eta is written: ``er-prm(1)`` of ``er-prm(+1.0)``."""
    return f"er-prm({repr(eta_of(kind)).removesuffix('.0')})" if kind.startswith("er-prm(") else kind


def eta_of(kind: str) -> float:
    """The eta of a kind ``er-prm(ETA)``; 0, which is never told apart from ``-0``, for the mean."""
    return float(kind.removeprefix("er-prm(").removesuffix(")")) + 0.0


def value_of(kind: str, rollouts: Evidence) -> float:
    """The value of rollouts by a kind of label. Raises ``ValueError`` where none is decided."""
    if kind == "hard":
        if not isinstance(rollouts, Tally):
            raise ValueError("hard labels are of counts, not of graded rewards")
        return hard(rollouts)
    return soft(rollouts) if kind == "soft" else er_prm(rollouts, eta_of(kind))


def _scores(rollouts: Sequence[Judged]) -> list[float]:
    """The scores of the decided rollouts, 0 for one without a readable answer."""
    scores = []
    for rollout in rollouts:
        right = settled(rollout.verdict)
        if right is not None:
            score = rollout.verdict.score
            scores.append(float(right) if score is None or math.isnan(score) else min(max(score, 0.0), 1.0))
    return scores
