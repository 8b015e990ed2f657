"""What ``gristmill show`` picks out of a stage's rows."""

import polars as pl

from gristmill.pipelines.show.terminal import _one_of_each


def test_some_of_each_kind_is_shown_and_all_are_counted() -> None:
    rows = pl.LazyFrame({"id": list("abcdef"), "subset": ["D2", "D2", "D3", "D2", "D1", "D3"]})
    picked, counts = _one_of_each(rows, "subset", 4)
    assert picked["id"].to_list() == ["e", "a", "c", "b"]
    assert counts == "D1 1, D2 3, D3 2"
    assert picked.columns == ["id", "subset"]
