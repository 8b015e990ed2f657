"""A model verifier for callers that are not asynchronous, over a real completion log."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from gristmill.core.errors import RecipeError, RunStopped
from gristmill.core.verdicts import Outcome
from gristmill.engines.scripted import Reply, Scripted, ScriptedEngine
from gristmill.verifiers.judges.asking import Asking
from gristmill.verifiers.judges.host import Host
from gristmill.verifiers.judges.judge import Judge

JUDGE = Judge(asking=Asking(read="text"))
ENGINE = Scripted(
    replies=(
        Reply(("It is. [[correct]]",), match="right"),
        Reply(("It is not. [[incorrect]]",), match="wrong"),
    ),
    tries=1,
)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One item for each request that reaches an engine."""
    seen: list[int] = []
    generate = ScriptedEngine.generate

    async def counted(self: ScriptedEngine, request: object, **more: int) -> object:
        seen.append(1)
        return await generate(self, request, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(ScriptedEngine, "generate", counted)
    return seen


def test_verdicts_come_from_any_thread_and_each_text_is_paid_for_once(
    tmp_path: Path, requests: list[int]
) -> None:
    log = tmp_path / "log.sqlite"
    texts = [("right", "4", "P"), ("wrong", "4", "P"), ("right", "4", "P")]
    with Host(JUDGE, ENGINE, log=log) as host:
        first = [f.result().outcome for f in [host.submit(*t) for t in texts]]
        found: list[Outcome] = []
        thread = threading.Thread(target=lambda: found.append(host.submit(*texts[0]).result().outcome))
        thread.start()
        thread.join()
    assert first == [Outcome.CORRECT, Outcome.INCORRECT, Outcome.CORRECT]
    assert found == [Outcome.CORRECT]
    assert len(requests) == 2
    with Host(JUDGE, ENGINE, log=log) as host:
        assert host.submit(*texts[1]).result().outcome is Outcome.INCORRECT
    assert len(requests) == 2


def test_without_a_log_nothing_is_kept(requests: list[int]) -> None:
    for _ in range(2):
        with Host(JUDGE, ENGINE) as host:
            host.submit("right", "4", "P").result()
    assert len(requests) == 2


def test_a_request_that_fails_makes_an_error_verdict_and_the_others_go_on(tmp_path: Path) -> None:
    with Host(JUDGE, ENGINE, log=tmp_path / "log.sqlite") as host:
        neither, right = host.submit("neither", "4", "P"), host.submit("right", "4", "P")
        assert (neither.result().outcome, neither.result().rule) == (Outcome.ERROR, "request refused")
        assert right.result().outcome is Outcome.CORRECT


def test_what_ends_a_run_ends_every_call(tmp_path: Path) -> None:
    failing = Scripted(replies=(Reply(("x",)),), failure_rate=1.0, tries=1, backoff=0.0, concurrency=4)
    with Host(JUDGE, failing, log=tmp_path / "log.sqlite") as host:
        futures = [host.submit(str(i), "4", "P") for i in range(400)]
        errors = [f.exception() for f in futures]
    assert any(isinstance(e, RunStopped) for e in errors)


def test_an_engine_that_cannot_is_refused_before_it_is_opened() -> None:
    with pytest.raises(RecipeError, match="token log-probabilities; 'scripted' cannot"):
        Host(Judge(asking=Asking(read="probabilities")), ENGINE)


def test_a_log_that_cannot_be_opened_leaves_no_thread(tmp_path: Path) -> None:
    (tmp_path / "log.sqlite").write_text("no log")
    host = Host(JUDGE, ENGINE, log=tmp_path / "log.sqlite")
    before = judges()
    for _ in range(2):
        with pytest.raises(Exception, match="log"):
            host.submit("right", "4", "P")
    assert judges() <= before
    host.close()


def judges() -> set[threading.Thread]:
    """The hosts' threads that now run; another test's may be among them until its process ends."""
    return {t for t in threading.enumerate() if t.name == "gristmill-judge"}


def test_closing_ends_the_thread_and_what_is_at_work() -> None:
    before = judges()
    slow = Scripted(replies=(Reply(("[[correct]]",)),), latency=60.0)
    host = Host(JUDGE, slow)
    future = host.submit("x", "4", "P")
    host.close()
    assert future.cancelled()
    assert judges() <= before
