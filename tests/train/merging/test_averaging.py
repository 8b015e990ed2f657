"""Merging real safetensors files: numbers, types, layout, what is refused, what is never written over."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from safetensors.numpy import save_file

from gristmill.core.errors import GristmillError, InputError, RecipeError, RunError
from gristmill.train.merging import equal_shares, merge, tensors
from gristmill.train.merging.averaging import Missing

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4,
    "num_hidden_layers": 2,
    "tie_word_embeddings": True,
}
EMBEDDING, HEAD, UP = "model.embed_tokens.weight", "lm_head.weight", "model.layers.0.mlp.up_proj.weight"
VOCABULARY = {"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": []}


def model(
    folder: Path,
    arrays: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Path:
    """A folder with one weight file, a configuration and a tokenizer."""
    rng = np.random.default_rng(seed)
    if arrays is None:
        arrays = {n: rng.normal(size=(3, 4)).astype(np.float32) for n in (EMBEDDING, UP)}
    folder.mkdir()
    save_file(dict(arrays), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG | dict(config or {})))
    (folder / "tokenizer.json").write_text(json.dumps(VOCABULARY))
    return folder


def sharded(folder: Path, seed: int) -> Path:
    """The same tensors in two files with an index, the later names in the first."""
    model(folder, seed=seed)
    arrays = loaded(folder)
    (folder / "model.safetensors").unlink()
    names = {UP: "model-00001-of-00002.safetensors", EMBEDDING: "model-00002-of-00002.safetensors"}
    for tensor, name in names.items():
        save_file({tensor: arrays[tensor]}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return folder


def loaded(folder: Path) -> dict[str, Any]:
    """All tensors of a folder by the library's own reader."""
    found = {}
    for file in folder.glob("*.safetensors"):
        with safetensors.safe_open(file, framework="numpy") as opened:
            found |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    return found


def average(folders: list[Path], out: Path, shares: list[float], missing: Missing = "refuse") -> Any:
    return merge(folders, out, equal_shares(shares), method="average", shown={"all": shares}, missing=missing)


def test_tensors_are_summed_by_their_shares_and_files_come_along(tmp_path: Path) -> None:
    a, b = model(tmp_path / "a", seed=1), model(tmp_path / "b", seed=2)
    (a / "optimizer.pt").write_bytes(b"state")
    report = average([a, b], tmp_path / "out", [0.25, 0.75])
    ours, theirs, merged = loaded(a), loaded(b), loaded(tmp_path / "out")
    for name, array in merged.items():
        np.testing.assert_allclose(array, 0.25 * ours[name] + 0.75 * theirs[name], rtol=1e-6)
        assert array.dtype == np.float32
    assert report.averaged == 2 and not report.notes
    assert {f.name for f in (tmp_path / "out").iterdir()} == {
        "model.safetensors", "config.json", "tokenizer.json", "merge.json",
    }  # fmt: skip
    assert json.loads((tmp_path / "out" / "merge.json").read_text())["shares"] == {"all": [0.25, 0.75]}


def test_one_share_of_one_is_that_model_byte_for_byte_and_twice_the_same(tmp_path: Path) -> None:
    a, b = model(tmp_path / "a", seed=1), model(tmp_path / "b", seed=2)
    average([a, b], tmp_path / "one", [1.0, 0.0])
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == (a / "model.safetensors").read_bytes()
    average([a, b], tmp_path / "x", [0.3, 0.7])
    average([a, b], tmp_path / "y", [0.3, 0.7])
    assert (tmp_path / "x/model.safetensors").read_bytes() == (tmp_path / "y/model.safetensors").read_bytes()


def test_shards_and_index_are_those_of_the_first_model(tmp_path: Path) -> None:
    a, b = sharded(tmp_path / "a", 1), model(tmp_path / "b", seed=2)
    average([a, b], tmp_path / "out", [0.5, 0.5])
    names = {f.name for f in a.iterdir()}
    assert {f.name for f in (tmp_path / "out").iterdir()} == names | {"merge.json"}
    index = "model.safetensors.index.json"
    assert (tmp_path / "out" / index).read_bytes() == (a / index).read_bytes()
    ours, theirs, merged = loaded(a), loaded(b), loaded(tmp_path / "out")
    np.testing.assert_allclose(merged[UP], (ours[UP] + theirs[UP]) / 2, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["F16", "F64"])
def test_the_stored_type_is_kept_and_the_sum_is_rounded_once(tmp_path: Path, dtype: str) -> None:
    kind = {"F16": np.float16, "F64": np.float64}[dtype]
    rng = np.random.default_rng(3)
    arrays = [{UP: rng.normal(size=(5, 4)).astype(kind)} for _ in range(3)]
    folders = [model(tmp_path / str(i), a) for i, a in enumerate(arrays)]
    average(folders, tmp_path / "out", [1 / 3] * 3)
    wide = np.float64 if dtype == "F64" else np.float32
    total = np.zeros((5, 4), wide)
    for a in arrays:
        total += a[UP].astype(wide) * wide(1 / 3)
    np.testing.assert_array_equal(loaded(tmp_path / "out")[UP], total.astype(kind))


