"""What goes up of a run or file: a configuration for each kind of rows, in splits, as Parquet shards.

Everything is a function of the rows alone, so that a push that is given again has the same bytes, and finds
what it had uploaded. A shard's name holds a hash of its split, so that shards that are appended never meet
the name of one that is there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gristmill.core.errors import InputError, RecipeError
from gristmill.core.exports import Export
from gristmill.pipelines.exports.writing import write
from gristmill.pipelines.publishing.hub import PushedFile
from gristmill.pipelines.recipe.plain import document
from gristmill.pipelines.recipe.recipe import make_export
from gristmill.pipelines.report.corpus import scan
from gristmill.pipelines.rundir.directory import RECIPE
from gristmill.pipelines.rundir.parts import part_files
from gristmill.pipelines.rundir.results import Run

SHARD_BYTES = 256 << 20
"""Bytes of rows, as they are in memory, after which a further shard begins."""
_BATCH = 2_000
_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
_SPLIT = re.compile(r"\w+(\.\w+)*")
"""What ``datasets`` takes as the name of a split."""
_OWN_KEYS = ("format", "from", "path")


class PushTable(Struct, frozen=True):
    """One configuration before it is sharded: a Parquet file, and where its rows are from.

    ``format`` is the export's name and ``export`` the export itself; both are empty for rows of a stage and
    for a file that was given. ``split`` is the column by which it is divided.
    """

    config: str
    path: Path
    stage: str = ""
    format: str = ""
    export: Export | None = None
    split: str | None = None
    drop_split: bool = False
    """Whether that column was put on for the division alone."""


class Shard(Struct, frozen=True):
    """A Parquet file of a push. ``columns`` says what each column holds, as ``told`` does."""

    config: str
    split: str
    file: PushedFile
    rows: int
    columns: dict[str, Any]


def tables_of(
    what: Path | Run, folder: Path, *, stages: Sequence[str] = (), split: str | None = None
) -> list[PushTable]:
    """The tables of a run, or that of a file; in ``folder`` they are written.

    Of a run: the rows of ``stages``, else of its exports, else of its last stages, each as a configuration
    with its name. They are split by the column ``split``, by default the one of the recipe's own ``split``.
    Raises ``RunError``, ``InputError`` or ``RecipeError`` for what is not there.
    """
    if isinstance(what, Path):
        table = folder / f"{_name(what.stem)}.parquet"
        scan(what).sink_parquet(table)
        return [PushTable(_name(what.stem), table, split=split)]
    recipe = document(what.path / RECIPE)
    columns = [split] if split else _split_columns(recipe)
    if stages:
        return [_stage_table(what, stage, columns, folder) for stage in stages]
    entries = [*_recipe_exports(recipe), *_hand_exports(what)]
    if entries:
        return [_export_table(what, *entry, columns, folder) for entry in entries]
    return [_stage_table(what, stage, columns, folder) for stage in _last_stages(what, recipe)]


def _stage_table(run: Run, stage: str, columns: Sequence[str], folder: Path) -> PushTable:
    path = folder / f"{stage}.parquet"
    rows = run.rows(stage)
    rows.sink_parquet(path)
    return PushTable(_name(stage), path, stage=stage, split=_first(columns, rows.collect_schema()))


def _export_table(
    run: Run, name: str, format: str, stage: str, options: Mapping[str, Any], columns: Sequence[str], to: Path
) -> PushTable:
    """The export's rows once more, as Parquet, with the format's own types."""
    export = make_export(format, {**options, "with_config": False})
    split = _first(columns, run.rows(stage).collect_schema())
    added = False
    if split is not None and split not in export.columns:
        added = True
        export = replace(export, columns=_with(export.columns, split))
    path = to / f"{name}.parquet"
    write(export, part_files(run.folder(stage)), path)
    return PushTable(_name(name), path, stage, format, export, split, added)


def _with(columns: tuple[str, ...] | dict[str, str], name: str) -> tuple[str, ...] | dict[str, str]:
    return {**columns, name: name} if isinstance(columns, dict) else (*columns, name)


def _recipe_exports(recipe: Mapping[str, Any]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    for entry in recipe.get("exports") or ():
        options = {key: value for key, value in entry.items() if key not in _OWN_KEYS}
        yield Path(entry["path"]).stem, entry["format"], entry["from"], options


def _hand_exports(run: Run) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    for name, made in run.summary.exported.items():
        yield Path(name).stem, made.format, made.stage, made.options


def _last_stages(run: Run, recipe: Mapping[str, Any]) -> list[str]:
    """The stages that no other reads."""
    read: set[str] = set()
    for entry in recipe.get("stages") or ():
        given = entry.get("from") or ()
        read.update([given] if isinstance(given, str) else given)
    return [s for s in run.stages if s not in read] or run.stages[-1:]


def _split_columns(recipe: Mapping[str, Any]) -> list[str]:
    return [e.get("column", "part") for e in recipe.get("stages") or () if e.get("stage") == "split"]


def _first(columns: Sequence[str], schema: Mapping[str, Any]) -> str | None:
    return next((name for name in columns if name in schema), None)


def _name(text: str) -> str:
    return _NAME.sub("-", text).strip("-.") or "rows"


def shards(table: PushTable, folder: Path, *, most: int = SHARD_BYTES) -> list[Shard]:
    """The table as Parquet files in ``folder``, by split and in order. ``InputError`` for a split's name that
    ``datasets`` does not take, and for a column to split by that is not there."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    source = pq.ParquetFile(table.path)
    schema = source.schema_arrow.remove_metadata()
    if table.split is not None and table.split not in schema.names:
        raise InputError(
            f"there is no column {table.split!r} to split by.",
            path=table.config,
            remedy=f"It has: {', '.join(schema.names)}.",
        )
    if table.drop_split and table.split is not None:
        schema = schema.remove(schema.get_field_index(table.split))
    writers: dict[str, _Writer] = {}
    for batch in source.iter_batches(_BATCH):
        rows = pa.Table.from_batches([batch])
        names = ["train"] if table.split is None else pc.unique(rows[table.split]).to_pylist()
        for name in names:
            _check_split(name, table)
            held = rows if table.split is None else rows.filter(pc.equal(rows[table.split], name))
            writer = writers.setdefault(name, _Writer(folder / table.config / name, schema, most))
            writer.add(held.select(schema.names))
    if not writers:
        writers["train"] = _Writer(folder / table.config / "train", schema, most)
    columns = {field.name: told(field.type) for field in schema}
    return [
        Shard(table.config, name, file, rows, columns)
        for name, writer in writers.items()
        for file, rows in writer.files(f"data/{table.config}/{name}")
    ]


