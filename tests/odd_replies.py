"""Behaviours of the odd server: what answers may look like."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from typing import Any

from aiohttp import web
from odd_server import Answer, Visit, behaviour, completion

THOUGHT = "Let me see. One or two? \\boxed{2} is wrong."
SAID = "It is \\boxed{1}."


@behaviour()
async def plain(visit: Visit) -> Answer:
    return completion(*[f"The answer to {visit.last} is \\boxed{{1}}."] * visit.body.get("n", 1))


def _fixed(name: str, answer: dict[str, Any] | bytes) -> None:
    """A behaviour that gives the same answer, or the same body, to every request."""

    async def same(visit: Visit) -> Answer:
        if isinstance(answer, bytes):
            return web.Response(body=answer, content_type="application/json")
        return answer

    same.__name__ = name
    behaviour()(same)


def _message(usage: Any = (10, 5), reason: Any = "stop", **fields: Any) -> dict[str, Any]:
    return completion(None, usage=usage, message={"role": "assistant", **fields}, finish_reason=reason)


# Where reasoning may be.
_fixed("thinks_in_reasoning_content", _message(content=f"\n\n{SAID}", reasoning_content=THOUGHT))
_fixed("thinks_in_reasoning", _message(content=SAID, reasoning=THOUGHT))
_fixed(
    "thinks_in_details",
    _message(content=SAID, reasoning_details=[{"type": "reasoning.text", "text": THOUGHT}]),
)
_fixed(
    "thinks_in_parts",
    _message(
        content=[
            {"type": "thinking", "thinking": THOUGHT, "signature": "c2ln"},
            {"type": "text", "text": "It is "},
            {"type": "text", "text": "\\boxed{1}."},
        ]
    ),
)
_fixed(
    "thinks_in_nested_parts",
    _message(
        content=[
            {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]},
            {"type": "text", "text": SAID},
        ]
    ),
)
_fixed("thinks_in_tags", _message(content=f"<think>\n{THOUGHT}\n</think>\n\n{SAID}"))
_fixed("thinks_in_begun_tags", _message(content=f"{THOUGHT}\n</think>\n\n{SAID}"))
_fixed("thinks_in_brackets", _message(content=f"[THINK]{THOUGHT}[/THINK]{SAID}"))
_fixed("thinks_for_ever", _message(content=f"<think>\n{THOUGHT}", reason="length"))
_fixed("thinks_and_stops", _message(content=f"<think>\n{THOUGHT}"))
_fixed("thinks_and_says_nothing", _message(content=None, reasoning_content=THOUGHT))
_fixed("thinks_without_tags", _message(content=THOUGHT, reason="length"))
_fixed(
    "counts_its_thoughts",
    {
        **_message(content=SAID, reasoning_content=THOUGHT),
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 50,
            "completion_tokens_details": {"reasoning_tokens": 40},
        },
    },
)

# Why answers end.
for _i, _name in enumerate(("eos", "eos_token", "STOP", "end_turn", None, "")):
    _fixed(f"ends_by_{_i}", _message(content=SAID, reason=_name))
_fixed("ends_without_a_word", _message(content=SAID, reason=None, usage=None))
_fixed("ends_without_a_word_at_its_limit", _message(content=SAID, reason=None, usage=(10, 16)))
_fixed("ends_oddly", _message(content=SAID, reason="sleepy"))
_fixed("filters", _message(content=None, reason="content_filter"))
_fixed("refuses", _message(content=None, refusal="I cannot help with that."))
_fixed("calls_a_tool", _message(content=None, reason="tool_calls", tool_calls=[{"id": "1"}]))
_fixed("says_nothing", _message(content=None))


@behaviour()
async def fails_once(visit: Visit) -> Answer:
    """An error inside an answer of HTTP 200, then the answer."""
    if visit.number == 0:
        return _message(content="It i", reason="error")
    return _message(content=SAID)


@behaviour()
async def aborts_once(visit: Visit) -> Answer:
    if visit.number == 0:
        return _message(content="", reason="abort")
    return _message(content=SAID)


def _solution(visit: Visit, index: int) -> tuple[str, str]:
    """What a model thinks and says to a turn of self-correction about a sum; pure in prompt and seed."""
    turn = sum(m["role"] == "assistant" for m in visit.body["messages"])
    problem = next(m["content"] for m in visit.body["messages"] if m["role"] == "user")
    right = sum(map(int, re.findall(r"\d+", problem)))
    draw = zlib.crc32(f"{visit.last} {turn} {visit.body['seed'] + index}".encode())
    if turn == 1:
        said = visit.body["messages"][-2]["content"].rpartition("</think>")[2]
        good = f"{{{right}}}" in said
        fits = good if draw % 4 else not good
        thought = f"It said {said}. [VERIFY] {'wrong' if fits else 'correct'}.?"
        return thought, f"I get {right}.\n[VERIFY] {'correct' if fits else 'wrong'}."
    answer = right + draw % 3 // 2 if turn else right + draw % 2
    return f"Is it \\boxed{{{right + 7}}}? No: {draw}", f"Try {draw % 5}: \\boxed{{{answer}}}"


def _solutions(visit: Visit, message: Callable[[str, str], dict[str, Any]]) -> Answer:
    """As many solutions as are asked for, each as ``message`` of what is thought and said."""
    found = completion(*[None] * visit.body.get("n", 1))
    for choice in found["choices"]:
        choice["message"] = {"role": "assistant"} | message(*_solution(visit, choice["index"]))
    return found


@behaviour()
async def solves(visit: Visit) -> Answer:
    return _solutions(visit, lambda thought, said: {"content": said})


@behaviour()
async def solves_in_tags(visit: Visit) -> Answer:
    return _solutions(visit, lambda thought, said: {"content": f"<think>\n{thought}\n</think>\n\n{said}"})


@behaviour()
async def solves_with_reasoning(visit: Visit) -> Answer:
    return _solutions(
        visit, lambda thought, said: {"content": f"\n\n{said}", "reasoning_content": f"{thought}\n"}
    )


@behaviour()
async def solves_in_parts(visit: Visit) -> Answer:
    return _solutions(
        visit,
        lambda thought, said: {
            "content": [{"type": "thinking", "thinking": thought}, {"type": "text", "text": said}]
        },
    )


# Numbers, characters and sizes.
def _raw(usage: str = "null", logprobs: str = "null", content: str = json.dumps(SAID), n: int = 1) -> bytes:
    choice = f'{{"message": {{"content": {content}}}, "finish_reason": "stop", '
    choice += f'"logprobs": {{"content": {logprobs}}}}}'
    return f'{{"choices": [{", ".join([choice] * n)}], "usage": {usage}}}'.encode()


_TOKEN = '[{"token": "It is", "logprob": %s, "top_logprobs": [{"token": "%s", "logprob": -1.5}]}]'
_fixed("counts_in_floats", _raw('{"prompt_tokens": 10.0, "completion_tokens": "5"}'))
_fixed("counts_beyond_64_bits", _raw(f'{{"prompt_tokens": {2**70}, "completion_tokens": {"9" * 5000}}}'))
_fixed(
    "scores_with_odd_counts",
    f'{{"choices": [{{}}], "usage": {{"prompt_tokens": {2**70}}}, "prompt_logprobs": [null, '
    '{"1": {"logprob": -0.5, "decoded_token": "It"}}]}'.encode(),
)
_fixed("counts_below_zero", _raw('{"prompt_tokens": -1, "completion_tokens": 1e999}'))
_fixed("begins_with_a_mark", b"\xef\xbb\xbf" + _raw('{"prompt_tokens": 10, "completion_tokens": 5}'))
_fixed("is_infinitely_unlikely", _raw(logprobs=_TOKEN % ("-Infinity", "It")))
_fixed("is_not_a_number", _raw(logprobs=_TOKEN % ("NaN", "It")))
_fixed("halves_a_surrogate", _raw(logprobs=_TOKEN % ("-0.5", "\\ud83d")))
_fixed("has_odd_logprobs", _raw(logprobs='[{"token": 7, "logprob": "?"}]'))
_fixed("has_no_logprobs", _raw())
_fixed("nests", _raw(content="[" * 100_000 + "]" * 100_000))


@behaviour(models=True)
async def nests_everything(visit: Visit) -> Answer:
    """Also in the list of models, and in errors."""
    status = 200 if visit.path == "models" else 400
    return web.Response(body=b"[" * 100_000, status=status, content_type="application/json")


@behaviour()
async def offers_100_000_choices(visit: Visit) -> Answer:
    return web.Response(body=_raw(n=100_000), content_type="application/json")


@behaviour()
async def talks_10_mb(visit: Visit) -> Answer:
    return web.Response(body=_raw(content=json.dumps("word " * 2_000_000)), content_type="application/json")


async def _endless(visit: Visit, status: int, chunk: bytes) -> Answer:
    response = web.StreamResponse(status=status, headers={"Content-Type": "application/json"})
    await response.prepare(visit.request)
    while True:
        await response.write(chunk)


@behaviour()
async def never_ends(visit: Visit) -> Answer:
    return await _endless(visit, 200, b" " * 65536)


@behaviour()
async def fails_without_end(visit: Visit) -> Answer:
    return await _endless(visit, 500, b"trouble " * 8192)


@behaviour()
async def packs(visit: Visit) -> Answer:
    """Two gigabytes of blanks in two megabytes, packed."""
    response = web.StreamResponse(headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})
    await response.prepare(visit.request)
    packer = zlib.compressobj(wbits=31)
    for _ in range(128):
        await response.write(packer.compress(b" " * (1 << 24)))
    return response


@behaviour()
async def heads_without_end(visit: Visit) -> Answer:
    """Headers for as long as anybody listens."""
    transport = visit.request.transport
    assert transport is not None
    transport.write(b"HTTP/1.1 200 OK\r\n")
    for i in range(100_000):
        if transport.is_closing():
            break
        transport.write(f"X-{i}: {'y' * 1000}\r\n".encode())
    transport.close()
    return web.Response()
