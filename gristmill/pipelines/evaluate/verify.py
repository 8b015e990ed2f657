"""``gristmill verify``: the verdicts on a file of answers, and how many there are of each."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from gristmill.core.errors import InputError, RecipeError, RowRejected, RunError
from gristmill.core.files import atomic
from gristmill.core.registry import names, suggest
from gristmill.core.verdicts import Verdict
from gristmill.pipelines.recipe.entries import EngineKeys, VerifierOptions
from gristmill.pipelines.recipe.plain import document
from gristmill.pipelines.recipe.recipe import named
from gristmill.pipelines.rundir.summary import printable
from gristmill.pipelines.running.runner import log_path
from gristmill.pipelines.sources.readers import local
from gristmill.verifiers.judges.host import Host
from gristmill.verifiers.judges.loading import load_model_verifier
from gristmill.verifiers.loading import refer_of
from gristmill.verifiers.pool.in_process import InProcess
from gristmill.verifiers.pool.pool import Pool

_AHEAD = 256
"""Rows that wait for their verdict at a time."""


Told = Callable[[str, Mapping[str, Any]], str]
"""From a reference and its row to what a verifier is given as the reference."""


class Judges(Protocol):
    """A ``Pool``, or the ``Host`` of a verifier that asks a model."""

    def submit(self, *texts: str) -> Future[Verdict]:
        """The verdict to come on a completion, by a reference, and for a host to a problem."""
        ...


class VerdictCounts(Struct):
    """Verdicts by outcome, rows that could not be read by reason, and the rules that decided."""

    outcomes: Counter[str]
    rules: Counter[str]
    refused: Counter[str]


def judges(
    kind: str,
    options: dict[str, Any],
    workers: int | None,
    deadline: float,
    engine: Path | None,
    log: Path | None,
) -> tuple[Pool | InProcess | Host, bool]:
    """What judges by a registered verifier, and whether it asks a model.

    ``engine`` is a YAML file with an engine as a recipe has it. Raises ``RecipeError`` for a kind that there
    is not, options that it does not take, or an engine where none is wanted, and the other way round.
    """
    if kind in names("verifiers"):
        if engine is not None:
            raise RecipeError(f"{kind} asks no model.", remedy="Leave out --engine.")
        chosen = VerifierOptions(kind=kind, workers=workers, deadline=deadline, options=options)
        chosen.check("verifier")
        return chosen.open(), False
    if kind not in names("model_verifiers"):
        known = [*names("verifiers"), *names("model_verifiers")]
        raise RecipeError(f"{kind!r} is not a registered verifier.", remedy=suggest(kind, known))
    verifier = load_model_verifier(kind, options)
    if engine is None:
        raise RecipeError(f"{kind} asks a model.", remedy="Give one: --engine ENGINE.yaml")
    _, opened = named(document(engine), EngineKeys, "kind", "engines", str(engine))
    return Host(verifier, opened, log=log_path(log)), True


def told(kind: str, problem: str) -> Told | None:
    """How a registered verifier gets more of a row than its reference, such as ``choice`` the options in its
    columns or in the column ``problem``; ``None`` for one that wants the reference alone."""
    refer = refer_of(kind) if kind in names("verifiers") else None
    if refer is None:
        return None
    return lambda gold, row: refer(str(row.get(problem) or ""), gold, row)


def verify_file(
    path: Path,
    *,
    gold: str,
    pred: str,
    pool: Judges,
    out: Path | None = None,
    problem: str | None = None,
    refer: Told | None = None,
) -> VerdictCounts:
    """Judge column ``pred`` against column ``gold`` of a JSONL, CSV or Parquet file, row by row.

    With ``out``, a JSONL file gets a line a row: its number and the verdict. Memory does not grow with
    the rows. For a verifier that asks a model, ``problem`` is the column with the problems, and an empty
    ``gold`` gives it no reference. ``refer`` makes the reference of a row's ``gold`` (see ``told``). Raises
    ``InputError`` for a file that cannot be read or lacks a column altogether.
    """
    if not gold and problem is None:
        raise RecipeError("this verifier judges by references.", remedy="Name their column with --gold.")
    columns = [pred, gold] + ([] if problem is None else [problem])
    header, rows = local(path, "train", 0)
    if header is not None:
        for column in filter(None, columns):
            if column not in header:
                raise InputError(
                    f"there is no column {column!r}.", path=str(path), remedy=suggest(column, header)
                )
    counts = VerdictCounts(Counter(), Counter(), Counter())
    try:
        whole = nullcontext(Path(os.devnull)) if out is None else atomic(out)
        with whole as place, place.open("wb") as lines:
            for number, verdict in _verdicts(rows, columns, pool, counts, refer):
                counts.outcomes[verdict.outcome] += 1
                counts.rules[verdict.rule] += 1
                lines.write(msgspec.json.encode({"row": number, **msgspec.to_builtins(verdict)}) + b"\n")
    except OSError as error:
        raise RunError(
            f"{out} cannot be written ({error.strerror}).", remedy="Choose another --out."
        ) from error
    if not counts.outcomes:
        raise InputError(
            f"no row has {'both' if problem is None else 'all of'} {_named(columns)} as text.",
            path=str(path),
            remedy=f"Name the columns with --gold{', --pred and --problem' if problem else ' and --pred'}.",
        )
    return counts


def _verdicts(
    rows: Iterator[tuple[int, Any]],
    columns: Sequence[str],
    pool: Judges,
    counts: VerdictCounts,
    refer: Told | None,
) -> Iterator[tuple[int, Verdict]]:
    """The verdicts in the order of the rows, a bounded number of them at work."""
    waiting: deque[tuple[int, Future[Verdict]]] = deque()
    for number, row in rows:
        if isinstance(row, RowRejected):
            counts.refused[row.reason] += 1
            continue
        texts = [row.get(column) if column else "" for column in columns]
        if any(t is None or isinstance(t, dict | list | bool) for t in texts):
            counts.refused[f"no text or number in {_named(columns, 'or')}"] += 1
            continue
        judged, reference, *asked = map(str, texts)
        if refer is not None:
            reference = refer(reference, row)
        waiting.append((number, pool.submit(judged, reference, *asked)))
        if len(waiting) >= _AHEAD:
            first, verdict = waiting.popleft()
            yield first, verdict.result()
    for number, verdict in waiting:
        yield number, verdict.result()


def _named(columns: Sequence[str], word: str = "and") -> str:
    named = [repr(column) for column in columns if column]
    return f" {word} ".join(filter(None, [", ".join(named[:-1]), named[-1]]))


def table(counts: VerdictCounts) -> str:
    """The counts as text. Accuracy is of the decided rows; the undecided are told beside it."""
    outcomes = counts.outcomes
    decided = outcomes["correct"] + outcomes["incorrect"]
    lines = [f"{n:>8,}  {outcome}" for outcome, n in outcomes.most_common()]
    if decided:
        undecided = outcomes.total() - decided
        lines.append(
            f"{outcomes['correct'] / decided:>8.3f}  of the decided are correct; {undecided:,} undecided"
        )
    lines += ["", *(f"{n:>8,}  decided by: {printable(rule)}" for rule, n in counts.rules.most_common())]
    if counts.refused:
        lines += ["", *(f"{n:>8,}  refused: {printable(why)}" for why, n in counts.refused.most_common())]
    return "\n".join(lines)
