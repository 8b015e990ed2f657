"""What a server may answer, however odd, and what is made of it."""

from __future__ import annotations

import asyncio
import logging
import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from odd_replies import SAID, THOUGHT
from odd_server import Odd

from gristmill.core.engine import Completion, Message, Request, Sampling, score_request
from gristmill.core.errors import EngineError, RecipeError, RequestRefusedError, RowRejected, TransientError
from gristmill.engines import Session
from gristmill.engines.endpoints.endpoint import Endpoint
from gristmill.engines.endpoints.engine import Endpoints
from gristmill.engines.llamacpp.engine import LlamaCpp, LlamaCppEngine
from gristmill.engines.log import CompletionLog
from gristmill.engines.openai import OpenAI
from gristmill.engines.openai.replies import LEAST_LOGPROB
from gristmill.engines.reading import ReplyReader
from gristmill.engines.vllm.engine import Vllm, completion_of
from gristmill.engines.vllm.server import VllmServer


def ask(odd: Odd, name: str, request: Request | None = None, n: int = 1, **options: Any) -> Completion:
    request = request or Request((Message("user", "q"),), Sampling(max_tokens=16))

    async def asked() -> Completion:
        async with OpenAI(base_url=odd.url(name), model="m", **options).open() as engine:
            return (await engine.generate(request, n=n))[0]

    return asyncio.run(asked())


def with_logprobs(odd: Odd, name: str) -> Completion:
    return ask(odd, name, Request((Message("user", "q"),), Sampling(logprobs=1)))


@pytest.mark.parametrize(
    "name",
    [
        "thinks-in-reasoning-content",
        "thinks-in-reasoning",
        "thinks-in-details",
        "thinks-in-parts",
        "thinks-in-nested-parts",
        "thinks-in-tags",
        "thinks-in-begun-tags",
        "thinks-in-brackets",
    ],
)
def test_reasoning_is_apart_from_the_answer_wherever_it_is(odd: Odd, name: str) -> None:
    assert ask(odd, name) == Completion(SAID, "stop", 10, 5, reasoning=THOUGHT)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("thinks-for-ever", "length"), ("thinks-and-stops", "other"), ("thinks-and-says-nothing", "other")],
)
def test_reasoning_that_does_not_end_is_no_answer(odd: Odd, name: str, reason: Any) -> None:
    found = ask(odd, name)
    assert (found.text, found.finish_reason, found.reasoning) == ("", reason, THOUGHT)
    assert not found.finished


def test_what_is_done_with_reasoning_in_the_text_is_a_setting(odd: Odd) -> None:
    kept = ask(odd, "thinks-in-tags", reasoning_in_text="keep")
    assert kept.text == f"<think>\n{THOUGHT}\n</think>\n\n{SAID}" and not kept.reasoning
    assert ask(odd, "thinks-without-tags").text == THOUGHT
    begun = ask(odd, "thinks-without-tags", reasoning_in_text="begun")
    assert (begun.text, begun.reasoning) == ("", THOUGHT)


def test_a_continued_turn_stays_as_it_is(odd: Odd) -> None:
    request = Request((Message("user", "q"),), Sampling(), prefix="<think>\n")
    found = ask(odd, "thinks-in-begun-tags", request, continue_mode="prefill")
    assert found.text == f"{THOUGHT}\n</think>\n\n{SAID}"


def test_the_tokens_of_reasoning_are_counted_where_the_server_counts_them(odd: Odd) -> None:
    found = ask(odd, "counts-its-thoughts")
    assert (found.completion_tokens, found.reasoning_tokens) == (50, 40)


@pytest.mark.parametrize("number", range(6))
def test_the_synonyms_of_stop(odd: Odd, number: int) -> None:
    assert ask(odd, f"ends-by-{number}").finish_reason == "stop"


def test_an_answer_without_a_finish_reason_is_finished_where_all_is_counted(odd: Odd) -> None:
    assert ask(odd, "ends-without-a-word").finish_reason == "other"
    assert ask(odd, "ends-without-a-word-at-its-limit").finish_reason == "length"


