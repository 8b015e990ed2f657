"""``shape_steps``: Clip, Delta and PPR's normalisation as columns of process rows."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from table_rows import out

from gristmill.core.errors import RecipeError
from gristmill.core.schema import to_frame
from gristmill.core.steps import ProcessRow
from gristmill.filters.rewards import ClipSteps, DeltaSteps, GatedSteps, ShapeSteps


def rows(*values: tuple[float, ...], solved: tuple[bool | None, ...] = ()) -> pl.LazyFrame:
    made = [
        ProcessRow(
            f"r{i}", f"p{i}", "?", (), tuple("s" for _ in v), v, (0,) * len(v), (0,) * len(v),
            (0.0,) * len(v), (1.0,) * len(v), "soft", solved[i] if solved else None,
        )
        for i, v in enumerate(values)
    ]  # fmt: skip
    return to_frame(made, ProcessRow).lazy()


def column(shape: Any, frame: pl.LazyFrame) -> list[Any]:
    made = out(ShapeSteps(rewards={"reward": shape}), frame)
    assert made.drop("reward").equals(frame.collect())
    return made["reward"].to_list()


def test_the_vectors_of_clip_and_delta() -> None:
    frame = rows((0.9, 0.8, 0.95, 0.6))
    assert column(ClipSteps(level=0.8), frame) == [pytest.approx([0, 0, 0, -0.2])]
    assert column(DeltaSteps(), frame) == [pytest.approx([0.1, -0.15, 0.35, 0.6])]
    assert column(DeltaSteps(last=False), frame) == [pytest.approx([0.1, -0.15, 0.95, 0])]


def test_a_level_of_clip_is_a_quantile_of_the_steps_of_all_rows() -> None:
    frame = rows((0.0, 0.25), (0.5, 0.75, 1.0))
    assert column(ClipSteps(), frame) == [[-0.5, -0.25], [0, 0, 0]]
    assert column(ClipSteps(quantile=1.0), frame) == [[-1.0, -0.75], [-0.5, -0.25, 0]]


def test_a_repeated_right_step_raises_no_sum() -> None:
    once, twice = (0.9, 0.8, 0.6), (0.9, 0.8, 0.8, 0.8, 0.6)
    for shape in (ClipSteps(level=0.7), DeltaSteps(), DeltaSteps(last=False)):
        short, long = (sum(reward) for reward in column(shape, rows(once, twice)))
        assert long <= short + 1e-9


def test_the_outcome_gates_steps_and_an_undecided_row_has_no_rewards() -> None:
    frame = rows((0.25, 1.0), (0.25, 1.0), (0.5,), solved=(True, False, None))
    assert column(GatedSteps(), frame) == [[0.25, 1.0], [-0.75, 0.0], None]
    with pytest.raises(RecipeError, match=r"reward: step rewards \[1.5\]"):
        column(GatedSteps(), rows((1.5,), solved=(True,)))


def test_rows_without_steps_and_tables_without_rows_pass() -> None:
    for shape in (ClipSteps(), DeltaSteps(), GatedSteps()):
        assert column(shape, rows((), solved=(True,))) == [[]]
        assert column(shape, rows()) == []


@pytest.mark.parametrize("name", ["values", "id", "a b", "class"])
def test_names_that_cannot_be_new_columns_are_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="cannot be the name of a reward's column"):
        ShapeSteps(rewards={name: DeltaSteps()})
