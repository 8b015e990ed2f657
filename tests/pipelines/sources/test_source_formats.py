"""Files, folders, patterns, packed files, arrays, delimiters, splits, paths and picking."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.core.errors import InputError, RecipeError
from gristmill.core.records import Problem
from gristmill.core.stages import Rejection
from gristmill.pipelines.sources.source import Source, fingerprint, read
from gristmill.pipelines.sources.splits import Opened, pieces

ROWS = [{"problem": f"q{i}", "answer": i, "id": f"p{i}"} for i in range(10)]
IDS = [row["id"] for row in ROWS]


def ids(source: Source) -> list[str]:
    found = list(read(source))
    assert not [r for r in found if isinstance(r, Rejection)], found
    return [r.id for r in found]


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def zstd(content: bytes) -> bytes:
    packed: bytes = pa.compress(content, codec="zstd", asbytes=True)
    return packed


def shards(folder: Path, names: list[str]) -> Path:
    """Each file holds two of the rows."""
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = ROWS[2 * i : 2 * i + 2]
        if path.suffix == ".parquet":
            pl.DataFrame(part).write_parquet(path)
        else:
            content = lines(part)
            path.write_bytes({".gz": gzip.compress, ".zst": zstd}.get(path.suffix, bytes)(content))
    return folder


def test_packed_files_and_arrays_give_the_rows_of_plain_ones(tmp_path: Path) -> None:
    plain, csv = lines(ROWS), pl.DataFrame(ROWS).write_csv().encode()
    written = {
        "a.jsonl.zst": zstd(plain),
        "two-frames.jsonl.zst": zstd(plain[:50]) + zstd(plain[50:]),
        "a.csv.zst": zstd(csv),
        "a.csv.gz": gzip.compress(csv),
        "lines.json": plain,
        "array.json": json.dumps(ROWS).encode(),
        "pretty.json": json.dumps(ROWS, indent=2).encode(),
        "array.json.gz": gzip.compress(json.dumps(ROWS).encode()),
        "array.jsonl.zst": zstd(json.dumps(ROWS).encode()),
    }
    for name, content in written.items():
        (tmp_path / name).write_bytes(content)
    assert {name: ids(Source(path=str(tmp_path / name))) for name in written} == dict.fromkeys(written, IDS)


def test_a_cut_zstd_file_keeps_the_rows_before_the_cut(tmp_path: Path) -> None:
    import random

    noise = random.Random(0)
    rows = [{"problem": f"q{i} {noise.random()}", "id": str(i)} for i in range(40_000)]
    packed = zstd(lines(rows))
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(packed[: len(packed) // 2])
    *problems, last = read(Source(path=str(path)))
    assert len(problems) > 5000 and all(isinstance(p, Problem) for p in problems)
    assert (last.reason, last.row) == ("file cut short", len(problems) + 1)
    path.write_bytes(packed[:20])
    with pytest.raises(InputError, match="is not a whole zst file"):
        list(read(Source(path=str(path))))


def test_folders_and_patterns_are_read_in_the_order_of_names(tmp_path: Path) -> None:
    names = ["00.jsonl", "01.jsonl.gz", "02.jsonl.zst", "more/03.jsonl", "more/04.jsonl"]
    folder = shards(tmp_path / "shards", names)
    (folder / "README.md").write_text("not data")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x.jsonl").write_text("{}")
    parquet = shards(tmp_path / "parquet", [f"part-{i}.parquet" for i in range(5)])
    pl.DataFrame(ROWS).clear().write_parquet(parquet / "part-2b.parquet")  # an empty shard is no error
    assert ids(Source(path=str(folder))) == IDS
    assert ids(Source(path=str(parquet))) == IDS
    assert ids(Source(path=f"{folder}/*.jsonl*")) == IDS[:6]
    assert ids(Source(path=f"{folder}/**/*.jsonl")) == IDS[:2] + IDS[6:]
    (tmp_path / "brackets[1].jsonl").write_bytes(lines(ROWS[:1]))
    assert ids(Source(path=str(tmp_path / "brackets[1].jsonl"))) == IDS[:1]


def test_a_row_of_a_shard_is_named_by_its_file_and_its_row(tmp_path: Path) -> None:
    folder = shards(tmp_path / "d", ["a.jsonl", "b.jsonl"])
    (folder / "c.jsonl").write_text('{"problem": "fine"}\n{"problem": ""}\n{"problem": "q0", "id": "p0"}\n')
    bad = [r for r in read(Source(path=str(folder))) if isinstance(r, Rejection)]
    assert [(b.row, b.reason) for b in bad] == [(2, "problem is empty"), (3, "duplicate id")]
    assert bad[0].detail.startswith(f"{folder / 'c.jsonl'}, row 2: ")
    pl.DataFrame({"other": [1]}).write_csv(tmp_path / "d2.csv")
    (tmp_path / "e").mkdir()
    pl.DataFrame(ROWS).write_csv(tmp_path / "e" / "1.csv")
    pl.DataFrame({"other": [1]}).write_csv(tmp_path / "e" / "2.csv")
    with pytest.raises(InputError, match="the problem is missing; the columns are 'other'"):
        list(read(Source(path=str(tmp_path / "e"))))


def test_files_called_after_splits_are_not_mixed(tmp_path: Path) -> None:
    folder = shards(tmp_path / "hub", ["train-0-of-2.jsonl", "train-1-of-2.jsonl", "test-0-of-1.jsonl"])
    assert ids(Source(path=str(folder))) == IDS[:4]
    assert ids(Source(path=str(folder), split="test")) == IDS[4:6]
    assert ids(Source(path=str(folder), split="train[1:]+test[:1]")) == [*IDS[1:4], "p4"]
    with pytest.raises(InputError, match=r"called after the split 'dev'; there are: test-0-of-1\.jsonl"):
        list(read(Source(path=str(folder), split="dev")))
    other = shards(tmp_path / "sft", ["train_sft.jsonl", "test_sft.jsonl"])
    with pytest.raises(InputError, match="called after the split 'train'"):
        list(read(Source(path=str(other))))
    assert ids(Source(path=str(other), split="test_sft")) == IDS[2:4]


def test_what_a_path_does_not_name_is_a_clear_error(tmp_path: Path) -> None:
    mixed = shards(tmp_path / "mixed", ["a.jsonl", "b.parquet"])
    (tmp_path / "none").mkdir()
    (tmp_path / "array.json").write_text("[1, 2]")
    for path, message in {
        f"{tmp_path}/*.nothing": "no file matches",
        str(mixed): r"several formats \(\.jsonl, \.parquet\).*pattern",
        str(tmp_path / "none"): "no file of a known format",
        str(tmp_path / "array.json"): "no row of the first 2 is a JSON object",
    }.items():
        with pytest.raises(InputError, match=message):
            list(read(Source(path=path)))


@given(
    total=st.integers(0, 30),
    start=st.none() | st.integers(-40, 40),
    end=st.none() | st.integers(-40, 40),
    per_file=st.integers(1, 7),
)
def test_a_slice_is_python_s(total: int, start: int | None, end: int | None, per_file: int) -> None:
    def open_all() -> Any:
        for begin in range(0, total, per_file):
            rows: list[Any] = [(i, {"i": i}) for i in range(begin, min(total, begin + per_file))]
            yield Opened("x", None, iter(rows))

    shown = f"train[{'' if start is None else start}:{'' if end is None else end}]"
    [piece] = pieces(shown)
    assert [i for one in piece.of(open_all) for i, _ in one.rows] == list(range(total))[start:end]


def test_shares_and_sums_of_splits_work_in_every_format(tmp_path: Path) -> None:
    import datasets

    (tmp_path / "a.jsonl").write_bytes(lines(ROWS))
    pl.DataFrame(ROWS).write_parquet(tmp_path / "a.parquet")
    saved = datasets.DatasetDict(
        train=datasets.Dataset.from_list(ROWS[:6]), test=datasets.Dataset.from_list(ROWS[6:])
    )
    saved.save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "repo").mkdir()
    for name, rows in (("train", ROWS[:6]), ("test", ROWS[6:])):
        pl.DataFrame(rows).write_parquet(tmp_path / "repo" / f"{name}.parquet")
    for path in (tmp_path / "a.jsonl", tmp_path / "a.parquet"):
        cut = {
            "train[:20%]": IDS[:2],
            "train[20%:50%]": IDS[2:5],
            "train[-30%:]": IDS[7:],
            "train[3:5]": IDS[3:5],
        }
        assert {split: ids(Source(path=str(path), split=split)) for split in cut} == cut
    for kind in ({"path": str(tmp_path / "saved")}, {"dataset": str(tmp_path / "repo")}):
        assert ids(Source(**kind, split="train[:50%]+test")) == IDS[:3] + IDS[6:]
    for split in ("train[", "train[:x]", "", "train[:10%]+", "train [1:2]"):
        with pytest.raises(ValueError, match="is not a split; write it as"):
            Source(path="a.jsonl", split=split)


def test_csv_of_any_delimiter_and_with_spaces_round_names(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for text, delimiter in {
        "id ; problem;answer\np0;one, two;1\n": None,
        "id\tproblem\tanswer\np0\tone, two\t1\n": None,
        "id | problem | answer\np0|one, two|1\n": None,
        'id , problem, answer\np0,"one, two",1\n': None,
        '"a;b;c;d",problem,id,answer\n0,"one, two",p0,1\n': None,
        "id~problem~answer\np0~one, two~1\n": "~",
    }.items():
        path.write_text(text)
        [found] = read(Source(path=str(path), delimiter=delimiter))
        assert (found.id, found.problem, found.answer) == ("p0", "one, two", "1"), text
    path.write_text("problem\nonly, one\n")
    assert [r.reason for r in read(Source(path=str(path)))] == ["ragged row"]


def test_numbers_that_json_does_not_have_are_null(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"problem": "NaN is \\"NaN\\", Infinity", "answer": NaN, "x": [Infinity, -Infinity]}\n'
        '{"problem": "q", "answer": 4, "id": 7.0, "level": NaN}\n{"problem": "r", "answer": NaNo}\n'
    )
    first, second, third = read(Source(path=str(path)))
    assert (first.problem, first.answer) == ('NaN is "NaN", Infinity', None)
    assert json.loads(first.meta) == {"x": [None, None]}
    assert (second.id, second.answer, second.level) == ("7", "4", None)
    assert third.reason == "invalid JSON"
    (tmp_path / "b.json").write_text('[{"problem": "q", "answer": NaN}]')
    assert [p.answer for p in read(Source(path=str(tmp_path / "b.json")))] == [None]
    frame = pl.DataFrame({"problem": ["a", "b"], "answer": [1.0, float("nan")], "id": [1.0, float("nan")]})
    frame.write_parquet(tmp_path / "a.parquet")
    whole, made = read(Source(path=str(tmp_path / "a.parquet")))
    assert (whole.id, whole.answer, made.answer, len(made.id)) == ("1", "1", None, 16)


def test_fields_are_read_from_nested_places(tmp_path: Path) -> None:
    row = {
        "q": {"text": "Why?"},
        "responses": [{"text": "a"}, {"text": "b"}],
        "info": {"level": 3, "x": 1},
        "a.b": "id1",
    }
    columns = {"problem": "q.text", "answer": "responses[1].text", "level": "info.level", "id": "a.b"}
    (tmp_path / "a.jsonl").write_bytes(lines([row, {"q": {"text": "Who?"}, "responses": [], "a.b": "id2"}]))
    pl.DataFrame([row]).write_parquet(tmp_path / "a.parquet")
    first, second = read(Source(path=str(tmp_path / "a.jsonl"), columns=columns))
    assert first == Problem("id1", "Why?", "b", 3, first.meta)
    assert json.loads(first.meta) == {k: row[k] for k in ("q", "responses", "info")}, "what holds more stays"
    assert (second.id, second.reason) == ("id2", "no answer column")
    assert list(read(Source(path=str(tmp_path / "a.parquet"), columns=columns))) == [first]
    (tmp_path / "a.csv").write_text("q\nx\n")
    for name in ("a.jsonl", "a.parquet"):
        with pytest.raises(InputError, match=r"the answer column 'responses\[0\]\.txt' is missing"):
            list(read(Source(path=str(tmp_path / name), columns=columns | {"answer": "responses[0].txt"})))


def test_a_column_that_is_mapped_and_not_there_is_an_error_in_every_format(tmp_path: Path) -> None:
    import datasets

    frame = pl.DataFrame({"problem": ["p"] * 3, "key": ["1"] * 3})
    frame.write_ndjson(tmp_path / "a.jsonl")
    (tmp_path / "a.json").write_text(frame.write_json())
    frame.write_csv(tmp_path / "a.csv")
    frame.write_parquet(tmp_path / "a.parquet")
    datasets.Dataset.from_list(frame.to_dicts()).save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "repo").mkdir()
    frame.write_parquet(tmp_path / "repo" / "train.parquet")
    kinds: list[dict[str, Any]] = [
        {"path": str(tmp_path / name)} for name in ("a.jsonl", "a.json", "a.csv", "a.parquet", "saved")
    ]
    for kind in [*kinds, {"dataset": str(tmp_path / "repo")}]:
        for field in ("answer", "id", "level", "aliases"):
            with pytest.raises(InputError, match=rf"the {field} column 'kez' is missing.*mean 'key'"):
                list(read(Source(**kind, columns={field: "kez"})))


def test_shuffle_and_offset_pick_the_same_records_of_the_same_source(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(ROWS))
    (tmp_path / "b.jsonl").write_bytes(lines(ROWS[::-1]))
    a, b = str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")
    order = ids(Source(path=a, shuffle=True))
    assert sorted(order) == IDS != order
    assert ids(Source(path=b, shuffle=1)) == order
    assert ids(Source(path=a, shuffle=2)) != order
    assert ids(Source(path=a, shuffle=True, offset=4)) == order[4:]
    assert ids(Source(path=a, offset=9)) == IDS[9:] and ids(Source(path=a, offset=10)) == []
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write("{}\n")
    assert [r.id for r in read(Source(path=a, shuffle=True))] == ["row 11", *order]


def test_a_condition_takes_the_rows_that_meet_it(tmp_path: Path) -> None:
    rows = [{"problem": f"q{i}", "level": i % 3, "tag": "ab"[i % 2]} for i in range(2500)]
    (tmp_path / "a.jsonl").write_bytes(lines(rows))
    path = str(tmp_path / "a.jsonl")
    found = [record.problem for record in read(Source(path=path, where="level = 2 AND tag = 'a'", offset=1))]
    assert found == [f"q{i}" for i in range(2500) if i % 3 == 2 and i % 2 == 0][1:]
    with pytest.raises(RecipeError, match=r"source\.where: .*levl.*Did you mean 'level'"):
        list(read(Source(path=path, where="levl = 2")))


def test_the_fingerprint_of_many_files_follows_each(tmp_path: Path) -> None:
    folder = shards(tmp_path / "d", ["a.jsonl", "b.jsonl"])
    for path in (str(folder), f"{folder}/*.jsonl"):
        before = fingerprint(Source(path=path))
        assert fingerprint(Source(path=path)) == before
        (folder / "b.jsonl").write_bytes((folder / "b.jsonl").read_bytes() + b"\n")
        after = fingerprint(Source(path=path))
        (folder / "c.jsonl").write_bytes(lines(ROWS[8:]))
        assert len({before, after, fingerprint(Source(path=path))}) == 3
        (folder / "c.jsonl").unlink()
