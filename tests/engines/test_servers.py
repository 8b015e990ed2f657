"""Known servers: each row of docs/servers.md against a server that behaves as its documentation says."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from engines.calls import Ask, texts
from odd_server import Odd
from paths import ROOT

from gristmill.core.engine import Ability, Completion, Request
from gristmill.core.errors import RecipeError, RowRejected, RunStopped
from gristmill.engines.log.store import CompletionLog
from gristmill.engines.openai import OpenAI
from gristmill.engines.served import Servers
from gristmill.engines.session import Session

ROWS = re.findall(
    r"^\| ([\w -]+) \[\d+\] \| `(\S+)` \| `(\{.*\})` \|$",
    (ROOT / "docs/servers.md").read_text(),
    re.MULTILINE,
)
HOSTED = ("openai", "anthropic", "gemini", "mistral", "together", "openrouter", "deepseek", "azure")


def test_the_table_has_all_that_are_known() -> None:
    assert len(ROWS) == 13 and len({name for name, _, _ in ROWS}) == 13


@pytest.mark.parametrize(("name", "url", "keys"), ROWS, ids=[name for name, _, _ in ROWS])
def test_a_known_server_with_the_keys_of_its_row(
    odd: Odd, log: CompletionLog, ask: Ask, monkeypatch: pytest.MonkeyPatch, name: str, url: str, keys: str
) -> None:
    behaviour = name.lower().replace(" ", "-")
    given = msgspec.convert(yaml.safe_load(keys) | {"base_url": url, "model": "m"}, OpenAI, strict=False)
    for variable in given.key_names:
        monkeypatch.setenv(variable, f"key-of-{behaviour}" if behaviour in HOSTED else "")
    options = msgspec.structs.replace(given, base_url=odd.url(behaviour), backoff=0.001)
    needs = options.open().abilities

    async def main() -> list[Completion]:
        async with Session(options.open(), options, log, needs=needs) as session:
            sampled = await session.generate(ask(max_tokens=9), n=3)
            if Ability.CONTINUE in needs:
                sampled += await session.generate(ask(prefix="It is "))
            if Ability.LOGPROBS in needs:
                [answer] = await session.generate(ask(logprobs=0, seed=6))
                assert answer.logprobs
            return sampled

    assert set(texts(asyncio.run(main()))) == {"4"}
    bodies = [v.body for v in odd.visits if v.path == "chat/completions"]
    seeds = {"seed", "random_seed"} & {field for body in bodies for field in body}
    assert bool(seeds) == (Ability.SEED in needs)
    assert any(body.get("n") == 3 for body in bodies) == (Ability.MANY in needs)


@pytest.mark.parametrize(
    ("name", "prompt", "error"),
    [
        ("azure", "a bomb", RowRejected),
        ("openrouter", "a bomb", RowRejected),
        ("long-prompts", "a long one", RowRejected),
        ("openrouter", "I am poor", RunStopped),
        ("deepseek", "I am poor", RunStopped),
        ("openai", "fields that are not known", RunStopped),
    ],
)
def test_what_a_refusal_is_about(
    odd: Odd,
    log: CompletionLog,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    prompt: str,
    error: type[Exception],
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"key-of-{name}")
    azure = {"api_key_header": "api-key", "query": {"api-version": "2024-10-21"}} if name == "azure" else {}
    abilities = {"abilities": ("chat",)} if name == "deepseek" else {}
    options = OpenAI(base_url=odd.url(name), model="m", **azure, **abilities)  # type: ignore[arg-type]

    async def main() -> Any:
        async with Session(options.open(), options, log) as session:
            return await session.generate(ask(prompt))

    with pytest.raises(error, match="HTTP 4"):
        asyncio.run(main())
    assert len(odd.visits) == 1, "it is not tried again"


@pytest.mark.parametrize(
    ("ability", "says"),
    [
        (Ability.CONTINUE, "lacks 'continue an assistant turn': HTTP 400"),
        (Ability.LOGPROBS, "lacks 'token log-probabilities': an answer came without"),
        (Ability.SCORE, "lacks 'score given text'"),
    ],
)
def test_what_stages_need_is_tried_before_anything_is_paid_for(
    odd: Odd, log: CompletionLog, ask: Ask, ability: Ability, says: str
) -> None:
    abilities = ("chat", "continue", "logprobs", "score", "seed")
    options = OpenAI(base_url=odd.url("chat-only"), model="m", continue_mode="vllm", abilities=abilities)  # type: ignore[arg-type]

    async def main() -> None:
        async with Session(options.open(), options, log, needs=frozenset({ability})) as session:
            for seed in range(3):
                with pytest.raises(RecipeError, match=re.escape(says)) as caught:
                    await session.generate(ask(seed=seed))
                assert caught.value.remedy

    asyncio.run(main())
    assert len(odd.visits) == 1 and odd.visits[0].body["max_tokens"] == 1


def _asked(options: OpenAI, log: CompletionLog, requests: list[Request]) -> list[Any]:
    async def main() -> list[Any]:
        async with Session(options.open(), options, log, servers=Servers.beside(log.path)) as session:
            made = []
            for request in requests:
                try:
                    made.append((await session.generate(request))[0].text)
                except RunStopped as error:
                    made.append(error)
            return made

    return asyncio.run(main())


def test_a_model_that_is_swapped_in_mid_run_stops_it(odd: Odd, log: CompletionLog, ask: Ask) -> None:
    options = OpenAI(base_url=odd.url("swapped"), model="m")
    made = _asked(options, log, [ask(seed=i) for i in range(8)])
    assert made[:5] == ["4"] * 5 and all(isinstance(m, RunStopped) for m in made[5:])
    assert "from 'first', and now from 'second'" in str(made[5]) and "on_model_change" in made[5].remedy
    chats = [v for v in odd.visits if v.path == "chat/completions"]
    assert len(chats) == 6


def test_another_address_or_entry_under_the_same_name_is_said_before_the_log_is_used(
    odd: Odd, log: CompletionLog, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    options = OpenAI(base_url=odd.url("swapped"), model="m", on_model_change="note")
    request = ask()
    with caplog.at_level(logging.WARNING):
        _asked(options, log, [request])
        assert not caplog.records
        _asked(options, log, [request])
        assert "root was 'org/first', is 'org/second'" in caplog.text
        caplog.clear()
        _asked(msgspec.structs.replace(options, base_url=odd.url("vllm")), log, [request])
        assert f"are from {odd.url('swapped')}; this run asks {odd.url('vllm')}" in caplog.text
        caplog.clear()
        _asked(msgspec.structs.replace(options, base_url=odd.url("vllm"), revision="new"), log, [])
        assert not caplog.records, "it is another model to the log"
    assert len([v for v in odd.visits if v.path == "chat/completions"]) == 1, "the log answers for it"


def test_a_file_about_servers_that_cannot_be_read_is_no_reason_to_stop(
    odd: Odd, log: CompletionLog, ask: Ask
) -> None:
    path = Path(log.path).with_suffix(".servers.json")
    path.write_text("{")
    assert _asked(OpenAI(base_url=odd.url("plain"), model="m"), log, [ask()]) != []
    assert '"model": "m"' in path.read_text()
