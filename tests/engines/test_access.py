"""How servers are reached: keys, headers, query, fields of the body, and what must never be shown."""

from __future__ import annotations

import asyncio
import logging
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from engines.calls import Ask, texts
from odd_server import Odd, completion

from gristmill.core.engine import Ability, Completion
from gristmill.core.errors import GristmillError, RecipeError, ServerRefusedError, TransientError
from gristmill.core.secrets import Secrets, refuse_secrets, without_controls
from gristmill.engines.endpoints import Endpoints
from gristmill.engines.endpoints.endpoint import Endpoint
from gristmill.engines.openai import OpenAI

KEY = "sk-proj-abcdef0123456789"
CLOSED = "http://127.0.0.1:9/v1"


def generated(options: Any, ask: Ask, rows: int = 1) -> list[Completion]:
    async def main() -> list[Completion]:
        async with options.open() as engine:
            return [(await engine.generate(ask(seed=i)))[0] for i in range(rows)]

    return asyncio.run(main())


def test_fields_are_left_out_and_renamed(odd: Odd, ask: Ask) -> None:
    options = OpenAI(
        base_url=odd.url("plain"),
        model="m",
        omit=("top_p", "temperature"),
        rename={"seed": "random_seed", "max_tokens": "max_completion_tokens"},
        extra={"top_p": 0.5},
    )
    generated(options, ask)
    assert set(odd.visits[0].body) == {"model", "messages", "random_seed", "max_completion_tokens", "top_p"}
    assert odd.visits[0].body["random_seed"] == 0


@pytest.mark.parametrize("given", [{"abilities": ("chat",)}, {"omit": ("seed",)}])
def test_a_server_without_seeds_is_sent_none(odd: Odd, ask: Ask, given: dict[str, Any]) -> None:
    options = OpenAI(base_url=odd.url("plain"), model="m", **given)
    assert Ability.SEED not in options.open().abilities
    generated(options, ask)
    assert "seed" not in odd.visits[0].body


def test_what_changes_the_answers_is_part_of_the_models_identity() -> None:
    def identity(**given: Any) -> str:
        return OpenAI(base_url=CLOSED, model="m", **given).open().model

    same: list[dict[str, Any]] = [
        {"omit": ("seed",)},
        {"rename": {"seed": "random_seed"}},
        {"headers": {"a": "b"}},
        {"query": {"a": "b"}},
    ]
    assert {identity(**given) for given in same} == {identity()} == {"m"}
    other: list[dict[str, Any]] = [
        {"omit": ("temperature",)},
        {"revision": "abc"},
        {"weights": "abc"},
        {"extra": {"a": 1}},
    ]
    assert len({identity(**given) for given in other} | {"m"}) == 5
    several = Endpoints(endpoints=(Endpoint(base_url=CLOSED),), model="m", revision="abc")
    assert several.open().model == identity(revision="abc")


