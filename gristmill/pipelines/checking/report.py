"""Checking the rows of a file or a run against a format, and what was found as text or JSON."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gristmill.core.errors import InputError, RecipeError
from gristmill.core.exports import Export
from gristmill.core.seen import Seen
from gristmill.pipelines.checking.chats import content_faults
from gristmill.pipelines.checking.columns import LateColumns
from gristmill.pipelines.checking.lengths import TokenLengths
from gristmill.pipelines.checking.rows import FileRow, exported, file_rows
from gristmill.pipelines.checking.typed import Fault, type_faults
from gristmill.pipelines.exports.by_hand import fitting
from gristmill.pipelines.recipe.recipe import make_export
from gristmill.pipelines.rundir.directory import run_and_stage
from gristmill.pipelines.rundir.parts import part_files
from gristmill.pipelines.rundir.results import open_run
from gristmill.pipelines.rundir.summary import printable


class Example(Struct, frozen=True):
    """A row of which a reason holds: its number from 1 (in a JSONL file the line), its id, the details."""

    row: int
    id: str | None
    detail: str


class CheckReport(Struct, frozen=True):
    """What was found: ``reasons`` counts rows, which may have several; ``examples`` are the first."""

    what: str
    format: str
    rows: int
    faulty: int
    reasons: dict[str, int]
    examples: dict[str, list[Example]]

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.reasons

    def as_json(self) -> str:
        """The report as JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()

    def as_text(self) -> str:
        """The report as text, the most frequent reason first."""
        lines = [f"{self.what} as {self.format}: {self.rows:,} rows, {self.faulty:,} with something wrong"]
        for reason, count in sorted(self.reasons.items(), key=lambda item: (-item[1], item[0])):
            lines.append(f"{count:>8,}  {printable(reason)}")
            for example in self.examples[reason]:
                name = f" ({printable(example.id)[:40]})" if example.id else ""
                detail = f": {printable(example.detail)[:160]}" if example.detail else ""
                lines.append(f"          row {example.row:,}{name}{detail}")
        return "\n".join(lines)


def check(
    what: str,
    format: str,
    *,
    options: Mapping[str, Any] | None = None,
    tokenizer: str | None = None,
    max_length: int | None = None,
    examples: int = 3,
    runs: Path = Path("runs"),
    partial: bool = False,
) -> CheckReport:
    """Check a file, or a run given as NAME or NAME:STAGE, whose records are put through the format first.

    ``options`` are the format's. With ``tokenizer`` rows are measured against ``max_length`` tokens, and its
    chat template is asked for each. ``RecipeError`` for an unknown format or option, ``InputError`` or
    ``RunError`` where there is nothing to read.
    """
    if max_length is not None and tokenizer is None:
        raise RecipeError(
            "a greatest length is given, and no tokenizer to measure by.", remedy="Add --tokenizer."
        )
    export = make_export(format, options)
    lengths = None if tokenizer is None else TokenLengths(tokenizer, max_length, export.contents)
    columns, ids = LateColumns(), Seen()
    rows = faulty = 0
    counts: Counter[str] = Counter()
    shown: dict[str, list[Example]] = {}
    for row in _rows(what, format, export, runs, partial):
        rows += 1
        found: dict[str, str] = {}
        for fault in _faults(row, export, columns, ids, lengths):
            found.setdefault(*fault)
        faulty += bool(found)
        counts.update(found.keys())
        for reason, detail in found.items():
            if len(shown.setdefault(reason, [])) < examples:
                shown[reason].append(Example(row.number, _id(row), detail))
    if not rows:
        counts["no rows"], shown["no rows"] = 1, []
    return CheckReport(what, format, rows, faulty, dict(counts), shown)


def _rows(what: str, format: str, export: Export, runs: Path, partial: bool) -> Iterator[FileRow]:
    path = Path(what)
    if path.is_file() or path.suffix == ".dataset":
        return file_rows(path)
    if path.suffix and not path.is_dir() and ":" not in what:
        raise InputError("there is no such file.", path=what, remedy="Check the path.")
    place, stage = run_and_stage(what, runs)
    run = open_run(place, partial=partial)
    return exported(export, part_files(run.folder(stage or fitting(run, format, export))))


def _faults(
    row: FileRow, export: Export, columns: LateColumns, ids: Seen, lengths: TokenLengths | None
) -> Iterator[Fault]:
    yield from row.faults
    if row.values is None:
        return
    yield from columns.faults(row)
    name = _id(row)
    if name is not None:
        mark = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        if not ids.add(int.from_bytes(mark, "little")):
            yield Fault("an id that came before", name)
    typed = list(type_faults(row.values, export.row_type))
    yield from typed
    yield from content_faults(row.values, export.contents)
    if not typed:
        yield from (Fault(reason) for reason in export.faults(row.values))
        if lengths is not None:
            yield from lengths.faults(row.values)


def _id(row: FileRow) -> str | None:
    found = (row.values or {}).get("id")
    return None if found is None else str(found)
