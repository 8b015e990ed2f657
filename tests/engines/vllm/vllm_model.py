"""What the tests of vLLM need of the machine: a Python that has it, and SmolLM2 as safetensors.

``GRISTMILL_VLLM_PYTHON`` names the Python, ``GRISTMILL_VLLM_MODEL`` the directory of the model.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

ARGS: dict[str, Any] = {
    "dtype": "float32",  # 16-bit arithmetic would let the batch around a request tip near ties
    "max_model_len": 512,
    "max_num_seqs": 32,
    "enforce_eager": True,
    "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
}


def prepare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing from the Hub, and a small cache."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1"))


def model() -> str:
    """The model's directory, or skip."""
    path = os.environ.get("GRISTMILL_VLLM_MODEL", "")
    if not (Path(path) / "config.json").is_file():
        pytest.skip("GRISTMILL_VLLM_MODEL names no directory with SmolLM2-135M as safetensors")
    return path


def python() -> str:
    """A Python that has vLLM, or skip."""
    if path := os.environ.get("GRISTMILL_VLLM_PYTHON"):
        return path
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("GRISTMILL_VLLM_PYTHON names no Python that has vLLM")
    return ""


def here() -> None:
    """Skip where this Python itself has no vLLM."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("this Python has no vLLM: run these tests with $GRISTMILL_VLLM_PYTHON -m pytest")