def test_headers_and_query_from_the_environment(odd: Odd, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    options = OpenAI(
        base_url=odd.url("plain"),
        model="m",
        api_key_env="NOT_SET",
        headers={"api-key": "$MY_KEY", "X-Title": "a run"},
        query={"api-version": "2024-10-21", "code": "$MY_KEY"},
    )
    generated(options, ask)
    seen = odd.visits[0].request
    assert seen.headers["api-key"] == KEY and seen.headers["X-Title"] == "a run"
    assert "Authorization" not in seen.headers
    assert dict(seen.query) == {"api-version": "2024-10-21", "code": KEY}
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(RecipeError, match=r"\$MY_KEY is not set"):
        options.open()


def test_a_key_in_a_header_of_its_own(odd: Odd, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    generated(
        OpenAI(base_url=odd.url("plain"), model="m", api_key_env="MY_KEY", api_key_header="api-key"), ask
    )
    assert odd.visits[0].request.headers["api-key"] == KEY


def test_several_keys_are_used_in_turn_and_those_refused_are_dropped(
    odd: Odd, ask: Ask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keys = {"A": "good-one", "B": "empty-purse", "C": "wrong-key", "D": "good-two"}
    for name, key in keys.items():
        monkeypatch.setenv(name, key)
    options = OpenAI(base_url=odd.url("keyed"), model="m", api_key_env=tuple(keys))
    with caplog.at_level(logging.WARNING):
        answers = texts(generated(options, ask, 8))
    assert {"*** eno-doog", "*** owt-doog"} == set(answers) and len(odd.visits) == 10
    said = " ".join(r.getMessage() for r in caplog.records)
    assert "$B is not used any more" in said and "$C is not used any more" in said
    assert not any(key in said for key in keys.values())


def test_the_last_key_that_is_refused_is_the_servers_refusal(
    odd: Odd, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A", "wrong-key")
    monkeypatch.setenv("B", "empty-purse")
    options = OpenAI(base_url=odd.url("keyed"), model="m", api_key_env=("A", "B"))
    with pytest.raises(ServerRefusedError):
        generated(options, ask)
    monkeypatch.delenv("A")
    monkeypatch.delenv("B")
    with pytest.raises(RecipeError, match=r"none of \$A, \$B is set"):
        options.open()


def test_a_key_over_its_limit_rests(odd: Odd, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", "tired-key")
    monkeypatch.setenv("B", "good-key")
    options = OpenAI(base_url=odd.url("keyed"), model="m", api_key_env=("A", "B"))
    assert set(texts(generated(options, ask, 6))) == {"*** yek-doog"}
    assert len(odd.visits) == 7
    alone = OpenAI(base_url=odd.url("keyed"), model="m", api_key_env="A")
    with pytest.raises(TransientError) as caught:
        generated(alone, ask)
    assert caught.value.retry_after == 5.0 and caught.value.cause == "limited"


@pytest.mark.parametrize(
    "given",
    [
        {"api_key_env": KEY},
        {"api_key_env": ["OPENAI_API_KEY", "hf_abcdefghijABCDEFGHIJklmnop"]},
        {"headers": {"Authorization": f"Bearer {KEY}"}},
        {"headers": {"x-api-key": "0123456789abcdef0123"}},
        {"query": {"key": "AIzaSyA0123456789abcdefghijklmnopqrstuv"}},
        {"extra": {"provider": {"api_key": "0123456789abcdef0123"}}},
        {"extra": {"headers": [f"Bearer {KEY}"]}},
        {"base_url": "http://me:hunter2hunter2@127.0.0.1:1/v1"},
        {"base_url": "http://127.0.0.1:1/v1?api_key=0123456789abcdef"},
    ],
)
def test_secrets_are_refused_and_not_repeated(given: dict[str, Any]) -> None:
    data = {"base_url": CLOSED, "model": "m"} | given
    with pytest.raises(GristmillError) as caught:
        refuse_secrets(data, "engine")
    assert str(caught.value).startswith("engine.")
    with pytest.raises(GristmillError) as opened:
        OpenAI(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}).open()
    for error in (caught.value, opened.value):
        assert not any(secret in str(error) for secret in (KEY, "hunter2", "0123456789abcdef", "hf_abc"))


@pytest.mark.parametrize(
    "data",
    [
        {"api_key_env": "MY_API_KEY", "eos_token": "<|im_end|>", "token": "yes", "key": "answer"},
        {"path": "data/2024-10-21/key.jsonl", "dataset": "openai/gsm8k", "base_url": "https://h:8000/v1"},
        {"prompt": "Write to sk-someone@example.org about {problem} and http://u:p@h in the text."},
    ],
)
def test_ordinary_values_are_no_secrets(data: dict[str, Any]) -> None:
    refuse_secrets(data)


def test_a_secret_is_taken_out_of_all_that_comes_back() -> None:
    secrets = Secrets(["se/cret key", "abc"])
    assert secrets.out_of("a se/cret key, a se%2Fcret%20key, abc") == "a ***, a ***, abc"
    assert secrets.out_of_bytes(b"x se/cret key") == b"x ***"
    assert without_controls("a\x1b[31mred\x1b[0m\tb\x00\x9bc\u202ed") == "ared bcd"


def test_what_a_server_echoes_of_the_key_is_hidden(
    odd: Odd, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "good-echo-1234")
    [answer] = generated(OpenAI(base_url=odd.url("keyed"), model="m"), ask)
    assert answer.text == "*** 4321-ohce-doog"
    monkeypatch.setenv("OPENAI_API_KEY", "wrong-echo-1234")
    with pytest.raises(ServerRefusedError) as caught:
        generated(OpenAI(base_url=odd.url("keyed"), model="m"), ask)
    assert "wrong-echo" not in str(caught.value) and "***" in str(caught.value)


def test_certificates_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, ask: Ask) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    with pytest.raises(RecipeError, match=r"\$REQUESTS_CA_BUNDLE"):
        generated(OpenAI(base_url="https://127.0.0.1:9/v1", model="m"), ask)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the certificate is made with openssl")
def test_a_private_authority_through_the_environment(
    odd: Odd, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "ca.pem")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*command, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(completion("4"))

    async def main() -> list[Completion]:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate, key)
        app = web.Application()
        app.add_routes([web.post("/v1/chat/completions", answer)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        try:
            url = f"https://127.0.0.1:{runner.addresses[0][1]}/v1"
            async with OpenAI(base_url=url, model="m").open() as engine:
                return await engine.generate(ask())
        finally:
            await runner.cleanup()

    with pytest.raises(TransientError, match="certificate verify failed"):
        asyncio.run(main())
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, certificate)
            assert texts(asyncio.run(main())) == ["4"]


def test_a_proxy_is_taken_from_the_environment(odd: Odd, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """The odd server stands for the proxy: it is asked for a host that exists nowhere, by the whole URL."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{odd.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    [got] = generated(OpenAI(base_url="http://model.invalid/plain/v1", model="m"), ask)
    assert got.text.startswith("The answer to")
    assert [visit.request.host for visit in odd.visits] == ["model.invalid"]
