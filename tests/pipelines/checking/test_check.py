"""``gristmill check``: what a trainer refuses or loses is found, and clean rows are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from check_mutations import FORMATS, clean, encoded, mutations, records
from typer.testing import CliRunner

from gristmill.cli.main import app
from gristmill.core.errors import InputError, RecipeError
from gristmill.core.registry import find, names
from gristmill.core.schema import to_frame
from gristmill.pipelines.checking import check
from gristmill.pipelines.checking.columns import LateColumns
from gristmill.pipelines.checking.rows import FileRow, exported
from gristmill.pipelines.exports import AxolotlChat, ErPrmText

FACTS = json.loads(Path(__file__).with_name("facts.json").read_text())
"""By format the mutations that its trainer refused, or of which it lost rows; see ``tests/real``."""


def written(folder: Path, data: bytes, name: str = "rows.jsonl") -> str:
    (folder / name).write_bytes(data)
    return str(folder / name)


def reasons(folder: Path, format: str, rows: list[dict[str, Any]], **more: Any) -> dict[str, int]:
    return check(written(folder, encoded(rows)), format, **more).reasons


@pytest.mark.parametrize("format", FORMATS)
def test_clean_rows_are_clean(format: str, tmp_path: Path) -> None:
    found = check(written(tmp_path, encoded(clean(format, 60))), format)
    assert found.clean and found.rows == 60, found.as_text()


@pytest.mark.parametrize("format", sorted(FACTS))
def test_what_the_trainer_refused_or_lost_is_found(format: str, tmp_path: Path) -> None:
    made = dict(mutations(clean(format), FACTS[format]))
    assert set(made) == set(FACTS[format])
    assert not [name for name, data in made.items() if check(written(tmp_path, data), format).clean]


def test_every_format_has_rules_or_types(tmp_path: Path) -> None:
    """A row of another shape is found in each, but for the one that takes any record."""
    path = written(tmp_path, b'{"id": "a", "nothing": 1}\n')
    assert [name for name in names("exports") if check(path, name).clean] == ["rows"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'\xef\xbb\xbf{"id": "a"}\n', "begins with a byte order mark"),
        (b'{"id": "\xff"}\n', "not UTF-8"),
        (b'{"id": \n', "not JSON"),
        (b"[1]\n", "not an object"),
        (b'{"id": "a", "id": "b"}\n', "a key that is there twice"),
        (b'{"id": "a"}\n{"id": "a"}\n', "an id that came before"),
        (b'{"id": "a", "n": 1}\n{"id": "b", "n": "1"}\n', "n: a column of several types"),
        (b"\n", "no rows"),
    ],
)
def test_lines_that_are_no_rows(data: bytes, reason: str, tmp_path: Path) -> None:
    assert check(written(tmp_path, data), "rows").reasons == {reason: 1}


def test_what_changes_behind_the_first_bytes_is_found() -> None:
    """Each of these the package ``datasets`` refuses; the last row's values it takes."""
    columns = LateColumns(first=100)
    early = {"id": "a", "n": 1, "x": None, "meta": {"x": None}, "said": [{"role": "user"}], "none": []}
    assert not list(columns.faults(FileRow(1, 0, early)))
    assert not list(columns.faults(FileRow(2, 99, {"id": "b", "y": 1, "half": 1})))
    assert not list(columns.faults(FileRow(3, 99, {"id": "b", "half": 1.5})))
    late = {"meta": {"x": 1, "z": 1}, "n": 1.5, "x": "a", "said": [{"why": "b"}], "none": ["c"], "y": 2}
    found = [fault.reason for fault in columns.faults(FileRow(4, 100, late))]
    assert found == [
        "meta.x: null in all of the first rows",
        "meta.z: a key that first appears late",
        "n: a fraction that comes late",
        "x: null in all of the first rows",
        "said[].why: a key that first appears late",
        "none[]: a key that first appears late",
    ]
    assert not list(columns.faults(FileRow(5, 200, {"id": "c", "half": 2, "y": None, "n": 2.5})))


def test_an_axolotl_row_needs_a_trained_turn_and_a_tagged_text_its_values() -> None:
    row = {"messages": [{"train": False}]}
    assert list(AxolotlChat().faults(row)) == ["no turn is trained"]
    assert not list(AxolotlChat().faults({"messages": [{"train": True}]}))
    assert list(ErPrmText(tag="#").faults({"text": "a # b #", "value": [1.0]}))
    assert not list(ErPrmText(tag="#").faults({"text": "a # b #", "value": [1.0, 0.5]}))


def tokenizer(folder: Path, template: str) -> str:
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    return str(folder)


ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{{ m.role }} {{ m.content }} {% endfor %}"
)


def test_a_tokenizer_measures_rows_and_its_template_is_asked(tmp_path: Path) -> None:
    where = tokenizer(tmp_path, ALTERNATING)
    said = [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "c"}]
    rows = [{"id": "a", "messages": said}, {"id": "b", "messages": [said[0], *said]}]
    assert not reasons(tmp_path, "trl-sft", rows)
    assert reasons(tmp_path, "trl-sft", rows, tokenizer=where) == {"the chat template refuses it": 1}
    found = reasons(tmp_path, "trl-sft", rows[:1], tokenizer=where, max_length=4)
    assert found == {"longer than 4 tokens": 1}  # five with the roles, which the template writes
    assert not reasons(tmp_path, "trl-sft", rows[:1], tokenizer=where, max_length=5)
    with pytest.raises(RecipeError, match="no tokenizer to measure by"):
        reasons(tmp_path, "trl-sft", rows, max_length=4)


def test_records_of_a_run_are_put_through_the_format(tmp_path: Path) -> None:
    export = find("exports", "trl-prompts")()
    problems = list(records(export.reads, 3))
    to_frame([*problems, type(problems[0])("x", "Write a poem.")], type(problems[0])).write_parquet(
        tmp_path / "part.parquet"
    )
    found = list(exported(export, [tmp_path / "part.parquet"]))
    assert [row.values is None for row in found] == [False, False, False, True]
    assert found[-1].faults[0].reason == "dropped by the format: has no reference answer"


def test_the_command_says_what_is_wrong_and_where(tmp_path: Path) -> None:
    rows = clean("trl-dpo", 4)
    rows[2]["rejected"] = rows[2]["chosen"]
    path = written(tmp_path, encoded(rows))
    found = CliRunner().invoke(app, ["check", path, "--format", "trl-dpo"])
    assert found.exit_code == 3
    assert "4 rows, 1 with something wrong" in found.output
    assert "both sides are the same" in found.output and "row 3 (p2)" in found.output
    found = CliRunner().invoke(app, ["check", path, "--format", "trl-dpo", "--json", "-n", "0"])
    assert json.loads(found.output)["reasons"] == {"both sides are the same": 1}
    path = written(tmp_path, encoded(clean("trl-dpo", 4)))
    assert CliRunner().invoke(app, ["check", path, "--format", "trl-dpo"]).exit_code == 0


def test_parquet_is_read_and_other_files_are_refused(tmp_path: Path) -> None:
    import polars as pl

    pl.DataFrame(clean("verl-sft", 5)).write_parquet(tmp_path / "rows.parquet")
    found = check(str(tmp_path / "rows.parquet"), "verl-sft")
    assert found.clean and found.rows == 5, found.as_text()
    with pytest.raises(InputError, match="not a kind of file"):
        check(written(tmp_path, b"", "rows.csv"), "verl-sft")
