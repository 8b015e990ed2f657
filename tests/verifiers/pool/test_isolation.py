from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gristmill.core.errors import GristmillError, RecipeError
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.verifiers.pool.pool import Pool

# Found by the workers because they look for modules where the parent does.
VERIFIERS = """
    import os, signal, sys, time
    from gristmill.core.verdicts import Outcome, Verdict

    def echo(completion, reference):
        return Verdict(Outcome.CORRECT, score=1.0, extracted=completion)

    def naughty(completion, reference):
        started = time.process_time()
        match completion.split():
            case ["sleep", seconds]: time.sleep(float(seconds))
            case ["spin", seconds]:
                while time.process_time() - started < float(seconds): pass
            case ["killed", path]:
                with open(path, "a") as tries: tries.write("x")
                os.kill(os.getpid(), signal.SIGKILL)
            case ["once", path]:
                if not os.path.exists(path):
                    open(path, "x").close()
                    os.kill(os.getpid(), signal.SIGKILL)
            case ["raise"]: raise KeyError("lost")
            case ["exit"]: os._exit(3)
            case ["quit"]: sys.exit(4)
            case ["segfault"]: os.kill(os.getpid(), signal.SIGSEGV)
            case ["hog"]: bytearray(8 << 30)
            case ["grow"]:
                hoard = []
                while True: hoard.append(bytearray(1 << 20))
            case ["print"]:
                print("noise " * 100_000, flush=True)
                os.write(1, b"noise"); os.write(2, b"noise")
            case ["read"]: input()
            case ["none"]: return None
            case ["fork"]:
                if os.fork() == 0: time.sleep(600)
                time.sleep(600)
            case ["environment", name]: return Verdict(Outcome.CORRECT, detail=os.environ.get(name, "absent"))
        return Verdict(Outcome.CORRECT, score=1.0, extracted=completion, detail=str(os.getpid()))
"""


