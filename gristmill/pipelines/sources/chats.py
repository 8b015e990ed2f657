"""Messages as data sets hold them: lists in several spellings, plain texts, transcripts, and traces."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from gristmill.core.errors import RowRejected
from gristmill.engines.reading import calls_of
from gristmill.pipelines.sources.columns import Located
from gristmill.pipelines.sources.values import kind, short

Chat = list[dict[str, Any]]

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "observation": "tool",
}
_REASONING = ("reasoning_content", "reasoning", "thinking")
"""The fields in which data sets have what the assistant thought before its message."""
TRACE = frozenset({"nodes", "task"})
"""The columns that tell a trace of ``verifiers`` from other rows."""
_DIALOGUE = re.compile(r"(?:^|\n\n)(Human|Assistant):")
"""Before each turn of HH-RLHF (arXiv 2204.05862); the text begins with one."""
_MARKED = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")
"""Between the turns of a prompt of HelpSteer2 (arXiv 2406.08673), which begins with the user's."""


def chat(value: Any, role: str) -> Chat:
    """The messages in ``value``: a list of them, a single one, a transcript of "Human:" and "Assistant:", or
    a plain text, which is one of ``role``.

    A message has role and content, or from and value; an assistant's may have reasoning and calls of tools,
    which results follow."""
    if isinstance(value, str):
        if value.lstrip("\n").startswith(("Human:", "Assistant:")) and value.startswith("\n\n"):
            return _turns(_DIALOGUE.split(value)[1:])
        return [_message(role, value)]
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise RowRejected("not messages", f"the messages are {kind(value)}; they must be a list or a text.")
    found = [_read(one) for one in value]
    _join_results(found)
    return [m for m in found if m["content"].strip() or m["role"] != "system"]


def _join_results(messages: Chat) -> None:
    """Give each result that names no call the first one before it that has none. ``RowRejected`` for a result
    of no call."""
    waiting: list[str] = []
    for message in messages:
        if message["role"] != "tool":
            waiting = [call["id"] for call in message.get("tool_calls", ())]
            continue
        if not message.get("tool_call_id"):
            message["tool_call_id"] = waiting[0] if waiting else ""
        if message["tool_call_id"] not in waiting:
            raise RowRejected("result of no call", "a tool's result must follow the call that it is of.")
        waiting.remove(message["tool_call_id"])


def marked(text: str) -> Chat:
    """The messages of a HelpSteer2 prompt."""
    return _turns(["User", *_MARKED.split(text)])


def _turns(parts: list[str]) -> Chat:
    """Messages of speakers and texts in turn. An open last turn of the assistant's is none."""
    speakers = [("assistant" if name == "Assistant" else "user") for name in parts[::2]]
    turns = list(zip(speakers, (text.strip() for text in parts[1::2]), strict=True))
    if turns and turns[-1] == ("assistant", ""):
        turns.pop()
    return [_message(role, text) for role, text in turns]


def _message(role: str, text: str) -> dict[str, str]:
    if not text.strip():
        raise RowRejected("message is empty", f"a message of the {role} has no text.")
    return {"role": role, "content": text}


def _read(one: Any) -> dict[str, Any]:
    if not isinstance(one, dict):
        raise RowRejected(
            "not messages",
            f"a message is {kind(one)}; it must be an object. Of a list of answers take one, by its place: "
            "columns: {chosen: 'chosen[0]'}.",
        )
    name = one.get("role", one.get("from"))
    role = _ROLES.get(name.lower()) if isinstance(name, str) else None
    if role is None:
        raise RowRejected(
            "unknown role", f"a message is of the role {short(name)}; known: {', '.join(_ROLES)}."
        )
    if str(name).lower() == "function_call" or one.get("tool_calls"):
        return _calling(one)
    text = _content(one.get("content", one.get("value")))
    if role == "system":
        return {"role": role, "content": text}
    if role == "tool":
        return {"role": role, "content": text, "tool_call_id": str(one.get("tool_call_id") or "")}
    thought = next((t for field in _REASONING if isinstance(t := one.get(field), str) and t.strip()), None)
    return _message(role, text) | ({"reasoning": thought} if thought and role == "assistant" else {})


