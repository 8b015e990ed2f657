"""Records of stages through an export into a file, with what its trainer needs beside it."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from gristmill.core.errors import MissingExtraError, RecipeError, RowRejected, RunError
from gristmill.core.exports import SUFFIXES, Export
from gristmill.core.files import atomic, write_whole
from gristmill.core.schema import from_frame, needed, schema, to_frame
from gristmill.pipelines.exports.columns import carried, carrying
from gristmill.pipelines.exports.configs import config_of

if TYPE_CHECKING:
    import polars as pl

_SLICE = 1000
"""Records held as Python objects at a time."""


def write(export: Export, parts: Iterable[Path], out: Path, notes: Counter[str] | None = None) -> int:
    """Write the records of Parquet ``parts`` through ``export`` to ``out``; the number of rows written.

    ``out`` ends in one of ``SUFFIXES`` and appears whole or not at all; behind it come the files that the
    export wants ``beside`` it, and with ``with_config`` the trainer's settings. ``notes`` receives how many
    records were dropped, by reason, and the export's remarks. Raises ``RecipeError`` for another suffix or
    other records, ``RunError`` if the file cannot be written.
    """
    notes = Counter() if notes is None else notes
    if out.suffix not in SUFFIXES:
        raise RecipeError(f"{out.name}: no known kind of file.", remedy=f"Known: {', '.join(SUFFIXES)}.")
    config = config_of(export, out) if export.with_config else {}
    count = 0
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        pieces = pieces_of(export, parts)
        first = next(pieces, None)
        kind = export.row_type if first is None else carrying(export, first[1])
        with atomic(out) as unfinished:
            with _writer(unfinished, out.suffix, kind) as put:
                for records, extra in chain([] if first is None else [first], pieces):
                    rows = list(_rows(export, records, extra, kind, notes))
                    put(rows)
                    count += len(rows)
            if out.is_dir():
                shutil.rmtree(out)
        for name, data in (export.beside(out) | config).items():
            place = out.parent / name
            place.parent.mkdir(parents=True, exist_ok=True)
            write_whole(place, data)
    except OSError as e:
        raise RunError(
            f"{out} cannot be written: {e.strerror or e}.",
            remedy="Make room or choose another place, then run 'gristmill export' again.",
        ) from e
    return count


def pieces_of(export: Export, parts: Iterable[Path]) -> Iterator[tuple[list[Any], pl.DataFrame]]:
    """Records in Parquet ``parts``, some at a time, and what their rows carry besides.

    ``RecipeError`` for parts that hold no such records, ``RunError`` for what cannot be read.
    """
    import polars as pl

    columns = needed(export.reads)
    for part in parts:
        try:
            frame = pl.read_parquet(part)
        except (OSError, pl.exceptions.PolarsError) as e:
            raise RunError(
                f"{part} cannot be read: {str(e).splitlines()[0]}.", remedy="Run the recipe again to make it."
            ) from e
        if missing := [c for c in columns if c not in frame.columns]:
            raise RecipeError(
                f"{part} holds no {export.reads.__name__} records (no column {missing[0]!r}).",
                remedy="Export the output of a stage that writes them.",
            )
        extra = carried(export, frame)
        for start in range(0, max(frame.height, 1), _SLICE):
            yield from_frame(frame.slice(start, _SLICE), export.reads), extra.slice(start, _SLICE)


def _rows(
    export: Export, records: list[Any], extra: pl.DataFrame, kind: type[Struct], notes: Counter[str]
) -> Iterator[Struct]:
    more: list[dict[str, Any]] = extra.to_dicts() if extra.width else [{}] * len(records)
    for record, values in zip(records, more, strict=True):
        try:
            rows = export.rows(record)
        except RowRejected as e:
            notes[e.reason] += 1
            continue
        notes.update({k: n for k, n in export.remarks(record).items() if n})
        for row in rows:
            yield kind(**msgspec.structs.asdict(row), **values) if values else row


@contextmanager
def _writer(path: Path, suffix: str, kind: type[Struct]) -> Iterator[Callable[[Sequence[Struct]], None]]:
    """A function that adds rows to a new file, or to what becomes a folder."""
    if suffix == ".jsonl":
        encode = msgspec.json.Encoder().encode
        with path.open("wb") as stream:

            def put_lines(rows: Sequence[Struct]) -> None:
                stream.writelines(encode(row) + b"\n" for row in rows)

            yield put_lines
        return
    import pyarrow.parquet as pq

    arrow = schema(kind).to_frame().to_arrow().schema
    with pq.ParquetWriter(path, arrow, compression="zstd") as file:

        def put_table(rows: Sequence[Struct]) -> None:
            file.write_table(to_frame(rows, kind).to_arrow().cast(arrow))

        yield put_table
    if suffix == ".dataset":
        _saved(path)


def _saved(path: Path) -> None:
    """Make the folder of ``datasets`` out of the Parquet file at ``path``, with the same bytes every time."""
    import pyarrow.parquet as pq

    try:
        import datasets
    except ImportError as e:
        raise MissingExtraError("datasets", install="pip install datasets") from e
    # Of itself the library would name the data by their place and time.
    mark = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    table = pq.read_table(path)
    path.unlink()
    loud = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        datasets.Dataset(table, fingerprint=mark).save_to_disk(path)
    finally:
        if loud:
            datasets.enable_progress_bars()
