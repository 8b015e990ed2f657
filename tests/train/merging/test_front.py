"""The front of reward against ability, as numbers, text, file and picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from gristmill.core.errors import InputError
from gristmill.train.merging import Measured, plot_front, read_measured, reward_tax_front

POINTS = [
    Measured("base", 0.1, 0.9),
    Measured("half", 0.5, 0.7),
    Measured("bad", 0.4, 0.6),
    Measured("all", 0.8, 0.2),
]


def test_the_front_has_what_no_other_model_beats_and_says_the_tax() -> None:
    found = reward_tax_front(POINTS)
    assert [(p.name, p.on_front) for p in found.points] == [
        ("all", True), ("half", True), ("bad", False), ("base", True),
    ]  # fmt: skip
    assert [round(p.tax, 6) for p in found.points] == [0.7, 0.2, 0.3, 0.0]
    assert found.volume == pytest.approx(0.4 * 0.5)  # above the worst of either: 0.1 and 0.2
    assert found.table().splitlines()[2].split() == ["*", "half", "0.5000", "0.7000", "0.2000"]


def test_equal_models_are_on_the_front_together() -> None:
    found = reward_tax_front([Measured("a", 1, 1), Measured("b", 1, 1)])
    assert [p.on_front for p in found.points] == [True, True]


def test_measures_are_read_with_their_rows(tmp_path: Path) -> None:
    file = tmp_path / "m.jsonl"
    file.write_text(
        '{"name": "a", "reward": 1, "ability": 2}\n\n{"name": "b", "reward": "x", "ability": 2}\n'
    )
    with pytest.raises(InputError, match=r"row 3.*Write a line"):
        read_measured(file)
    file.write_text("\n")
    with pytest.raises(InputError, match="no rows"):
        read_measured(file)


def test_the_front_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot_front(reward_tax_front([*POINTS, Measured("$odd_{name", 0.2, 0.3)]), tmp_path / "front.svg")
    assert b"<svg" in (tmp_path / "front.svg").read_bytes()
