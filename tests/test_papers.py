"""The index of papers: every entry exists in the code, and every paper in the code has an entry."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from gristmill.core.registry import Group, names

ROOT = Path(__file__).parent.parent
ID = re.compile(r"\b\d{4}\.\d{5}\b")


def rows() -> list[list[str]]:
    lines = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8").splitlines()
    table = [line for line in lines if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_each_entry_exists_in_the_code() -> None:
    registered = {name for group in get_args(Group) for name in names(group)}
    wrong = []
    for _, paper, where, module, recipe, test in rows():
        # Names with a space or a dot are commands and options, a single word after "option" is an option.
        named = re.findall(r"(?<!option )`([\w-]+)`", where)
        wrong += [f"{paper}: {name} is not registered" for name in named if name not in registered]
        if paper not in (ROOT / module.strip("`")).read_text(encoding="utf-8"):
            wrong.append(f"{paper}: {module} does not name it")
        files = [file.strip("`") for file in (recipe, test) if file]
        wrong += [f"{paper}: {file} does not exist" for file in files if not (ROOT / file).is_file()]
    assert not wrong, "\n".join(wrong)


def test_no_paper_in_the_code_is_missing() -> None:
    indexed = {row[1] for row in rows()}
    missing = {
        f"{path.relative_to(ROOT)}: {paper}"
        for path in (ROOT / "gristmill").rglob("*.py")
        for paper in ID.findall(path.read_text(encoding="utf-8"))
        if paper not in indexed
    }
    assert not missing, "\n".join(sorted(missing))
