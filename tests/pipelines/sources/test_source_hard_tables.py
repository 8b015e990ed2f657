"""Tables that are hard to read: odd cells, very many columns, large rows; ids that outlive a correction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gristmill.core.stages import Rejection, derive_seed
from gristmill.pipelines.sources import columnar
from gristmill.pipelines.sources.columns import Columns
from gristmill.pipelines.sources.source import Source, read


def table(path: Path, **columns: Any) -> Source:
    pq.write_table(pa.table(columns), path)
    return Source(path=str(path))


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([0, 10**7, 5], pa.int32()).cast(pa.date32()),
        pa.array([0, 4 * 10**15, 5], pa.int64()).cast(pa.timestamp("ms")),
        pa.StructArray.from_arrays([pa.array([0, 10**7, 5], pa.int32()).cast(pa.date32())], ["inner"]),
    ],
    ids=["date", "timestamp", "nested"],
)
def test_a_date_out_of_range_in_an_unused_column_costs_its_row(tmp_path: Path, cells: Any) -> None:
    source = table(tmp_path / "a.parquet", problem=["a", "b", "c"], when=cells)
    first, odd, last = read(source)
    assert (first.problem, last.problem) == ("a", "c")
    assert isinstance(odd, Rejection)
    assert (odd.reason, odd.row) == ("unreadable value", 2)
    assert "a.parquet, row 2: the column 'when': " in odd.detail


def test_a_header_is_checked_in_linear_time() -> None:
    compared = 0

    class Name(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    header: list[str] = [Name(f"c{i}") for i in range(10_000)]
    header.append("problem")
    Columns("a", {"answer": "c5"}, {"problem": ["problem"]}, ["problem"]).check_header(header, "a")
    assert compared < 10 * len(header)


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_10_000_columns_are_read(tmp_path: Path, suffix: str) -> None:
    columns = {f"c{i}": [1, 2] for i in range(10_000)} | {"problem": ["a", "b"]}
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        table(path, **columns)
    else:
        path.write_text("".join(json.dumps({k: v[i] for k, v in columns.items()}) + "\n" for i in range(2)))
    assert [row.problem for row in read(Source(path=str(path)))] == ["a", "b"]


def test_large_rows_are_held_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    plain = columnar._plain

    def counting(batch: Any, before: int) -> Any:
        sizes.append(batch.num_rows)
        return plain(batch, before)

    monkeypatch.setattr(columnar, "_plain", counting)
    texts = [f"{i:03d}" * 100_000 for i in range(100)]
    source = table(tmp_path / "a.parquet", problem=[f"q{i}" for i in range(100)], text=texts)
    assert sum(not isinstance(row, Rejection) for row in read(source)) == 100
    assert max(sizes) < 60  # 16 MiB of rows of 300 KB


def problems(path: Path, *rows: dict[str, Any]) -> list[Any]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(read(Source(path=str(path))))


def test_a_corrected_answer_changes_no_id_and_so_no_seed(tmp_path: Path) -> None:
    [wrong] = problems(tmp_path / "a.jsonl", {"problem": "1+1?", "answer": "3"})
    [right] = problems(tmp_path / "a.jsonl", {"problem": "1+1?", "answer": "2"})
    [none] = problems(tmp_path / "a.jsonl", {"problem": "1+1?"})
    assert wrong.id == right.id == none.id
    assert derive_seed(0, wrong.id) == derive_seed(0, right.id)


def test_one_problem_with_two_answers_is_two_rows_and_with_the_same_one_is_one(tmp_path: Path) -> None:
    rows = [{"problem": "root of 4?", "answer": a} for a in ("2", "-2", "2", "-2")]
    first, second, *repeated = problems(tmp_path / "a.jsonl", *rows)
    assert first.id != second.id
    assert [(r.reason, r.row) for r in repeated] == [("duplicate id", 3), ("duplicate id", 4)]
    assert "the same problem and answer came before" in repeated[0].detail
