"""``gristmill eval step-values``: what the values of steps in a run are worth."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

from msgspec import Struct

from gristmill.core.errors import RecipeError
from gristmill.core.records import Sampled
from gristmill.core.shares import logistic
from gristmill.core.steps import ProcessRow, ValuedSolution, tally
from gristmill.core.verdicts import Verdict
from gristmill.pipelines.evaluate.choices import (
    ChoiceOfN,
    answer_classes,
    choice_of_n,
    choice_table,
    most_common_size,
)
from gristmill.pipelines.rundir import parts
from gristmill.pipelines.rundir.results import Run, open_run
from gristmill.pipelines.rundir.summary import align, printable
from gristmill.synth.step_values import measures
from gristmill.synth.step_values.labels import settled
from gristmill.synth.step_values.measures import Locations
from gristmill.synth.step_values.selection import Candidate

R = TypeVar("R", bound=Struct)

_JUDGES = ("judge", "self")
_SAMPLED = ("hard", "soft", "er-prm(")
"""Kinds of labels that are made of rollouts."""
_SEARCHED = ("search(", "rest-mcts*")
"""Kinds of values that a tree search found with the verdicts of the very solutions."""
_UNREAD = "judge not readable"
"""The reason under which the stage ``judge_steps`` rejects."""


class Values(Struct, frozen=True):
    """The values of one kind: how many solutions are right, wrong and not known, how well values of steps
    tell the right from the wrong (over all pairs, and over pairs of one problem), and for each position
    how many labels are good and bad."""

    name: str
    right: int
    wrong: int
    unknown: int
    auc: float | None
    auc_within: float | None
    positions: tuple[tuple[int, int], ...]


class JudgeReport(Struct, frozen=True):
    """A judge's locations against Monte Carlo's. In ``clean`` solutions whose verdict is known it found no
    error; of these ``clean_right`` have the right answer."""

    name: str
    found: Locations
    clean: int
    clean_right: int


class ValuesEvaluation(Struct, frozen=True):
    """What is measured of a run."""

    values: tuple[Values, ...]
    choices: tuple[ChoiceOfN, ...]
    judges: tuple[JudgeReport, ...]


class _Row(NamedTuple):
    """A solution's values: ``labels`` of all steps, of which ``values`` are those that owe nothing to the
    solution's own verdict."""

    solution: str
    problem: str
    solved: bool | None
    labels: tuple[float, ...]
    values: tuple[float, ...]


class _Found(NamedTuple):
    """What a run holds: rows by kind, Monte Carlo locations and verdicts by solution, and by stage the
    solutions whose judge could not be read."""

    rows: dict[str, list[_Row]]
    located: dict[str, int | None]
    verdicts: dict[str, Verdict]
    unread: dict[str, list[str]]


def evaluate_run(run: Run | str | Path, *, threshold: float = 0.0, seed: int = 0) -> ValuesEvaluation:
    """Measure the step values in a run: its ``ProcessRow``, ``ValuedSolution`` and ``Sample`` records.

    A value above ``threshold`` is a good label. Values of steps that no rollout was drawn from are left out
    where the others have rollouts, since they come from the very verdict that they are measured against.
    Raises ``RecipeError`` for a run without any values.
    """
    run = run if isinstance(run, Run) else open_run(Path(run))
    found = _read(run)
    if not found.rows:
        raise RecipeError(
            f"{run.path} holds no values of steps.",
            remedy="Its recipe needs a stage that makes them, such as step_values with process_labels.",
        )
    judged = {name: rows for name, rows in found.rows.items() if _kind(name) in _JUDGES}
    return ValuesEvaluation(
        values=tuple(_values(name, rows, threshold) for name, rows in found.rows.items()),
        choices=tuple(
            choice
            for name, rows in _whole(found.rows)
            if (choice := _choice(name, rows, found.verdicts, seed)) is not None
        ),
        judges=tuple(_judge(name, rows, found) for name, rows in judged.items() if found.located),
    )


def _whole(rows: Mapping[str, list[_Row]]) -> Iterator[tuple[str, list[_Row]]]:
    """The values to choose by: not those that are a filter's part of an earlier stage's, in which the right
    solutions are more or fewer than the policy's."""
    seen: dict[str, list[set[_Row]]] = defaultdict(list)
    for name, found in rows.items():
        kind, these = _kind(name), set(found)
        if kind != "rollouts" and not any(these <= earlier for earlier in seen[kind]):
            seen[kind].append(these)
            yield name, found


def _read(run: Run) -> _Found:
    found = _Found({}, {}, {}, {})
    for stage in run.stages:
        columns = set(run.rows(stage).collect_schema().names())
        if _holds(columns, ProcessRow):
            for row in _records(run, stage, ProcessRow):
                found.rows.setdefault(f"{stage}: {row.kind}", []).append(_of_row(row))
            dropped = run.rejected(stage).select("id", "reason").collect()
            found.unread[stage] = [name for name, why in dropped.iter_rows() if why == _UNREAD]
        elif _holds(columns, ValuedSolution):
            for solution in _records(run, stage, ValuedSolution):
                found.rows.setdefault(f"{stage}: rollouts", []).append(_of_solution(solution))
                found.located[solution.id] = solution.first_error
                found.verdicts[solution.id] = solution.verdict
        elif _holds(columns, Sampled):
            for sample in _records(run, stage, Sampled):
                if sample.verdict is not None:
                    found.verdicts[sample.id] = sample.verdict
    return found


def _holds(columns: set[str], record: type[Struct]) -> bool:
    return set(record.__struct_fields__) <= columns