def test_an_unknown_finish_reason_is_said_once(odd: Odd, caplog: pytest.LogCaptureFixture) -> None:
    async def twice() -> list[Completion]:
        async with OpenAI(base_url=odd.url("ends-oddly"), model="m").open() as engine:
            request = Request((Message("user", "q"),), Sampling())
            return [(await engine.generate(request))[0] for _ in range(2)]

    with caplog.at_level(logging.WARNING):
        assert [c.finish_reason for c in asyncio.run(twice())] == ["other", "other"]
    [said] = [r.getMessage() for r in caplog.records]
    assert "'sleepy' is not known" in said and "{sleepy: stop}" in said
    assert ask(odd, "ends-oddly", finish_reasons={"Sleepy": "length"}).finish_reason == "length"
    with pytest.raises(TransientError, match="'sleepy'"):
        ask(odd, "ends-oddly", finish_reasons={"sleepy": "error"})


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("filters", "", "content_filter"),
        ("refuses", "I cannot help with that.", "refusal"),
        ("calls-a-tool", "", "tool_calls"),
    ],
)
def test_no_content_is_an_answer_of_its_kind(
    odd: Odd, tmp_path: Path, name: str, text: str, reason: Any
) -> None:
    """Logged, and asked for once."""
    found = [in_session(odd, name, tmp_path) for _ in range(2)]
    assert found == [Completion(text, reason, 10, 5)] * 2
    assert len(odd.visits) == 1


def test_the_log_keeps_reasoning(odd: Odd, tmp_path: Path) -> None:
    found = [in_session(odd, "counts-its-thoughts", tmp_path) for _ in range(2)]
    assert found == [Completion(SAID, "stop", 10, 50, reasoning=THOUGHT, reasoning_tokens=40)] * 2
    assert len(odd.visits) == 1


def in_session(odd: Odd, name: str, folder: Path, **options: Any) -> Completion:
    chosen = OpenAI(base_url=odd.url(name), model="m", backoff=0.01, max_backoff=0.01, **options)

    async def asked() -> Completion:
        with CompletionLog(folder / "log.sqlite") as log:
            async with Session(chosen.open(), chosen, log) as session:
                [found] = await session.generate(Request((Message("user", "q"),), Sampling()))
        return found

    return asyncio.run(asked())


@pytest.mark.parametrize("name", ["fails-once", "aborts-once"])
def test_an_error_in_an_answer_is_asked_again_and_not_logged(odd: Odd, tmp_path: Path, name: str) -> None:
    assert in_session(odd, name, tmp_path).text == SAID
    assert len(odd.visits) == 2
    assert in_session(odd, name, tmp_path).text == SAID
    assert len(odd.visits) == 2


def test_content_that_is_null_for_no_reason_is_asked_for_again(odd: Odd, tmp_path: Path) -> None:
    with pytest.raises(RowRejected, match="the content is null"):
        in_session(odd, "says-nothing", tmp_path, tries=3)
    assert len(odd.visits) == 3


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("counts-in-floats", (10, 5)),
        ("counts-beyond-64-bits", (0, 0)),
        ("counts-below-zero", (0, 0)),
        ("begins-with-a-mark", (10, 5)),
    ],
)
def test_odd_counts_do_not_cost_the_answer(odd: Odd, name: str, counts: tuple[int, int]) -> None:
    found = ask(odd, name)
    assert (found.text, found.finish_reason) == (SAID, "stop")
    assert (found.prompt_tokens, found.completion_tokens) == counts


def test_odd_log_probabilities_do_not_cost_the_answer(odd: Odd) -> None:
    unlikely = with_logprobs(odd, "is-infinitely-unlikely")
    assert unlikely.logprobs is not None and unlikely.logprobs[0].logprob == LEAST_LOGPROB
    half = with_logprobs(odd, "halves-a-surrogate")
    assert half.logprobs is not None and half.logprobs[0].top[0].token == "\ufffd"
    for name in ("is-not-a-number", "has-odd-logprobs", "has-no-logprobs"):
        found = with_logprobs(odd, name)
        assert (found.text, found.logprobs) == (SAID, None), name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("offers-100-000-choices", "sent 100,000 choices, more than most_choices (1,024)"),
        ("talks-10-mb", "the answer has 10,000,000 characters, more than most_answer_chars (1,000,000)"),
    ],
)
def test_what_is_too_much_is_refused(odd: Odd, name: str, says: str) -> None:
    with pytest.raises(RequestRefusedError) as caught:
        ask(odd, name)
    assert says in str(caught.value)


