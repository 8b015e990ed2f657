"""A run's rows as a data set: what goes up, what is never replaced, and what never goes up."""

from __future__ import annotations

import io
import json
from pathlib import Path

import polars as pl
import pytest
from hub_server import TOKEN, HubServer

from gristmill.core.errors import InputError, RecipeError
from gristmill.pipelines.publishing import push
from gristmill.pipelines.publishing.hub import PushError
from gristmill.pipelines.rundir.results import Run

REPO = "miller/sums"


def table(server: HubServer, config: str, split: str) -> pl.DataFrame:
    files = server.main(REPO)
    found = [p for p in sorted(files) if p.startswith(f"data/{config}/{split}-")]
    return pl.concat([pl.read_parquet(io.BytesIO(files[path])) for path in found])


def rows_file(folder: Path, name: str, *rows: dict) -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_each_export_is_a_configuration_in_splits(server: HubServer, sums: Run) -> None:
    done = push(sums, "sums")
    assert done.repo == REPO
    assert {config: sum(splits.values()) for config, splits in done.rows.items()} == {
        "trl-prompt-completion": 7,
        "axolotl-chat": 7,
    }
    assert {s for splits in done.rows.values() for s in splits} == {"train", "test"}
    files = server.main(REPO)
    assert set(files) == set(done.files)
    assert {"README.md", "croissant.json", "pushes.json"} < set(files)
    columns = table(server, "trl-prompt-completion", "train").columns
    assert columns == ["id", "prompt", "completion"]  # not the column that the split was made by
    exported = pl.read_ndjson(sums.path / "exports" / "trl-prompt-completion.jsonl")
    both = [table(server, "trl-prompt-completion", split) for split in ("train", "test")]
    assert pl.concat(both).sort("id").to_dicts() == exported.sort("id").to_dicts()


def test_the_same_push_again_changes_nothing(server: HubServer, sums: Run) -> None:
    first = push(sums, "sums")
    again = push(sums, "sums")
    assert again.present and (again.commit, again.tag) == (first.commit, first.tag)
    assert len(server.repos[REPO].history()) == 2


def test_stages_can_be_chosen(server: HubServer, sums: Run) -> None:
    done = push(sums, "sums", stages=["sample", "right"])
    assert done.rows == {"sample": {"train": 12}, "right": {"train": 7}}
    with pytest.raises(RecipeError, match="'wrong' is not a stage"):
        push(sums, "sums", stages=["wrong"])


def test_dry_run_asks_nothing_and_lists_what_would_go_up(server: HubServer, sums: Run) -> None:
    planned = push(sums, REPO, dry_run=True)
    assert not server.asked
    assert planned.files == push(sums, REPO).files


def test_append_adds_shards_by_one_commit(server: HubServer, tmp_path: Path) -> None:
    one = rows_file(tmp_path, "rows.jsonl", {"id": "a", "text": "one"})
    push(one, "sums", card_keys={"licence": "mit", "title": "Words"})
    two = rows_file(tmp_path, "rows.jsonl", {"id": "b", "text": "two"}, {"id": "c", "text": "three"})
    done = push(two, "sums", mode="append")
    assert sorted(table(server, "rows", "train")["id"]) == ["a", "b", "c"]
    assert len(server.repos[REPO].history()) == 3
    assert server.repos[REPO].tags[done.tag] == done.commit
    card = server.main(REPO)["README.md"].decode()
    assert "| `rows` | `train` | 3 | 2 |" in card
    assert "license: mit" in card and "# Words" in card  # as the first push was told
    again = push(two, "sums", mode="append")
    assert again.present and again.commit == done.commit


def test_nothing_is_replaced_unasked(server: HubServer, sums: Run, tmp_path: Path) -> None:
    push(sums, "sums")
    before = server.main(REPO)
    other = rows_file(tmp_path, "other.jsonl", {"id": "a", "text": "one"})
    with pytest.raises(PushError, match=r"holds 8 files already.*--append.*--overwrite"):
        push(other, "sums")
    assert server.main(REPO) == before
    server.write(REPO, {"LICENSE": b"own words"})
    push(other, "sums", mode="overwrite")
    after = server.main(REPO)
    assert after["LICENSE"] == b"own words"
    assert [p for p in after if p.startswith("data/")] == [p for p in after if p.startswith("data/other/")]
    assert not [p for p in after if p.startswith("recipes/")]


