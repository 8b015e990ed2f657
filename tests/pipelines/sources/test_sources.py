"""What each reader makes of good and bad input.

This file is longer than others: the formats share their cases, and those their helpers.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gristmill.core.errors import InputError
from gristmill.core.records import Problem
from gristmill.core.stages import Rejection
from gristmill.pipelines.sources.source import Source, describe, fingerprint, read


def jsonl(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return str(path)


def both(source: Source) -> tuple[list[Problem], list[Rejection]]:
    found = list(read(source))
    return [r for r in found if isinstance(r, Problem)], [r for r in found if isinstance(r, Rejection)]


def reasons(source: Source) -> list[tuple[int, str]]:
    return [(b.row, b.reason) for b in both(source)[1]]


ROWS = [{"id": f"p{i}", "question": f"What is {i} + 1?", "answer": str(i + 1), "level": 1} for i in range(5)]
WANT = [Problem(f"p{i}", f"What is {i} + 1?", str(i + 1), 1) for i in range(5)]


def _jsonl(folder: Path) -> Source:
    return Source(path=jsonl(folder / "a.jsonl", *ROWS))


def _jsonl_gz(folder: Path) -> Source:
    text = Path(jsonl(folder / "a.jsonl", *ROWS)).read_bytes()
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(text))
    return Source(path=str(folder / "a.jsonl.gz"))


def _csv(folder: Path) -> Source:
    pl.DataFrame(ROWS).write_csv(folder / "a.csv")
    return Source(path=str(folder / "a.csv"))


def _tsv(folder: Path) -> Source:
    pl.DataFrame(ROWS).write_csv(folder / "a.tsv", separator="\t")
    return Source(path=str(folder / "a.tsv"))


def _parquet(folder: Path) -> Source:
    pl.DataFrame(ROWS).write_parquet(folder / "a.parquet")
    return Source(path=str(folder / "a.parquet"))


def _folder(folder: Path) -> Source:
    import datasets

    datasets.Dataset.from_list(ROWS).save_to_disk(str(folder / "saved"))
    return Source(path=str(folder / "saved"))


def _splits(folder: Path) -> Source:
    import datasets

    datasets.DatasetDict(test=datasets.Dataset.from_list(ROWS)).save_to_disk(str(folder / "saved"))
    return Source(path=str(folder / "saved"), split="test")


def _dataset(folder: Path) -> Source:
    """``datasets.load_dataset`` streams from a local repository as it does from the Hub."""
    (folder / "repo").mkdir()
    pl.DataFrame(ROWS).write_parquet(folder / "repo" / "train.parquet")
    return Source(dataset=str(folder / "repo"))


@pytest.mark.parametrize("make", [_jsonl, _jsonl_gz, _csv, _tsv, _parquet, _folder, _splits, _dataset])
def test_every_format_gives_the_same_problems(make: Callable[[Path], Source], tmp_path: Path) -> None:
    assert both(make(tmp_path)) == (WANT, [])


def test_columns_are_mapped_and_the_others_go_to_meta(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "a.jsonl", {"q": "Why?", "a": 3, "key": 7, "hard": "Level 5", "tags": ["x"], "n": None}
    )
    columns: dict[Any, str] = {"problem": "q", "answer": "a", "id": "key", "level": "hard"}
    [problem], bad = both(Source(path=path, columns=columns))
    assert (problem, bad) == (Problem("7", "Why?", "3", 5, problem.meta), [])
    assert json.loads(problem.meta) == {"tags": ["x"], "n": None}


def test_the_text_after_the_mark_is_the_answer(tmp_path: Path) -> None:
    solution = "2 + 2 = 4 #### no\nso 4\n#### 4 "
    path = jsonl(
        tmp_path / "a.jsonl",
        {"question": "q1", "answer": solution},
        {"question": "q2", "answer": "4"},
        {"question": "q3", "answer": "4 ####  "},
    )
    problems, bad = both(Source(path=path, answer_after="####"))
    assert [p.answer for p in problems] == ["4"]
    assert json.loads(problems[0].meta) == {"answer": solution}
    assert [(b.row, b.reason) for b in bad] == [(2, "answer mark missing"), (3, "answer is empty")]


BAD_LINES = [
    (b'{"problem": "q', "invalid JSON"),
    (b"[1, 2]", "row is not an object"),
    (b'{"question": "q"}', "no problem column"),
    (b'{"problem": ["q"]}', "problem is not text"),
    (b'{"problem": null}', "problem is not text"),
    (b'{"problem": "  "}', "problem is empty"),
    (b'{"problem": "a\\u0000b"}', "NUL character"),
    (b'{"problem": "q", "answer": "\\u0000"}', "NUL character"),
    (b'{"problem": "caf\xe9"}', "invalid UTF-8"),
    (b'{"problem": "\\ud800"}', "invalid JSON"),
    (b'{"problem": "' + b"x" * 5_000_000 + b'"}', "problem too long"),
    (b'{"problem": "q", "answer": [["1"]]}', "answer is neither text nor number"),
    (b'{"problem": "q", "answer": {"a": 1}}', "answer is neither text nor number"),
    (b'{"problem": "q", "answer": true}', "answer is neither text nor number"),
    (b'{"problem": "q", "answer": 5}', "answers of mixed types"),
    (b'{"problem": "q", "answer": "1", "id": "first"}', "duplicate id"),
    (b'{"problem": "q", "answer": "1", "id": 1.5}', "id is neither text nor whole number"),
    (b"[" * 200_000, "invalid JSON"),
    (b'{"problem": 1e999}', "invalid JSON"),
    (b"\x00\x00\x00", "invalid JSON"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LINES)
def test_a_bad_line_is_refused_by_its_number_and_the_rest_goes_on(
    line: bytes, reason: str, tmp_path: Path
) -> None:
    first, last = b'{"problem": "p", "answer": "1", "id": "first"}', b'{"problem": "r", "answer": "2"}'
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([first, b"", line, last]) + b"\n")
    problems, bad = both(Source(path=str(path)))
    assert [p.problem for p in problems] == ["p", "r"]
    assert [(b.row, b.reason) for b in bad] == [(3, reason)]
    assert bad[0].detail.startswith(f"{path}, row 3: ")
    assert bad[0].id == ("first" if reason == "duplicate id" else "row 3")
    assert len(bad[0].detail) < 500, "no 5 MB text in a message"


def test_a_bad_first_line_does_not_hide_the_rest(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"problem":\n{"x": 1}\n{"problem": "p"}\n')
    problems, bad = both(Source(path=str(tmp_path / "a.jsonl")))
    assert [p.problem for p in problems] == ["p"]
    assert [(b.row, b.reason) for b in bad] == [(1, "invalid JSON"), (2, "no problem column")]


def test_a_line_longer_than_any_row_is_skipped_without_holding_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as f:
        f.write(b'{"problem": "p"}\n{"problem": "')
        for _ in range(40):
            f.write(b"x" * (1 << 20))
        f.write(b'"}\n{"problem": "r"}\n')
    problems, bad = both(Source(path=str(path)))
    assert [p.problem for p in problems] == ["p", "r"]
    assert [(b.row, b.reason) for b in bad] == [(2, "row too long")]


def test_a_long_problem_is_taken_where_the_source_says_so(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"problem": "x" * 5_000_000})
    [problem], bad = both(Source(path=path, max_chars=5_000_000))
    assert (len(problem.problem), bad) == (5_000_000, [])
    assert reasons(Source(path=path, max_chars=4_999_999)) == [(1, "problem too long")]


def test_answers_of_mixed_types_name_the_option_that_reads_them(tmp_path: Path) -> None:
    answers = [27, 27.0, 0.5, "27", True, None, -3]
    path = jsonl(tmp_path / "a.jsonl", *({"problem": f"q{i}", "answer": a} for i, a in enumerate(answers)))
    problems, bad = both(Source(path=path))
    assert [p.answer for p in problems] == ["27", "27", "0.5", None, "-3"]
    assert [(b.row, b.reason) for b in bad] == [
        (4, "answers of mixed types"),
        (5, "answer is neither text nor number"),
    ]
    assert "answers: text" in bad[0].detail
    problems, bad = both(Source(path=path, answers="text"))
    assert ([p.answer for p in problems], bad) == (["27", "27", "0.5", "27", "true", None, "-3"], [])


def test_a_row_without_an_id_gets_a_stable_one_and_its_copy_is_refused(tmp_path: Path) -> None:
    rows = [{"problem": "p", "answer": "1"}, {"problem": "p", "answer": "2"}, {"problem": "p", "answer": "1"}]
    problems, bad = both(Source(path=jsonl(tmp_path / "a.jsonl", *rows)))
    assert len({p.id for p in problems}) == 2 and all(len(p.id) == 16 for p in problems)
    assert [(b.row, b.reason) for b in bad] == [(3, "duplicate id")]
    again, _ = both(Source(path=jsonl(tmp_path / "b.jsonl", *reversed(rows))))
    assert {p.id for p in again} == {p.id for p in problems}


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_an_empty_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InputError, match="the file is empty"):
        list(read(Source(path=str(tmp_path / name))))


def test_a_file_of_blank_lines_or_a_header_alone_or_a_table_without_rows_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n\n")
    (tmp_path / "a.csv").write_text("problem,answer\n")
    pl.DataFrame({"problem": []}, schema={"problem": pl.String}).write_parquet(tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        with pytest.raises(InputError, match="there are no rows in it"):
            list(read(Source(path=str(tmp_path / name))))


def test_a_truncated_gzip_keeps_the_rows_before_the_cut_and_says_where_it_is(tmp_path: Path) -> None:
    import random

    r = random.Random(0)
    lines = [json.dumps({"problem": f"q{i} {r.random()}"}) + "\n" for i in range(5000)]
    whole = gzip.compress("".join(lines).encode())
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    problems, bad = both(Source(path=str(path)))
    assert len(problems) > 2000
    assert [p.problem for p in problems] == [json.loads(line)["problem"] for line in lines[: len(problems)]]
    assert [(b.row, b.reason) for b in bad] == [(len(problems) + 1, "file cut short")]
    path.write_bytes(whole[:20])
    with pytest.raises(InputError, match="not a whole gz file"):
        list(read(Source(path=str(path))))


def test_a_damaged_gzip_keeps_what_was_read(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(b'{"problem": "p"}\n'))
    whole[-8] ^= 0xFF  # the checksum
    (tmp_path / "a.jsonl.gz").write_bytes(whole)
    problems, bad = both(Source(path=str(tmp_path / "a.jsonl.gz")))
    assert [p.problem for p in problems] == ["p"]
    assert [b.reason for b in bad] == ["file cut short"]


def test_a_truncated_or_foreign_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame(ROWS).write_parquet(path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"PAR1", b'{"problem": "p"}\n' * 10):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a whole Parquet file"):
            list(read(Source(path=str(path))))


def test_a_damaged_row_group_costs_its_own_rows_only(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    frame = pl.DataFrame({"problem": [f"question number {i}" for i in range(30)]})
    frame.write_parquet(path, row_group_size=10, compression="zstd", statistics=False)
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    content = bytearray(path.read_bytes())
    begin = column.dictionary_page_offset or column.data_page_offset
    for i in range(begin, begin + column.total_compressed_size):
        content[i] ^= 0x5A
    path.write_bytes(content)
    problems, bad = both(Source(path=str(path)))
    assert [p.problem for p in problems] == [f"question number {i}" for i in (*range(10), *range(20, 30))]
    assert [(b.row, b.reason) for b in bad] == [(11, "damaged row group")]
    assert "rows 11 to 20" in bad[0].detail


def test_invalid_utf8_in_parquet_costs_its_own_row_only(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    raw = pa.array([b"one", b"tw\xff", b"three"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    pq.write_table(pa.table({"problem": text}), tmp_path / "a.parquet")
    problems, bad = both(Source(path=str(tmp_path / "a.parquet")))
    assert [p.problem for p in problems] == ["one", "three"]
    assert [(b.row, b.reason) for b in bad] == [(2, "invalid UTF-8")]


def test_bad_csv_rows_are_refused_by_the_line_they_begin_on(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        b"\xef\xbb\xbfid,problem,answer\r\n"
        b'1,"two\nlines",5\n'
        b"2,too few\n"
        b"3,too,many,cells\n"
        b"4,caf\xe9,1\n"
        b'5,"closed" badly,1\n'
        b"\n"
        b"6,a\x00b,1\n" + b"7," + b"x" * 5_000_000 + b",1\n"
        b"8,good,1\n"
        b'9,"never closed,1\n'
        b"10,last,2\n"
    )
    problems, bad = both(Source(path=str(path)))
    assert [(p.id, p.problem, p.answer) for p in problems] == [
        ("1", "two\nlines", "5"),
        ("8", "good", "1"),
        ("10", "last", "2"),
    ]
    assert [(b.row, b.reason) for b in bad] == [
        (4, "ragged row"),
        (5, "ragged row"),
        (6, "invalid UTF-8"),
        (7, "malformed CSV row"),
        (9, "NUL character"),
        (10, "problem too long"),
        (12, "malformed CSV row"),
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_a_missing_column_names_the_columns_there_are(name: str, tmp_path: Path) -> None:
    frame = pl.DataFrame({"probelm": ["p"] * 3, "answer": ["1"] * 3})
    writers: dict[str, Callable[[Path], object]] = {
        "a.jsonl": frame.write_ndjson,
        "a.csv": frame.write_csv,
        "a.parquet": frame.write_parquet,
    }
    writers[name](tmp_path / name)
    path = str(tmp_path / name)
    with pytest.raises(InputError) as caught:
        list(read(Source(path=path)))
    assert "a column for the problem is missing" in caught.value.message
    assert "'probelm', 'answer'" in caught.value.message
    assert caught.value.remedy.startswith("Did you mean 'probelm'?")
    assert "columns: {problem: NAME}" in caught.value.remedy
    with pytest.raises(InputError, match="the problem column 'text' is missing"):
        list(read(Source(path=path, columns={"problem": "text"})))


def test_a_named_answer_column_that_a_line_lacks_is_that_lines_fault(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"problem": "p", "key": 1}, {"problem": "q"})
    problems, bad = both(Source(path=path, columns={"answer": "key"}))
    assert [p.answer for p in problems] == ["1"]
    assert [(b.row, b.reason) for b in bad] == [(2, "no answer column")]
    assert bad[0].detail.endswith("this row has no column 'key' (it has 'problem').")


def test_a_level_that_is_no_number_stays_in_meta_unless_it_was_named(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"problem": "p", "level": "hard"})
    [problem], _ = both(Source(path=path))
    assert problem.level is None and json.loads(problem.meta) == {"level": "hard"}
    assert reasons(Source(path=path, columns={"level": "level"})) == [(1, "level is not a whole number")]


def test_whole_file_errors_say_what_to_do(tmp_path: Path) -> None:
    jsonl(tmp_path / "problems.jsonl", {"problem": "p"})
    (tmp_path / "array.json").write_text('[\n{"problem": "p"},\n{"problem": "q"}\n')
    (tmp_path / "wide.jsonl").write_text('{"problem": "p"}\n', encoding="utf-16")
    (tmp_path / "text.jsonl").write_text("What is 1 + 1?\n2\n")
    (tmp_path / "a.xlsx").write_text("x")
    (tmp_path / "no-header.csv").write_text(",,\n1,2,3\n")
    (tmp_path / "twice.csv").write_text("problem,problem\n1,2\n")
    (tmp_path / "bad-header.csv").write_text('problem,"answer\n1,2\n')
    (tmp_path / "folder").mkdir()
    for name, message in {
        "problem.jsonl": "no such file.* Did you mean 'problems.jsonl'",
        "nowhere/problems.jsonl": "no such file.* no folder",
        "array.json": "row 1: the JSON array cannot be read.*cut short",
        "text.jsonl": "row 1: no row of the first 2 is a JSON object",
        "wide.jsonl": "UTF-16.*iconv",
        "a.xlsx": r"'\.xlsx' is not a known format",
        "no-header.csv": "header .* is missing",
        "twice.csv": "'problem' occurs twice",
        "bad-header.csv": "row 1: the header cannot be read",
        "folder": "no file of a known format",
    }.items():
        with pytest.raises(InputError, match=rf"(?s){message}"):
            list(read(Source(path=str(tmp_path / name))))


LINES = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from(
            [b'{"problem": "p"}', b'"a', b'a","b', b"problem,answer", b"p,1", b"\r", b"\x00", b"[", b"\xff"]
        ),
        st.dictionaries(
            st.sampled_from(["problem", "answer", "id", "level", "x"]),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                lambda inner: st.lists(inner, max_size=2),
            ),
        ).map(lambda row: json.dumps(row).encode()),
    ),
    max_size=12,
)


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=LINES)
def test_no_bytes_bring_a_reader_down(suffix: str, lines: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    content = b"\n".join(lines)
    path.write_bytes(content)
    try:
        found = list(read(Source(path=str(path))))
    except InputError:
        return
    numbers = [b.row for b in found if isinstance(b, Rejection)]
    assert numbers == sorted(set(numbers)) and all(1 <= n <= content.count(b"\n") + 1 for n in numbers)
    for problem in found:
        if isinstance(problem, Problem):
            assert problem.problem.strip() and problem.id and isinstance(json.loads(problem.meta), dict)
            assert "\0" not in problem.problem + problem.id + (problem.answer or "")


def test_an_unknown_split_names_the_nearest(tmp_path: Path) -> None:
    source = _splits(tmp_path)
    with pytest.raises(InputError, match=r"has no split 'tset'\. Did you mean 'test'"):
        list(read(msgspec.structs.replace(source, split="tset")))
    with pytest.raises(InputError, match="cannot be loaded"):
        list(read(msgspec.structs.replace(_dataset(tmp_path), split="tset")))


@pytest.mark.slow  # the Hub client itself tries for 20 s
def test_a_hub_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    env = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    env.pop("HF_HUB_OFFLINE", None)
    code = "from gristmill.pipelines.sources.source import *; list(read(Source(dataset='someone/something')))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 1
    assert "InputError: someone/something: cannot be loaded" in done.stderr


def test_a_source_is_a_path_or_a_dataset() -> None:
    for row in ({}, {"path": "a.jsonl", "dataset": "x/y"}):
        with pytest.raises(msgspec.ValidationError, match="one of 'path', 'dataset' and 'run'"):
            msgspec.convert(row, Source)


def test_the_fingerprint_follows_the_content_and_nothing_else(tmp_path: Path) -> None:
    source = _jsonl(tmp_path)
    before = fingerprint(source)
    os.utime(str(source.path), (1, 1))
    assert fingerprint(source) == before
    with Path(str(source.path)).open("a") as f:
        f.write("\n")
    assert fingerprint(source) != before
    folder = _folder(tmp_path)
    before = fingerprint(folder)
    assert fingerprint(folder) == before
    (Path(str(folder.path)) / "more").write_text("x")
    assert fingerprint(folder) != before
    assert fingerprint(Source(dataset="a/b", config="c")) == "hub:a/b (c, train)"
    assert describe(source) == source.path
    with pytest.raises(InputError, match="no such file"):
        fingerprint(Source(path=str(tmp_path / "none.jsonl")))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsonl.gz", "csv", "parquet"])
def test_memory_does_not_grow_with_the_rows(kind: str, tmp_path: Path) -> None:
    """Peak memory of 20,000 and of 400,000 rows differs by the id hashes only (the data: 130 MB)."""

    def peak(rows: int) -> int:
        path = tmp_path / f"{rows}.{kind}"
        frame = pl.DataFrame({"problem": [f"{i} " + "x" * 300 for i in range(rows)]})
        if kind == "jsonl.gz":
            path.write_bytes(gzip.compress(frame.write_ndjson().encode(), 1))
        else:
            frame.write_csv(path) if kind == "csv" else frame.write_parquet(path)
        code = (
            "import resource, sys\nfrom gristmill.core.records import Problem\n"
            "from gristmill.pipelines.sources.source import *\n"
            "n = sum(isinstance(p, Problem) for p in read(Source(path=sys.argv[1])))\n"
            "print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
        )
        count, kib = map(int, done.stdout.split())
        assert count == rows
        return kib >> 10

    assert peak(400_000) - peak(20_000) < 70