def _calling(one: dict[str, Any]) -> dict[str, Any]:
    """An assistant's message that calls tools, in OpenAI's form or as ShareGPT's ``function_call``."""
    given, text = one.get("tool_calls"), one.get("content")
    if not given:
        try:
            given = msgspec.json.decode(_content(one.get("value", text)))
        except (msgspec.DecodeError, RecursionError) as error:
            raise RowRejected("call that cannot be read", f"a function_call is not JSON: {error}.") from error
        text = None
    calls = calls_of(given)
    if not calls:
        raise RowRejected("call that cannot be read", f"it names no function: {short(given)}.")
    thought = next((t for field in _REASONING if isinstance(t := one.get(field), str) and t.strip()), None)
    said = {"role": "assistant", "content": "" if text is None else _content(text)}
    return said | {"tool_calls": msgspec.to_builtins(calls)} | ({"reasoning": thought} if thought else {})


def _content(value: Any) -> str:
    """The text of a message, which may be in parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        found = [part.get("text") for part in value if isinstance(part, dict) and part.get("type") == "text"]
        if len(found) == len(value) and all(isinstance(text, str) for text in found):
            return "".join(map(str, found))
    raise RowRejected("content is not text", f"the content of a message is {kind(value)}; it must be text.")


def from_traces(found: Iterator[Located]) -> Iterator[Located]:
    """Each trace of ``verifiers``, whose messages are the nodes of a graph, as a row: the task's data, the
    ``messages`` of its last branch, and its ``reward``.

    A trace that failed, or has no message of the model's, is rejected with the reason.
    """
    for where, number, value in found:
        row: dict[str, Any] | RowRejected
        try:
            row = value if isinstance(value, RowRejected) else _from_trace(value)
        except RowRejected as rejected:
            row = rejected
        except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
            row = RowRejected("not a trace", f"this is not a trace of verifiers ({error!r}).")
        yield Located(where, number, row)


def _from_trace(trace: Mapping[str, Any]) -> dict[str, Any]:
    if not trace.get("ok", True):
        errors = trace.get("errors") or [{}]
        raise RowRejected("the rollout failed", str(errors[-1].get("message", "without a message")))
    nodes, data = trace["nodes"], trace["task"]["data"]
    at = next((i for i in reversed(range(len(nodes))) if nodes[i].get("sampled")), None)
    if at is None:
        raise RowRejected("no completion", "no message of the trace is the model's.")
    path: list[Mapping[str, Any]] = []
    while at is not None:
        path.append(nodes[at]["message"])
        at = nodes[at].get("parent")
    calls = [call for call in trace.get("calls") or () if call.get("model")]
    rewards = {name: one for name, one in (trace.get("rewards") or {}).items() if one is not None}
    return {
        "id": trace["id"],
        "problem_id": data.get("id") or data.get("name"),
        "problem": data.get("problem"),
        "answer": data.get("answer"),
        "messages": [_plain_message(message) for message in reversed(path)],
        "model": calls[-1]["model"] if calls else None,
        "finish_reason": (calls[-1].get("finish_reason") if calls else None) or "stop",
        "reward": sum(one["score"] * one.get("weight", 1.0) for one in rewards.values()),
        "rewards": {name: one["score"] for name, one in rewards.items()},
        "metrics": trace.get("metrics") or {},
    }


def _plain_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message of a trace in OpenAI's form; of several parts those that are text."""
    content = message.get("content") or ""
    if not isinstance(content, str):
        content = "".join(part.get("text", "") for part in content)
    plain: dict[str, Any] = {"role": message["role"], "content": content}
    if calls := message.get("tool_calls"):
        plain["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": call["arguments"]},
            }
            for call in calls
        ]
    if message["role"] == "tool":
        plain["tool_call_id"] = message["tool_call_id"]
    return plain
