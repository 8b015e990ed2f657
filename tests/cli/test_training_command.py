"""The configuration of ``gristmill train sft``, and what it says without the extra."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from paths import ROOT
from typer.testing import CliRunner

from gristmill.cli.models.train import app, read, table
from gristmill.core.errors import InputError, MissingExtraError, RecipeError
from gristmill.train.base.options import Lora, TrainingMetrics
from gristmill.train.base.rows import read_rows
from gristmill.train.sft import Sft

SHIPPED = ROOT / "data" / "training" / "refusal.yaml"


def test_the_shipped_configuration_is_read_with_overrides() -> None:
    options = read(SHIPPED, Sft, ["seed=7", "lora.r=4", "learning_rate=1e-3"])
    assert (options.seed, options.learning_rate, options.gpu) == (7, 1e-3, False)
    assert options.lora == Lora(r=4, alpha=32)
    assert read(SHIPPED, Sft, ["lora=null"]).lora is None


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        ("learning_rat=1", "learning_rat: unknown key.*learning_rate"),
        ("learning_rate=0", "learning_rate: 0 is refused"),
        ("lora.targets=[]", r"lora\.targets"),
        ("accumulate=3", "3 does not divide the batch of 8"),
        ("dtype=float16", "dtype: 'float16' is refused"),
    ],
)
def test_a_bad_option_is_refused_with_its_place(override: str, rule: str) -> None:
    with pytest.raises(RecipeError, match=rule):
        read(SHIPPED, Sft, [override])


def test_a_folder_without_weights_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"text": "a"}\n')
    config = tmp_path / "c.yaml"
    config.write_text(f"model: {tmp_path}\ndata: {tmp_path / 'data.jsonl'}\noutput: {tmp_path / 'out'}\n")
    result = CliRunner().invoke(app, ["sft", str(config)])
    assert isinstance(result.exception, RecipeError) and "gristmill train weights" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    if importlib.util.find_spec("torch"):
        pytest.skip("torch is installed here")
    for name in ("config.json", "model.safetensors", "data.jsonl"):
        (tmp_path / name).write_text("{}")
    config = tmp_path / "c.yaml"
    config.write_text(f"model: {tmp_path}\ndata: {tmp_path / 'data.jsonl'}\noutput: {tmp_path / 'out'}\n")
    result = CliRunner().invoke(app, ["sft", str(config)])
    assert isinstance(result.exception, MissingExtraError)
    assert "pip install 'gristmill[train]'" in str(result.exception)


def test_the_table_holds_every_number() -> None:
    shown = table(TrainingMetrics(1500, 2, 120_000, 30_000, 10**8, 10**6, 376, 2.5, 0.25, 61.5, "abc"))
    assert "120,000" in shown and "2.5" in shown and "0.25" in shown and "abc" not in shown


def test_what_is_missing_is_said() -> None:
    with pytest.raises(RecipeError, match="--model and --out"):
        read(None, Sft, [], {"data": "rows.jsonl"})


def test_rows_for_another_kind_of_training_are_refused_with_the_kind_that_takes_them(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"prompt": [], "chosen": [], "rejected": []}\n')
    with pytest.raises(InputError, match=r"which sft does not take.*'gristmill train preference'"):
        list(read_rows(file))


def test_of_several_processes_the_first_alone_says_what_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = TrainingMetrics(2, 0, 9, 5, 10, 10, 1, 2.5, 0.25, 1.5, "abc", processes=2)
    monkeypatch.setattr("gristmill.train.sft.train", lambda options: metrics)
    monkeypatch.setenv("WORLD_SIZE", "2")
    said = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        words = ["sft", "--data", "rows.jsonl", "--model", "m", "--out", str(tmp_path / "out")]
        said.append(CliRunner().invoke(app, words).output)
    assert "processes" in said[0] and said[1] == ""