def test_the_limits_are_settings(odd: Odd) -> None:
    assert ask(odd, "offers-100-000-choices", most_choices=100_000).text == SAID
    with pytest.raises(RequestRefusedError, match=r"longer than most_body_mb \(1 MiB\)"):
        ask(odd, "talks-10-mb", most_body_mb=1)
    with pytest.raises(RequestRefusedError, match=r"78 characters, more than most_answer_chars \(50\)"):
        ask(odd, "thinks-in-tags", most_answer_chars=50)


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("never-ends", RequestRefusedError, "longer than most_body_mb"),
        ("packs", RequestRefusedError, "longer than most_body_mb"),
        ("fails-without-end", TransientError, "HTTP 500"),
        ("heads-without-end", TransientError, "heads-without-end"),
        ("nests", TransientError, "not a chat completion"),
    ],
)
def test_what_has_no_end_is_cut_off_in_bounded_memory(
    odd: Odd, name: str, kind: type[EngineError], says: str
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(kind, match=says) as caught:
        ask(odd, name, most_body_mb=4, request_timeout=20)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 100, f"{grown:.0f} MiB"


def test_a_score_with_an_odd_count_is_kept(odd: Odd) -> None:
    request = score_request((Message("user", "q"),), "It")
    found = ask(odd, "scores-with-odd-counts", request, continue_mode="vllm", abilities=("chat", "score"))
    assert (found.text, found.prompt_tokens) == ("It", 0)


def test_errors_and_lists_of_models_may_be_nested_too(odd: Odd) -> None:
    with pytest.raises(RequestRefusedError, match="HTTP 400"):
        ask(odd, "nests-everything")
    with pytest.raises(RecipeError, match="cannot tell how this server continues"):
        ask(odd, "nests-everything", Request((Message("user", "q"),), Sampling(), prefix="It"))


def test_every_engine_reads_replies_alike(odd: Odd, tmp_path: Path) -> None:
    """The options reach each kind of engine, and each takes a reply apart by the same function."""
    url = odd.url("thinks-in-tags")
    request = Request((Message("user", "q"),), Sampling())

    async def first(options: Any) -> Completion:
        async with options.open() as engine:
            return (await engine.generate(request))[0]

    for options in (
        VllmServer(model="m", base_url=url),
        Endpoints(model="m", endpoints=(Endpoint(base_url=url),)),
    ):
        assert asyncio.run(first(options)).reasoning == THOUGHT
        kept = msgspec.structs.replace(options, reasoning_in_text="keep")
        assert asyncio.run(first(kept)).text.startswith("<think>")
        assert kept.open().model.endswith(" reasoning_in_text=keep")
    model = tmp_path / "m.gguf"
    model.write_bytes(b"GGUF")
    local = LlamaCppEngine(LlamaCpp(reasoning_in_text="begun"), model)
    assert local.model.endswith(" reasoning_in_text=begun")
    small = Endpoints(model="m", endpoints=(Endpoint(base_url=url),), most_answer_chars=50)
    with pytest.raises(RequestRefusedError, match="most_answer_chars"):
        asyncio.run(first(small))


def vllm_output(text: str, reason: str | None, *tokens: str) -> Any:
    scores = [{i: SimpleNamespace(decoded_token=t, logprob=-i - 1, rank=1)} for i, t in enumerate(tokens)]
    return SimpleNamespace(
        text=text, finish_reason=reason, token_ids=list(range(len(tokens))), logprobs=scores
    )


def test_vllm_in_process_reads_replies_alike() -> None:
    request = Request((Message("user", "q"),), Sampling(logprobs=0))
    reader = ReplyReader(Vllm(model="m"), "vllm")
    tokens = ("<think>", "Two", "</think>", "\n\n", "It", " is 4.", "<|im_end|>")
    output = vllm_output("<think>Two</think>\n\nIt is 4.", "stop", *tokens)
    found = completion_of(output, request, 3, reader)
    assert (found.text, found.reasoning, found.finish_reason) == ("It is 4.", "Two", "stop")
    assert (found.prompt_tokens, found.completion_tokens) == (3, 7)
    assert [t.token for t in found.logprobs or ()] == ["It", " is 4.", "<|im_end|>"]
    cut = completion_of(vllm_output("<think>Two", "length", *tokens[:2]), request, 3, reader)
    assert (cut.text, cut.reasoning, cut.finish_reason, cut.logprobs) == ("", "Two", "length", ())
    # A probe of one token: what it would think first says nothing about its answer.
    probe = completion_of(vllm_output("<think>", "length", "<think>"), request, 3, reader)
    assert (probe.text, probe.reasoning, probe.logprobs) == ("", "", ())
    for reason in (None, "abort", "error"):
        with pytest.raises(TransientError, match="aborted"):
            completion_of(vllm_output("It is", reason, "It", " is"), request, 3, reader)
