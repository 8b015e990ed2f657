from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from gristmill.core.errors import GristmillError
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.verifiers.pool.memo import Memo
from gristmill.verifiers.pool.pool import Pool

# Each verdict tells when it was made, so one that was kept is the same twice.
VERIFIER = """
    import time
    from gristmill.core.verdicts import Outcome, Verdict

    def clock(completion, reference):
        if completion == "hang":
            time.sleep(600)
        return Verdict(Outcome(reference or "correct"), detail=str(time.perf_counter_ns()))
"""


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Pool]:
    (tmp_path / "clock_verifier.py").write_text(textwrap.dedent(VERIFIER))
    monkeypatch.syspath_prepend(str(tmp_path))
    return lambda **options: Pool("clock_verifier:clock", workers=1, wall=0.3, **options)


def right(detail: str = "") -> Verdict:
    return Verdict(Outcome.CORRECT, score=1.0, detail=detail)


def test_a_call_made_again_is_answered_without_a_worker(pool: Callable[..., Pool]) -> None:
    with pool() as workers:
        for outcome in ("correct", "incorrect", "unparseable"):
            first = workers.verify("a", outcome)
            assert workers.submit("a", outcome).done()
            assert workers.verify("a", outcome) == first
            assert workers.verify("b", outcome) != first


def test_many_calls_come_back_in_order_those_known_and_those_not(pool: Callable[..., Pool]) -> None:
    with pool() as workers:
        known = workers.verify("b", "incorrect")
        found = workers.verdicts([("a", "correct"), ("b", "incorrect"), ["c", "unparseable"]])
        assert [v.outcome.value for v in found] == ["correct", "incorrect", "unparseable"]
        assert found[1] == known
        assert workers.verdicts([("c", "unparseable")]) == found[2:]
        assert workers.verdicts([]) == []


def test_memo_0_asks_the_worker_each_time(pool: Callable[..., Pool]) -> None:
    with pool(memo=0) as workers:
        assert workers.verify("a", "") != workers.verify("a", "")


def test_what_may_come_from_the_machine_is_tried_again(pool: Callable[..., Pool]) -> None:
    with pool() as workers:
        assert workers.verify("a", "error") != workers.verify("a", "error")
        before = workers.verify("hang", "")
        pids = workers.pids
        assert before.outcome is workers.verify("hang", "").outcome is Outcome.TIMEOUT
        assert workers.pids != pids


def test_a_closed_pool_answers_nothing_from_memory(pool: Callable[..., Pool]) -> None:
    workers = pool()
    workers.verify("a", "")
    workers.close()
    with pytest.raises(GristmillError, match="closed"):
        workers.verify("a", "")
    with pytest.raises(GristmillError, match="closed"):
        workers.verdicts([("a", "")])


def test_the_oldest_verdict_makes_room() -> None:
    memo = Memo(2)
    for i in range(3):
        memo.keep(b"%d" % i, right(str(i)))
    assert [memo.get(b"%d" % i) for i in range(3)] == [None, right("1"), right("2")]


@pytest.mark.parametrize("size", [0, -1])
def test_a_memo_of_no_size_keeps_nothing(size: int) -> None:
    memo = Memo(size)
    memo.keep(b"a", right())
    assert memo.get(b"a") is None


def test_a_verdict_with_much_evidence_is_not_kept() -> None:
    memo = Memo(8)
    memo.keep(b"a", right("x" * 1_001))
    memo.keep(b"b", right("x" * 1_000))
    assert memo.get(b"a") is None and memo.get(b"b") is not None
