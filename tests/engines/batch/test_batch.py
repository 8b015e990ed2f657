"""The batch APIs as engines: gathering, answers in any order, failures, and being killed and resumed."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Any

import odd_batches
import pytest
from odd_server import Odd

from gristmill.core.engine import Ability, Completion, Message, Request, Sampling
from gristmill.core.errors import LogError, RecipeError, RequestRefusedError, RunStopped, TransientError
from gristmill.engines import AnthropicBatch, OpenAIBatch
from gristmill.engines.batch.engine import BatchEngine, Batching
from gristmill.engines.openai import OpenAI
from gristmill.pipelines import run

QUICK = {"gather": 0.05, "poll": 0.02}


def ask(text: str, seed: int | None = 5, **sampling: Any) -> Request:
    return Request((Message("system", "be brief"), Message("user", text)), Sampling(**sampling), seed)


def opened(odd: Odd, behaviour: str = "batches", **options: Any) -> BatchEngine:
    batch = Batching(**{**QUICK, **options})
    return OpenAIBatch(base_url=odd.url(behaviour), model="m", batch=batch).open()


def answers(engine: BatchEngine, folder: Path, *requests: Request) -> list[Completion | BaseException]:
    async def main() -> list[Completion | BaseException]:
        engine.keep_in(folder)
        async with engine, asyncio.timeout(20):
            got = await asyncio.gather(*(engine.generate(r) for r in requests), return_exceptions=True)
        return [g if isinstance(g, BaseException) else g[0] for g in got]

    return asyncio.run(main())


def sent(odd: Odd, method: str, path: str) -> int:
    return sum((v.request.method, v.path) == (method, path) for v in odd.visits)


def files(folder: Path) -> list[Path]:
    return sorted((folder / "batches").glob("*.json"))


def test_what_is_asked_at_once_is_one_batch_and_every_answer_finds_its_request(
    odd: Odd, tmp_path: Path
) -> None:
    got = answers(opened(odd), tmp_path, *(ask(f"q{i}", seed=i) for i in range(40)))
    assert [g.text for g in got if isinstance(g, Completion)] == [f"to q{i} {i}" for i in range(40)]
    assert sent(odd, "POST", "batches") == sent(odd, "POST", "files") == 1
    assert files(tmp_path) == []


def test_samples_of_one_request_are_requests_of_their_own(odd: Odd, tmp_path: Path) -> None:
    async def main() -> list[str]:
        engine = opened(odd)
        engine.keep_in(tmp_path)
        async with engine:
            return [c.text for c in await engine.generate(ask("q", seed=10), first=2, n=3)]

    assert asyncio.run(main()) == ["to q 12", "to q 13", "to q 14"]


def test_batches_are_no_larger_than_allowed(odd: Odd, tmp_path: Path) -> None:
    assert len(answers(opened(odd, requests=4), tmp_path, *(ask(f"q{i}") for i in range(10)))) == 10
    assert sent(odd, "POST", "batches") == 3
    assert (
        len(answers(opened(odd, megabytes=0.001), tmp_path, *(ask("y" * 600 + str(i)) for i in range(4))))
        == 4
    )
    assert sent(odd, "POST", "batches") == 7


def test_what_did_not_succeed_is_told_apart_and_asked_again(odd: Odd, tmp_path: Path) -> None:
    requests = [ask("fine"), ask("expired"), ask("broken"), ask("refused")]
    got = answers(opened(odd), tmp_path, *requests)
    kinds = [type(g) for g in got]
    assert kinds == [Completion, TransientError, TransientError, RequestRefusedError]
    assert isinstance(got[1], TransientError) and got[1].congested  # no sign of a server that fails
    assert "no such thing" in str(got[3])
    again = answers(opened(odd), tmp_path, *requests[1:3])
    assert [g.text for g in again if isinstance(g, Completion)] == ["to expired 5", "to broken 5"]


def test_a_later_process_waits_for_what_a_former_one_has_submitted(odd: Odd, tmp_path: Path) -> None:
    async def killed() -> None:
        engine = opened(odd, "batches-slow")
        engine.keep_in(tmp_path)
        async with engine:
            asking = [asyncio.create_task(engine.generate(ask(f"q{i}"))) for i in range(3)]
            while not sent(odd, "GET", "batches/batch_0"):
                await asyncio.sleep(0.01)
            for task in asking:
                task.cancel()

    asyncio.run(killed())
    [state] = files(tmp_path)
    assert json.loads(state.read_text())["batch"] == "batch_0"
    odd_batches.finish(odd.visits[-1])
    got = answers(opened(odd, "batches-slow"), tmp_path, *(ask(f"q{i}") for i in range(3)))
    assert [g.text for g in got if isinstance(g, Completion)] == [f"to q{i} 5" for i in range(3)]
    assert sent(odd, "POST", "batches") == 1
    assert files(tmp_path) == []


def test_a_batch_whose_creation_was_not_heard_of_is_found_again(odd: Odd, tmp_path: Path) -> None:
    [got] = answers(opened(odd, "batches-unheard"), tmp_path, ask("q"))
    assert isinstance(got, Completion) and got.text == "to q 5"
    assert sent(odd, "POST", "batches") == 1


def test_killed_while_it_was_being_created_it_is_found_or_submitted_anew(odd: Odd, tmp_path: Path) -> None:
    engine = opened(odd)
    engine.keep_in(tmp_path)
    engine._journal.begin(["0" * 32])  # the server never got it
    [got] = answers(opened(odd), tmp_path, ask("q"))
    assert isinstance(got, Completion) and files(tmp_path) == []


def test_a_batch_that_is_refused_ends_the_run_with_the_servers_words(odd: Odd, tmp_path: Path) -> None:
    [got] = answers(opened(odd, "batches-refused"), tmp_path, ask("q"))
    assert isinstance(got, RunStopped) and "wrong key" in str(got)
    assert files(tmp_path) == []
    [got] = answers(opened(odd, "batches-invalid"), tmp_path, ask("q"))
    assert isinstance(got, RunStopped) and "model 'm' does not exist" in str(got)


def test_a_file_that_cannot_be_read_is_named_and_not_overlooked(odd: Odd, tmp_path: Path) -> None:
    (tmp_path / "batches").mkdir()
    (tmp_path / "batches/x.json").write_text("{")
    with pytest.raises(LogError, match=r"x\.json cannot be read"):
        answers(opened(odd), tmp_path, ask("q"))


def test_its_completions_have_the_keys_of_single_requests(odd: Odd) -> None:
    options = {"base_url": odd.url("batches"), "model": "m", "extra": {"top_k": 3}}
    batch, single = OpenAIBatch(**options).open(), OpenAI(**options).open()
    assert batch.model == single.model
    assert batch.abilities == single.abilities - {Ability.MANY}


def anthropic(odd: Odd, monkeypatch: pytest.MonkeyPatch, **options: Any) -> BatchEngine:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k-secret")
    batch = Batching(**QUICK)
    return AnthropicBatch(base_url=odd.url("messages"), model="c", batch=batch, **options).open()


def test_anthropics_protocol(odd: Odd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [
        ask("a", temperature=0.5, stop=("X",)),
        ask("b", max_tokens=7),
        ask("expired"),
        ask("refused"),
        ask("c", min_p=0.1),
        ask("d", temperature=1.5),
    ]
    got = answers(anthropic(odd, monkeypatch), tmp_path, *requests)
    assert got[0] == Completion("to a", "stop", 7, 5, reasoning="hm")
    assert got[1] == Completion("to b", "length", 7, 5, reasoning="hm")
    assert [type(g) for g in got[2:]] == [TransientError] + [RequestRefusedError] * 3
    assert "no such thing" in str(got[3]) and "min_p" in str(got[4]) and "0 to 1, not 1.5" in str(got[5])
    created = next(v.body for v in odd.visits if v.request.method == "POST")
    assert created["requests"][0]["params"] == {
        "model": "c",
        "max_tokens": 512,
        "messages": [{"role": "user", "content": "a"}],
        "system": "be brief",
        "temperature": 0.5,
        "stop_sequences": ["X"],
    }
    again = answers(anthropic(odd, monkeypatch), tmp_path, ask("expired"))
    assert again == [Completion("to expired", "stop", 7, 5, reasoning="hm")]
    assert sent(odd, "POST", "messages/batches") == 2


def test_anthropics_batches_are_found_again_by_time_and_size(
    odd: Odd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def created() -> None:
        engine = anthropic(odd, monkeypatch)
        engine.keep_in(tmp_path)
        async with engine:
            asking = asyncio.create_task(engine.generate(ask("q")))
            while not sent(odd, "GET", "messages/batches/msgbatch_0"):
                await asyncio.sleep(0.005)
            asking.cancel()

    asyncio.run(created())
    [state] = files(tmp_path)
    state.write_text(json.dumps({**json.loads(state.read_text()), "batch": None}))
    assert answers(anthropic(odd, monkeypatch), tmp_path, ask("q")) == [
        Completion("to q", "stop", 7, 5, reasoning="hm")
    ]
    assert sent(odd, "POST", "messages/batches") == 1


def test_a_key_is_needed_and_stays_secret(odd: Odd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(RecipeError, match="ANTHROPIC_API_KEY"):
        AnthropicBatch(model="c").open()


def recipe(workspace: Any, odd: Odd, behaviour: str) -> Path:
    workspace.write_problems(12)
    engine = {"kind": "openai-batch", "base_url": odd.url(behaviour), "model": "m", "batch": QUICK}
    written: Path = workspace.write_recipe(engine, prices={"m": {"input": 1, "output": 10}})
    return written


def test_a_run_pays_half_and_needs_one_batch(
    odd: Odd, workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.path)
    done = run(recipe(workspace, odd, "batches"), quiet=True).summary
    assert done.stages[-1].rows_out == 12
    assert done.spent.usd == pytest.approx(12 * (10 * 1 + 5 * 10) / 1e6 / 2)
    assert sent(odd, "POST", "batches") == 1


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGKILL, id="killed"),
        pytest.param(signal.SIGINT, id="interrupted", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_killed_or_interrupted_submits_nothing_twice(
    odd: Odd, workspace: Any, number: signal.Signals
) -> None:
    """An interrupt does not wait for the batch, which may take a day."""
    written = recipe(workspace, odd, "batches-slow")
    process = workspace.start("run", str(written))
    until = time.monotonic() + 60
    while not sent(odd, "GET", "batches/batch_0"):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate(timeout=30)
    odd_batches.finish(odd.visits[-1])
    ended = workspace.gristmill("run", str(written), "--quiet")
    assert ended.returncode == 0, ended.stderr
    assert len(workspace.rows("01-sample")) == 12
    assert sent(odd, "POST", "batches") == 1