@pytest.fixture
def verifiers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Pool]:
    (tmp_path / "some_verifiers.py").write_text(textwrap.dedent(VERIFIERS))
    (tmp_path / "broken_verifiers.py").write_text("raise RuntimeError('not today')\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def pool(name: str = "some_verifiers:naughty", **options: float) -> Pool:
        return Pool(name, **{"workers": 1, "memo": 0, **options})  # type: ignore[arg-type]

    return pool


def gone(pid: int) -> bool:
    """Whether a process has ended (it may wait to be reaped by whoever adopted it)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.02)


Pools = Callable[..., Pool]


@pytest.mark.parametrize(
    ("completion", "rule", "detail"),
    [
        ("raise", "raised", "KeyError: 'lost'"),
        ("none", "no verdict", "the verifier returned NoneType, not a Verdict"),
        ("read", "raised", "EOFError: EOF when reading a line"),
        ("exit", "worker died", "the worker exited with status 3"),
        ("quit", "raised", "SystemExit: 4"),
        ("segfault", "worker died", "the worker was ended by SIGSEGV"),
        ("hog", "memory limit", "the verifier needs more than 512 MiB"),
        ("grow", "memory limit", "the verifier needs more than 512 MiB"),
    ],
)
def test_a_failing_verifier_is_an_error_and_the_next_call_is_served(
    verifiers: Pools, completion: str, rule: str, detail: str
) -> None:
    with verifiers(memory_mb=512, deadline=10.0) as pool:
        verdict = pool.verify(completion, "")
        assert (verdict.outcome, verdict.rule, verdict.detail) == (Outcome.ERROR, rule, detail)
        assert verdict.score is None
        assert pool.verify("fine", "").extracted == "fine"


def test_deadline(verifiers: Pools) -> None:
    with verifiers(deadline=0.3) as pool:
        before = pool.verify("fine", "").detail
        started = time.monotonic()
        verdict = pool.verify("spin 600", "")
        assert time.monotonic() - started >= 0.25  # the kernel counts in ticks
        assert (verdict.outcome, verdict.rule) == (Outcome.TIMEOUT, "deadline")
        assert verdict.detail == "no verdict within 0.3 s of processor time"
        assert gone(int(before))
        after = pool.verify("fine", "").detail
        assert after != before


def test_waiting_has_a_limit_of_its_own(verifiers: Pools) -> None:
    with verifiers(deadline=0.1, wall=0.8) as pool:
        assert pool.verify("sleep 0.3", "").correct
        verdict = pool.verify("sleep 600", "")
        assert (verdict.outcome, verdict.rule, verdict.detail) == (
            Outcome.TIMEOUT,
            "wall limit",
            "no verdict within 0.8 s",
        )
        assert pool.verify("fine", "").correct


def test_a_deadline_is_for_each_call(verifiers: Pools) -> None:
    with verifiers(deadline=0.5) as pool:
        assert [pool.verify(f"spin 0.2{i}", "").outcome for i in range(5)] == [Outcome.CORRECT] * 5
        assert len(pool.pids) == 1


def test_what_the_verifier_started_dies_with_it(verifiers: Pools) -> None:
    with verifiers(wall=0.3) as pool:
        pool.verify("fine", "")
        group = pool.pids[0]
        assert pool.verify("fork", "").outcome is Outcome.TIMEOUT

    def members() -> list[str]:
        stats = [p.read_text().rpartition(")")[2].split() for p in Path("/proc").glob("[0-9]*/stat")]
        return [s[0] for s in stats if s[2] == str(group) and s[0] != "Z"]

    wait_until(lambda: not members())


def test_time_before_the_hand_over_does_not_count(verifiers: Pools) -> None:
    with verifiers(wall=0.8) as pool:
        waiting = [pool.submit("sleep 0.2", "") for _ in range(6)]
        assert [f.result().outcome for f in waiting] == [Outcome.CORRECT] * 6


def test_other_workers_are_undisturbed(verifiers: Pools) -> None:
    with verifiers(workers=2, wall=1.0) as pool:
        hanging = pool.submit("sleep 600", "")
        fine = [pool.submit(str(i), "") for i in range(100)]
        assert [f.result().extracted for f in fine] == [str(i) for i in range(100)]
        assert len({f.result().detail for f in fine}) == 1
        assert hanging.result().outcome is Outcome.TIMEOUT


def test_killed_from_outside(verifiers: Pools, tmp_path: Path) -> None:
    with verifiers(deadline=30.0) as pool:
        idle = int(pool.verify("fine", "").detail)
        os.kill(idle, signal.SIGKILL)
        wait_until(lambda: gone(idle))
        busy = int(pool.verify("fine", "").detail)  # replaced without anyone noticing
        assert busy != idle
        once = pool.verify(f"once {tmp_path / 'mark'}", "")  # judged once more, by another worker
        assert once.correct and int(once.detail) != busy
        verdict = pool.verify(f"killed {tmp_path / 'tries'}", "")
        assert (verdict.outcome, verdict.detail) == (Outcome.ERROR, "the worker was ended by SIGKILL")
        assert (tmp_path / "tries").read_text() == "xx"
        assert pool.verify("fine", "").correct


def test_a_worker_that_was_stopped_for_a_while_gives_its_verdict(verifiers: Pools) -> None:
    with verifiers(deadline=0.4) as pool:
        pid = int(pool.verify("fine", "").detail)
        call = pool.submit("spin 0.2", "")
        wait_until(call.running)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.8)  # twice the deadline
        os.kill(pid, signal.SIGCONT)
        verdict = call.result()
        assert verdict.correct and verdict.detail == str(pid)


def test_a_stopped_worker_is_replaced_even_while_it_is_being_written_to(verifiers: Pools) -> None:
    with verifiers(wall=1.0) as pool:
        os.kill(int(pool.verify("fine", "").detail), signal.SIGSTOP)
        assert pool.verify("x" * 10_000_000, "").outcome is Outcome.TIMEOUT
        assert pool.verify("fine", "").correct


def test_output_of_libraries_does_not_reach_the_stream_or_our_terminal(
    verifiers: Pools, capfd: pytest.CaptureFixture[str]
) -> None:
    with verifiers() as pool:
        assert [pool.verify("print", "").extracted for _ in range(3)] == ["print"] * 3
        for stream in (0, 1, 2):
            assert Path(f"/proc/{pool.pids[0]}/fd/{stream}").readlink() == Path(os.devnull)
    assert capfd.readouterr() == ("", "")


def test_huge_and_odd_texts_come_back_whole(verifiers: Pools) -> None:
    with verifiers("some_verifiers:echo", deadline=20.0) as pool:
        for text in ("é" * 10_000_000, "\0\x1f", "", "\N{GRINNING FACE}"):
            assert pool.verify(text, text).extracted == text
        assert pool.verify("a\ud800b", "").extracted == "a?b"


def test_from_many_threads(verifiers: Pools) -> None:
    others = [t for t in threading.enumerate() if t.name.startswith("gristmill-verifier")]
    with verifiers("some_verifiers:echo", workers=2) as pool, ThreadPoolExecutor(16) as threads:
        texts = [str(i) for i in range(500)]
        verdicts = threads.map(lambda text: pool.verify(text, ""), texts)
        assert [v.extracted for v in verdicts] == texts
        ours = [
            t for t in threading.enumerate() if t.name.startswith("gristmill-verifier") and t not in others
        ]
        assert len(ours) == 2


def test_a_thousand_awaits_leave_the_loop_free(verifiers: Pools) -> None:
    async def main(pool: Pool) -> tuple[list[Verdict], int]:
        calls = asyncio.gather(*(pool.averify(str(i), "") for i in range(1000)))
        beats = 0
        while not calls.done():
            beats += 1
            await asyncio.sleep(0.001)
        return await calls, beats

    with verifiers("some_verifiers:echo", workers=2) as pool:
        verdicts, beats = asyncio.run(main(pool))
    assert [v.extracted for v in verdicts] == [str(i) for i in range(1000)]
    assert beats > 10


def test_first_come_first_served(verifiers: Pools) -> None:
    order: list[str | None] = []
    with verifiers("some_verifiers:echo") as pool:
        calls = [pool.submit(str(i), "") for i in range(100)]
        for call in calls:
            call.add_done_callback(lambda f: order.append(f.result().extracted))
        calls[-1].result()
        wait_until(lambda: len(order) == 100)
    assert order == [str(i) for i in range(100)]


def test_cancelling_neither_loses_a_worker_nor_mixes_answers_up(verifiers: Pools) -> None:
    async def main(pool: Pool) -> None:
        pid = (await pool.averify("fine", "")).detail
        for _ in range(5):
            running = asyncio.create_task(pool.averify("sleep 0.4", ""))
            queued = asyncio.create_task(pool.averify("queued", ""))
            kept = asyncio.create_task(pool.averify("kept", ""))
            await asyncio.sleep(0.02)
            running.cancel()
            queued.cancel()
            assert (await kept).extracted == "kept"
            assert running.cancelled() and queued.cancelled()
        assert (await pool.averify("fine", "")).detail == pid

    with verifiers() as pool:
        asyncio.run(main(pool))


def test_secrets_stay_here(verifiers: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "hush")
    with verifiers() as pool:
        assert pool.verify("environment SOME_API_KEY", "").detail == "absent"
        assert pool.verify("environment PATH", "").detail == os.environ["PATH"]


def test_nothing_starts_before_the_first_call_or_stays_after_the_last(verifiers: Pools) -> None:
    pool = verifiers(workers=2)
    assert pool.pids == []
    pool.verify("fine", "")
    wait_until(lambda: len(pool.pids) == 2)
    pids = pool.pids
    pool.close()
    pool.close()
    assert pool.pids == [] and all(map(gone, pids))
    with pytest.raises(GristmillError, match="the verifier pool is closed"):
        pool.verify("fine", "")


def test_closing_ends_what_is_queued_and_running(verifiers: Pools) -> None:
    pool = verifiers(deadline=600.0)
    calls = [pool.submit("sleep 600", "") for _ in range(3)]
    wait_until(calls[0].running)
    pool.close()
    for call in calls:
        with pytest.raises(GristmillError, match="the verifier pool is closed"):
            call.result(timeout=10)


def test_closing_at_once(verifiers: Pools) -> None:
    pool = verifiers(workers=4)
    call = pool.submit("fine", "")
    pool.close()
    with pytest.raises(GristmillError, match="the verifier pool is closed"):
        call.result(timeout=10)
    assert pool.pids == []


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("broken_verifiers:f", {}, "cannot be started: RuntimeError: not today"),
        ("absent_verifiers:f", {}, "ModuleNotFoundError: No module named 'absent_verifiers'"),
        ("some_verifiers:absent", {}, "AttributeError: module 'some_verifiers' has no attribute 'absent'"),
        ("math", {"memory_mb": 20}, "'math' cannot be started: .*raise memory_mb \\(it is 20\\)"),
    ],
)
def test_a_verifier_that_cannot_start(
    verifiers: Pools, name: str, options: dict[str, float], message: str
) -> None:
    with verifiers(name, workers=2, **options) as pool:
        calls = [pool.submit("fine", "") for _ in range(5)]
        for call in calls:
            with pytest.raises(RecipeError, match=message):
                call.result(timeout=60)
        with pytest.raises(RecipeError, match=message):
            pool.verify("fine", "")
    assert pool.pids == []


def test_bad_options() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'math'"):
        Pool("maths")
    for options in ({"workers": 0}, {"deadline": -1.0}, {"wall": 0.0}, {"memory_mb": 0}):
        with pytest.raises(RecipeError, match="Give a number above 0"):
            Pool("math", **options)


PARENT = """
    import sys, time
    from gristmill.verifiers.pool.pool import Pool
    print("main", flush=True)
    pool = Pool("some_verifiers:naughty", workers=2, wall=1.0)
    pool.verify("fine", "")
    while len(pool.pids) < 2: time.sleep(0.01)
    call = pool.submit("sleep 600", "")
    while not call.running(): time.sleep(0.01)
    print(*pool.pids, flush=True)
    if sys.argv[1] == "wait": call.result(); time.sleep(600)
"""


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_no_worker_outlives_its_parent(verifiers: Pools, tmp_path: Path, how: str) -> None:
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(PARENT))
    mode = "wait" if how == "killed" else "end"
    with subprocess.Popen([sys.executable, script, mode], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "main\n"
        # A second "main" here would mean that a worker had imported the user's script again.
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        if how == "killed":
            parent.kill()
        parent.wait(timeout=20)
    wait_until(lambda: all(map(gone, pids)))


def test_a_ctrl_c_in_the_terminal_is_not_for_the_workers(verifiers: Pools) -> None:
    with verifiers() as pool:
        pid = int(pool.verify("fine", "").detail)
        assert os.getsid(pid) != os.getsid(0)
        assert os.getpgid(pid) == pid
