"""Behaviours of the odd server: known servers as their documentation says they are (see docs/servers.md)."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from odd_pace import refusal
from odd_server import Answer, Visit, behaviour, completion

_COMMON = {"model", "messages", "max_tokens", "stop", "temperature", "top_p"}


def listed(owner: str, **fields: Any) -> dict[str, Any]:
    """``/models`` with one model."""
    return {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": owner, **fields}]}


def bearer(visit: Visit) -> web.Response | None:
    """A refusal unless the key is ``key-of-NAME`` as a bearer token."""
    if visit.request.headers.get("Authorization") != f"Bearer key-of-{visit.name}":
        return refusal(401, "Incorrect API key provided", "invalid_api_key")
    return None


def fields(visit: Visit, *known: str) -> web.Response | None:
    """A refusal for fields that are not ``known`` besides the common ones."""
    for name in sorted(set(visit.body) - _COMMON - set(known)):
        return refusal(
            400, f"Unsupported parameter: '{name}' is not supported with this model.", "unsupported_parameter"
        )
    return None


def answers(visit: Visit, text: str = "4", **more: Any) -> Answer:
    """As many choices as were asked for, with log-probabilities where they were."""
    logprobs = {"content": [{"token": text, "logprob": -0.1, "top_logprobs": []}]}
    choice = {"logprobs": logprobs} if visit.body.get("logprobs") is True else {}
    return completion(*[text] * visit.body.get("n", 1), **choice) | more


def continued(visit: Visit) -> bool:
    """Whether the last message is the assistant's."""
    return bool(visit.body["messages"][-1]["role"] == "assistant")


@behaviour(models=True)
async def vllm(visit: Visit) -> Answer:
    if visit.path == "models":
        return listed("vllm", root="org/m", max_model_len=4096)
    if continued(visit) and not visit.body.get("continue_final_message"):
        return refusal(400, "Cannot continue: the final message is from the assistant")
    if visit.body.get("prompt_logprobs") is not None:
        entry = {"1": {"logprob": -0.5, "rank": 1, "decoded_token": "Yes"}}
        return completion("x") | {"prompt_logprobs": [None, entry]}
    return answers(visit)


@behaviour(models=True)
async def sglang(visit: Visit) -> Answer:
    if visit.path == "models":
        return listed("sglang", root="org/m", max_model_len=4096)
    if continued(visit) and not visit.body.get("continue_final_message"):
        return refusal(400, "the last message must be of the user")
    return answers(visit)


@behaviour(models=True)
async def llama_server(visit: Visit) -> Answer:
    """It takes no more samples at once than it has slots, and continues a last assistant message."""
    if visit.path == "models":
        return listed("llamacpp", meta={"n_params": 134515008, "size": 90000000})
    if visit.body.get("n", 1) > 1:
        return refusal(400, "n_cmpl cannot be greater than the number of slots, please increase -np", "400")
    return answers(visit)


@behaviour(models=True)
async def ollama(visit: Visit) -> Answer:
    """It ignores ``n`` and takes ``seed``; log-probabilities are not part of what it lists as supported."""
    if visit.path == "models":
        return listed("library")
    return completion("4")


@behaviour(models=True)
async def lm_studio(visit: Visit) -> Answer:
    if visit.path == "models":
        return listed("organization_owner")
    return completion("4")


@behaviour()
async def openai(visit: Visit) -> Answer:
    """A reasoning model: the limit is ``max_completion_tokens``; no temperature, no top_p."""
    if refused := bearer(visit):
        return refused
    for name in ("max_tokens", "temperature", "top_p"):
        if name in visit.body:
            return refusal(
                400,
                f"Unsupported parameter: '{name}' is not supported with this model.",
                "unsupported_parameter",
            )
    if refused := fields(visit, "max_completion_tokens", "n", "seed"):
        return refused
    return answers(visit, system_fingerprint="fp_1")


@behaviour()
async def azure(visit: Visit) -> Answer:
    """The key is in ``api-key``, the version in the query."""
    if visit.request.headers.get("api-key") != "key-of-azure" or "Authorization" in visit.request.headers:
        return refusal(401, "Access denied due to invalid subscription key or wrong API endpoint.", "401")
    if visit.request.query.get("api-version") != "2024-10-21":
        return refusal(404, "Resource not found", "404")
    if "bomb" in visit.last:
        return refusal(
            400,
            "The response was filtered: the prompt triggers the content management policy.",
            "content_filter",
        )
    return answers(visit)


@behaviour()
async def anthropic(visit: Visit) -> Answer:
    """``n`` must be 1; ``seed`` and ``logprobs`` are ignored; limits are in headers of its own."""
    if refused := bearer(visit):
        return refused
    if visit.body.get("n", 1) != 1:
        return refusal(400, "n: must be 1")
    headers = {"anthropic-ratelimit-requests-remaining": "49", "anthropic-ratelimit-requests-reset": "1s"}
    return web.json_response(completion("4"), headers=headers)


@behaviour()
async def gemini(visit: Visit) -> Answer:
    """Errors are in a list, and say how long to wait in their details."""
    if refused := bearer(visit):
        return refused
    if refused := fields(visit, "n", "logprobs", "top_logprobs"):
        return refused
    if visit.number == 0:
        detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.05s"}
        error = {
            "code": 429,
            "message": "Quota exceeded",
            "status": "RESOURCE_EXHAUSTED",
            "details": [detail],
        }
        return web.json_response([{"error": error}], status=429)
    return answers(visit)


@behaviour()
async def mistral(visit: Visit) -> Answer:
    """Unknown fields are refused by a validator; the seed is ``random_seed``; a prefix is marked as such."""
    if refused := bearer(visit):
        return refused
    for name in sorted(set(visit.body) - _COMMON - {"n", "random_seed"}):
        wrong = {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted"}
        return web.json_response(
            {"object": "error", "message": {"detail": [wrong]}, "type": "invalid_request_error"}, status=422
        )
    return answers(visit)


@behaviour()
async def together(visit: Visit) -> Answer:
    if refused := bearer(visit):
        return refused
    if refused := fields(visit, "n", "seed", "top_k", "min_p", "repetition_penalty"):
        return refused
    return answers(visit)


@behaviour()
async def openrouter(visit: Visit) -> Answer:
    """A flagged prompt is refused with 403, missing credits with 402; the day's limit is in a header."""
    if refused := bearer(visit):
        return refused
    if "bomb" in visit.last:
        error = {"code": 403, "message": "Input was flagged", "metadata": {"reasons": ["violence"]}}
        return web.json_response({"error": error}, status=403)
    if "poor" in visit.last:
        return refusal(402, "Insufficient credits. Add more and retry the request.")
    return completion("4")


@behaviour()
async def deepseek(visit: Visit) -> Answer:
    """Neither ``n`` nor ``seed``; no limit on the pace, but no money is 402."""
    if refused := bearer(visit):
        return refused
    if refused := fields(visit, "logprobs", "top_logprobs"):
        return refused
    if "poor" in visit.last:
        return refusal(402, "Insufficient Balance", "invalid_request_error")
    return answers(visit)


@behaviour(models=True)
async def swapped(visit: Visit) -> Answer:
    """After five answers another model answers under the same name."""
    if visit.path == "models":
        return listed("vllm", root="org/first" if visit.number == 0 else "org/second")
    return completion("4") | {"model": "first" if visit.number < 5 else "second"}


@behaviour()
async def chat_only(visit: Visit) -> Answer:
    """It ignores log-probabilities, and refuses to continue a turn or to score."""
    if continued(visit):
        return refusal(400, "the last message must be of the user")
    return completion("4")
