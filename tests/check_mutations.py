"""Files of a format with one thing wrong in one row or in all, made by general rules from clean rows."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Collection, Iterator
from typing import Any

import msgspec

from gristmill.core.engine import CalledFunction, Message, ToolCall
from gristmill.core.exports import Export
from gristmill.core.records import Demonstration, Dialogue, Labelled, Pair, Problem, Score, Turn
from gristmill.core.registry import find
from gristmill.core.steps import ProcessRow

ROWS, AT = 12, 7
Row = dict[str, Any]
VALUES = {
    "null": None,
    "empty text": "",
    "a number": 7,
    "text": "x",
    "a list": ["x"],
    "a mapping": {},
    "an empty list": [],
    "blank text": " \n",
}
SWAPPED = {"user": "assistant", "assistant": "user", "human": "gpt", "gpt": "human"}

FORMATS = (
    "trl-sft",
    "trl-prompt-completion",
    "text",
    "text-prompt-completion",
    "trl-dpo",
    "trl-kto",
    "trl-reward",
    "trl-prompts",
    "axolotl-chat",
    "axolotl-dpo",
    "axolotl-kto",
    "axolotl-stepwise",
    "llamafactory-sharegpt",
    "llamafactory-openai",
    "llamafactory-ranking",
    "llamafactory-kto",
    "alpaca",
    "openrlhf-sft",
    "openrlhf-dpo",
    "openrlhf-prompts",
    "verl-sft",
    "verl-prompts",
)
"""Those that a trainer's own code reads."""
TOOL_FORMATS = ("trl-sft", "trl-prompt-completion", "axolotl-chat", "llamafactory-sharegpt")
"""Those of them that hold calls of tools."""
SUM = {
    "name": "sum",
    "description": "The sum of two numbers.",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
}


def records(kind: type[Any], count: int) -> Iterator[Any]:
    """Clean records of what an export reads: with and without a system's message, of one or two rounds."""
    for i in range(count):
        begun = ("system", "Be brief.") if i % 3 == 0 else None
        rounds = [("user", f"What is {i} + 2?"), ("assistant", f"{i} + 2 = {i + 2}.")]
        if i % 4 == 1:
            rounds = [*rounds, ("user", "And twice that?"), ("assistant", f"It is {2 * i + 4}.")]
        talk = [begun, *rounds] if begun else rounds
        name, wrong = f"p{i}", f"It is {i + 3}."
        prompt = tuple(Message(role, text) for role, text in talk[:-1])  # type: ignore[arg-type]
        good, bad = (Message("assistant", talk[-1][1]),), (Message("assistant", wrong),)
        if kind is Pair:
            scores = (Score("chosen", 0.9), Score("rejected", 0.2))
            yield Pair(name, name, "made", prompt, good, bad, scores=scores)
        elif kind is Labelled:
            yield Labelled(name, name, prompt, good if i % 2 else bad, bool(i % 2))
        elif kind is Problem:
            yield Problem(name, f"What is {i} + 2?", str(i + 2))
        elif kind is ProcessRow:
            yield process_row(name, i)
        else:
            turns = tuple(Turn(r, t, r == "assistant") for r, t in talk)  # type: ignore[arg-type]
            yield Demonstration(name, name, f"What is {i} + 2?", str(i + 2), "made", turns)


def tool_rows(name: str, count: int) -> list[Row]:
    """Rows of a format whose conversations call tools, one or two at a time, as the export writes them."""
    export: Export = find("exports", name)(tools="keep")
    tools = msgspec.json.encode([{"type": "function", "function": SUM}]).decode()
    made: list[Any] = []
    for i in range(count):
        calls = tuple(
            ToolCall(f"c{j}", CalledFunction("sum", json.dumps({"a": i, "b": j}))) for j in range(1 + i % 2)
        )
        results = [Turn("tool", str(i + j), False, tool_call_id=f"c{j}") for j in range(len(calls))]
        turns = (
            *([Turn("system", "Use the tool.", False)] if i % 3 == 0 else []),
            Turn("user", f"What is {i} + 0?", False),
            Turn("assistant", "", True, tool_calls=calls),
            *results,
            Turn("assistant", f"It is {i}.", True),
        )
        made += export.rows(Dialogue(f"t{i}", turns, tools))
    return [msgspec.json.decode(msgspec.json.encode(row)) for row in made][:count]


def process_row(name: str, i: int) -> ProcessRow:
    steps = ("Add them.", f"So {i + 2}.")
    asked = (Message("user", f"What is {i} + 2?"),)
    two = (1.0, 0.5)
    return ProcessRow(name, name, asked[0].content, asked, steps, two, (2, 1), (2, 2), two, two, "soft", True)


def clean(name: str, count: int = ROWS) -> list[Row]:
    """The rows of a format, as the export writes them."""
    export: Export = find("exports", name)()
    made = (row for record in records(export.reads, count) for row in export.rows(record))
    return [msgspec.json.decode(msgspec.json.encode(row)) for row in made][:count]


