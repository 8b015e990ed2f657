"""What the README shows is what there is: its blocks of code run, its links and names lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from paths import ROOT

from gristmill.cli.main import app
from gristmill.core.engine import Request
from gristmill.core.registry import names
from gristmill.engines.llamacpp.engine import LlamaCpp
from gristmill.engines.openai import OpenAI
from gristmill.engines.scripted import ScriptedEngine
from gristmill.pipelines.recipe.recipe import from_dict

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def answer(request: Request, index: int) -> str:
    """What the engine says in the README's stead: right or wrong attempts, and verdicts on them."""
    said = request.messages[-1].content
    if "[VERIFY]" in said:
        return f"Checked. [VERIFY] {('correct', 'wrong')[index % 2]}."
    return f"It is \\boxed{{{(4, 5)[index % 2]}}}."


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the files of which the README speaks, in which engines answer without a model."""
    for options in (OpenAI, LlamaCpp):
        monkeypatch.setattr(options, "open", lambda self: ScriptedEngine(answer))
    monkeypatch.delenv("GRISTMILL_LOG", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(blocks("yaml")[0])
    rows = [{"question": f"What is 2 + 2, the {i}th time?", "answer": "2 + 2 = 4 #### 4"} for i in range(3)]
    (tmp_path / "gsm8k.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "data").symlink_to(ROOT / "data")
    return tmp_path


def test_its_recipes_are_recipes() -> None:
    recipes = [from_dict(yaml.safe_load(text)) for text in blocks("yaml")]
    assert [s.name for s in recipes[0].stages][-2:] == ["curated", "pairs"]


def test_its_python_runs(reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = blocks("python")
    assert len(texts) >= 2
    for text in texts:
        scope: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(text, "README.md", "exec"), scope)
        assert capsys.readouterr().out.strip(), f"this prints nothing:\n{text}"
    [*_, summary] = sorted((reader / "runs").glob("*/summary.json"))
    assert json.loads(summary.read_bytes())["stages"]


def test_its_recipe_gives_what_it_says(reader: Path) -> None:
    from gristmill.pipelines import run

    found = run("recipe.yaml", quiet=True)
    subsets = found.rows("curated").collect()["subset"].to_list()
    assert {"D1", "D3"} <= set(subsets)
    assert found.rows("pairs").collect().height > 0


def test_every_command_it_shows_is_one() -> None:
    import typer

    group = typer.main.get_group(app)
    shown = re.findall(r"^gristmill ([a-z-]+)(?: ([a-z-]+))?", "\n".join(blocks("bash")), re.MULTILINE)
    assert len(shown) > 5
    for first, second in shown:
        command = group.commands[first]
        if hasattr(command, "commands"):
            assert command.get_command(None, second) is not None, f"gristmill {first} {second}"


def test_it_names_every_export_and_the_two_commands() -> None:
    assert all(f"`{name}`" in README for name in names("exports"))
    assert README.index("make run") < README.index("make test") < README.index("## What it makes")


def test_its_links_lead_somewhere() -> None:
    links = [t.partition("#")[0] for t in re.findall(r"\]\(([^)]+)\)", README) if "://" not in t]
    assert links
    assert [link for link in links if link and not (ROOT / link).exists()] == []
