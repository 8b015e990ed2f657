"""Where completions come from: engines, the pacing and retries around them, and the completion log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.core.engine import EngineWrapper
    from gristmill.engines.batch import AnthropicBatch, OpenAIBatch
    from gristmill.engines.endpoints import Endpoints
    from gristmill.engines.llamacpp import LlamaCpp
    from gristmill.engines.log.store import CompletionLog
    from gristmill.engines.none import NoEngine
    from gristmill.engines.openai.engine import OpenAI
    from gristmill.engines.openai.rewards import RewardServer
    from gristmill.engines.options import EngineOptions
    from gristmill.engines.scripted import Reply, Scripted, ScriptedEngine
    from gristmill.engines.session import Session, Stats
    from gristmill.engines.transformers import Transformers, TransformersReward
    from gristmill.engines.vllm import Vllm
    from gristmill.engines.vllm.server import VllmServer

__all__ = [
    "AnthropicBatch",
    "CompletionLog",
    "Endpoints",
    "EngineOptions",
    "EngineWrapper",
    "LlamaCpp",
    "NoEngine",
    "OpenAI",
    "OpenAIBatch",
    "Reply",
    "RewardServer",
    "Scripted",
    "ScriptedEngine",
    "Session",
    "Stats",
    "Transformers",
    "TransformersReward",
    "Vllm",
    "VllmServer",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "AnthropicBatch": ".batch",
        "CompletionLog": ".log.store",
        "Endpoints": ".endpoints",
        "EngineOptions": ".options",
        "EngineWrapper": "gristmill.core.engine",
        "LlamaCpp": ".llamacpp",
        "NoEngine": ".none",
        "OpenAI": ".openai.engine",
        "OpenAIBatch": ".batch",
        "Reply": ".scripted",
        "RewardServer": ".openai.rewards",
        "Scripted": ".scripted",
        "Transformers": ".transformers",
        "TransformersReward": ".transformers",
        "ScriptedEngine": ".scripted",
        "Session": ".session",
        "Stats": ".session",
        "Vllm": ".vllm",
        "VllmServer": ".vllm.server",
    },
)