def told(kind: Any) -> Any:
    """An Arrow type as plain data: its name, ``{"list": TYPE}`` or ``{"struct": {NAME: TYPE}}``."""
    import pyarrow.types as types

    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return {"list": told(kind.value_type)}
    if types.is_struct(kind):
        return {"struct": {kind.field(i).name: told(kind.field(i).type) for i in range(kind.num_fields)}}
    return str(kind).removeprefix("large_")


def _check_split(name: Any, table: PushTable) -> None:
    if not isinstance(name, str) or not _SPLIT.fullmatch(name):
        raise InputError(
            f"{name!r} in the column {table.split!r} cannot be the name of a split.",
            path=table.config,
            remedy="Use words such as train, validation and test, or split by another column.",
        )


class _Writer:
    """The shards of one split."""

    def __init__(self, folder: Path, schema: Any, most: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._schema, self._most = folder, schema, most
        self._made: list[tuple[Path, int]] = []
        self._file: Any = None
        self._bytes = self._rows = 0

    def add(self, rows: Any) -> None:
        """Write rows to the shard at work; a full one is closed."""
        if self._file is None:
            self._begin()
        self._file.write_table(rows)
        self._bytes += rows.nbytes
        self._rows += rows.num_rows
        if self._bytes >= self._most:
            self._end()

    def files(self, prefix: str) -> list[tuple[PushedFile, int]]:
        """All of them under their names, with their rows."""
        if self._file is None and not self._made:
            self._begin()
        self._end()
        digest = hashlib.sha256()
        for path, _ in self._made:
            digest.update(PushedFile.of("", path).sha256.encode())
        mark, total = digest.hexdigest()[:12], len(self._made)
        return [
            (PushedFile.of(f"{prefix}-{mark}-{at:05d}-of-{total:05d}.parquet", path), rows)
            for at, (path, rows) in enumerate(self._made)
        ]

    def _begin(self) -> None:
        import pyarrow.parquet as pq

        self._path = self._folder / f"{len(self._made):05d}.parquet"
        self._file = pq.ParquetWriter(self._path, self._schema, compression="zstd")

    def _end(self) -> None:
        if self._file is not None:
            self._file.close()
            self._made.append((self._path, self._rows))
        self._file, self._bytes, self._rows = None, 0, 0


def refuse_unknown(run: Run, stages: Sequence[str]) -> None:
    """``RecipeError`` for a stage that has no rows."""
    for stage in stages:
        if stage not in run.stages:
            raise RecipeError(
                f"{stage!r} is not a stage of {run.path} that has rows.",
                remedy=f"It has: {', '.join(run.stages)}.",
            )
