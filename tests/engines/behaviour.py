"""What every engine does with the same requests: checks of an engine that is open, each a coroutine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Any

import msgspec
import pytest

from gristmill.core.engine import (
    Ability,
    Completion,
    Engine,
    Message,
    Request,
    Sampling,
    TokenLogprob,
    TokenScore,
    score_request,
)
from gristmill.core.errors import RequestRefusedError

ANIMAL = json.dumps(
    {
        "type": "object",
        "properties": {"animal": {"enum": ["cat", "dog"]}},
        "required": ["animal"],
        "additionalProperties": False,
    }
)
LONG = 160
"""The tokens of a long answer: seconds of work for any engine on two cores."""

Check = Callable[[Engine], Coroutine[Any, Any, None]]
CHECKS: list[tuple[Check, frozenset[Ability]]] = []


def needs(*abilities: Ability) -> Callable[[Check], Check]:
    """Register a check, and what an engine must be able to do for it."""

    def register(check: Check) -> Check:
        CHECKS.append((check, frozenset(abilities)))
        return check

    return register


def ask(text: str, prefix: str = "", seed: int | None = 7, **sampling: Any) -> Request:
    return Request((Message("user", text),), Sampling(**{"max_tokens": 12, **sampling}), seed, prefix)


async def one(engine: Engine, request: Request, first: int = 0) -> Completion:
    (completion,) = await engine.generate(request, first=first)
    return completion


@needs(Ability.CHAT)
async def it_answers_and_counts_tokens(engine: Engine) -> None:
    answer = await one(engine, ask("Count from 1 to 50.", max_tokens=4, temperature=0.0))
    assert answer.text
    assert (answer.finish_reason, answer.completion_tokens) == ("length", 4)
    assert answer.prompt_tokens > 3
    assert answer.logprobs is None, "nobody asked for them"


@needs(Ability.CHAT)
async def a_stop_string_ends_the_text_and_is_not_in_it(engine: Engine) -> None:
    free = await one(engine, ask("Count from 1 to 50.", temperature=0.0, max_tokens=20))
    word = free.text.split()[2]
    stopped = await one(engine, ask("Count from 1 to 50.", temperature=0.0, max_tokens=20, stop=(word,)))
    assert stopped.finish_reason == "stop"
    assert stopped.text == free.text[: free.text.index(word)]


@needs(Ability.SEED)
async def a_seed_and_an_index_give_one_sample(engine: Engine) -> None:
    request = ask("Name an animal.", temperature=1.5)
    alone = [(await one(engine, request, i)).text for i in range(4)]
    again = [(await one(engine, request, i)).text for i in range(4)]
    shifted = [(await one(engine, msgspec.structs.replace(request, seed=8), i)).text for i in range(3)]
    assert alone == again
    assert shifted == alone[1:], "sample i is drawn with seed + i"
    assert len(set(alone)) > 1


@needs(Ability.MANY)
async def several_samples_are_those_asked_for_alone(engine: Engine) -> None:
    request = ask("Name an animal and say what it eats.", temperature=1.3)
    together = await engine.generate(request, n=3)
    later = await engine.generate(request, first=1, n=2)
    alone = [await one(engine, request, i) for i in range(3)]
    assert [c.text for c in later] == [c.text for c in alone[1:]]
    assert [c.text for c in together] == [c.text for c in alone]
    assert [c.prompt_tokens for c in together] == [alone[0].prompt_tokens, 0, 0]
    assert [c.completion_tokens for c in together] == [c.completion_tokens for c in alone]


@needs(Ability.MANY)
async def several_greedy_samples_are_one(engine: Engine) -> None:
    request = ask("Name an animal.", temperature=0.0)
    together = await engine.generate(request, n=2)
    assert [c.text for c in together] == [(await one(engine, request)).text] * 2


@needs(Ability.CONTINUE)
async def a_turn_is_continued_and_the_prefix_not_repeated(engine: Engine) -> None:
    answer = await one(engine, ask("What is 2+2?", prefix="2+2 =", temperature=0.0))
    assert answer.text.startswith(" 4")


@needs(Ability.LOGPROBS)
async def log_probabilities_are_those_of_the_sampled_tokens(engine: Engine) -> None:
    answer = await one(engine, ask("Count from 1 to 50.", temperature=0.0, max_tokens=8, logprobs=3))
    assert answer.logprobs is not None
    assert len(answer.logprobs) == answer.completion_tokens == 8
    assert "".join(t.token for t in answer.logprobs) == answer.text
    for token in answer.logprobs:
        assert len(token.top) == 3
        assert token.logprob <= 0
        assert [t.logprob for t in token.top] == sorted((t.logprob for t in token.top), reverse=True)
        assert token.token == token.top[0].token, "greedy takes the likeliest"
    (bare,) = await engine.generate(ask("Count from 1 to 50.", temperature=0.0, max_tokens=2, logprobs=0))
    assert bare.logprobs is not None
    assert [t.top for t in bare.logprobs] == [(), ()]


@needs(Ability.SCORE)
async def a_text_scores_what_it_was_sampled_with(engine: Engine) -> None:
    request = ask("Count from 1 to 50.", temperature=0.0, max_tokens=8, logprobs=0)
    sampled = await one(engine, request)
    assert sampled.logprobs is not None
    scored, copy = await engine.generate(score_request(request.messages, sampled.text), n=2)
    assert scored.logprobs is not None
    assert "".join(t.token for t in scored.logprobs) == scored.text == sampled.text
    assert scored.completion_tokens == 0
    assert copy.logprobs == scored.logprobs
    sums = [sum(t.logprob for t in c.logprobs or ()) for c in (sampled, scored)]
    assert sums[0] == pytest.approx(sums[1], abs=0.02)


@needs(Ability.SCORE)
async def an_unlikely_text_scores_lower(engine: Engine) -> None:
    messages = (Message("user", "What is 2+2?"),)
    scores = [
        await one(engine, score_request(messages, text)) for text in ("2+2 = 4 é", "2+2 = 9 é", "2+2 = ")
    ]
    sums = [sum(t.logprob for t in s.logprobs or ()) for s in scores]
    assert sums[0] > sums[1]
    assert all("".join(t.token for t in s.logprobs or ()) == s.text for s in scores)


@needs(Ability.CHAT)
async def a_prompt_longer_than_the_context_is_refused(engine: Engine) -> None:
    with pytest.raises(RequestRefusedError, match="context"):
        await engine.generate(ask("word " * 3000))
    assert (await one(engine, ask("Name an animal."))).text, "and the next one is answered"


@needs(Ability.CHAT)
async def a_schema_is_obeyed(engine: Engine) -> None:
    for seed in range(3):
        answer = await one(engine, ask("Tell me a story.", schema=ANIMAL, max_tokens=40, seed=seed))
        assert json.loads(answer.text)["animal"] in ("cat", "dog")
        assert answer.finish_reason == "stop"


@needs(Ability.CHAT)
async def a_schema_that_is_none_is_refused(engine: Engine) -> None:
    with pytest.raises(RequestRefusedError):
        await engine.generate(ask("Name an animal.", schema="{bad"))


@needs(Ability.CONTINUE)
async def fifty_at_once_each_get_their_own_answer(engine: Engine) -> None:
    asked = [
        ask(f"Say the number {i}.", prefix=f"Number {i} is written as", temperature=0.0, max_tokens=8)
        for i in range(100, 150)
    ]
    answers = await asyncio.gather(*(one(engine, request) for request in asked))
    right = [str(i) in answer.text for i, answer in zip(range(100, 150), answers, strict=True)]
    assert sum(right) >= 40, [a.text for a in answers]


@needs(Ability.SEED)
async def long_prompts_with_seeds_at_once_are_answered(engine: Engine) -> None:
    """More tokens than one step of the engine takes: a prompt in two steps once ended vLLM's CPU build."""
    asked = [
        ask(f"Number {i}. " + "Say something kind. " * 50, temperature=1.0, max_tokens=3) for i in range(14)
    ]
    answers = await asyncio.gather(*(one(engine, request) for request in asked))
    assert all(answer.completion_tokens for answer in answers)


