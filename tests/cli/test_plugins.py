"""``gristmill new plugin``, ``gristmill list`` and docs/plugins.md: what they show is there, and runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from paths import ROOT
from typer.testing import CliRunner

from gristmill.cli.catalogue import catalogue
from gristmill.cli.main import app
from gristmill.cli.skeleton import SKELETONS, plugin_files
from gristmill.core.errors import RecipeError
from gristmill.core.registry import GROUPS, names

PAGE = (ROOT / "docs/plugins.md").read_text()
TUTORIALS = {
    "rephrase": "stage",
    "brief": "filter",
    "near": "verifier",
    "hedges": "scorer",
    "echo": "engine",
    "instructions": "export",
}
RECIPE = """
name: mine
engine: {kind: echo}
source: {path: problems.jsonl}
verifier: {kind: near}
stages:
  - {stage: rephrase, prompt: "Please: "}
  - stage: sample
  - stage: brief
  - stage: demonstrations
exports:
  - format: instructions
"""


def test_the_page_shows_the_code_that_the_command_writes() -> None:
    """Where this fails, put the files that ``gristmill new plugin`` writes into the page again."""
    assert {*TUTORIALS.values()} == {*SKELETONS}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    for name, kind in TUTORIALS.items():
        assert f"gristmill new plugin {name} --kind {kind}\n" in PAGE
        for path, text in plugin_files(name, kind).items():
            assert text in blocks if path.endswith(".py") else "[project.entry-points" in text


def test_the_skeletons_pass_their_own_tests(tmp_path: Path) -> None:
    folders = _written(tmp_path)
    _pytest(sys.executable, *folders, PYTHONPATH=os.pathsep.join(map(str, folders)))


def _written(folder: Path) -> list[Path]:
    """The packages of all tutorials, as the command writes them."""
    for name, kind in TUTORIALS.items():
        ran = CliRunner().invoke(app, ["new", "plugin", name, "--kind", kind, "--out", str(folder)])
        assert ran.exit_code == 0, ran.output
        assert f"pip install -e {folder / name}" in ran.output
        assert f"gristmill list {SKELETONS[kind].group} {name}" in ran.output
    return [folder / name for name in TUTORIALS]


def _pytest(python: str | Path, *folders: Path, **environment: str) -> None:
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *folders]
    environment = {**os.environ, **environment}
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=100, cwd=folders[0], env=environment
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.slow  # a virtual environment, five packages and a run
def test_a_stranger_installs_the_tutorials_and_runs_a_recipe_with_them(tmp_path: Path) -> None:
    packages = _written(tmp_path)
    python = _clean_environment(tmp_path / "clean")
    install = ["-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-build-isolation"]
    _run([sys.executable, *install, "--no-index", *packages], tmp_path)
    _pytest(python, *packages)
    listed = _run([python, "-m", "gristmill.cli.main", "list", "brief"], tmp_path)
    assert "most: whole number, at least 1 = 1000" in listed
    assert "The most characters of a completion." in listed
    (tmp_path / "problems.jsonl").write_text(
        json.dumps({"problem": "What is 2 + 2? Not 5, 4", "answer": "4"})
    )
    (tmp_path / "mine.yaml").write_text(RECIPE)
    _run([python, "-m", "gristmill.cli.main", "run", "mine.yaml", "--quiet"], tmp_path)
    [row] = (tmp_path / "runs/mine/exports/instructions.jsonl").read_text().splitlines()
    assert json.loads(row)["output"] == "Please: What is 2 + 2? Not 5, 4"


def _clean_environment(folder: Path) -> Path:
    """A virtual environment of its own that finds the packages of this one, and Gristmill in this tree."""
    venv.create(folder, with_pip=False)
    [site] = folder.glob("lib/python*/site-packages")
    found = [path for path in sys.path if path.endswith("site-packages")]
    (site / "borrowed.pth").write_text("\n".join([*found, str(ROOT)]))
    return folder / "bin/python"


def _run(command: list[str | Path], folder: Path) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=folder)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.parametrize("name", ["Shout", "my stage", "../x", "a--b", "1st", ""])
def test_a_name_that_cannot_be_a_package_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=r"cannot be the name of a plug-in.*small letters"):
        plugin_files(name, "stage")


def test_a_name_that_the_example_uses_is_refused() -> None:
    with pytest.raises(RecipeError, match="uses the name Problem already"):
        plugin_files("problem", "stage")


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    ran = CliRunner().invoke(app, ["new", "plugin", "mine", "--out", str(tmp_path)])
    assert isinstance(ran.exception, RecipeError)
    assert "is there already" in str(ran.exception)
    ran = CliRunner().invoke(app, ["new", "plugin", "other", "--kind", "verifer", "--out", str(tmp_path)])
    assert "Did you mean 'verifier'?" in str(ran.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_every_part_is_listed_with_a_line_that_says_what_it_is() -> None:
    listed = catalogue()
    assert "[arXiv 2502.19613]" in listed
    silent = []
    for group in GROUPS:
        section = listed.partition(f"{group}:\n")[2].partition("\n\n")[0].splitlines()
        for name in names(group):
            [line] = [x for x in section if re.match(rf"  {re.escape(name)}(\s|$)", x)]
            silent += [f"{group} {name}"] if line.strip() == name else []
    assert silent == []


def test_one_part_is_shown_with_its_options() -> None:
    shown = catalogue("balance")
    assert "balance (stages), gristmill.filters.balance:Balance, from gristmill" in shown
    assert "Reads Trajectory, writes Trajectory." in shown
    assert "Source: arXiv 2502.19613." in shown
    assert "mix: balanced | more_correct | more_incorrect or null = null" in shown
    engine = catalogue("engines", "openai")
    assert "concurrency: whole number, at least 1 = 64" in engine
    assert "requests in flight at one time" in engine
    assert "base_url: text" in engine


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["stagse"], "Did you mean 'stages'"),
        (["stages", "sampel"], "Did you mean 'sample'"),
        (["x", "y"], "Known:"),
    ],
)
def test_what_is_not_there_is_an_error_that_names_the_nearest(words: list[str], remedy: str) -> None:
    with pytest.raises(RecipeError, match=remedy):
        catalogue(*words)
