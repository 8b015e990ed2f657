"""Methods that merge: on models of the user's own, on tiny ones, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from gristmill.cli.methods import merged
from gristmill.core.errors import RecipeError
from gristmill.pipelines.methods import METHODS, entry
from gristmill.pipelines.methods.merging import Merge, merge_of, merge_tiny
from gristmill.train.merging.checkpoints import read
from gristmill.train.merging.tensors import numbers


def tiny(folder: Path) -> list[str]:
    found = entry(METHODS / "mwa.yaml")
    assert found is not None
    merge_tiny(Merge(command="average", models=("a", "b")), found.method, folder)
    return [str(folder / "a"), str(folder / "b")]


def test_a_method_merges_the_models_that_are_named(tmp_path: Path) -> None:
    models = tiny(tmp_path / "tiny")
    given = [
        f"merge.models=[{models[0]}, {models[1]}]",
        "merge.set.value=[1.0, 2.0]",
        "merge.set.penalty=1.0",
    ]
    assert merged(METHODS / "mwa.yaml", given, None, tmp_path / "runs")
    one, other, made = (
        numbers(read(Path(folder)).tensors["model.norm.weight"])
        for folder in (*models, str(tmp_path / "runs" / "mwa"))
    )
    assert made == pytest.approx((2 * one + other) / 3, abs=1e-6)


def test_tiny_models_are_the_same_every_time(tmp_path: Path) -> None:
    found, plan = entry(METHODS / "lcsc.yaml"), merge_of(METHODS / "lcsc.yaml")
    assert found is not None and plan is not None
    for name in ("one", "two"):
        merge_tiny(plan, found.method, tmp_path / name)
    for file in ("shares.jsonl", "tried.jsonl", "merged/model.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_recipe_with_stages_is_not_merged(tmp_path: Path) -> None:
    assert not merged(METHODS / "raft.yaml", [], None, tmp_path)


@pytest.mark.parametrize(
    ("given", "engine", "said"),
    [
        ([], None, "checkpoint-100 is not a folder with a model"),
        (["merge.set.penalti=1.0"], None, "has no option 'penalti'.*Did you mean 'penalty'"),
        ([], "embedded", "merges models and asks none"),
        (["merge.command=add"], None, "merge.command"),
    ],
)
def test_what_is_refused(given: list[str], engine: str | None, said: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=said):
        merged(METHODS / "mwa.yaml", given, engine, tmp_path)


def test_an_option_that_the_command_needs_is_named(tmp_path: Path) -> None:
    models = tiny(tmp_path / "tiny")
    with pytest.raises(RecipeError, match="needs 'rows'"):
        merged(METHODS / "lcsc.yaml", [f"merge.models=[{models[0]}, {models[1]}]"], None, tmp_path / "runs")
