"""What the README shows is what there is."""

import re

import yaml
from paths import ROOT

from gristmill.core.registry import names
from gristmill.pipelines.recipe.recipe import from_dict

README = (ROOT / "README.md").read_text()


def test_its_recipe_is_a_recipe() -> None:
    [text] = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    recipe = from_dict(yaml.safe_load(text))
    assert [s.name for s in recipe.stages][-2:] == ["curated", "pairs"]


def test_its_python_compiles_and_its_recipe_in_python_is_one_too() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        compile(block, "README.md", "exec")
    described = re.search(r"from_dict\(\s*(\{.*?\})\s*\)\n", blocks[1], re.DOTALL)
    assert described is not None
    assert from_dict(yaml.safe_load(described[1].replace("False", "false"))).limit == 10


def test_it_names_every_export_and_the_two_commands() -> None:
    assert all(f"`{name}`" in README for name in names("exports"))
    assert README.index("make run") < README.index("make test") < README.index("## What it makes")


def test_its_links_lead_somewhere() -> None:
    links = [t.partition("#")[0] for t in re.findall(r"\]\(([^)]+)\)", README) if "://" not in t]
    assert links
    assert [link for link in links if link and not (ROOT / link).exists()] == []