def mutations(rows: list[Row], only: Collection[str] | None = None) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each file with one thing wrong, or of those whose names are in ``only``."""
    for name, change in changes(rows[AT]):
        for how in ("one", "all"):
            if only is not None and f"{name}, {how}" not in only:
                continue
            changed = copy.deepcopy(rows)
            for i, row in enumerate(changed):
                if how == "all" or i == AT:
                    changed[i] = changed_row(row, change)
            if changed != rows:
                yield f"{name}, {how}", encoded(changed)
    yield from (each for each in broken(rows) if only is None or each[0] in only)


def changed_row(row: Row, change: Callable[[Row], Row | None]) -> Row:
    try:
        return change(row) or row
    except (KeyError, IndexError, TypeError):
        return row


def encoded(rows: list[Row]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def broken(rows: list[Row]) -> Iterator[tuple[str, bytes]]:
    """Lines that are no rows, and files that are not what they seem."""
    lines = encoded(rows).splitlines(keepends=True)

    def at(line: bytes) -> bytes:
        return b"".join([*lines[:AT], line, *lines[AT + 1 :]])

    line = lines[AT]
    yield "byte order mark", b"\xef\xbb\xbf" + b"".join(lines)
    yield "not UTF-8", at(line.replace(b"2", b"\xff", 1))
    yield "cut line", at(line[: len(line) // 2] + b"\n")
    yield "a list in place of a row", at(b"[" + line.strip() + b"]\n")
    yield "a key twice", at(b'{"id": "x", ' + line[1:])
    yield "half a surrogate pair", at(line.replace(b"2", b"\\ud800", 1))
    yield "no rows", b""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values; of lists the first and the last item."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for i in sorted({0, len(value) - 1} if value else ()):
            yield from places(value[i], (*path, i))


def changes(row: Row) -> Iterator[tuple[str, Callable[[Row], Row | None]]]:
    for path in places(row):
        if path == ("id",):
            continue
        name = ".".join(map(str, path))
        values = {
            "null": None,
            "empty text": "",
            "a number": 7,
            "text": "x",
            "a list": ["x"],
            "a mapping": {},
        }
        for what, value in {**values, "an empty list": [], "blank text": " \n"}.items():
            yield f"{name}: {what}", put(path, value)
        yield f"{name}: gone", drop(path)
    for key, value in row.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield from turns_changed(key, value)
    sides = [key for key in ("chosen", "rejected") if key in row]
    if len(sides) == 2:
        yield "equal sides", lambda r: {**r, "rejected": r["chosen"]}
        yield "sides as text", lambda r: {**r, "chosen": "a", "rejected": "b"}
        yield "one side in a list or out of it", lambda r: {**r, "chosen": other_shape(r["chosen"])}
    for extra in ("messages", "prompt", "completion", "images", "input_ids", "completion_ids"):
        if extra not in row:
            yield f"beside it {extra}", put((extra,), ["x"])


def other_shape(side: Any) -> Any:
    return side[0] if isinstance(side, list) else [side]


def turns_changed(key: str, turns: list[Row]) -> Iterator[tuple[str, Callable[[Row], Row | None]]]:
    role = "from" if "from" in turns[0] else "role"
    text = "value" if role == "from" else "content"
    if role not in turns[0]:
        return
    system = {**turns[0], role: "system", text: "Be brief."}

    def listed(make: Callable[[list[Row]], list[Row]]) -> Callable[[Row], Row]:
        return lambda r: {**r, key: make(r[key])}

    yield f"{key}: swapped roles", listed(lambda t: [{**m, role: SWAPPED.get(m[role], m[role])} for m in t])
    yield f"{key}: a role of no trainer", listed(lambda t: [*t[:-1], {**t[-1], role: "bot"}])
    yield f"{key}: another word for the role", listed(lambda t: [*t[:-1], {**t[-1], role: "model"}])
    yield f"{key}: the first turn gone", listed(lambda t: t[1:])
    yield f"{key}: the last turn gone", listed(lambda t: t[:-1])
    yield f"{key}: the last turn twice", listed(lambda t: [*t, t[-1]])
    yield f"{key}: the first turn twice", listed(lambda t: [t[0], *t])
    yield f"{key}: a system message at the end", listed(lambda t: [*t, system])
    yield f"{key}: a system message behind the first turn", listed(lambda t: [t[0], system, *t[1:]])
    yield f"{key}: a system message alone", listed(lambda t: [system])
    yield f"{key}: the user's turn at the end", listed(lambda t: [*t, {**t[-1], role: asker(t[-1][role])}])
    yield f"{key}: turned round", listed(lambda t: t[::-1])


def asker(role: str) -> str:
    return {"assistant": "user", "gpt": "human"}.get(role, role)


def put(path: tuple[Any, ...], value: Any) -> Callable[[Row], Row]:
    def change(row: Row) -> Row:
        inner: Any = row
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value
        return row

    return change


def drop(path: tuple[Any, ...]) -> Callable[[Row], Row]:
    def change(row: Row) -> Row:
        inner: Any = row
        for step in path[:-1]:
            inner = inner[step]
        del inner[path[-1]]
        return row

    return change
