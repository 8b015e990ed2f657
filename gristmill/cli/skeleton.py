"""Packages for plug-ins: the example of a kind under a name of one's own, with a test that passes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from gristmill.core.errors import RecipeError

_EXAMPLES = Path(__file__).parent / "examples"
_NAME = re.compile(r"[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*")

_PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["gristmill"]

[project.entry-points."gristmill.{group}"]
{name} = "{module}:{part}"

[tool.hatch.build.targets.wheel]
packages = ["{module}"]
"""


class Skeleton(NamedTuple):
    """An example: the group it registers in, the name of its class, and its test."""

    group: str
    part: str
    test: str


SKELETONS = {
    "stage": Skeleton(
        "stages",
        "Rephrase",
        """\
from gristmill.testing import check_row_stage, context, problem
from {module} import {part}


def test_it_keeps_its_contract():
    found = check_row_stage({part}(), [problem()], context(lambda request, index: "Add 2 and 2."))
    assert [(row.problem, row.answer) for row in found] == [("Add 2 and 2.", "4")]
""",
    ),
    "filter": Skeleton(
        "stages",
        "Brief",
        """\
from gristmill.testing import check_filter, sampled
from {module} import {part}


def test_it_keeps_its_contract():
    records = [sampled("p1/0", completion="4"), sampled("p1/1", completion="4" * 9)]
    assert check_filter({part}(most=5), records) == {{"p1/1": "too long"}}
""",
    ),
    "verifier": Skeleton(
        "verifiers",
        "Near",
        """\
from gristmill.testing import check_verifier
from {module} import {part}


def test_it_keeps_its_contract():
    check_verifier({part}(), right=[("It is 4.2.", "4")], wrong=[("It is 5.", "4")])
""",
    ),
    "scorer": Skeleton(
        "scorers",
        "Hedges",
        """\
from gristmill.testing import check_scorer, sampled
from {module} import {part}


def test_it_keeps_its_contract():
    [score] = check_scorer({part}(), [sampled(completion="Perhaps it is four.")])
    assert score.value == 0.25
""",
    ),
    "engine": Skeleton(
        "engines",
        "Echo",
        """\
from gristmill.testing import check_engine
from {module} import {part}


def test_it_keeps_its_contract():
    assert check_engine({part}(times=2))[0].text == "What is 2 + 2? What is 2 + 2?"
""",
    ),
    "export": Skeleton(
        "exports",
        "Instructions",
        """\
from gristmill.testing import check_export, conversation, trajectory
from {module} import {part}


def test_it_keeps_its_contract():
    rows = check_export({part}(), [conversation(), trajectory()])
    assert [(row.instruction, row.output) for row in rows] == [("What is 2 + 2?", "4")]
""",
    ),
}


def plugin_files(name: str, kind: str) -> dict[str, str]:
    """The files of a package with one part, by their paths inside it.

    ``name`` is what the package and the part are called; the class is the same name in capitals. Raises
    ``RecipeError`` for a name that is not made of small letters and digits, with '-' or '_' between them.
    """
    if not _NAME.fullmatch(name):
        raise RecipeError(
            f"{name!r} cannot be the name of a plug-in.",
            remedy="Use small letters and digits, with '-' or '_' between words, such as my-stage.",
        )
    skeleton = SKELETONS[kind]
    module = name.replace("-", "_")
    part = "".join(word.capitalize() for word in module.split("_"))
    code = (_EXAMPLES / f"{kind}.py").read_text(encoding="utf-8")
    if re.search(rf"\b{part}\b", code) and part != skeleton.part:
        raise RecipeError(f"the example of a {kind} uses the name {part} already.", remedy="Choose another.")
    code = re.sub(rf"\b{skeleton.part}", part, code)
    words = {"name": name, "module": module, "part": part, "group": skeleton.group}
    return {
        "pyproject.toml": _PYPROJECT.format(**words),
        f"{module}/__init__.py": code,
        f"tests/test_{module}.py": skeleton.test.format(**words),
    }


def write_plugin(name: str, kind: str, folder: Path) -> list[Path]:
    """Write ``plugin_files`` to a new directory ``folder/name``; the files written.

    Raises ``RecipeError`` where there is something of that name already.
    """
    files = plugin_files(name, kind)
    root = folder / name
    if root.exists():
        raise RecipeError(f"{root} is there already.", remedy="Choose another name or --out.")
    written = []
    for path, text in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        written.append(target)
    return written
