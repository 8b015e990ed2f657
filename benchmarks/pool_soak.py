"""A soak of the verifier pool: time-outs, crashes, kills and stops from outside, normal calls, all at once.

    python benchmarks/pool_soak.py [--seconds 300] [--workers 2] [--json FILE]

Threads and an event loop call one pool while another thread kills and stops workers at random. It ends with
status 1 if a verdict is not what was asked for, or if workers, open descriptors or memory have grown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gristmill.core.verdicts import Outcome, Verdict
from gristmill.verifiers.pool.pool import Pool

DEADLINE = 0.3
"""Of processor time; by the clock a call may take ``WALL``, far more than a worker is stopped for."""
WALL, STOPPED = 3.0, 0.6
GROWTH = 16 << 20
"""Bytes by which this process may grow after its first seconds."""
_KINDS = {"fine": 60, "text": 20, "hang": 0.3, "spin": 1, "exit": 1, "segfault": 1, "raise": 15, "sleep": 10}
_EXPECTED = {
    "fine": "correct", "text": "correct", "hang": "timeout: wall limit", "spin": "timeout: deadline",
    "exit": "error: worker died", "segfault": "error: worker died", "raise": "error: raised",
    "sleep": "correct",
}  # fmt: skip
_KILLED = "error: worker died"


def naughty(completion: str, reference: str) -> Verdict:
    """Do as told; ``reference`` comes back, so that no answer can go to another's call unseen."""
    kind = completion.partition(" ")[0]
    if kind == "hang":
        time.sleep(600)
    elif kind == "spin":
        while True:
            pass
    elif kind == "sleep":
        time.sleep(0.01)
    elif kind == "exit":
        os._exit(3)
    elif kind == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif kind == "raise":
        raise KeyError("lost")
    return Verdict(Outcome.CORRECT, score=1.0, extracted=reference)


class Soak:
    """One pool under fire, and what was counted."""

    def __init__(self, pool: Pool, seconds: float) -> None:
        self.pool = pool
        self.until = time.monotonic() + seconds
        self.lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.kills = self.stops = 0

    def going(self) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self.until and len(self.wrong) < 10

    def note(self, kind: str, mark: str, verdict: Verdict) -> None:
        """Count a verdict; it must be what its call asks for, unless two of its workers were killed."""
        said = verdict.outcome.value if verdict.decided else f"{verdict.outcome.value}: {verdict.rule}"
        killed = said == _KILLED and verdict.detail.endswith(("SIGKILL", "SIGTERM"))
        with self.lock:
            self.counts["killed" if killed else kind] += 1
            if not killed and (said != _EXPECTED[kind] or (verdict.decided and verdict.extracted != mark)):
                self.wrong.append(f"{kind}: {verdict}")

    def calls(self, seed: int) -> None:
        """A thread that calls, one after the other."""
        draw = random.Random(seed)
        while self.going():
            kind, mark = drawn(draw)
            self.note(kind, mark, self.pool.verify(f"{kind} {'x' * len(mark)}", mark))

    async def awaits(self, seed: int) -> None:
        """Tasks of an event loop that call, of which some are cancelled."""
        draw = random.Random(seed)

        async def one() -> None:
            kind, mark = drawn(draw)
            self.note(kind, mark, await self.pool.averify(kind, mark))

        while self.going():
            tasks = [asyncio.ensure_future(one()) for _ in range(8)]
            await asyncio.sleep(0.01)
            if draw.random() < 0.3:
                tasks[0].cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            for error in found:
                if isinstance(error, Exception):
                    self.wrong.append(repr(error))

    def kill(self, seed: int) -> None:
        """A thread that kills a worker now and then, or stops it for longer than its deadline."""
        draw = random.Random(seed)
        while self.going():
            time.sleep(draw.uniform(0.2, 1.5))
            if pids := self.pool.pids:
                pid = draw.choice(pids)
                try:
                    if draw.random() < 0.4:
                        os.kill(pid, signal.SIGSTOP)
                        time.sleep(STOPPED)
                        os.kill(pid, signal.SIGCONT)
                        self.stops += 1
                        continue
                    os.kill(pid, draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
                    self.kills += 1
                except ProcessLookupError:  # it was just being replaced
                    continue


def drawn(draw: random.Random) -> tuple[str, str]:
    """A kind of call, and a mark that must come back: short, or 200 kB."""
    kind = draw.choices(list(_KINDS), list(_KINDS.values()))[0]
    return kind, str(draw.random()) * (10_000 if kind == "text" else 1)


def state() -> dict[str, int]:
    """Children, descriptors, threads and resident bytes of this process."""
    stats = list(Path("/proc").glob("[0-9]*/stat"))
    children = 0
    for entry in stats:
        try:
            children += int(entry.read_text().rpartition(")")[2].split()[1]) == os.getpid()
        except (FileNotFoundError, ProcessLookupError):
            continue
    return {
        "children": children,
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "resident": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
    }


def soak(seconds: float, workers: int) -> tuple[dict[str, float], list[str]]:
    """Run it; the report, and all that is wrong."""
    start = state()
    with Pool("pool_soak:naughty", workers=workers, deadline=DEADLINE, wall=WALL) as pool:
        for part in (min(5.0, seconds / 4), seconds):  # memory settles in the first
            run = Soak(pool, part)
            warm = state()
            with ThreadPoolExecutor(6) as threads:
                jobs = [threads.submit(run.calls, seed) for seed in range(4)]
                jobs += [threads.submit(asyncio.run, run.awaits(9)), threads.submit(run.kill, 10)]
                for job in jobs:
                    job.result()
        after = [pool.verify("fine", str(i)).outcome for i in range(20)]
        end = state()
        alive = len(pool.pids)
    closed = state()
    problems = list(run.wrong)
    if Outcome.TIMEOUT in after or alive > workers or end["children"] > workers:
        problems.append(f"{alive} workers, {end['children']} children, of {workers}: {Counter(after)}")
    if end["descriptors"] > warm["descriptors"] + 2 * workers or closed["descriptors"] > start["descriptors"]:
        problems.append(f"descriptors: {start}, {warm}, {end}, {closed}")
    if closed["children"] > start["children"] or closed["threads"] > start["threads"]:
        problems.append(f"left behind: {start}, {closed}")
    if (growth := end["resident"] - warm["resident"]) > GROWTH:
        problems.append(f"grown by {growth >> 20} MiB")
    report: dict[str, float] = {
        **run.counts,
        "calls": run.counts.total(),
        "kills": run.kills,
        "stops": run.stops,
    }
    report |= {f"{name} at start": value for name, value in start.items()}
    report |= {f"{name} at end": value for name, value in end.items()}
    report |= {f"{name} when closed": value for name, value in closed.items()}
    report["growth"] = growth
    return report, problems


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=300.0)
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--json", type=Path)
    options = arguments.parse_args()
    report, problems = soak(options.seconds, options.workers)
    for name, value in report.items():
        print(f"{name}: {value:,}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))
    if problems:
        sys.exit("\n".join(problem[:300] for problem in problems))


if __name__ == "__main__":
    main()
