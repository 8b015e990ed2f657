"""A stage of a former run as a source: its records, as the run wrote them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from msgspec import Struct

from gristmill.core import registry
from gristmill.core.errors import InputError
from gristmill.core.schema import former_schemas, gives, record_of, schema
from gristmill.pipelines.rundir import parts
from gristmill.pipelines.rundir.results import open_run


def folder(run: str, runs: str, stage: str | None) -> Path:
    """The stage's folder. ``RunError`` where there is no complete run, or none with that stage."""
    own = Path(run)
    return open_run(own if own.is_dir() else Path(runs) / run).folder(stage)


def record(where: Path, wanted: type[Struct] | None) -> type[Struct]:
    """The type of a stage's records: the registered one that has exactly its columns, else one made of them.

    ``wanted`` goes before that. ``InputError`` where the stage lacks columns of it.
    """
    import polars as pl

    found = _record(tuple(pl.read_parquet_schema(parts.part_files(where)[0]).items()))
    if wanted is None or found is wanted:
        return found
    if not gives(found, wanted):
        raise InputError(
            f"its columns are not those of a {wanted.__name__}.",
            path=str(where),
            remedy="Leave out 'reads' in the source: the columns say what the records are.",
        )
    return wanted


def fingerprint(where: Path) -> str:
    """A hash of the bytes of a stage's files."""
    return f"{where.parent.name}/{where.name}:{parts.fingerprint(where)}"


@cache
def _record(columns: tuple[tuple[str, Any], ...]) -> type[Struct]:
    """One type for one set of columns, however often it is asked for.

    It has the fields of the largest registered type whose columns are all there, so that it can be used as
    one of those: a sample with a column that a join has added is still a sample.
    """
    known = [registry.find("records", name) for name in registry.names("records")]
    known.sort(key=lambda kind: -len(schema(kind)))
    before = next(
        (kind for kind in known if any(dict(s) == dict(columns) for s in former_schemas(kind))), None
    )
    return before or record_of(dict(columns), known)
