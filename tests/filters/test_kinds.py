"""Balance between the kinds of demonstrations."""

from __future__ import annotations

from collections import Counter

import polars as pl
import pytest

from gristmill.core.records import Demonstration
from gristmill.core.schema import to_frame
from gristmill.core.stages import REJECTED_REASON
from gristmill.filters.kinds import BalanceKinds

KINDS = ["sure"] * 3 + ["unsure"] * 10


def frame(kinds: list[str]) -> pl.LazyFrame:
    made = [Demonstration(f"q{i}", f"q{i}", "?", "!", kind, ()) for i, kind in enumerate(kinds)]
    return to_frame(made, Demonstration).lazy()


def kept(stage: BalanceKinds, rows: pl.LazyFrame, seed: int = 0) -> list[tuple[str, str]]:
    out = stage(rows, seed).collect()
    return list(out.filter(pl.col(REJECTED_REASON).is_null()).select("id", "kind").iter_rows())


@pytest.mark.parametrize(("ratio", "unsure"), [(1.0, 3), (1.5, 4), (2.0, 6), (9.0, 10)])
def test_no_kind_has_more_than_its_ratio_to_the_rarest(ratio: float, unsure: int) -> None:
    counts = Counter(kind for _, kind in kept(BalanceKinds(ratio=ratio), frame(KINDS)))
    assert counts == {"sure": 3, "unsure": unsure}


def test_the_choice_depends_on_the_seed_and_not_on_the_order() -> None:
    rows = frame(KINDS)
    turned = rows.reverse()
    assert sorted(kept(BalanceKinds(), rows)) == sorted(kept(BalanceKinds(), turned))
    assert any(kept(BalanceKinds(), rows, seed) != kept(BalanceKinds(), rows) for seed in range(1, 9))


def test_every_dropped_row_has_its_reason_and_an_empty_table_is_balanced() -> None:
    out = BalanceKinds()(frame(KINDS), 0).collect()
    assert set(out[REJECTED_REASON].drop_nulls()) == {"balance: unsure above its share"}
    assert kept(BalanceKinds(), frame([])) == []
