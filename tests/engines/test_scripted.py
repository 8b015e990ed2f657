from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gristmill.core.engine import (
    Ability,
    Completion,
    Message,
    Request,
    Sampling,
    TokenLogprob,
    score_request,
)
from gristmill.core.errors import InputError, RecipeError, RequestRefusedError, TransientError
from gristmill.engines.scripted import Reply, Scripted, ScriptedEngine, TextLikelihood

Ask = Callable[..., Request]


def _texts(engine: ScriptedEngine, request: Request, first: int = 0, n: int = 1) -> list[str]:
    return [c.text for c in asyncio.run(engine.generate(request, first=first, n=n))]


def test_the_first_reply_that_fits_answers(ask: Ask) -> None:
    engine = Scripted(
        replies=(
            Reply(("four",), "2 + 2"),
            Reply(("a sum",), r"\d+ \+ \d+", regex=True),
            Reply(("no idea",)),
        )
    ).open()
    assert _texts(engine, ask("What is 2 + 2?")) == ["four"]
    assert _texts(engine, ask("What is 31 + 2?")) == ["a sum"]
    assert _texts(engine, ask("Who?")) == ["no idea"]


def test_a_reward_model_is_told_by_the_message_and_the_answer() -> None:
    replies = (Reply(("[[2]]",), r"odd\?\nYes", regex=True), Reply(("[[0]]",), "\nNo"))
    engine = Scripted(replies=replies, reward=True).open()
    asked = (Message("user", "Is 7 odd?"),)
    said = [_texts(engine, score_request(asked, text)) for text in ("Yes.", "No.")]
    assert said == [["[[2]]"], ["[[0]]"]]


def test_nothing_fits(ask: Ask) -> None:
    engine = Scripted(replies=(Reply(("four",), "2 + 2"),)).open()
    with pytest.raises(RequestRefusedError, match="'Who"):
        asyncio.run(engine.generate(ask("Who?")))


def test_a_sample_depends_on_seed_plus_index_only(ask: Ask) -> None:
    engine = Scripted(replies=(Reply(tuple("abcdefgh")),)).open()
    four = _texts(engine, ask(seed=10), n=4)
    assert four == [_texts(engine, ask(seed=10), first=i)[0] for i in range(4)]
    assert four == [_texts(engine, ask(seed=10 + i))[0] for i in range(4)]
    assert len(set(_texts(engine, ask(seed=10), n=64))) == 8
    assert _texts(engine, ask("other", seed=10), n=32) != _texts(engine, ask(seed=10), n=32)


def test_latency_and_failures_change_no_answer(ask: Ask) -> None:
    replies = (Reply(tuple("abcdefgh")),)
    flaky = Scripted(replies=replies, latency=0.001, failure_rate=0.5).open()
    steady = Scripted(replies=replies).open()

    async def persist(request: Request) -> tuple[str, int]:
        for failures in range(100):
            try:
                return (await flaky.generate(request))[0].text, failures
            except TransientError:
                pass
        raise AssertionError

    async def main() -> list[tuple[str, int]]:
        return list(await asyncio.gather(*(persist(ask(seed=s)) for s in range(40))))

    first = asyncio.run(main())
    assert [text for text, _ in first] == [_texts(steady, ask(seed=s))[0] for s in range(40)]
    assert 10 < sum(failures for _, failures in first) < 100
    assert asyncio.run(main()) == first, "the same failures again"


def test_a_function_may_answer(ask: Ask) -> None:
    engine = ScriptedEngine(lambda request, i: f"{request.messages[-1].content} no. {i}", model="mine")
    first, second = asyncio.run(engine.generate(ask("one two three"), first=6, n=2))
    assert first == Completion("one two three no. 6", "stop", 3, 5)
    assert second == Completion("one two three no. 7", "stop", 0, 5)
    assert engine.model == "mine" and engine.requests == 1


def test_logprobs_are_an_ability_only_where_scripted(ask: Ask) -> None:
    scored = Completion("4", "stop", 1, 1, (TokenLogprob("4", -0.1),))
    engine = Scripted(replies=(Reply((scored,)),)).open()
    assert Ability.LOGPROBS in engine.abilities
    assert asyncio.run(engine.generate(ask(logprobs=0))) == [scored]
    assert asyncio.run(engine.generate(ask()))[0].logprobs is None
    assert Ability.LOGPROBS not in Scripted(replies=(Reply((scored, "5")),)).open().abilities


def test_replies_from_a_file(ask: Ask, tmp_path: Path) -> None:
    path = tmp_path / "replies.yaml"
    path.write_text("- match: 2 + 2\n  texts: [four, {text: fo, finish_reason: length}]\n")
    engine = Scripted(path=str(path)).open()
    answers = asyncio.run(engine.generate(ask(), n=32))
    assert {(a.text, a.finish_reason) for a in answers} == {("four", "stop"), ("fo", "length")}


@pytest.mark.parametrize("content", ["- {texts: []}", "- {text: a}", "a: [", "!!python/object:os.system {}"])
def test_a_bad_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "replies.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=r"replies\.yaml"):
        Scripted(path=str(path)).open()
    with pytest.raises(InputError, match="No such file"):
        Scripted(path=str(tmp_path / "none.yaml")).open()


@pytest.mark.parametrize("options", [{}, {"replies": [{"texts": ["a"], "match": "(", "regex": True}]}])
def test_unusable_options(options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        msgspec.convert(options, Scripted).open()


def test_given_likelihoods_score_texts_and_answers(ask: Ask) -> None:
    engine = Scripted(
        replies=(Reply(("It is four.",)),),
        likelihoods=(TextLikelihood(-0.1, match="four"), TextLikelihood(-3.0, asked="2 \\+ 2")),
    ).open()
    assert {Ability.SCORE, Ability.LOGPROBS} <= engine.abilities

    def mean(request: Request) -> float:
        scored = asyncio.run(engine.generate(request))[0].logprobs
        assert scored is not None
        assert all(sum(math.exp(t.logprob) for t in token.top) == pytest.approx(1) for token in scored)
        return sum(token.logprob for token in scored) / len(scored)

    likely = msgspec.structs.replace(ask("What is 2 + 2?"), score=True, prefix="That is four.")
    unlikely = msgspec.structs.replace(likely, prefix="That is five.")
    assert -0.15 <= mean(likely) <= -0.05
    assert -4.5 <= mean(unlikely) <= -1.5
    with pytest.raises(RequestRefusedError, match="no likelihood"):
        asyncio.run(engine.generate(msgspec.structs.replace(ask("Who?"), score=True, prefix="Nobody.")))
    own = msgspec.structs.replace(ask("What is 2 + 2?"), sampling=Sampling(logprobs=1))
    answer = asyncio.run(engine.generate(own))[0]
    assert answer.text == "It is four." and mean(own) > -0.16
    assert "".join(token.token for token in answer.logprobs or ()) == answer.text
