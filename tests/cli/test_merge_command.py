"""``gristmill merge``: shares from options, the report, and what is refused."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from gristmill.cli.models.merge import app
from gristmill.core.errors import GristmillError, MissingExtraError, RunError

LAYERS = [f"model.layers.{n}.mlp.up_proj.weight" for n in range(3)]
NORM = "model.norm.weight"


@pytest.fixture
def models(tmp_path: Path) -> list[str]:
    """Three models of three layers, all of whose numbers are 0, 1 and 4."""
    folders = []
    for value in (0, 1, 4):
        folder = tmp_path / f"m{value}"
        folder.mkdir()
        arrays = {name: np.full((2, 2), value, np.float32) for name in (*LAYERS, NORM)}
        save_file(arrays, folder / "model.safetensors")
        (folder / "config.json").write_text('{"model_type": "llama"}')
        folders.append(str(folder))
    return folders


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def value(folder: Path, name: str = NORM) -> float:
    return float(load_file(folder / "model.safetensors")[name][0, 0])


def test_each_way_of_sharing(models: list[str], tmp_path: Path) -> None:
    run("average", *models, "--out", str(tmp_path / "a"))
    run("average", *models, "--weight", "1", "--weight", "2", "--weight", "1", "--out", str(tmp_path / "b"))
    loss = ["--value", "1", "--value", "2", "--better", "lower"]
    run("metric", *models[1:], *loss, "--out", str(tmp_path / "c"))
    run("moving", *models, "--keep", "0.5", "--out", str(tmp_path / "d"))
    found = [value(tmp_path / name) for name in "abcd"]
    assert found == pytest.approx([5 / 3, 1.5, 2.0, 0.25 * 1 + 0.5 * 4], rel=1e-6)


def test_ratios_are_the_aligned_models_by_group_and_the_rest_has_their_mean(
    models: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ratios = [part for ratio in ("0.1", "0.6", "0.2") for part in ("--ratio", ratio)]
    said = run("adaptive", "--aligned", models[2], "--base", models[0], *ratios, "--out", str(out))
    assert [value(out, name) for name in (*LAYERS, NORM)] == pytest.approx([0.4, 2.4, 0.8, 1.2], rel=1e-6)
    report = json.loads((out / "merge.json").read_text())
    assert report["shares"]["group 2"] == [0.6, 0.4] and report["models"] == [models[2], models[0]]
    assert "others: 0.3, 0.7" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["average", "--weight", "1"], "--weight was given 1 times for 3 models"),
        (["average", "--missing", "keep"], "--missing 'keep' is not refuse or first"),
        (["moving"], "One of --keep and --rows"),
        (["moving", "--rows", "x.jsonl"], "takes two models, and 3"),
        (["metric", "--value", "1", "--better", "more"], "--better 'more'"),
    ],
)
def test_what_does_not_fit_is_refused(
    models: list[str], tmp_path: Path, options: list[str], said: str
) -> None:
    name, *rest = options
    with pytest.raises(GristmillError, match=said):
        run(name, *models, *rest, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_input_is_never_written_over(models: list[str]) -> None:
    with pytest.raises(RunError, match="already exists"):
        run("average", *models, "--out", models[0])
    assert value(Path(models[0])) == 0


def test_choosing_by_rows_says_what_to_install(models: list[str], tmp_path: Path) -> None:
    if importlib.util.find_spec("torch"):
        pytest.skip("torch is installed")
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(MissingExtraError, match=r"gristmill\[train\]"):
        run("search", *models, "--rows", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out"))


def test_the_front_of_a_file(tmp_path: Path) -> None:
    file, out = tmp_path / "m.jsonl", tmp_path / "front.json"
    points = [{"name": n, "reward": r, "ability": a} for n, r, a in (("x", 1, 2), ("y", 2, 1), ("z", 1, 1))]
    file.write_text("".join(json.dumps(point) + "\n" for point in points))
    table = run("front", str(file), "--out", str(out))
    assert [line[0] for line in table.splitlines()[1:]] == ["*", "*", " "]
    assert [p["on_front"] for p in json.loads(out.read_text())["points"]] == [True, True, False]