def test_bfloat16_is_rounded_to_the_nearest_even() -> None:
    bits = np.array(
        [0x3F808000, 0x3F818000, 0x3F808001, 0x7F800000, 0x7FC00000, 0x7F7FFFFF, 0x80000000], np.uint32
    )
    rounded = tensors.stored_as(bits.view(np.float32), "BF16")
    assert [hex(n) for n in rounded] == ["0x3f80", "0x3f82", "0x3f81", "0x7f80", "0x7fc0", "0x7f80", "0x8000"]
    every = np.arange(1 << 16, dtype=np.uint32)
    back = tensors.stored_as((every << 16).astype(np.uint32).view(np.float32), "BF16")
    real = ~np.isnan((every << 16).view(np.float32))
    assert (back[real] == every[real]).all()


def bfloat(folder: Path, values: Any) -> Path:
    """A model stored as bfloat16, which NumPy cannot hold: written byte by byte."""
    model(folder, {UP: np.zeros(1, np.float32)})
    data = tensors.stored_as(values.astype(np.float32), "BF16").tobytes()
    entry = {"dtype": "BF16", "shape": list(values.shape), "data_offsets": [0, len(data)]}
    head = json.dumps({UP: entry}).encode()
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + data)
    return folder


def test_bfloat16_models_are_summed_as_32_bit_numbers(tmp_path: Path) -> None:
    # In bfloat16, 256 + 1 is 256: a sum of halves formed there would lose both.
    a, b = bfloat(tmp_path / "a", np.array([257.0 - 1, 3.0])), bfloat(tmp_path / "b", np.array([260.0, 1.0]))
    average([a, b], tmp_path / "out", [0.5, 0.5])
    ((_, found),) = safetensors.deserialize((tmp_path / "out/model.safetensors").read_bytes())
    assert found["dtype"] == "BF16"
    wide = np.frombuffer(found["data"], np.uint16).astype(np.uint32) << 16
    assert wide.view(np.float32).tolist() == [258.0, 2.0]


def test_pieces_join_to_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = model(tmp_path / "a", seed=1), model(tmp_path / "b", seed=2)
    average([a, b], tmp_path / "whole", [0.5, 0.5])
    monkeypatch.setattr(tensors, "PIECE", 5)
    average([a, b], tmp_path / "pieces", [0.5, 0.5])
    whole, pieces = (tmp_path / n / "model.safetensors" for n in ("whole", "pieces"))
    assert whole.read_bytes() == pieces.read_bytes()


def test_memory_is_pieces_and_not_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "PIECE", 1 << 12)
    arrays = {f"model.layers.{i}.w": np.zeros(1 << 18, np.float32) for i in range(2)}
    folders = [model(tmp_path / name, arrays) for name in "abc"]
    average(folders, tmp_path / "warm", [0.2, 0.3, 0.5])
    tracemalloc.start()
    average(folders, tmp_path / "out", [0.2, 0.3, 0.5])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.2 * (folders[0] / "model.safetensors").stat().st_size


def test_a_tied_head_is_the_embedding_of_the_models_that_do_not_store_it(tmp_path: Path) -> None:
    table = np.arange(12, dtype=np.float32).reshape(3, 4)
    a = model(tmp_path / "a", {EMBEDDING: table, HEAD: table})
    b = model(tmp_path / "b", {EMBEDDING: table + 2})
    report = average([a, b], tmp_path / "out", [0.5, 0.5])
    merged = loaded(tmp_path / "out")
    assert report.tied == [HEAD] and not report.missing
    np.testing.assert_array_equal(merged[HEAD], merged[EMBEDDING])
    np.testing.assert_array_equal(merged[HEAD], table + 1)
    report = average([b, a], tmp_path / "other", [0.5, 0.5])
    assert report.tied == [HEAD] and set(loaded(tmp_path / "other")) == {EMBEDDING}


