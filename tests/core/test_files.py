from __future__ import annotations

from pathlib import Path

import pytest

from gristmill.core.files import atomic


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_file_is_there_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    out.write_text("former")
    with atomic(out) as unfinished:
        unfinished.write_text("whole")
        assert out.read_text() == "former"
    assert out.read_text() == "whole"
    assert names(tmp_path) == ["out.txt"]


def test_what_fails_leaves_the_former_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    out.write_text("former")
    with pytest.raises(ZeroDivisionError), atomic(out) as unfinished:
        unfinished.write_text("half")
        raise ZeroDivisionError
    assert out.read_text() == "former"
    assert names(tmp_path) == ["out.txt"]


@pytest.mark.parametrize("left", ["file", "folder"])
def test_a_folder_is_made_over_what_a_killed_process_left(left: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    if left == "file":
        (tmp_path / ".out.new").write_text("half")
    else:
        (tmp_path / ".out.new").mkdir()
        (tmp_path / ".out.new" / "old").write_text("half")
    with atomic(out) as unfinished:
        unfinished.mkdir()
        (unfinished / "new").write_text("whole")
    assert names(out) == ["new"]
    assert names(tmp_path) == ["out"]


def test_a_folder_that_holds_something_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(OSError, match="not empty"), atomic(tmp_path / "out") as unfinished:
        unfinished.mkdir()
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["mine"]


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "none" / "out") as unfinished:
        unfinished.write_text("x")
