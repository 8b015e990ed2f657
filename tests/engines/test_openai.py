from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import msgspec
import pytest

from gristmill.core.engine import Ability, Completion, Request
from gristmill.core.errors import EngineError, RecipeError, RequestRefusedError, TransientError
from gristmill.core.registry import find
from gristmill.engines.openai import OpenAI

Ask = Callable[..., Request]
KEY = "sk-very-secret"


def _generate(
    wire: Any, handler: Any, request: Request, first: int = 0, n: int = 1, **options: Any
) -> tuple[list[Completion], Any]:
    async def main() -> tuple[list[Completion], Any]:
        async with wire.server(handler) as server:
            engine = OpenAI(base_url=server.url, model="m", **options).open()
            async with engine:
                return await engine.generate(request, first=first, n=n), server

    return asyncio.run(main())


def _error(wire: Any, answer: Any, request: Request, **options: Any) -> EngineError:
    handler = answer if callable(answer) else lambda body, count: answer
    with pytest.raises(EngineError) as caught:
        _generate(wire, handler, request, **options)
    assert "\n" not in str(caught.value)
    return caught.value


def test_it_is_registered() -> None:
    assert find("engines", "openai") is OpenAI


def test_defaults_send_only_what_every_server_knows(wire: Any, ask: Ask) -> None:
    (completion,), server = _generate(wire, lambda b, c: wire.http(wire.chat("4")), ask(max_tokens=9))
    assert completion == Completion("4", "stop", 7, 10)
    assert server.bodies == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "2 + 2 = ?"}],
            "temperature": 1.0,
            "top_p": 1.0,
            "max_tokens": 9,
            "seed": 5,
        }
    ]


