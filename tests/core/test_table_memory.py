"""How much memory tables may take."""

from __future__ import annotations

from pathlib import Path

import pytest

from gristmill.core import machine
from gristmill.core.errors import GristmillError
from gristmill.core.machine import VARIABLE, shown_bytes, table_memory


@pytest.mark.parametrize(
    ("said", "size"),
    [
        ("2GB", 2 * 10**9),
        ("500 mb", 5 * 10**8),
        ("1.5g", 1_500_000_000),
        ("4096", 4096),
        ("7B", 7),
        ("3K", 3000),
    ],
)
def test_the_environment_says_how_much_memory_tables_may_take(
    monkeypatch: pytest.MonkeyPatch, said: str, size: int
) -> None:
    monkeypatch.setenv(VARIABLE, said)
    assert table_memory() == size


@pytest.mark.parametrize("said", ["much", "0", "-1GB", "1GiB", "2 GB 3"])
def test_what_is_not_a_size_is_refused_with_the_value(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv(VARIABLE, said)
    with pytest.raises(GristmillError, match=f"{VARIABLE}: '{said}' is not a size") as caught:
        table_memory()
    assert "2GB" in str(caught.value.remedy)


def test_a_quarter_of_what_the_container_allows_is_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(machine, "_MOST_MEMORY", tmp_path / "memory.max")
    whole = machine.memory()
    assert table_memory() == whole // 4
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.memory() == whole
    (tmp_path / "memory.max").write_text("1000000\n")
    assert table_memory() == 250_000


def test_sizes_are_shown_in_the_unit_that_fits() -> None:
    assert [shown_bytes(n) for n in (12, 2_200_000_000, 1_500)] == ["12 bytes", "2.2 GB", "1.5 KB"]
