"""What a recipe says about a server that speaks the OpenAI chat completions protocol."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gristmill.engines.options import ServedOptions

ContinueMode = Literal["auto", "vllm", "prefill", "none"]
AbilityName = Literal["chat", "continue", "logprobs", "score", "seed", "many"]
DEFAULT_ABILITIES: tuple[AbilityName, ...] = ("chat", "continue", "logprobs", "seed", "many")


class ServerOptions(ServedOptions, frozen=True, kw_only=True):
    """The options of ``kind: openai``, which ``gristmill.engines.openai.engine.OpenAI`` opens."""

    base_url: Annotated[
        str, Meta(pattern="^https?://", description="a URL that begins with http:// or https://")
    ]
    """The server's base URL, which ends in ``/v1`` with most servers: ``http://HOST:PORT/v1``."""
    model: Annotated[str, Meta(min_length=1)]
    """The model's name, as the server knows it."""
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable with the API key, which is read when the engine is opened; may be unset."""
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    """Further fields of each request's body, such as ``chat_template_kwargs``; part of the log's key."""
    continue_mode: ContinueMode = "auto"
    """How an assistant turn is continued. ``vllm`` (and SGLang): a last assistant message with
    ``continue_final_message``. ``prefill``: a last assistant message alone, as llama-server continues
    it; if the server repeats the prefix, it is removed from the answer. ``auto`` asks ``/models`` before
    the first such request which server it is. ``none``: the server cannot continue a turn."""
    abilities: tuple[AbilityName, ...] = DEFAULT_ABILITIES
    """What the server can do. Leave out ``many`` if it ignores or limits ``n`` (llama-server accepts at most
    as many as it has parallel slots). Add ``score`` for a vLLM server, the only kind that returns the
    log-probabilities of a given text (see ``scoring``)."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The name of the field for the token limit; some hosted models accept only the second."""