def test_a_connection_that_the_server_has_closed_meanwhile_is_not_used_again(
    wire: Any, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a busy process meets it: it learns of the close only while it sends the next request."""
    monkeypatch.setattr("gristmill.engines.openai.engine._IDLE_SECONDS", 0.2)

    def serve(listener: socket.socket) -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                while b"2 + 2" not in connection.recv(65536):
                    pass
                connection.sendall(wire.http(wire.chat("4")))
                time.sleep(0.1)

    async def main(port: int) -> None:
        async with OpenAI(base_url=f"http://127.0.0.1:{port}/v1", model="m").open() as engine:
            assert (await engine.generate(ask()))[0].text == "4"
            time.sleep(0.4)  # not asyncio's: the loop must not see that the connection ends
            assert (await engine.generate(ask()))[0].text == "4"

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,), daemon=True)
        server.start()
        asyncio.run(main(listener.getsockname()[1]))
        server.join(10)
        assert not server.is_alive()


def test_options_and_extra_fields_are_sent(wire: Any, ask: Ask) -> None:
    request = ask(top_k=40, min_p=0.1, repetition_penalty=1.1, stop=("\n",), logprobs=2, temperature=0.5)
    _, server = _generate(
        wire,
        lambda b, c: wire.http(wire.chat("4", "5")),
        request,
        first=3,
        n=2,
        extra={"chat_template_kwargs": {"enable_thinking": False}},
        max_tokens_field="max_completion_tokens",
    )
    body = server.bodies[0]
    assert body["n"] == 2
    assert body["seed"] == 8, "the first sample's seed; the server adds the index of each"
    assert (body["top_k"], body["min_p"], body["repetition_penalty"], body["stop"]) == (40, 0.1, 1.1, ["\n"])
    assert (body["logprobs"], body["top_logprobs"], body["temperature"]) == (True, 2, 0.5)
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert body["max_completion_tokens"] == 512 and "max_tokens" not in body


def test_extra_fields_are_part_of_the_models_identity() -> None:
    plain = OpenAI(base_url="http://127.0.0.1:1/v1", model="m").open()
    one = OpenAI(base_url="http://127.0.0.1:1/v1", model="m", extra={"b": 1, "a": 2}).open()
    same = OpenAI(base_url="http://127.0.0.1:2/v1", model="m", extra={"a": 2, "b": 1}).open()
    assert plain.model == "m" and one.model == same.model != plain.model


def test_several_completions_share_the_total_and_keep_their_order(wire: Any, ask: Ask) -> None:
    body = wire.chat("a", "b", "c", usage=(7, 11))
    body["choices"].reverse()
    completions, _ = _generate(wire, lambda b, c: wire.http(body), ask(), n=3)
    assert [c.text for c in completions] == ["a", "b", "c"]
    assert [c.prompt_tokens for c in completions] == [7, 0, 0]
    assert [c.completion_tokens for c in completions] == [4, 4, 3]


def test_logprobs_are_read_and_count_the_tokens_of_siblings(wire: Any, ask: Ask) -> None:
    body = wire.chat("ab", "c", usage=(7, 3))
    token = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "z", "logprob": -1.5}]}
    body["choices"][0]["logprobs"] = {"content": [token, token]}
    body["choices"][1]["logprobs"] = {"content": [token]}
    completions, _ = _generate(wire, lambda b, c: wire.http(body), ask(logprobs=1), n=2)
    assert [c.completion_tokens for c in completions] == [2, 1]
    assert completions[0].logprobs is not None
    assert completions[0].logprobs[0].logprob == -0.5 and completions[0].logprobs[0].top[0].token == "z"


def test_a_truncated_answer_is_recorded_as_such(wire: Any, ask: Ask) -> None:
    (cut,), _ = _generate(wire, lambda b, c: wire.http(wire.chat("The ans", reason="length")), ask())
    assert cut.finish_reason == "length" and not cut.finished
    (empty,), _ = _generate(wire, lambda b, c: wire.http(wire.chat(None, reason="length")), ask())
    assert empty.text == "" and empty.finish_reason == "length" and not empty.finished


def test_a_server_that_ignores_a_schema_is_told_of(wire: Any, ask: Ask) -> None:
    error = _error(wire, wire.http(wire.chat("Once upon a time")), ask(schema="{}"))
    assert isinstance(error, RequestRefusedError) and "response_format" in str(error)
    for answer in (wire.chat('{"a": 1}'), wire.chat('{"a": ', reason="length")):
        (completion,), _ = _generate(wire, lambda b, c, a=answer: wire.http(a), ask(schema="{}"))
        assert completion.text.startswith('{"a"')


def test_an_unknown_finish_reason_is_other_and_missing_usage_is_zero(wire: Any, ask: Ask) -> None:
    answer = wire.chat("4", reason="eos_token_id", usage=None)
    (completion,), _ = _generate(wire, lambda b, c: wire.http(answer), ask())
    assert completion == Completion("4", "other", 0, 0)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<html><body>502 from the proxy</body></html>", "502 from the proxy"),
        (b'{"choices": [', "not a chat completion"),
        (b'{"choices": []}', "0 of 1 choices"),
        (b'{"error": {"message": "engine is dead"}}', "engine is dead"),
        (b'{"choices": [{"message": {"content": null}, "finish_reason": "stop"}]}', "the content is null"),
        (b'{"choices": [{"message": {"content": 4}}]}', "not a chat completion"),
        (b'{"choices": [{"message": {"content": "\xff"}}]}', "not a chat completion"),
        (b'{"choices": [{"message": {"content": "\\ud800"}}]}', "not a chat completion"),
        (b"\xff{", "not a chat completion"),
        (b"", "an empty body"),
    ],
)
def test_a_body_that_is_no_answer_may_be_tried_again(wire: Any, ask: Ask, body: bytes, says: str) -> None:
    error = _error(wire, wire.http(body), ask())
    assert isinstance(error, TransientError) and not error.congested
    assert says in str(error)


def test_fewer_choices_than_asked_for(wire: Any, ask: Ask) -> None:
    error = _error(wire, wire.http(wire.chat("only one")), ask(), n=4)
    assert isinstance(error, TransientError) and "1 of 4 choices" in str(error) and "'many'" in str(error)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_a_refusal_names_the_servers_reason_but_never_the_key(
    wire: Any, ask: Ask, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    answer = wire.http({"error": {"message": f"no good: {KEY}", "code": "x"}}, status)
    error = _error(wire, answer, ask(), api_key_env="MY_KEY")
    assert isinstance(error, RequestRefusedError)
    assert f"HTTP {status}" in str(error) and "no good" in str(error) and KEY not in str(error)


def test_the_key_is_sent_as_a_bearer_token(wire: Any, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    _, server = _generate(wire, lambda b, c: wire.http(wire.chat("4")), ask(), api_key_env="MY_KEY")
    assert f"Authorization: Bearer {KEY}\r\n" in server.heads[0]
    monkeypatch.delenv("MY_KEY")
    _, server = _generate(wire, lambda b, c: wire.http(wire.chat("4")), ask(), api_key_env="MY_KEY")
    assert "Authorization" not in server.heads[0]


@pytest.mark.parametrize(
    ("status", "congested"),
    [(408, False), (429, True), (500, False), (502, False), (503, True), (504, False)],
)
def test_statuses_worth_another_try(wire: Any, ask: Ask, status: int, congested: bool) -> None:
    error = _error(wire, wire.http({"detail": "later"}, status), ask())
    assert isinstance(error, TransientError)
    assert error.congested is congested and error.retry_after is None and "later" in str(error)


def test_retry_after_in_seconds_and_as_a_date(wire: Any, ask: Ask) -> None:
    error = _error(wire, wire.http({}, 429, Retry_After="7"), ask())
    assert isinstance(error, TransientError) and error.retry_after == 7.0
    error = _error(wire, wire.http({}, 503, Retry_After=formatdate(time.time() + 60, usegmt=True)), ask())
    assert isinstance(error, TransientError) and error.retry_after is not None
    assert 30 < error.retry_after <= 60
    error = _error(wire, wire.http({}, 429, Retry_After=formatdate(time.time() - 60, usegmt=True)), ask())
    assert isinstance(error, TransientError) and error.retry_after == 0.0
    error = _error(wire, wire.http({}, 429, Retry_After="soon"), ask())
    assert isinstance(error, TransientError) and error.retry_after is None


def test_an_empty_purse_is_no_passing_overload(wire: Any, ask: Ask) -> None:
    answer = wire.http({"error": {"message": "pay", "code": "insufficient_quota"}}, 429)
    assert isinstance(_error(wire, answer, ask()), RequestRefusedError)


def test_a_redirect_is_not_followed(wire: Any, ask: Ask) -> None:
    error = _error(wire, wire.http(b"", 301, Location="http://127.0.0.1:1/elsewhere"), ask())
    assert isinstance(error, RequestRefusedError) and "elsewhere" in str(error)


def test_a_server_that_hangs(wire: Any, ask: Ask) -> None:
    async def hang(body: dict[str, Any], count: int) -> bytes:
        await asyncio.sleep(60)
        return b""

    error = _error(wire, hang, ask(), request_timeout=0.2)
    assert isinstance(error, TransientError) and error.congested and "within 0.2 s" in str(error)


def test_connections_that_break(wire: Any, ask: Ask) -> None:
    whole = wire.http(wire.chat("4"))
    for part in (b"", whole[:20], whole[:-5]):
        error = _error(wire, part, ask())
        assert isinstance(error, TransientError) and not error.congested


def test_no_server_at_all(ask: Ask) -> None:
    async def main() -> None:
        async with OpenAI(base_url="http://127.0.0.1:9/v1", model="m").open() as engine:
            await engine.generate(ask())

    with pytest.raises(TransientError, match=r"127\.0\.0\.1:9"):
        asyncio.run(main())


def test_connections_are_kept(wire: Any, ask: Ask) -> None:
    peers: set[Any] = set()

    async def main() -> None:
        async with (
            wire.server(lambda b, c: wire.http(wire.chat("4"))) as server,
            OpenAI(base_url=server.url, model="m", concurrency=2).open() as engine,
        ):
            for _ in range(5):
                await engine.generate(ask())
                peers.update(id(t) for t in server._tasks)

    asyncio.run(main())
    assert len(peers) == 1


@pytest.mark.parametrize(
    ("owner", "text", "fields"),
    [
        ("vllm", " 4", {"continue_final_message": True, "add_generation_prompt": False}),
        ("llamacpp", "It is 4", {}),
        ("llamacpp", " 4", {}),
    ],
)
def test_a_turn_is_continued_as_the_server_does_it(
    wire: Any, ask: Ask, owner: str, text: str, fields: dict[str, bool]
) -> None:
    def handler(body: dict[str, Any], count: int) -> bytes:
        answer: bytes = wire.http(wire.chat(text) if body else {"data": [{"id": "m", "owned_by": owner}]})
        return answer

    async def main() -> list[dict[str, Any]]:
        async with (
            wire.server(handler) as server,
            OpenAI(base_url=server.url, model="m").open() as engine,
        ):
            assert Ability.CONTINUE in engine.abilities
            for _ in range(2):
                (completion,) = await engine.generate(ask(prefix="It is"))
                assert completion.text == " 4"
            bodies: list[dict[str, Any]] = server.bodies
            return bodies

    first, *asked = asyncio.run(main())
    assert first == {}, "the server is asked what it is, once"
    for body in asked:
        assert body["messages"][-1] == {"role": "assistant", "content": "It is"}
        assert {
            k: v for k, v in body.items() if k in ("continue_final_message", "add_generation_prompt")
        } == fields
    assert len(asked) == 2


def test_a_server_that_cannot_continue(wire: Any, ask: Ask) -> None:
    with pytest.raises(RecipeError, match="Set continue_mode"):
        _generate(wire, lambda b, c: wire.http({"data": [{"owned_by": "somebody"}]}), ask(prefix="It is"))
    options = OpenAI(base_url="http://127.0.0.1:1/v1", model="m", continue_mode="none")
    assert Ability.CONTINUE not in options.open().abilities


def test_abilities_can_be_narrowed() -> None:
    options = OpenAI(base_url="http://127.0.0.1:1/v1", model="m", abilities=("chat", "seed"))
    assert options.open().abilities == {Ability.CHAT, Ability.SEED}


@pytest.mark.parametrize(
    "fields",
    [
        {"base_url": "ftp://h/v1", "model": "m"},
        {"base_url": "http://h/v1", "model": ""},
        {"base_url": "http://h/v1", "model": "m", "concurrency": 0},
        {"base_url": "http://h/v1", "model": "m", "tries": -1},
        {"base_url": "http://h/v1", "model": "m", "api_key": KEY},
        {"base_url": "http://h/v1", "model": "m", "abilities": ["fly"]},
    ],
)
def test_options_out_of_range_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(fields, OpenAI)


@pytest.mark.parametrize("url", ["http://", "http://user:hunter2@h/v1"])
def test_a_url_that_cannot_be_used(url: str) -> None:
    with pytest.raises(RecipeError) as caught:
        OpenAI(base_url=url, model="m").open()
    assert "hunter2" not in str(caught.value)


def test_a_key_that_cannot_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", f"{KEY}\nX-Other: 1")
    with pytest.raises(RecipeError) as caught:
        OpenAI(base_url="http://127.0.0.1:1/v1", model="m", api_key_env="MY_KEY").open()
    assert KEY not in str(caught.value) and "$MY_KEY" in str(caught.value)
