"""Whether a row's conversations are ones that trainers take: roles, order of turns, ends, sides, texts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from gristmill.core.exports import Contents
from gristmill.pipelines.checking.typed import Fault
from gristmill.pipelines.sources.values import short

_ROLES = {
    "system": "system",
    "human": "user",
    "gpt": "assistant",
    "function_call": "assistant",
    "observation": "tool",
}
"""ShareGPT's words for roles."""
_KNOWN = ("system", "user", "assistant", "tool")


class ChatTurn(NamedTuple):
    """A message, whichever way a format writes it. What it lacks is ``None``."""

    role: Any
    content: Any
    calls: Any = None
    """The calls of tools that it makes."""
    result_of: Any = None
    """The call whose result it is."""


def said(value: Any) -> list[ChatTurn]:
    """The messages of a list, or the one message; nothing of any other value, whose type is a fault."""
    items = value if isinstance(value, list) else [value]
    return [_said(item) for item in items if isinstance(item, dict)]


def _said(message: dict[str, Any]) -> ChatTurn:
    if "from" in message:
        name = message["from"]
        role = _ROLES.get(name, f"from {name!r}") if isinstance(name, str) else name
        return ChatTurn(role, message.get("value"), _called(message) if name == "function_call" else None)
    return ChatTurn(
        message.get("role"), message.get("content"), message.get("tool_calls"), message.get("tool_call_id")
    )


def _called(message: dict[str, Any]) -> Any:
    """The calls of ShareGPT's ``function_call``, in the protocol's form; ``False`` for what holds none."""
    try:
        given = json.loads(message.get("value") or "")
    except (ValueError, TypeError, RecursionError):
        return False
    calls = given if isinstance(given, list) else [given]
    if not all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in calls):
        return False
    return [
        {"function": {"name": c["name"], "arguments": json.dumps(c.get("arguments"))}, "id": None}
        for c in calls
    ]


def content_faults(row: dict[str, Any], contents: Contents) -> Iterator[Fault]:
    """What is wrong with the conversations, texts and lists of ``row`` under the rules of its format."""
    for name in contents.whole:
        yield from _opening(name, row.get(name), contents)
        yield from _end(name, row.get(name), "assistant")
    for name in contents.prompts:
        yield from _opening(name, row.get(name), contents)
        yield from _end(name, row.get(name), "user")
    for name in contents.answers:
        yield from _answer(name, row.get(name))
    if contents.differ and contents.differ[0] in row:
        first, second = (said(row.get(name)) for name in contents.differ)
        if first == second:
            yield Fault("both sides are the same", f"{contents.differ[0]} and {contents.differ[1]}")
    for name in contents.filled:
        value = row.get(name)
        if isinstance(value, (str, list)) and not (value.strip() if isinstance(value, str) else value):
            yield Fault(f"{name}: empty")
    lengths = {n: len(row[n]) for n in contents.aligned if isinstance(row.get(n), list)}
    if len(set(lengths.values())) > 1:
        yield Fault("lists of different lengths", ", ".join(f"{n} {count}" for n, count in lengths.items()))
    for name in contents.reserved:
        if name in row:
            yield Fault(f"{name}: a column that changes how the trainer reads the rows")


def _opening(name: str, value: Any, contents: Contents) -> Iterator[Fault]:
    """Faults of a conversation from its beginning."""
    turns = said(value)
    if isinstance(value, list) and not value:
        yield Fault(f"{name}: no turns")
    yield from _turns(name, turns)
    roles = [t.role for t in turns]
    if "system" in roles[1:]:
        yield Fault(f"{name}: a system message that is not the first", _listed(roles))
    talk = roles[1:] if roles[:1] == ["system"] else roles
    if talk and talk[0] == "assistant":
        yield Fault(f"{name}: begins with an answer", _listed(roles))
    talk = ["user" if role == "tool" else role for role in talk]
    if contents.alternates and any(a == b for a, b in pairwise(talk)):
        yield Fault(f"{name}: two turns of one role in a row", _listed(roles))


def _end(name: str, value: Any, role: str) -> Iterator[Fault]:
    turns = said(value)
    # A result that the model is to answer stands where the user's turn does.
    ends = ("user", "tool") if role == "user" else (role,)
    if turns and turns[-1].role in _KNOWN and turns[-1].role not in ends:
        yield Fault(f"{name}: does not end with the {role}", _listed([t.role for t in turns]))


def _answer(name: str, value: Any) -> Iterator[Fault]:
    turns = said(value)
    if isinstance(value, list) and not value:
        yield Fault(f"{name}: no turns")
    yield from _turns(name, turns)
    if turns and turns[0].role in _KNOWN and turns[0].role != "assistant":
        yield Fault(f"{name}: does not begin with the assistant", _listed([t.role for t in turns]))
    yield from _end(name, value, "assistant")


def _turns(name: str, turns: Sequence[ChatTurn]) -> Iterator[Fault]:
    for i, turn in enumerate(turns):
        if isinstance(turn.content, str) and not turn.content.strip() and not turn.calls:
            yield Fault(f"{name}: an empty turn", f"turn {i + 1}")
        if isinstance(turn.role, str) and turn.role.startswith("from "):
            yield Fault(f"{name}: unknown role", f"turn {i + 1} is of {short(turn.role)}")
    yield from _tools(name, turns)


def _tools(name: str, turns: Sequence[ChatTurn]) -> Iterator[Fault]:
    """Faults of calls and results: arguments that templates cannot read, results of no call, calls without
    one."""
    waiting: list[Any] = []
    for i, turn in enumerate(turns):
        if turn.role == "tool":
            if turn.result_of not in waiting and not (turn.result_of is None and waiting):
                yield Fault(f"{name}: a result of no call before it", f"turn {i + 1}")
            # A result that names no call is that of all of them, as in ShareGPT's layout.
            waiting = [call for call in waiting if turn.result_of is not None and call != turn.result_of]
            continue
        if waiting:
            yield Fault(f"{name}: a call without a result", f"before turn {i + 1}")
        waiting = []
        if turn.calls is None:
            continue
        if turn.role != "assistant" or not isinstance(turn.calls, list):
            yield Fault(f"{name}: calls that cannot be read", f"turn {i + 1}")
            continue
        for call in turn.calls:
            function = call.get("function") if isinstance(call, dict) else None
            if not isinstance(function, dict) or not _is_object(function.get("arguments")):
                yield Fault(f"{name}: a call whose arguments are not a JSON object", f"turn {i + 1}")
            waiting.append(call.get("id") if isinstance(call, dict) else None)


def _is_object(arguments: Any) -> bool:
    try:
        return isinstance(json.loads(arguments) if isinstance(arguments, str) else arguments, dict)
    except (ValueError, RecursionError):
        return False


def _listed(roles: Sequence[Any]) -> str:
    return ", ".join(str(role)[:20] for role in roles[:12])
