"""What a vLLM model is known by, and what vLLM is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gristmill.core.engine import Sampling
from gristmill.core.errors import MissingExtraError, RecipeError
from gristmill.engines.vllm.engine import Vllm
from gristmill.engines.vllm.options import arguments, flags, identity


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def adapter(folder: Path, rank: Any) -> str:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank}))
    (folder / "adapter_model.safetensors").write_bytes(b"adapter")
    return str(folder)


def test_the_identity_follows_the_weights_and_what_bends_them_but_not_the_speed(
    model: Path, tmp_path: Path
) -> None:
    template = tmp_path / "chat.jinja"
    template.write_text("{{ messages }}")
    plain = Vllm(model=str(model))
    variants = [
        plain,
        Vllm(model=str(model), lora=adapter(tmp_path / "lora", 8)),
        Vllm(model=str(model), chat_template=str(template)),
        Vllm(model=str(model), args={"dtype": "float32"}),
        Vllm(model=str(model), args={"quantization": "fp8"}),
        Vllm(model=str(model), args={"max_model_len": 4096}),
        Vllm(model=str(model), args={"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}),
        Vllm(model=str(model), args={"load_format": "dummy"}),
        Vllm(model=str(model), args={"logits_processors": ["module:Processor"]}),
        Vllm(model=str(model), chat_template_kwargs={"enable_thinking": False}),
    ]
    names = [identity(v) for v in variants]
    assert len(set(names)) == len(names)
    assert all(n.startswith("tiny ") for n in names)
    fast = Vllm(model=str(model), args={"tensor_parallel_size": 8, "gpu_memory_utilization": 0.5})
    assert identity(fast) == names[0]
    (model / "model.safetensors").write_bytes(b"further")
    assert identity(plain) != names[0]
    assert identity(Vllm(model="owner/name")) == "owner/name"


def test_an_adapter_is_given_room_for_its_rank(model: Path, tmp_path: Path) -> None:
    lora = adapter(tmp_path / "lora", 48)
    assert arguments(Vllm(model=str(model), lora=lora)) == {"enable_lora": True, "max_lora_rank": 64}
    given = Vllm(model=str(model), lora=lora, args={"max_lora_rank": 128})
    assert arguments(given)["max_lora_rank"] == 128
    (tmp_path / "lora" / "adapter_config.json").write_text("[]")
    with pytest.raises(RecipeError, match="not an adapter's configuration"):
        arguments(Vllm(model=str(model), lora=lora))


def test_arguments_on_a_command_line() -> None:
    given = {"a_b": True, "c": False, "d": 3, "e": "x y", "f": {"g": [1]}, "h": None}
    assert list(flags(given)) == ["--a-b", "--no-c", "--d", "3", "--e", "x y", "--f", '{"g":[1]}']


def test_a_missing_vllm_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"gristmill\[vllm\]"):
        Vllm(model="owner/name").open()


def test_a_schema_is_no_part_of_the_keys_of_requests_without_one() -> None:
    import msgspec

    assert msgspec.json.encode(Sampling(max_tokens=5)) == b'{"max_tokens":5}'
    assert b"schema" in msgspec.json.encode(Sampling(schema="{}"))