@needs(Ability.CONTINUE)
async def a_cancelled_request_frees_its_slot(engine: Engine) -> None:
    """If they went on, what comes after them would wait longer than one of them takes alone."""
    long = ask("Count from 1 to 500.", prefix="1, 2, 3, 4, 5, 6, 7,", temperature=0.0, max_tokens=LONG)
    started = perf_counter()
    await one(engine, long)
    alone = perf_counter() - started
    tasks = [asyncio.ensure_future(one(engine, msgspec.structs.replace(long, seed=i))) for i in range(8)]
    await asyncio.wait(tasks, timeout=alone / 8)
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert not any(isinstance(e, Exception) for e in ended), ended
    started = perf_counter()
    await one(engine, ask("Name an animal.", max_tokens=1))
    assert perf_counter() - started < max(alone, 0.5)


every_check = pytest.mark.parametrize(("check", "needs"), CHECKS, ids=[check.__name__ for check, _ in CHECKS])
"""Of a test with the arguments ``check`` and ``needs``: the checks above, one at a time."""


def pretend(request: Request, index: int) -> Completion:
    """What the scripted engine says: words of its own, under the rules of the request."""
    sampling = request.sampling
    asked = request.messages[-1].content
    if len(asked.split()) > 1000:
        raise RequestRefusedError("scripted: longer than the context")
    if sampling.schema is not None:
        try:
            json.loads(sampling.schema)
        except ValueError as error:
            raise RequestRefusedError("scripted: no schema") from error
        return Completion('{"animal": "cat"}', completion_tokens=7)
    draw = (request.seed or 0) + index if sampling.temperature else 0
    if request.prefix:
        words = [" 4"] if "2+2" in asked else [" " + asked.split()[-1].strip(".")]
    elif asked.startswith("Count"):
        words = [f" {i}" for i in range(1, 400)]
    else:
        words = [" cat", " dog", " fox"][draw % 3 :]
    text, reason = "".join(words[: sampling.max_tokens]), "stop"
    if len(words) > sampling.max_tokens:
        reason = "length"
    ends = [text.index(stop) for stop in sampling.stop if stop in text]
    if ends:
        text, reason = text[: min(ends)], "stop"
    most = sampling.logprobs or 0
    tokens = tuple(
        TokenLogprob(w, -0.1, tuple(TokenScore(t, -0.1 - i) for i, t in enumerate((w, "?", "!")))[:most])
        for w in words[: sampling.max_tokens]
    )
    return Completion(
        text,
        reason,  # type: ignore[arg-type]
        prompt_tokens=len(asked.split()) if index == 0 else 0,
        completion_tokens=len(tokens),
        logprobs=None if sampling.logprobs is None else tokens,
    )


def pretend_score(messages: tuple[Message, ...], text: str) -> list[TokenLogprob]:
    """Tokens of the pretended model: words with the space before them."""
    parts = [" " + word for word in text.split(" ")]
    parts[0] = parts[0][1:]
    return [TokenLogprob(p, -5.0 if "9" in p and "+" not in p else -0.1) for p in parts if p]
