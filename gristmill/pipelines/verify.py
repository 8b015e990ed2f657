"""``gristmill verify``: the verdicts on a file of answers, and how many there are of each."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gristmill.core.errors import InputError, RunError
from gristmill.core.registry import suggest
from gristmill.core.verdicts import Verdict
from gristmill.pipelines.rows import Refused, local
from gristmill.pipelines.summary import printable
from gristmill.verifiers.isolation import Pool

_AHEAD = 256
"""Rows that wait for their verdict at a time."""


class Counts(Struct):
    """Verdicts by outcome, rows that could not be read by reason, and the rules that decided."""

    outcomes: Counter[str]
    rules: Counter[str]
    refused: Counter[str]


def verify_file(path: Path, *, gold: str, pred: str, pool: Pool, out: Path | None = None) -> Counts:
    """Judge column ``pred`` against column ``gold`` of a JSONL, CSV or Parquet file, row by row.

    With ``out``, a JSONL file gets a line a row: its number and the verdict. Memory does not grow with
    the rows. Raises ``InputError`` for a file that cannot be read or lacks a column altogether.
    """
    header, rows = local(path, "train", 0)
    if header is not None:
        for column in (gold, pred):
            if column not in header:
                raise InputError(
                    f"there is no column {column!r}.", path=str(path), remedy=suggest(column, header)
                )
    counts = Counts(Counter(), Counter(), Counter())
    unfinished = None if out is None else out.with_name(f".{out.name}.tmp")
    try:
        with open(unfinished or os.devnull, "wb") as lines:  # noqa: PTH123 - devnull is no Path of ours
            for number, verdict in _verdicts(rows, gold, pred, pool, counts):
                counts.outcomes[verdict.outcome] += 1
                counts.rules[verdict.rule] += 1
                lines.write(msgspec.json.encode({"row": number, **msgspec.to_builtins(verdict)}) + b"\n")
        if unfinished is not None and out is not None:
            unfinished.replace(out)
    except OSError as error:
        raise RunError(
            f"{out} cannot be written ({error.strerror}).", remedy="Choose another --out."
        ) from error
    if not counts.outcomes:
        raise InputError(
            f"no row has both {gold!r} and {pred!r} as text.",
            path=str(path),
            remedy="Name the columns with --gold and --pred.",
        )
    return counts


def _verdicts(
    rows: Iterator[tuple[int, Any]], gold: str, pred: str, pool: Pool, counts: Counts
) -> Iterator[tuple[int, Verdict]]:
    """The verdicts in the order of the rows, a bounded number of them at work."""
    waiting: deque[tuple[int, Future[Verdict]]] = deque()
    for number, row in rows:
        if isinstance(row, Refused):
            counts.refused[row.reason] += 1
            continue
        texts = [row.get(pred), row.get(gold)]
        if any(t is None or isinstance(t, dict | list | bool) for t in texts):
            counts.refused[f"no text or number in {pred!r} or {gold!r}"] += 1
            continue
        waiting.append((number, pool.submit(*map(str, texts))))
        if len(waiting) >= _AHEAD:
            first, verdict = waiting.popleft()
            yield first, verdict.result()
    for number, verdict in waiting:
        yield number, verdict.result()


def table(counts: Counts) -> str:
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
