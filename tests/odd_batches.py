"""Behaviours of the odd server: the batch APIs of OpenAI and Anthropic as their references describe them.

A batch is in progress at the first look and has ended at the second. What the last message of a request says
decides what becomes of it: "expired", "broken" and "refused" do not succeed the first time.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from aiohttp import web
from odd_server import Answer, Visit, behaviour, completion

_SHOPS: list[tuple[web.Application, Shop]] = []


class Shop:
    """What one server has been given: files and batches, in order."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.looks: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()


def shop(visit: Visit) -> Shop:
    """That of the server which is visited."""
    found = next((s for app, s in _SHOPS if app is visit.request.app), None)
    if found is None:
        found = Shop()
        _SHOPS.append((visit.request.app, found))
    return found


def finish(visit: Visit) -> None:
    """Answer the first batch of the server that was visited."""
    found = shop(visit)
    _finish(found, found.batches["batch_0"])


def lines(*records: dict[str, Any]) -> web.Response:
    return web.Response(text="".join(json.dumps(r) + "\n" for r in records))


def refused(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "code": "x"}}, status=status)


async def openai(visit: Visit, *, slow: bool = False) -> Answer:
    found, method = shop(visit), visit.request.method
    if (method, visit.path) == ("POST", "files"):
        form = await visit.request.post()
        assert form["purpose"] == "batch"
        name = f"file-{len(found.files)}"
        found.files[name] = form["file"].file.read()  # type: ignore[union-attr]
        return {"id": name, "object": "file", "purpose": "batch"}
    if (method, visit.path) == ("POST", "batches"):
        assert visit.body["endpoint"] == "/v1/chat/completions" and visit.body["completion_window"] == "24h"
        name = f"batch_{len(found.batches)}"
        found.batches[name] = {"id": name, "object": "batch", "status": "in_progress", **visit.body}
        return found.batches[name]
    if visit.path == "batches":
        return {"object": "list", "data": [*found.batches.values()][::-1], "has_more": False}
    if visit.path.startswith("batches/"):
        batch = found.batches[visit.path.partition("/")[2]]
        found.looks[batch["id"]] += 1
        if found.looks[batch["id"]] == 2 and not slow:
            _finish(found, batch)
        return batch
    return web.Response(body=found.files[visit.path.split("/")[1]])


def _finish(found: Shop, batch: dict[str, Any]) -> None:
    """Answer the requests, in the reverse order."""
    made, failed = [], []
    for line in found.files[batch["input_file_id"]].splitlines()[::-1]:
        asked = json.loads(line)
        text = asked["body"]["messages"][-1]["content"]
        found.asked[text] += 1
        first = found.asked[text] == 1
        reply: dict[str, Any] = {"id": "r", "custom_id": asked["custom_id"], "response": None, "error": None}
        if "expired" in text and first:
            reply["error"] = {"code": "batch_expired", "message": "This request could not be executed."}
        elif "broken" in text and first:
            reply["response"] = {"status_code": 500, "body": {"error": {"message": "oops"}}}
        elif "refused" in text:
            reply["response"] = {"status_code": 400, "body": {"error": {"message": "no such thing"}}}
        else:
            answer = completion(f"to {text} {asked['body'].get('seed')}")
            reply["response"] = {"status_code": 200, "request_id": "q", "body": answer}
        good = reply["response"] is not None and reply["response"]["status_code"] == 200
        (made if good else failed).append(reply)
    batch["status"] = "completed"
    for key, replies in (("output_file_id", made), ("error_file_id", failed)):
        if replies:
            batch[key] = f"file-{len(found.files)}"
            found.files[batch[key]] = "".join(json.dumps(r) + "\n" for r in replies).encode()


@behaviour()
async def batches(visit: Visit) -> Answer:
    """As it should be."""
    return await openai(visit)


@behaviour()
async def batches_slow(visit: Visit) -> Answer:
    """Batches do not end, until one changes their state."""
    return await openai(visit, slow=True)


@behaviour()
async def batches_unheard(visit: Visit) -> Answer:
    """A batch is created, and the answer to that is lost on its way, each time but the last."""
    answer = await openai(visit)
    if (visit.request.method, visit.path) == ("POST", "batches"):
        return refused(502, "bad gateway")
    return answer


@behaviour()
async def batches_invalid(visit: Visit) -> Answer:
    """The server finds the file wanting when it validates it."""
    answer = await openai(visit, slow=True)
    if visit.path.startswith("batches/"):
        assert isinstance(answer, dict)
        return {**answer, "status": "failed", "errors": {"data": [{"message": "model 'm' does not exist"}]}}
    return answer


@behaviour()
async def batches_refused(visit: Visit) -> Answer:
    return refused(401, "wrong key")


@behaviour()
async def messages(visit: Visit) -> Answer:
    """Anthropic's Message Batches."""
    found = shop(visit)
    assert visit.request.headers["x-api-key"] == "k-secret"
    assert visit.request.headers["anthropic-version"] == "2023-06-01"
    if (visit.request.method, visit.path) == ("POST", "messages/batches"):
        name = f"msgbatch_{len(found.batches)}"
        size = len(visit.body["requests"])
        found.batches[name] = {
            "id": name,
            "type": "message_batch",
            "processing_status": "in_progress",
            "created_at": "2999-01-01T00:00:00Z",
            "request_counts": {"processing": size, "succeeded": 0},
            "results_url": "http://127.0.0.1:1/elsewhere",
            "requests": visit.body["requests"],
        }
        return _public(found.batches[name])
    if visit.path == "messages/batches":
        return {"data": [_public(batch) for batch in [*found.batches.values()][::-1]], "has_more": False}
    name = visit.path.split("/")[2]
    batch = found.batches[name]
    if visit.path.endswith("/results"):
        return lines(*(_result(found, asked) for asked in batch["requests"][::-1]))
    found.looks[name] += 1
    if found.looks[name] == 2:
        batch["processing_status"] = "ended"
    return _public(batch)


def _public(batch: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in batch.items() if key != "requests"}


def _result(found: Shop, asked: dict[str, Any]) -> dict[str, Any]:
    params = asked["params"]
    text = params["messages"][-1]["content"]
    found.asked[text] += 1
    result: dict[str, Any]
    if "expired" in text and found.asked[text] == 1:
        result = {"type": "expired"}
    elif "refused" in text:
        error = {"type": "invalid_request_error", "message": "no such thing"}
        result = {"type": "errored", "error": {"type": "error", "error": error}}
    else:
        content = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": f"to {text}"}]
        usage = {"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 5}
        reason = "max_tokens" if params["max_tokens"] == 7 else "end_turn"
        message = {"type": "message", "content": content, "stop_reason": reason, "usage": usage}
        result = {"type": "succeeded", "message": message}
    return {"custom_id": asked["custom_id"], "result": result}
