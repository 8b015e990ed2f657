"""Solutions in steps and search trees as drawings: one form for the terminal and for the page.

A drawing is plain data. All of its text came from a model or a data set, and is shown as text only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gristmill.core.engine import Message
from gristmill.core.records import Judged
from gristmill.core.shares import wilson
from gristmill.core.steps import ROOT, ProcessRow, Tree, ValuedSolution, tally

CONFIDENCE = 0.95
"""Of the Wilson intervals that are drawn."""


class Roll(Struct, frozen=True):
    """A rollout: its text (without the prefix) and its outcome."""

    text: str
    outcome: str


class Mark(Struct, frozen=True, omit_defaults=True):
    """A node of a drawing; ``parent`` is the index of an earlier one, or ``ROOT``.

    ``value`` is on the drawing's scale. ``low`` and ``high`` bound the share of right rollouts, ``correct``
    of ``decided``. ``path`` marks the node as part of the best path.
    """

    parent: int
    text: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    correct: int = 0
    decided: int = 0
    visits: int = 0
    prior: float | None = None
    reward: float | None = None
    terminal: bool = False
    outcome: str = ""
    note: str = ""
    path: bool = False
    rollouts: tuple[Roll, ...] = ()


class Drawing(Struct, frozen=True):
    """What is drawn of one record. ``scale`` holds the values that stand for bad and good."""

    id: str
    title: str
    problem: str
    answer: str
    prompt: tuple[Message, ...]
    marks: tuple[Mark, ...]
    scale: tuple[float, float] = (0.0, 1.0)


def goodness(value: float | None, scale: tuple[float, float]) -> float | None:
    """Where ``value`` lies on its scale, in [0, 1]; ``None`` for no value."""
    if value is None:
        return None
    low, high = scale
    return min(1.0, max(0.0, (value - low) / (high - low)))


def drawing(row: Mapping[str, Any]) -> Drawing | None:
    """The drawing of a stage's row; ``None`` where it holds neither steps nor a tree."""
    for kind, draw in _KINDS.items():
        if set(kind.__struct_fields__) <= row.keys():
            return draw(msgspec.convert({f: row[f] for f in kind.__struct_fields__}, kind))
    return None


def drawable(columns: Sequence[str]) -> bool:
    """Whether rows with these columns can be drawn."""
    return any(set(kind.__struct_fields__) <= set(columns) for kind in _KINDS)


def _of_solution(record: ValuedSolution) -> Drawing:
    outcome = record.verdict.outcome.value
    error = record.first_error
    marks = [_mark(ROOT, "", record.start, "the question alone", record.evidence(-1))]
    for i, step in enumerate(record.steps):
        notes = ["first error"] if i == error else []
        if step.prover:
            proved = tally(step.prover)
            notes.append(f"prover {proved.correct} of {proved.decided}")
        last = i == len(record.steps) - 1
        mark = _mark(i, step.text, step.rollouts, ", ".join(notes), record.evidence(i))
        if last:
            certain = {"correct": 1.0, "incorrect": 0.0}.get(outcome)
            value = certain if mark.value is None else mark.value
            mark = msgspec.structs.replace(mark, terminal=True, outcome=outcome, value=value)
        marks.append(mark)
    title = f"the answer is {outcome}; scheme {record.scheme}, ended: {record.stopped}"
    return Drawing(record.id, title, record.problem, record.answer, record.messages, tuple(marks))


def _of_row(record: ProcessRow) -> Drawing:
    marks = [Mark(ROOT, "")]
    for i, text in enumerate(record.steps):
        sampled = record.decided[i] > 0
        marks.append(
            Mark(
                i,
                text,
                value=record.values[i],
                low=record.low[i] if sampled else None,
                high=record.high[i] if sampled else None,
                correct=record.correct[i],
                decided=record.decided[i],
            )
        )
    solved = {True: "solved", False: "not solved", None: "not known whether solved"}[record.solved]
    scale = _scale(record.values)
    title = f"{record.kind}, {solved}"
    return Drawing(record.id, title, record.problem, "", record.prompt, tuple(marks), scale)


def _of_tree(record: Tree) -> Drawing:
    marks = []
    best = set(record.path(_best_leaf(record)))
    for node in record.nodes:
        made = _mark(node.parent, node.text, node.rollouts, note=node.note)
        marks.append(
            msgspec.structs.replace(
                made,
                value=made.value if node.value is None else node.value,
                visits=node.visits,
                prior=node.prior,
                reward=node.reward,
                terminal=node.terminal,
                outcome=node.verdict.outcome.value if node.verdict else "",
                path=node.index in best,
            )
        )
    title = (
        f"{record.algorithm}, {len(record.nodes)} nodes, {record.iterations} iterations, "
        f"{record.completions} completions, {record.stopped}"
    )
    scale = _scale([m.value for m in marks if m.value is not None])
    return Drawing(
        record.id, title, record.problem, record.answer or "", record.messages, tuple(marks), scale
    )


def _mark(
    parent: int,
    text: str,
    rollouts: Sequence[Judged],
    note: str = "",
    evidence: Sequence[Judged] | None = None,
) -> Mark:
    """A mark whose interval, and whose value where there is any, is of the ``evidence`` (all by default)."""
    counts, measured = tally(rollouts), tally(rollouts if evidence is None else evidence)
    low, high = wilson(measured.correct, measured.decided, CONFIDENCE) if measured.decided else (None, None)
    return Mark(
        parent,
        text,
        value=measured.mean if measured.decided else counts.mean,
        low=low,
        high=high,
        correct=counts.correct,
        decided=counts.decided,
        note=note,
        rollouts=tuple(Roll(r.completion.text, r.verdict.outcome.value) for r in rollouts),
    )


def _best_leaf(record: Tree) -> int:
    """The node to point out: a right terminal before any other, then the greatest value, the first of equals.

    Without terminals it is the node of greatest value among those without children.
    """
    parents = {node.parent for node in record.nodes}
    leaves = [n for n in record.nodes if n.index not in parents]
    ends = [n for n in leaves if n.terminal] or leaves
    values = _values(record)
    return max(
        ends,
        key=lambda n: (n.verdict is not None and n.verdict.correct, values[n.index], -n.index),
    ).index


def _values(record: Tree) -> list[float]:
    """Each node's value, or where it has none its nearest ancestor's (0 where none has)."""
    found: list[float] = []
    for node in record.nodes:
        own = node.value if node.value is not None else tally(node.rollouts).mean
        above = found[node.parent] if node.parent != ROOT else 0.0
        found.append(above if own is None else own)
    return found


def _scale(values: Sequence[float]) -> tuple[float, float]:
    """The ends of a colour scale: shares run from 0 to 1, back-propagated ±1 from -1; else what there is."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    if low >= -1 and high <= 1:
        return -1.0, 1.0
    return low, high


_KINDS: dict[type[Struct], Callable[[Any], Drawing]] = {
    ValuedSolution: _of_solution,
    ProcessRow: _of_row,
    Tree: _of_tree,
}
