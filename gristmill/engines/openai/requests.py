"""The body of a request, as the server's options want it."""

from __future__ import annotations

from typing import Any

import msgspec

from gristmill.core.engine import Request
from gristmill.core.errors import RequestRefusedError
from gristmill.engines.openai.failures import UNREADABLE, snippet
from gristmill.engines.openai.options import ContinueMode, ServerOptions
from gristmill.engines.reading import sent


def body_of(
    options: ServerOptions, request: Request, first: int, n: int, mode: ContinueMode
) -> dict[str, Any]:
    """The JSON of the request for ``n`` completions from sample ``first`` on."""
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": options.model,
        "messages": sent(request.messages, options.reasoning_as),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        options.max_tokens_field: sampling.max_tokens,
    }
    if n > 1:
        body["n"] = n
    if request.seed is not None and "seed" in options.abilities:
        body["seed"] = request.seed + first
    if sampling.stop:
        body["stop"] = sampling.stop
    if sampling.top_k:
        body["top_k"] = sampling.top_k
    if sampling.min_p:
        body["min_p"] = sampling.min_p
    if sampling.repetition_penalty != 1.0:
        body["repetition_penalty"] = sampling.repetition_penalty
    if sampling.logprobs is not None:
        body["logprobs"] = True
        if sampling.logprobs:
            body["top_logprobs"] = sampling.logprobs
    if sampling.schema is not None:
        body["response_format"] = _response_format(sampling.schema)
    if request.tools:
        body["tools"] = msgspec.json.decode(request.tools)
    if request.prefix:
        body["messages"] = [*body["messages"], {"role": "assistant", "content": request.prefix}]
        if mode == "vllm":
            body["continue_final_message"] = True
            body["add_generation_prompt"] = False
    for name in options.omit:
        body.pop(name, None)
    for name, other in options.rename.items():
        if name in body:
            body[other] = body.pop(name)
    return body | options.extra if options.extra else body


def _response_format(schema: str) -> dict[str, Any]:
    """How the protocol asks for JSON of a schema. vLLM silently ignores its older ``guided_json``."""
    try:
        parsed = msgspec.json.decode(schema)
    except UNREADABLE as error:
        raise RequestRefusedError(f"the schema is not JSON ({error}): {snippet(schema)}") from error
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": parsed, "strict": True}}
