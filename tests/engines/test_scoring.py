"""Scoring of given text: the request, the protocol of vLLM's chat completions, and who refuses it."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.core.engine import Ability, Completion, Message, Request, Sampling, TokenLogprob, score_request
from gristmill.core.errors import EngineError, RecipeError, RequestRefusedError, TransientError
from gristmill.engines.log.store import CompletionLog, request_key
from gristmill.engines.openai import OpenAI
from gristmill.engines.scoring import spell
from gristmill.engines.scripted import Scripted, ScriptedEngine
from gristmill.engines.session import Session

ASK = (Message("user", "2 + 2 = ?"),)
HEADER = ["<|im_start|>", "user", "\n", "2 + 2 = ?", "<|im_end|>", "\n", "<|im_start|>", "assistant", "\n"]
TEXT = "It is 4.\n\nDone."
TOKENS = ["It", " is", " ", "4", ".\n\n", "Done", "."]


def vllm(tokens: list[str], text: str = "!") -> dict[str, Any]:
    """What a vLLM server answers: token ``i`` has the log-probability -i/10, and the first has none."""
    scores = [
        {str(100 + i): {"logprob": -i / 10, "rank": 1, "decoded_token": t}} if i else None
        for i, t in enumerate(tokens)
    ]
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "length"}
    usage = {"prompt_tokens": len(tokens), "completion_tokens": 1}
    return {"id": "x", "choices": [choice], "usage": usage, "prompt_logprobs": scores}


def score(wire: Any, answer: Any, text: str = TEXT, **options: Any) -> tuple[Completion, Any]:
    async def main() -> tuple[Completion, Any]:
        async with wire.server(lambda body, count: wire.http(answer)) as server:
            options.setdefault("continue_mode", "vllm")
            engine = OpenAI(base_url=server.url, model="m", abilities=("chat", "score"), **options).open()
            async with engine:
                [scored] = await engine.generate(score_request(ASK, text))
                return scored, server.bodies[-1]

    return asyncio.run(main())


def test_a_request_that_is_not_scored_has_the_key_it_always_had() -> None:
    plain = Request(ASK, Sampling(max_tokens=9), 5, "It")
    body = {
        "messages": [{"role": "user", "content": "2 + 2 = ?"}],
        "sampling": {"max_tokens": 9},
        "seed": 5,
        "prefix": "It",
    }
    assert json.loads(request_key("m", plain).request) == body
    assert request_key("m", Request(ASK, Sampling(max_tokens=9), 5, "It", score=False)) == request_key(
        "m", plain
    )
    assert (
        request_key("m", Request(ASK, Sampling(), None, "It")).digest
        != request_key("m", score_request(ASK, "It")).digest
    )


def test_an_empty_text_has_nothing_to_score() -> None:
    with pytest.raises(ValueError, match="empty"):
        score_request(ASK, "")


def test_vllm_is_asked_to_continue_and_the_texts_tokens_are_found(wire: Any) -> None:
    scored, body = score(wire, vllm(HEADER + TOKENS))
    assert body["messages"] == [
        {"role": "user", "content": "2 + 2 = ?"},
        {"role": "assistant", "content": TEXT},
    ]
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert (body["prompt_logprobs"], body["max_tokens"], body["temperature"]) == (0, 1, 0.0)
    assert "seed" not in body and "n" not in body
    assert scored.text == TEXT and scored.finished
    assert (scored.prompt_tokens, scored.completion_tokens) == (len(HEADER + TOKENS), 0)
    assert scored.logprobs is not None
    assert [t.token for t in scored.logprobs] == TOKENS
    assert [t.logprob for t in scored.logprobs] == [-i / 10 for i in range(9, 16)]


def test_the_field_for_max_tokens_is_the_servers_own(wire: Any) -> None:
    _, body = score(wire, vllm(HEADER + TOKENS), max_tokens_field="max_completion_tokens")
    assert body["max_completion_tokens"] == 1 and "max_tokens" not in body


@pytest.mark.parametrize(
    ("text", "tokens", "pieces"),
    [
        ("a b", ["x", "a", " b"], ("a", " b")),
        ("a", ["a"], ("a",)),
        ("\n\nSo", ["assistant\n\n", "\nSo"], ("\n", "\nSo")),
        ("\nSo", ["assistant", "\n\nSo"], ("\nSo",)),  # a token over the boundary counts whole
        ("So it", ["\nSo", " it"], ("So", " it")),
        ("end.  \n", ["\n", "end", "."], ("end", ".  \n")),  # the template cut the white space
        ("  end", ["<|a|>", "end"], ("  end",)),
        ("\n\nend", ["\n\n", "end"], ("\n\n", "end")),
        ("\n\nend", ["<|a|>", "\n", "\n", "end"], ("\n", "\n", "end")),
        ("Hello the world", ["Hello", "the", "world"], ("Hello", " the", " world")),  # SentencePiece
        ("x = 😀!", ["x", " =", " ", "\ufffd", "\ufffd", "\ufffd", "!"], ("x", " =", " ", "", "", "😀", "!")),
        ("x = 😀!", ["x", " =", " ", "", "", "😀", "!"], ("x", " =", " ", "", "", "😀", "!")),
        ("é", ["\n", "\ufffd", "\ufffd"], ("", "é")),
        ("a\ufffdb", ["a", "\ufffd", "b"], ("a", "\ufffd", "b")),
        ("It is 4", ["It", " is", " 5"], None),
        ("longer than that", ["that"], None),
        ("a", [], None),
        ("a\nb", ["a", "b"], None),  # only a space is ever lost in decoding
    ],
)
def test_tokens_spell_the_text_from_its_end(
    text: str, tokens: list[str], pieces: tuple[str, ...] | None
) -> None:
    found = spell(text, tokens)
    assert found == pieces
    assert found is None or "".join(found) == text


@settings(max_examples=100)
@given(
    st.lists(st.text(alphabet="ab \n\té€", min_size=1, max_size=3), min_size=1, max_size=8),
    st.lists(st.text(alphabet="ab \n", min_size=1, max_size=3), max_size=4),
)
def test_tokens_that_are_the_texts_parts_are_found_exactly(parts: list[str], before: list[str]) -> None:
    assert spell("".join(parts), before + parts) == tuple(parts)


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        ({"choices": [{}], "usage": None}, RequestRefusedError, "did not return prompt_logprobs"),
        (vllm([*HEADER, "It", " was"]), RequestRefusedError, "do not spell"),
        (vllm(TOKENS), RequestRefusedError, "do not spell"),  # the first token of a prompt has no score
        ({"choices": [], "prompt_logprobs": [None]}, TransientError, "no choices"),
        ({"choices": [{}], "prompt_logprobs": [{"1": {"logprob": "a"}}]}, TransientError, "not a scored"),
    ],
)
def test_an_answer_without_the_scores_is_refused(
    wire: Any, answer: Any, kind: type[EngineError], says: str
) -> None:
    with pytest.raises(kind, match=says):
        score(wire, answer)


def test_a_server_of_unknown_kind_is_not_asked(wire: Any) -> None:
    models = {"data": [{"owned_by": "somebody"}]}
    with pytest.raises(RecipeError, match="cannot tell how this server continues"):
        score(wire, models, continue_mode="auto")


def test_a_server_that_prefills_cannot_score(wire: Any) -> None:
    with pytest.raises(RequestRefusedError, match="only vLLM"):
        score(wire, vllm(HEADER + TOKENS), continue_mode="prefill")


def by_word(messages: tuple[Message, ...], text: str) -> list[TokenLogprob]:
    return [TokenLogprob(c, -math.log(2)) for c in text]


def session(log_path: Path, engine: ScriptedEngine, use: Callable[[Session], Any]) -> Any:
    async def main() -> Any:
        with CompletionLog(log_path) as log:
            async with Session(engine, Scripted(), log) as opened:
                return await use(opened)

    return asyncio.run(main())


def test_a_session_pays_for_a_score_once(log_path: Path) -> None:
    engine = ScriptedEngine(lambda r, i: "never", score=by_word)
    assert Ability.SCORE in engine.abilities

    async def twice(opened: Session) -> tuple[Completion, Completion, Completion]:
        [a] = await opened.generate(score_request(ASK, "abc"))
        [b] = await opened.generate(score_request(ASK, "abc"))
        [c] = await opened.generate(Request(ASK, Sampling(), prefix="abc"))
        return a, b, c

    a, b, c = session(log_path, engine, twice)
    assert a == b and a.text == "abc" and a.logprobs == tuple(by_word(ASK, "abc"))
    assert c.text == "never" and engine.requests == 2


def test_a_session_refuses_to_score_where_the_engine_cannot(log_path: Path) -> None:
    engine = ScriptedEngine(lambda r, i: "text")
    with pytest.raises(RecipeError, match=r"scripted.*cannot.*'score' among its abilities"):
        session(log_path, engine, lambda opened: opened.generate(score_request(ASK, "abc")))
    assert engine.requests == 0