def test_a_missing_tensor_is_refused_or_the_first_models_and_reported(tmp_path: Path) -> None:
    table = np.ones((3, 4), np.float32)
    a = model(tmp_path / "a", {UP: table, "model.layers.0.extra": table})
    b = model(tmp_path / "b", {UP: table * 3, "model.layers.1.more": table})
    with pytest.raises(RecipeError, match=r"layers\.0\.extra is not in all models \(2.*--missing first"):
        average([a, b], tmp_path / "out", [0.5, 0.5])
    assert not (tmp_path / "out").exists()
    report = average([a, b], tmp_path / "out", [0.5, 0.5], "first")
    assert report.missing == ["model.layers.0.extra", "model.layers.1.more"]
    merged = loaded(tmp_path / "out")
    assert set(merged) == {UP, "model.layers.0.extra"} and (merged["model.layers.0.extra"] == 1).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"config": {"hidden_size": 8}}, "hidden_size is 4 in .*a and 8 in .*b"),
        ({"config": {"tie_word_embeddings": False}}, "tie_word_embeddings is True in"),
        ({"config": {"quantization_config": {"bits": 4}}}, "quantised"),
        ({"arrays": {UP: np.ones((3, 5), np.float32)}}, r"the shape \[3, 4\] in .* and \[3, 5\] in"),
        ({"arrays": {UP: np.ones((3, 4), np.int8)}}, "is F32 in .* and I8 in"),
    ],
)
def test_models_that_do_not_belong_together_are_refused(tmp_path: Path, change: Any, said: str) -> None:
    a = model(tmp_path / "a", {UP: np.ones((3, 4), np.float32)})
    b = model(tmp_path / "b", **({"arrays": {UP: np.ones((3, 4), np.float32)}} | change))
    with pytest.raises(GristmillError, match=said):
        average([a, b], tmp_path / "out", [0.5, 0.5])
    assert not (tmp_path / "out").exists()


def test_another_vocabulary_is_refused_and_another_padding_is_not(tmp_path: Path) -> None:
    a, b = model(tmp_path / "a", seed=1), model(tmp_path / "b", {**loaded(tmp_path / "a")})
    (b / "tokenizer.json").write_text(json.dumps(VOCABULARY | {"padding": {"length": 9}}))
    (b / "config.json").write_text(json.dumps(CONFIG | {"eos_token_id": 7, "dtype": "bfloat16", "new": 1}))
    (a / "config.json").write_text(json.dumps(CONFIG | {"eos_token_id": 2}))
    notes = average([a, b], tmp_path / "out", [0.5, 0.5]).notes
    assert [n.split(" is ")[0] for n in notes][:1] == ["eos_token_id"] and notes[1].endswith("has: new")
    (b / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"b": 0, "a": 1}}, "added_tokens": []}))
    with pytest.raises(RecipeError, match="different tokens"):
        average([a, b], tmp_path / "more", [0.5, 0.5])


def test_integers_are_copied_if_they_are_equal(tmp_path: Path) -> None:
    ids = np.arange(6, dtype=np.int64)
    a, b = (model(tmp_path / n, {UP: np.ones(3, np.float32), "ids": ids}) for n in "ab")
    assert average([a, b], tmp_path / "out", [0.5, 0.5]).copied == ["ids"]
    np.testing.assert_array_equal(loaded(tmp_path / "out")["ids"], ids)
    c = model(tmp_path / "c", {UP: np.ones(3, np.float32), "ids": ids + 1})
    with pytest.raises(RecipeError, match="ids is stored as I64 and differs"):
        average([a, c], tmp_path / "more", [0.5, 0.5])


def test_nothing_is_written_over_and_nothing_unfinished_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = model(tmp_path / "a", seed=1), model(tmp_path / "b", seed=2)
    before = (a / "model.safetensors").read_bytes()
    with pytest.raises(RunError, match="already exists"):
        average([a, b], a, [0.5, 0.5])
    assert (a / "model.safetensors").read_bytes() == before

    def broken(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gristmill.train.merging.averaging.averaged", broken)
    with pytest.raises(RunError, match="No space left"):
        average([a, b], tmp_path / "out", [0.5, 0.5])
    assert {f.name for f in tmp_path.iterdir()} == {"a", "b"}


@pytest.mark.parametrize("cut", [3, 60, -4])
def test_a_damaged_file_is_named(tmp_path: Path, cut: int) -> None:
    a, b = model(tmp_path / "a", seed=1), model(tmp_path / "b", seed=2)
    file = b / "model.safetensors"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"b/model\.safetensors"):
        average([a, b], tmp_path / "out", [0.5, 0.5])


def test_an_index_cannot_name_a_file_elsewhere(tmp_path: Path) -> None:
    a, b = model(tmp_path / "a", seed=1), sharded(tmp_path / "b", 2)
    (b / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {UP: "../a/model.safetensors"}})
    )
    with pytest.raises(InputError, match="not the name of a file in this folder"):
        average([a, b], tmp_path / "out", [0.5, 0.5])


def test_an_adapter_is_merged_like_a_model(tmp_path: Path) -> None:
    folders = []
    for i, name in enumerate("ab"):
        folder = tmp_path / name
        folder.mkdir()
        save_file({"x.lora_A.weight": np.full((2, 3), i, np.float32)}, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text('{"r": 2, "lora_alpha": 4}')
        folders.append(folder)
    average(folders, tmp_path / "out", [0.25, 0.75])
    assert (loaded(tmp_path / "out")["x.lora_A.weight"] == 0.75).all()
