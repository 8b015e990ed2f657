"""Conversations with tools in files and back, in checks, and on the screen."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from check_mutations import TOOL_FORMATS, tool_rows
from rich.console import Console

from gristmill.core.engine import CalledFunction, ToolCall
from gristmill.core.errors import RowRejected
from gristmill.core.records import Conversation, Dialogue, Turn
from gristmill.core.registry import find, names
from gristmill.pipelines.checking import check
from gristmill.pipelines.show.blocks import blocks
from gristmill.pipelines.show.terminal import render
from gristmill.pipelines.sources.source import Source, read
from gristmill.testing import check_export
from gristmill.train.base.turns import TrainedTurn


def call(id: str, arguments: str = '{"a":1}') -> ToolCall:
    return ToolCall(id, CalledFunction("f", arguments))


TALK = (
    Turn("user", "x?", False),
    Turn("assistant", "", True, tool_calls=(call("c1"), call("c2"))),
    Turn("tool", "1", False, tool_call_id="c1"),
    Turn("tool", "2", False, tool_call_id="c2"),
    Turn("assistant", "3.", True),
)
TOOLS = '[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{}}}}]'
RECORD = Dialogue("d", TALK, TOOLS)


def plain(row: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(row))


def written(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def conversations(path: str) -> list[Conversation]:
    found = list(read(Source(path=path, reads="conversations")))
    assert all(isinstance(f, Conversation) for f in found), found
    return found  # type: ignore[return-value]


def test_no_format_loses_calls_without_a_word() -> None:
    lost = []
    for name in names("exports"):
        export = find("exports", name)()
        if export.reads is not Dialogue:
            continue
        try:
            lost.append((name, export.rows(RECORD)))
        except RowRejected as error:
            assert error.reason == "calls tools", name
    assert lost == []


@pytest.mark.parametrize("name", TOOL_FORMATS)
def test_kept_rows_keep_their_contract(name: str) -> None:
    export = find("exports", name)(tools="keep")
    check_export(export, [RECORD, Dialogue("e", (TALK[0], TALK[-1]))])


@pytest.mark.parametrize("name", ["trl-sft", "axolotl-chat", "sharegpt", "llamafactory-sharegpt"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str) -> None:
    [row] = find("exports", name)(tools="keep").rows(RECORD)
    [found] = conversations(written(tmp_path / "a.jsonl", plain(row)))
    assert found.tools == TOOLS and [t.train for t in found.turns if t.role == "tool"] in (
        [False],
        [False] * 2,
    )
    calls = [c.function for t in found.turns for c in t.tool_calls]
    assert calls == [CalledFunction("f", '{"a":1}')] * 2
    if name != "sharegpt" and name != "llamafactory-sharegpt":
        assert found.turns == TALK


def test_llama_factory_has_calls_in_its_own_words(tmp_path: Path) -> None:
    export = find("exports", "llamafactory-sharegpt")(tools="keep")
    row = plain(export.rows(RECORD)[0])
    assert row["conversations"] == [
        {"from": "human", "value": "x?"},
        {
            "from": "function_call",
            "value": '[{"name":"f","arguments":{"a":1}},{"name":"f","arguments":{"a":1}}]',
        },
        {"from": "observation", "value": "1\n\n2"},
        {"from": "gpt", "value": "3."},
    ]
    [(_, info)] = export.beside(tmp_path / "d.jsonl").items()
    assert json.loads(info)["d"]["columns"] == {"messages": "conversations", "tools": "tools"}
    for turn, why in (
        (msgspec.structs.replace(TALK[1], content="I look."), "text beside a call"),
        (msgspec.structs.replace(TALK[1], tool_calls=(call("c1", "{"),)), "not a JSON object"),
    ):
        with pytest.raises(RowRejected, match=r".*") as raised:
            export.rows(Dialogue("d", (TALK[0], turn, *TALK[2:]), TOOLS))
        assert why in raised.value.reason


def test_published_layouts_of_calls_are_read(tmp_path: Path) -> None:
    openai = {
        "messages": [
            {"role": "user", "content": "x?"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "function": {"name": "f"}}]},
            {"role": "tool", "content": [{"type": "text", "text": "1"}]},
            {"role": "assistant", "content": "3."},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}],
    }
    [found] = conversations(written(tmp_path / "a.jsonl", openai))
    assert found.turns[2].tool_call_id == "a" and found.tools.startswith('[{"type":"function"')
    assert found.meta == "{}"


@pytest.mark.parametrize("name", TOOL_FORMATS)
def test_rows_with_tools_are_clean_and_broken_ones_are_not(tmp_path: Path, name: str) -> None:
    rows = tool_rows(name, 12)
    assert check(written(tmp_path / "a.jsonl", *rows), name, options={"tools": "keep"}).clean
    key = "conversations" if "sharegpt" in name else "messages" if "messages" in rows[3] else "prompt"
    role = "from" if key == "conversations" else "role"
    called = next(
        (i, j) for i, r in enumerate(rows) for j, m in enumerate(r[key]) if m[role] in ("tool", "observation")
    )
    broken = json.loads(json.dumps(rows))
    del broken[called[0]][key][called[1]]
    found = check(written(tmp_path / "b.jsonl", *broken), name, options={"tools": "keep"})
    assert any(
        "a call without" in r or "two turns of one" in r or "not end with" in r for r in found.reasons
    ), found
    broken = json.loads(json.dumps(rows))
    del broken[called[0]][key][called[1] - 1]
    found = check(written(tmp_path / "c.jsonl", *broken), name, options={"tools": "keep"})
    assert any("a result of no call" in reason for reason in found.reasons), found


def test_calls_are_shown_apart_from_words() -> None:
    row = {"id": "d", "turns": msgspec.to_builtins(list(TALK)), "completion": "3.", "messages": []}
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(render(row))
    text = console.export_text()
    assert 'calls f({"a":1})' in text and "[tool]" in text
    [shown, *_] = blocks(row)
    assert [t["role"] for t in shown["turns"]] == ["user", "assistant", "tool", "tool", "assistant"]
    assert shown["turns"][1]["pieces"][0] == ['f({"a":1})', "call", "calls a tool"]


def test_a_training_that_cannot_render_calls_says_so() -> None:
    row = '{"role": "assistant", "content": "", "tool_calls": [{"id": "a"}]}'
    for text in (row, '{"role": "tool", "content": "1"}'):
        with pytest.raises(msgspec.ValidationError, match="does not render"):
            msgspec.json.decode(text, type=TrainedTurn)