def _records(run: Run, stage: str, record: type[R]) -> Iterator[R]:
    return cast(Iterator[R], parts.read(run.folder(stage), record))


def _kind(name: str) -> str:
    return name.partition(": ")[2]


def _of_row(row: ProcessRow) -> _Row:
    values = row.values
    if row.kind.startswith(_SAMPLED):
        values = tuple(v for v, n in zip(row.values, row.decided, strict=True) if n)
    solution = row.id.removesuffix(f"/{row.kind}")
    return _Row(solution, row.problem_id, row.solved, row.values, values)


def _of_solution(solution: ValuedSolution) -> _Row:
    shares = (tally(step.rollouts).mean for step in solution.steps)
    values = tuple(s for s in shares if s is not None)
    return _Row(solution.id, solution.problem_id, settled(solution.verdict), (), values)


def _values(name: str, rows: Sequence[_Row], threshold: float) -> Values:
    known = [(r.problem, r.solved, r.values) for r in rows if r.solved is not None]
    sides = measures.grouped(known).values()
    solved = Counter(r.solved for r in rows)
    return Values(
        name=name,
        right=solved[True],
        wrong=solved[False],
        unknown=solved[None],
        auc=measures.auc((v for right, _ in sides for v in right), (v for _, wrong in sides for v in wrong)),
        auc_within=measures.auc_within(sides),
        positions=tuple(measures.by_position((r.labels for r in rows), threshold)),
    )


def _choice(name: str, rows: Sequence[_Row], verdicts: Mapping[str, Verdict], seed: int) -> ChoiceOfN | None:
    """The table of one kind; ``None`` where no problem has two solutions whose answers are decided."""
    problems: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        if row.solved is not None:
            problems[row.problem].append(row)
    counts = Counter(len(found) for found in problems.values() if len(found) > 1)
    if not counts:
        return None
    most = most_common_size(counts)
    enough = {p: _candidates(found, verdicts) for p, found in problems.items() if len(found) >= most}
    return choice_of_n(name, enough, most, seed, left_out=len(problems) - len(enough))


def _candidates(rows: Sequence[_Row], verdicts: Mapping[str, Verdict]) -> list[Candidate]:
    """The solutions of one problem. All right answers are one class, and wrong ones are of one if they are
    equal as mathematics. Values outside [0, 1] (implicit rewards) go through the logistic function, all."""
    classes = answer_classes([(verdicts.get(r.solution), bool(r.solved)) for r in rows])
    inside = all(0 <= v <= 1 for r in rows for v in r.values)
    return [
        Candidate(r.values if inside else tuple(map(logistic, r.values)), bool(r.solved), classes.get(i))
        for i, r in enumerate(rows)
    ]


def _judge(name: str, rows: Sequence[_Row], found: _Found) -> JudgeReport:
    said = [(found.located.get(r.solution), measures.first_wrong(r.labels)) for r in rows]
    clean = [r.solved for r, (_, at) in zip(rows, said, strict=True) if at < 0 and r.solved is not None]
    unread = [(found.located.get(name), None) for name in found.unread[name.partition(": ")[0]]]
    return JudgeReport(name, measures.locations([*said, *unread]), len(clean), sum(clean))


def table(found: ValuesEvaluation) -> str:
    """The measures as text; a share of nothing is a dash."""
    blocks = [_values_table(found.values), _positions_table(found.values)]
    blocks += [_choice_table(choice) for choice in found.choices]
    blocks += [_judge_table(judge) for judge in found.judges]
    return "\n\n".join(block for block in blocks if block)


def _values_table(found: Sequence[Values]) -> str:
    rows = [("values", "right", "wrong", "unknown", "AUC", "AUC within problems")]
    for v in found:
        aucs = measures.share(v.auc), measures.share(v.auc_within)
        rows.append((printable(v.name), f"{v.right:,}", f"{v.wrong:,}", f"{v.unknown:,}", *aucs))
    notes = ["AUC: how often a step of a right solution has a higher value than one of a wrong solution."]
    if any(_kind(v.name).startswith(_SEARCHED) for v in found):
        notes.append(
            "A search's own values hold the verdicts of these solutions: their AUC measures nothing."
        )
    return "\n".join([*align(rows), *notes])


def _positions_table(found: Sequence[Values]) -> str:
    shown = [v for v in found if v.positions]
    if not shown:
        return ""
    rows = [("step: good/bad labels", *(printable(v.name) for v in shown))]
    for i in range(max(len(v.positions) for v in shown)):
        counts = (v.positions[i] if i < len(v.positions) else (0, 0) for v in shown)
        rows.append((str(i), *(f"{good:,}/{bad:,}" for good, bad in counts)))
    return "\n".join(align(rows))


def _choice_table(choice: ChoiceOfN) -> str:
    notes = []
    if _kind(choice.name).startswith(_SAMPLED):
        notes.append(
            "These values come from rollouts judged by the reference answer: no model could choose so."
        )
    if _kind(choice.name).startswith(_SEARCHED):
        notes.append("These values hold the verdicts of the solutions themselves: no model could choose so.")
    return "\n".join([choice_table(choice), *notes])


def _judge_table(judge: JudgeReport) -> str:
    rows = measures.report(judge.found)
    rows[0] = (f"{printable(judge.name)}, against rollouts", *rows[0][1:])
    notes = [
        f"{judge.found.unread:,} answers of the judge could not be read; "
        f"{judge.found.unknown:,} solutions have no location by rollouts."
    ]
    if judge.clean:
        right = measures.share(judge.clean_right / judge.clean)
        notes.append(
            f"Of {judge.clean:,} solutions without an error by the judge, {right} have the right answer."
        )
    return "\n".join([*align(rows), *notes])
