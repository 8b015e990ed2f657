"""How far votes can be trusted: ``gristmill report votes``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gristmill.core.errors import InputError, RecipeError
from gristmill.core.records import Sampled
from gristmill.core.schema import from_frame, schema, to_frame
from gristmill.core.shares import wilson
from gristmill.core.stages import Rejection
from gristmill.pipelines.report.budgets import BudgetAccuracy, BudgetComparison, Solved, compare, spending
from gristmill.pipelines.rundir.directory import run_path
from gristmill.pipelines.rundir.results import Run, open_run
from gristmill.pipelines.rundir.summary import align, printable
from gristmill.pipelines.sources import source
from gristmill.pipelines.sources.options import Source
from gristmill.synth.agreement.answers import Answers, Equal
from gristmill.synth.agreement.vote import Ballots, Rule, Voted, Voting
from gristmill.synth.refusal.measures import Bin, auroc, bins, ece, levels

if TYPE_CHECKING:
    import polars as pl


class RuleAccuracy(Struct, frozen=True):
    """What a rule is worth: the ``accuracy`` over problems whose classes' truth is known, ties with
    fractional credit, with a Wilson interval of the nearest count; ``ties`` of these problems are tied."""

    rule: str
    problems: int
    accuracy: float
    low: float
    high: float
    ties: int


class VoteReport(Struct, frozen=True):
    """The report. ``single`` is the share of right samples, ``any`` that of problems with a right one.

    ``calibration`` are bins of equal mass of the winning share, of problems without a tie; ``ece`` and
    ``auroc`` are of the same. ``spent`` and ``compared`` are the accuracies by budget.
    """

    name: str
    problems: int
    samples: int
    undecided: int
    without_votes: int
    without_gold: int
    single: float | None
    any: float | None
    rules: tuple[RuleAccuracy, ...]
    calibration: tuple[Bin, ...]
    ece: float | None
    auroc: float | None
    spent: tuple[BudgetAccuracy, ...]
    compared: tuple[BudgetComparison, ...]
    refused: dict[str, int]


def report(
    what: str,
    *,
    stage: str | None = None,
    runs: Path = Path("runs"),
    partial: bool = False,
    answers: Answers = "math",
    equal: Equal | None = None,
    weight: str | None = None,
    verification: str | None = None,
    ratio: float = 1.0,
    count: int = 10,
    draws: int = 20,
    seed: int = 0,
) -> VoteReport:
    """The report on the samples of a file or of a run.

    ``weight`` is an expression for the rules with weights; ``verification`` the name of the scores, in [0,
    1], that verify samples: ``NAME``, or several as ``NAME_0``, ``NAME_1`` ... ``ratio`` is what one costs of
    a solution. Raises ``InputError``, ``RunError`` or ``RecipeError`` for what cannot be read.
    """
    name, frame, refused = _samples(what, stage, runs, partial)
    base = Voting(answers=answers, equal=equal)
    ballots = list(base.ballots(frame))
    plain = {row.id: row for row in from_frame(base.voted(frame), Voted)}
    voted = [row for row in plain.values() if row.votes]
    known = [row for row in voted if row.credit is not None and all(c.right is not None for c in row.classes)]
    rules = [_accuracy("count", known)] if known else []
    ids = {row.id for row in known}
    for rule in _rules(frame, weight) if known else ():
        stage_ = replace(base, rule=rule, weight=weight if rule in _WEIGHED else None)
        rows = [row for row in from_frame(stage_.voted(frame), Voted) if row.id in ids]
        rules.append(_accuracy(rule, [row for row in rows if row.votes and row.credit is not None]))
    clear = [row for row in known if not row.tied and row.right is not None]
    found = levels([bool(row.right) for row in clear], [row.share for row in clear])
    checks = _verifications(frame, verification)
    solved = [_solved(b, plain[b.problem_id], base, checks) for b in ballots if b.problem_id in ids]
    spent = spending(solved, ratio=ratio, draws=draws, seed=seed)
    right = [(c.votes, c.right) for row in known for c in row.classes]
    total = sum(votes for votes, _ in right)
    return VoteReport(
        name=name,
        problems=len(ballots),
        samples=sum(len(b.casts) for b in ballots),
        undecided=sum(row.undecided for row in plain.values()),
        without_votes=len(ballots) - len(voted),
        without_gold=len(voted) - len(known),
        single=sum(votes for votes, true in right if true) / total if total else None,
        any=sum(any(c.right for c in row.classes) for row in known) / len(known) if known else None,
        rules=tuple(rules),
        calibration=tuple(bins(found, count)),
        ece=ece(found, count),
        auroc=auroc(found),
        spent=tuple(spent),
        compared=tuple(compare(spent)),
        refused=dict(refused),
    )


_WEIGHED: tuple[Rule, ...] = ("sum", "mean", "borda")


def as_json(found: VoteReport) -> str:
    """The report as JSON, indented."""
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode()


def table(found: VoteReport) -> str:
    """The report as text, a block for each part that there is something to say of."""
    lines = [f"{printable(found.name)}: {found.samples:,} samples of {found.problems:,} problems"]
    lines += [f"{n:>9,}  rows refused: {printable(why)}" for why, n in found.refused.items()]
    lines.append(f"{found.undecided:>9,}  samples without an answer")
    lines.append(f"{found.without_votes:>9,}  problems without a vote")
    lines.append(f"{found.without_gold:>9,}  problems of which it is not known what is right")
    if not found.rules:
        return "\n".join([*lines, "Nothing can be measured without a reference or verdicts."])
    lines += ["", *align(list(_rows_of_rules(found)))]
    if found.calibration:
        lines += ["", *align(list(_rows_of_bins(found)))]
        lines.append(
            f"ECE {_number(found.ece)}, AUROC {_number(found.auroc)} of the winning share, without ties"
        )
    lines += ["", *align(list(_rows_of_spending(found)))]
    if found.compared:
        lines += ["", *align(list(_rows_of_budgets(found)))]
    return "\n".join(lines)


def _rows_of_rules(found: VoteReport) -> Iterator[tuple[str, ...]]:
    yield "rule", "problems", "accuracy", "95 % interval", "ties"
    yield "one sample", "", _number(found.single), "", ""
    for one in found.rules:
        interval = f"{one.low:.3f}-{one.high:.3f}"
        yield one.rule, f"{one.problems:,}", f"{one.accuracy:.3f}", interval, f"{one.ties:,}"
    yield "any sample right", "", _number(found.any), "", ""


def _rows_of_bins(found: VoteReport) -> Iterator[tuple[str, ...]]:
    yield "winning share", "problems", "mean share", "accuracy", "95 % interval"
    for one in found.calibration:
        low, high = wilson(round(one.accuracy * one.total), one.total)
        share = f"{one.low:.3f}-{one.high:.3f}"
        yield share, f"{one.total:,}", f"{one.confidence:.3f}", f"{one.accuracy:.3f}", f"{low:.3f}-{high:.3f}"


def _rows_of_spending(found: VoteReport) -> Iterator[tuple[str, ...]]:
    yield "solutions", "verifications", "cost", "votes", "best verified", "weighted votes"
    for one in found.spent:
        numbers = map(_number, (one.votes, one.best, one.weighted))
        yield str(one.solutions), str(one.verifications), f"{one.cost:g}", *numbers


def _rows_of_budgets(found: VoteReport) -> Iterator[tuple[str, ...]]:
    yield "budget", "votes", "of", "verified", "of", "better"
    for one in found.compared:
        better = "votes" if one.votes > one.verified else "verified" if one.verified > one.votes else "equal"
        of = f"{one.verified_solutions} x {one.verifications}"
        yield f"{one.budget:g}", f"{one.votes:.3f}", str(one.solutions), f"{one.verified:.3f}", of, better


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _accuracy(rule: str, rows: Sequence[Voted]) -> RuleAccuracy:
    credit = sum(row.credit or 0 for row in rows)
    low, high = wilson(round(credit), len(rows))
    accuracy = credit / len(rows) if rows else 0.0
    return RuleAccuracy(rule, len(rows), accuracy, low, high, sum(row.tied for row in rows))


def _rules(frame: pl.LazyFrame, weight: str | None) -> Iterator[Rule]:
    """The rules besides the count for which the samples have what is needed."""
    import polars as pl

    if weight is not None:
        yield from _WEIGHED
    named = frame.select(
        pl.col("scores").list.eval(pl.element().struct.field("name")).explode().unique()
    ).collect()
    if "mean_logprob" in named.to_series().to_list():
        yield from ("perplexity", "rpc")
    if frame.select(pl.col("model").n_unique()).collect().item() > 1:
        yield "models"


def _verifications(frame: pl.LazyFrame, name: str | None) -> list[tuple[float, ...]] | None:
    """The verifications of each sample, which may be none. ``RecipeError`` where no sample has any."""
    import polars as pl

    if name is None:
        return None
    wanted = re.compile(re.escape(name) + r"(?:_\d+)?\Z")
    rows = frame.select("id", pl.col("scores")).collect()
    found = []
    for row_id, scores in rows.iter_rows():
        own = [s["value"] for s in scores or [] if wanted.match(s["name"]) and s["value"] is not None]
        if odd := [value for value in own if not 0 <= value <= 1]:
            raise RecipeError(
                f"the score {name!r} of the sample {row_id!r} is {odd[0]}, but a verification is in [0, 1].",
                remedy="Name another score with --verification, or scale this one with the stage 'derive'.",
            )
        found.append(tuple(own))
    if not any(found):
        raise RecipeError(
            f"no sample has a score {name!r}.",
            remedy="Make one with the stages 'judge' or 'verify' and the option 'score'.",
        )
    return found


def _solved(ballots: Ballots, row: Voted, base: Voting, checks: list[tuple[float, ...]] | None) -> Solved:
    votes = base.votes(ballots)
    classes: list[int | None] = [None] * len(ballots.casts)
    for place, one in enumerate(votes.classes):
        for i in one:
            classes[i] = place
    own = [() if checks is None else checks[cast.row] for cast in ballots.casts]
    return Solved(
        problem_id=ballots.problem_id,
        classes=tuple(classes),
        right=tuple(bool(c.right) for c in row.classes),
        verifications=tuple(own),
    )


def _samples(
    what: str, stage: str | None, runs: Path, partial: bool
) -> tuple[str, pl.LazyFrame, Counter[str]]:
    """The samples of a file, or of the last stage of a run that holds any."""
    path, refused = Path(what), Counter[str]()
    if path.is_file():
        rows = []
        for row in source.read(Source(path=what, reads="samples")):
            if isinstance(row, Rejection):
                refused[row.reason] += 1
            else:
                rows.append(row)
        if not rows:
            raise InputError("no row is a sample.", path=what, remedy="Give a file of samples, or a run.")
        return path.name, to_frame(rows, Sampled).lazy(), refused
    run = open_run(run_path(what, runs), partial=partial)
    stage = stage or _last(run)
    frame = run.rows(stage)
    if not _holds_samples(frame):
        raise InputError(
            f"the stage {stage!r} does not hold samples.", path=str(run.path), remedy=f"Try {_last(run)!r}."
        )
    return f"{run.path.name}:{stage}", frame, refused


def _holds_samples(frame: pl.LazyFrame) -> bool:
    return schema(Sampled).items() <= dict(frame.collect_schema()).items()


def _last(run: Run) -> str:
    for stage in reversed(run.stages):
        if _holds_samples(run.rows(stage)):
            return stage
    raise InputError(
        f"the run has no stage that holds samples (its stages: {', '.join(run.stages) or 'none'}).",
        path=str(run.path),
        remedy="Draw some with the stage 'sample', or name another run.",
    )
