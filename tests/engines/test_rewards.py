"""Reward models on servers: vLLM's routes, and replies that are none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from gristmill.core.engine import Ability, Completion, Message, Request, Sampling, score_request
from gristmill.core.errors import RequestRefusedError, ServerRefusedError, TransientError
from gristmill.engines import RewardServer

ASK = (Message("system", "Be kind."), Message("user", "2 + 2?"))


Asked = Callable[..., Any]


@pytest.fixture
def asked(wire: Any) -> Asked:
    """Asks a server that gives a reply: the completions, the body that was sent and the request's line."""

    def ask(
        reply: Any, request: Request | None = None, n: int = 1, status: int = 200, **options: Any
    ) -> tuple[list[Completion], dict[str, Any], str]:
        async def run() -> tuple[list[Completion], dict[str, Any], str]:
            async with wire.server(lambda body, number: wire.http(reply, status)) as server:
                async with RewardServer(base_url=server.url, model="rm", **options).open() as engine:
                    assert engine.abilities == {Ability.REWARD}
                    found = await engine.generate(request or score_request(ASK, "It is 4."), n=n)
                return found, server.bodies[0], server.heads[0].splitlines()[0]

        return asyncio.run(run())

    return ask


def pooled(data: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 12, "total_tokens": 12}
    return {"object": "list", "data": [{"index": 0, "object": "pooling", "data": data}], "usage": usage}


def test_pooling_gets_the_conversation_and_is_at_the_root(asked: Asked) -> None:
    [first, second], body, line = asked(pooled([0.25]), n=2, activation=False)
    assert (first.text, first.prompt_tokens) == ("[[0.25]]", 12)
    assert (second.text, second.prompt_tokens) == ("[[0.25]]", 0)
    assert line.startswith("POST /pooling ")
    assert body == {
        "model": "rm",
        "use_activation": False,
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "2 + 2?"},
            {"role": "assistant", "content": "It is 4."},
        ],
    }


def test_pooling_of_steps_gives_a_row_for_each(asked: Asked) -> None:
    [found], _, _ = asked(pooled([[0.1, 0.9], [0.7, 0.3]]))
    assert json.loads(found.text) == [[0.1, 0.9], [0.7, 0.3]]


def test_score_and_rerank_get_two_texts(asked: Asked) -> None:
    scored = {"data": [{"index": 0, "object": "score", "score": 0.5}], "usage": {"prompt_tokens": 3}}
    [found], body, line = asked(scored, route="score")
    assert (found.text, found.prompt_tokens) == ("[[0.5]]", 3)
    assert line.startswith("POST /v1/score ")
    assert body == {"model": "rm", "text_1": "Be kind.\n\n2 + 2?", "text_2": "It is 4."}
    ranked = {"results": [{"index": 0, "document": {"text": "x"}, "relevance_score": -1.5}]}
    [found], body, line = asked({**ranked, "usage": {"total_tokens": 7}}, route="rerank")
    assert (found.text, found.prompt_tokens) == ("[[-1.5]]", 7)
    assert line.startswith("POST /v1/rerank ")
    assert body["documents"] == ["It is 4."] and "text_2" not in body


@pytest.mark.parametrize(
    "reply",
    [
        b"not json",
        {},
        {"data": []},
        pooled("AAAA"),
        pooled([]),
        pooled([[]]),
        pooled([0.1, [0.2]]),
        pooled(["0.1"]),
        b'{"data": [{"data": [1e999]}]}',
        {"data": [{"data": [0.1]}, {"data": [0.2]}]},
        b"[" * 3000,
    ],
)
def test_a_body_that_is_no_reward_is_asked_for_again(asked: Asked, reply: Any) -> None:
    with pytest.raises(TransientError, match="not an answer of /pooling"):
        asked(reply)


def test_a_server_without_the_route_is_refused_as_a_whole(asked: Asked) -> None:
    with pytest.raises(ServerRefusedError):
        asked({"detail": "Not Found"}, status=404)


def test_a_reward_model_generates_nothing(asked: Asked) -> None:
    with pytest.raises(RequestRefusedError, match="generates nothing"):
        asked(pooled([1.0]), Request(ASK, Sampling()))


def test_the_route_and_the_activation_are_part_of_the_log_s_key() -> None:
    given = {"base_url": "http://h/v1", "model": "m"}
    kinds = [{}, {"route": "score"}, {"activation": True}, {"activation": False}, {"extra": {"task": "x"}}]
    assert len({RewardServer(**given, **kind).identity for kind in kinds}) == len(kinds)
