"""A filter that only marks rows is run past memory, and writes what it writes by way of memory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from table_rows import problems

from gristmill.core.errors import RunStopped
from gristmill.core.records import Problem
from gristmill.core.stages import REJECTED_REASON, Filter
from gristmill.filters import Keep
from gristmill.pipelines.rundir.directory import StageDir
from gristmill.pipelines.rundir.parts import Parts, encode, part_files
from gristmill.pipelines.running.tables import Table, tabled, write_table


class Unmarked(Keep, frozen=True):
    """The same by way of memory."""

    marks_only = False


class Backward(Filter, frozen=True):
    """A filter that breaks its contract."""

    marks_only = True

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        return frame.reverse().with_columns(pl.lit(None, pl.String).alias(REJECTED_REASON))


def given(tmp_path: Path, *sizes: int) -> Table:
    """Problems in parts of these sizes."""
    folder = tmp_path / "given"
    folder.mkdir()
    rows = problems(*(f"p{i}" for i in range(sum(sizes)))).collect()
    for number, size in enumerate(sizes):
        start = sum(sizes[:number])
        (folder / f"part-{number:05d}.parquet").write_bytes(encode(rows.slice(start, size)))
    return Table(folder, Problem)


def written(tmp_path: Path, stage: Filter, table: Table, part_rows: int) -> tuple[list[bytes], Any]:
    node: Any = SimpleNamespace(name="where", table_stage=stage, writes=Problem)
    writer = Parts(StageDir(tmp_path, type(stage).__name__), Problem, part_rows)
    rejected, _ = write_table(node, [table], 0, writer, part_rows)
    writer.finish()
    return [path.read_bytes() for path in part_files(writer.folder.path)], rejected


@pytest.mark.parametrize("sizes", [(7,), (3, 1, 4), (5, 5, 5, 1)])
@pytest.mark.parametrize("condition", ["id != 'p2'", "LENGTH(id) > 2", "TRUE"])
def test_the_same_bytes_come_of_both_ways(tmp_path: Path, sizes: tuple[int, ...], condition: str) -> None:
    table = given(tmp_path, *sizes)
    marked, gone = written(tmp_path, Keep(condition), table, 3)
    whole, also_gone = written(tmp_path, Unmarked(condition), table, 3)
    assert gone.equals(also_gone)
    rows = [pl.read_parquet(part) for part in marked]
    assert [frame.height for frame in rows] == [pl.read_parquet(part).height for part in whole]
    if rows[0].height:
        assert pl.concat(rows).equals(pl.concat(pl.read_parquet(part) for part in whole))
        assert marked == whole


def test_a_filter_that_reorders_rows_stops_the_run_before_anything_is_written(tmp_path: Path) -> None:
    table = given(tmp_path, 2, 2)
    with pytest.raises(RunStopped, match="returned 'p3' where its input has 'p0'"):
        written(tmp_path, Backward(), table, 3)
    assert not part_files(tmp_path / "Backward")


def test_tabled_gives_the_kept_and_the_rejected_rows() -> None:
    node: Any = SimpleNamespace(name="where", table_stage=Keep("id = 'b'"), writes=Problem)
    kept, gone = tabled(node, [problems("a", "b")], 0)
    assert kept["id"].to_list() == ["b"]
    assert gone.rows() == [("a", "where: id = 'b'", "")]