def test_appended_rows_must_have_the_same_columns(server: HubServer, tmp_path: Path) -> None:
    push(rows_file(tmp_path, "rows.jsonl", {"id": "a", "text": "one"}), "sums")
    other = rows_file(tmp_path, "rows.jsonl", {"id": "b", "text": 2})
    with pytest.raises(PushError, match=r"other columns.*: text"):
        push(other, "sums", mode="append")


def test_a_card_that_was_changed_by_hand_is_not_written_over(server: HubServer, tmp_path: Path) -> None:
    push(rows_file(tmp_path, "rows.jsonl", {"id": "a", "text": "one"}), "sums")
    server.write(REPO, {"README.md": b"# My own card\n"})
    with pytest.raises(PushError, match=r"README.md was changed"):
        push(rows_file(tmp_path, "rows.jsonl", {"id": "b", "text": "two"}), "sums", mode="append")
    assert server.main(REPO)["README.md"] == b"# My own card\n"


def test_a_repository_of_others_is_not_appended_to(server: HubServer, tmp_path: Path) -> None:
    server.write(REPO, {"data.parquet": b"PAR1"})
    with pytest.raises(PushError, match="no push put there"):
        push(rows_file(tmp_path, "rows.jsonl", {"id": "a"}), "sums", mode="append")


def test_large_splits_are_cut_into_shards(server: HubServer, tmp_path: Path) -> None:
    many = rows_file(tmp_path, "rows.jsonl", *({"id": f"r{i:05d}", "text": "x" * 20} for i in range(5_000)))
    push(many, "sums", shard_bytes=50_000)
    names = sorted(p for p in server.main(REPO) if p.startswith("data/"))
    assert len(names) == 3 and names[0].endswith("-00000-of-00003.parquet")
    assert table(server, "rows", "train")["id"].to_list() == [f"r{i:05d}" for i in range(5_000)]


def test_a_file_is_split_by_a_column(server: HubServer, tmp_path: Path) -> None:
    rows = [{"id": "a", "part": "train"}, {"id": "b", "part": "test"}]
    assert push(rows_file(tmp_path, "r.jsonl", *rows), "sums", split="part").rows == {
        "r": {"train": 1, "test": 1}
    }
    with pytest.raises(InputError, match="'a b' in the column 'part' cannot be the name of a split"):
        push(rows_file(tmp_path, "s.jsonl", {"id": "a", "part": "a b"}), "x", split="part")
    with pytest.raises(InputError, match="no column 'kind'"):
        push(rows_file(tmp_path, "t.jsonl", {"id": "a"}), "x", split="kind")


def test_no_row_is_no_push(server: HubServer, tmp_path: Path) -> None:
    empty = tmp_path / "empty.parquet"
    pl.DataFrame({"id": []}, schema={"id": pl.String}).write_parquet(empty)
    with pytest.raises(InputError, match="no row to push"):
        push(empty, "sums")


KEY = "sk-" + "a1B2c3D4" * 4


def test_no_key_goes_up(server: HubServer, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(InputError, match=r"row 2: it holds what is written like a key") as found:
        push(rows_file(tmp_path, "rows.jsonl", {"t": "plain"}, {"t": f"use {KEY} here"}), "sums")
    assert KEY not in str(found.value)
    assert not server.main(REPO)
    push(rows_file(tmp_path, "rows.jsonl", {"t": f"use {KEY} here"}), "sums", allow_keys=True)
    monkeypatch.setenv("SOME_API_KEY", KEY)
    for secret in (KEY, TOKEN):
        with pytest.raises(InputError, match="a key of this machine") as found:
            push(rows_file(tmp_path, "more.jsonl", {"t": [{"u": secret}]}), "other", allow_keys=True)
        assert secret not in str(found.value)
    with pytest.raises(InputError, match="a key of this machine"):
        push(rows_file(tmp_path, "rows.jsonl", {"t": "x"}), "other", card_keys={"uses": f"with {KEY}"})


def test_it_loads_as_datasets_does(server: HubServer, sums: Run, tmp_path: Path) -> None:
    """From a copy of the repository, by the configurations in the card's head."""
    import datasets

    push(sums, "sums")
    for path, data in server.main(REPO).items():
        place = tmp_path / "copy" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    found = datasets.load_dataset(str(tmp_path / "copy"), "axolotl-chat", cache_dir=str(tmp_path / "cache"))
    assert set(found) == {"train", "test"}
    assert sum(len(rows) for rows in found.values()) == 7
