"""Whichever way a table stage takes, by way of memory or of the disk, it writes the same bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from gristmill.core.contracts import dry_run
from gristmill.core.errors import RunStopped
from gristmill.core.schema import record_of, to_frame
from gristmill.core.stages import REJECTED_DETAIL, REJECTED_REASON, Filter, Relation
from gristmill.filters import Concat, Dedupe, Derive, GroupBy, Keep, Mix, Quality, Redact, Sort, SplitParts
from gristmill.filters.quality import LengthLimits
from gristmill.pipelines import Pipeline
from gristmill.pipelines.rundir.directory import StageDir
from gristmill.pipelines.rundir.parts import Parts, encode, part_files
from gristmill.pipelines.running.gathering import Table, gathered
from gristmill.pipelines.running.tables import write_table


class Note(Struct, frozen=True, kw_only=True):
    """A row with columns of many kinds."""

    id: str
    topic: str | None
    number: float | None
    text: str | None
    tags: tuple[str, ...] = ()


NOTES = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "0", "2", None]),
        st.sampled_from([1.0, 2.0, -0.0, 0.0, float("nan"), None]),
        st.sampled_from(["One two", "one  TWO", "mail a@b.org now", "ÄB", "äb", "", None]),
        st.lists(st.sampled_from(["x", "y"]), max_size=2).map(tuple),
    ),
    max_size=12,
)
STAGES = [
    Keep("number > 1 OR text IS NULL"),
    Keep("number >= AVG(number)"),
    Quality(text="text", length=LengthLimits(min_words=2)),
    Dedupe(text="text", near=None),
    Dedupe(text="text", near=None, per="topic", keep=["length", "number"]),
    Dedupe(text="text", near=None, keep=["number - AVG(number)", "shortest"]),
    Derive({"longer": "LENGTH(text) + 1", "topic": "COALESCE(topic, 'none')"}),
    Derive({"most": "MAX(number)"}),
    Redact(),
    Sort(["topic", "LENGTH(text)"], descending=[True, False]),
    Sort("number"),
    Sort("number - AVG(number)"),
    SplitParts(by="topic", shares={"train": 1, "test": 1}),
    SplitParts(by="topic", column="text"),
    GroupBy(by="topic", columns=["number"]),
    GroupBy(by="number"),
    GroupBy(by="id"),
]
PAIRS = [Concat(), Mix(), Mix(until="upsample", weights=[3, 1]), Mix(until="all")]


def table(folder: Path, rows: Sequence[Any], part: int) -> Table:
    """The rows in parts of ``part``; their ids are their numbers."""
    folder.mkdir()
    frame = to_frame(
        [Note(id=str(i), topic=a, number=b, text=c, tags=d) for i, (a, b, c, d) in enumerate(rows)], Note
    )
    for number, piece in enumerate(frame.iter_slices(part) if rows else [frame]):
        (folder / f"part-{number:05d}.parquet").write_bytes(encode(piece))
    return Table(folder, Note)


def written(folder: Path, stage: Filter | Relation, tables: list[Table], share: int) -> Any:
    """The bytes of the parts, the rejected rows, what was noted, and what was left beside the parts."""
    columns = dict(dry_run("s", stage, *(t.record for t in tables)))
    for name in (REJECTED_REASON, REJECTED_DETAIL):
        columns.pop(name, None)
    node: Any = SimpleNamespace(name="s", table_stage=stage, writes=record_of(columns, [Note]))
    writer = Parts(StageDir(folder, f"out{share}"), node.writes, 3)
    notes: list[str] = []
    rejected, _ = write_table(node, tables, 7, writer, 3, share=share, note=notes.append)
    parts = part_files(writer.folder.new)
    assert set(writer.folder.new.iterdir()) == set(parts)
    return [path.read_bytes() for path in parts], rejected.rows(), notes


@pytest.mark.parametrize("stage", [*STAGES, *PAIRS], ids=lambda stage: type(stage).__name__)
@settings(max_examples=6, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(first=NOTES, second=NOTES, part=st.integers(1, 5), share=st.sampled_from([1, 700, 3000]))
def test_the_same_bytes_come_by_way_of_memory_and_past_it(
    stage: Filter | Relation, first: Any, second: Any, part: int, share: int
) -> None:
    if isinstance(stage, Mix) and stage.until != "all" and not (first and second):
        return  # refused either way
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables = [table(folder / "a", first, part), table(folder / "b", second, part)]
        tables = tables if stage in PAIRS else tables[:1]
        whole = written(folder, stage, tables, 10**9)
        past = written(folder, stage, tables, share)
        in_one = written(folder, stage, [table(folder / "c", first, 100), *tables[1:]], 10**9)
    assert past[:2] == whole[:2] == in_one[:2]
    assert whole[2] == []


def test_a_log_line_says_which_stage_went_past_memory_and_which_could_not(tmp_path: Path) -> None:
    given_rows = [table(tmp_path / "a", [("a", 1.0, "some text", ())] * 4, 2)]
    for share, stage, said in (
        (9, Sort("number"), "by way of the disk"),
        (8, Sort("SUM(number)"), "all at once"),
    ):
        notes = written(tmp_path, stage, given_rows, share)[2]
        assert len(notes) == 1
        assert said in notes[0]
        assert "GRISTMILL_TABLE_MEMORY" in notes[0]


def test_rows_are_gathered_from_files_in_any_order_and_as_often_as_wanted(tmp_path: Path) -> None:
    import numpy as np

    tables = [table(tmp_path / n, [(n, float(i), None, ()) for i in range(7)], 3) for n in ("a", "b")]
    whole = pl.concat([t.scan() for t in tables]).select("topic", "number").collect()
    rows = np.array([13, 0, 0, 5, 9, 9, 9, 2, 7, 6, 1])
    found = list(gathered(tables, ["topic", "number"], rows, most_bytes=20, scratch=tmp_path / "s"))
    assert len(found) > 2
    assert [low for low, _ in found] == [0, *np.cumsum([f.height for _, f in found])[:-1].tolist()]
    assert pl.concat([f for _, f in found]).equals(whole[rows])
    assert not (tmp_path / "s").exists()


def test_a_stretch_begins_only_where_it_may(tmp_path: Path) -> None:
    import numpy as np

    tables = [table(tmp_path / "a", [("t", float(i), "text", ()) for i in range(12)], 4)]
    cuts = np.array([0, 5, 6, 11])
    found = list(gathered(tables, ["id"], np.arange(12), cuts=cuts, most_bytes=1, scratch=tmp_path / "s"))
    assert [low for low, _ in found] == [0, 5, 6, 11]


class Untrue(Derive, frozen=True):
    """A relation that says what it does not do."""

    row_by_row = True

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        return frames[0].head(1)


class Forgetful(Sort, frozen=True):
    """A relation whose rows cannot be found again."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        return frames[0].select("id")


@pytest.mark.parametrize(
    ("stage", "said"),
    [(Untrue({"n": "1"}), "row_by_row.*other rows than it got"), (Forgetful("number"), "keyed.*carry")],
)
def test_a_stage_that_does_not_keep_its_word_stops_the_run(
    tmp_path: Path, stage: Relation, said: str
) -> None:
    tables = [table(tmp_path / "a", [("a", 1.0, None, ())] * 4, 2)]
    with pytest.raises(RunStopped, match=said):
        written(tmp_path, stage, tables, 1)


def test_a_run_says_in_its_log_which_stage_went_by_way_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"id": f"p{i}", "problem": f"What is {i}?", "answer": "1"} for i in range(5)]
    monkeypatch.setenv("GRISTMILL_TABLE_MEMORY", "100")
    done = Pipeline(rows, [Sort("id", descending=True), GroupBy(by="answer")]).run("runs/x", quiet=True)
    said = (done.path / "log.txt").read_text()
    assert "sort: its tables would take" in said
    assert "group: its tables would take" in said
    assert [row["id"] for row in done.rows().collect()["rows"][0]] == ["p4", "p3", "p2", "p1", "p0"]
    assert not list(done.path.rglob(".rows"))
