"""Calls of tools: what engines are sent, what they read, and the keys of the log."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gristmill.core.engine import (
    Ability,
    CalledFunction,
    Completion,
    Message,
    Request,
    Sampling,
    ToolCall,
)
from gristmill.core.errors import RecipeError, RequestRefusedError
from gristmill.engines.batch.anthropic import AnthropicBatch, AnthropicDialect
from gristmill.engines.log import CompletionLog, request_key
from gristmill.engines.openai import OpenAI
from gristmill.engines.reading import calls_in, calls_of, sent
from gristmill.engines.scripted import Reply, Scripted
from gristmill.engines.transformers.causal import Transformers, TransformersEngine
from gristmill.verifiers.toolbox import Toolbox

TOOLS = Toolbox().schemas()
CALL = ToolCall("c1", CalledFunction("calculator", '{"expression": "1 + 1"}'))
TALK = (
    Message("user", "1 + 1?"),
    Message("assistant", "", tool_calls=(CALL,)),
    Message("tool", "2", tool_call_id="c1"),
)
WIRED = {"id": "c1", "type": "function", "function": msgspec.to_builtins(CALL.function)}


def answered(wire: Any, message: dict[str, Any], reason: str, request: Request) -> tuple[Completion, Any]:
    body = wire.chat("")
    body["choices"][0] |= {"message": {"role": "assistant", **message}, "finish_reason": reason}

    async def main() -> tuple[Completion, Any]:
        async with (
            wire.server(lambda b, c: wire.http(body)) as server,
            OpenAI(base_url=server.url, model="m").open() as engine,
        ):
            [found] = await engine.generate(request)
            return found, server.bodies[0]

    return asyncio.run(main())


def test_tools_calls_and_results_are_sent_as_the_protocol_has_them(wire: Any) -> None:
    found, body = answered(wire, {"content": "It is 2."}, "stop", Request(TALK, Sampling(), 1, tools=TOOLS))
    assert body["tools"] == msgspec.json.decode(TOOLS) and found.tool_calls == ()
    assert body["messages"][1] == {"role": "assistant", "content": "", "tool_calls": [WIRED]}
    assert body["messages"][2] == {"role": "tool", "content": "2", "tool_call_id": "c1"}
    assert sent(TALK[:1], "reasoning_content") == [{"role": "user", "content": "1 + 1?"}]


@pytest.mark.parametrize("reason", ["tool_calls", "stop"])
def test_calls_are_read_and_end_the_turn(wire: Any, reason: str) -> None:
    request = Request(TALK[:1], Sampling(), 1, tools=TOOLS)
    found, _ = answered(wire, {"content": None, "tool_calls": [WIRED]}, reason, request)
    assert (found.finish_reason, found.text, found.tool_calls) == ("tool_calls", "", (CALL,))
    assert not found.finished
    unasked, _ = answered(
        wire, {"content": None, "tool_calls": [WIRED]}, "tool_calls", Request(TALK, Sampling())
    )
    assert unasked.finish_reason == "tool_calls" and unasked.tool_calls == ()


def test_calls_that_were_cut_off_are_none(wire: Any) -> None:
    request = Request(TALK[:1], Sampling(), 1, tools=TOOLS)
    found, _ = answered(wire, {"content": "", "tool_calls": [WIRED]}, "length", request)
    assert (found.finish_reason, found.tool_calls) == ("length", ())


@pytest.mark.parametrize(
    ("given", "calls"),
    [
        ([WIRED], (CALL,)),
        ({"name": "f", "arguments": {"a": 1}}, (ToolCall("call_0", CalledFunction("f", '{"a":1}')),)),
        ([{"function": {"name": "f"}}], (ToolCall("call_0", CalledFunction("f", "{}")),)),
        ([WIRED, {"function": {"arguments": "{}"}}], ()),
        (["f"], ()),
        ([{"function": None}], ()),
    ],
)
def test_servers_write_calls_in_several_ways(given: Any, calls: tuple[ToolCall, ...]) -> None:
    assert calls_of(given) == calls


def test_calls_in_tags_are_taken_out_of_a_text() -> None:
    said = 'I look.\n<tool_call>\n{"name": "f", "arguments": {"a": {}}}\n</tool_call>'
    text, [call] = calls_in(said)
    assert (text, call.function) == ("I look.", CalledFunction("f", '{"a":{}}'))
    for other in ("<tool_call>{f}</tool_call>", "no call", '<tool_call>{"a": 1}</tool_call>'):
        assert calls_in(other) == (other, ())


def test_the_log_keeps_calls_and_keys_without_tools_stay(tmp_path: Path) -> None:
    plain = Request(TALK[:1], Sampling(), 1)
    assert "tool" not in request_key("m", plain).request
    offered = Request(TALK, Sampling(), 1, tools=TOOLS)
    other = Request(TALK, Sampling(), 1, tools=Toolbox(names=("code",)).schemas())
    keys = {request_key("m", r).digest for r in (plain, Request(TALK, Sampling(), 1), offered, other)}
    assert len(keys) == 4
    answer = Completion("", "tool_calls", tool_calls=(CALL,))

    async def put(log: CompletionLog) -> None:
        await log.put(request_key("m", offered), 0, [answer])

    with CompletionLog(tmp_path / "log.sqlite") as log:
        asyncio.run(put(log))
    with CompletionLog(tmp_path / "log.sqlite") as log:
        assert log.get(request_key("m", offered), 0, 1) == {0: answer}


def test_a_scripted_engine_calls_tools_and_reads_results() -> None:
    replies = (
        Reply((Completion("It is 2."),), match="2"),
        Reply((Completion("", "tool_calls", tool_calls=(CALL,)),)),
    )
    engine = Scripted(replies=replies).open()
    assert Ability.TOOLS in engine.abilities

    def ask(talk: tuple[Message, ...]) -> Completion:
        return asyncio.run(engine.generate(Request(talk, Sampling(), 1, tools=TOOLS)))[0]

    assert ask(TALK[:1]).tool_calls == (CALL,) and ask(TALK).text == "It is 2."


class Tokenizer:
    """What a local engine asks of a tokenizer, with the template at work."""

    def __init__(self, template: str) -> None:
        self.chat_template = template

    def apply_chat_template(self, turns: Any, **options: Any) -> str:
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        return (
            ImmutableSandboxedEnvironment().from_string(self.chat_template).render(messages=turns, **options)
        )

    def __call__(self, text: str, **options: Any) -> dict[str, list[int]]:
        return {"input_ids": list(text.encode())}


def test_a_local_model_renders_tools_through_its_template_or_says_that_it_cannot() -> None:
    engine = TransformersEngine(Transformers(model="none", context=10_000))
    engine.tokenizer = Tokenizer(
        "{% for t in tools %}[{{ t.function.name }}]{% endfor %}{% for m in messages %}{{ m.role }}:"
        "{% for c in m.tool_calls or [] %}{{ c.function.arguments.expression }}{% endfor %}{{ m.content }};"
        "{% endfor %}"
    )
    request = Request(TALK, Sampling(), 1, tools=TOOLS)
    written = bytes(engine.tokens(request, "reasoning_content", continued=True)).decode()
    assert written == "[calculator]user:1 + 1?;assistant:1 + 1;tool:2;"
    engine.tokenizer = Tokenizer("{% for m in messages %}{{ m.content }}{% endfor %}")
    with pytest.raises(RecipeError, match=r"template takes no tools\. Set 'protocol: text'"):
        engine.tokens(request, "reasoning_content", continued=True)


def test_a_batch_that_takes_no_tools_refuses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    dialect = AnthropicDialect(AnthropicBatch(model="m"))
    for request in (Request(TALK[:1], Sampling(), tools=TOOLS), Request(TALK, Sampling())):
        with pytest.raises(RequestRefusedError, match="sends no tools"):
            dialect.line("x", request, 0)
