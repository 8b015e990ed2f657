"""vLLM in process, and as a server that a run starts and watches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.engines.vllm.engine import Vllm

__all__ = ["Vllm"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Vllm": ".engine",
    },
)
