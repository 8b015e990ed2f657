from __future__ import annotations

import os
from pathlib import Path

import pytest

from gristmill.core import machine


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 1),
        ("50000 100000", 1),
        ("1600000 100000", 8),
    ],
)
def test_a_containers_quota_limits_the_cores(
    quota: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(machine, "_QUOTA", tmp_path / "cpu.max")
    assert machine.cores() == 8
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert machine.cores() == expected
