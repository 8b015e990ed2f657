"""Kills: runs that are ended in every way at moments drawn from a seed, and continued until complete.

    python benchmarks/kills.py [--kills 200] [--seed 1] [--folder DIR] [--json FILE]

Each round is a run of two dependent turns for every row, with verdicts, a filter and an export, on one
machine or as tasks of ``--executor local``. It is ended by SIGKILL, SIGTERM and SIGHUP to the command,
SIGKILL to a task or a verifier's process, and, where ``strace`` is installed, by SIGKILL and by errors (EIO,
ENOSPC) at the Nth system call of a kind. Then the same command is given again, at once. At the end its files
are compared, byte for byte, with those of a run that nobody disturbed. It ends with status 1 if a row is
lost, changed or there twice, if a command hangs or shows a traceback, if a process is left behind, or if more
requests were sent twice than were in flight.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from distributed_parts import outputs  # noqa: E402
from fakes import FakeServer  # noqa: E402

ROWS, CONCURRENCY, LATENCY_MS = 240, 8, 60
START = 3.0
"""Seconds that a busy machine takes to start a run, about."""
PER_ROUND, SEVERAL = 12, 4
"""Kills until a run is left alone; of tasks and of verifiers' processes in one go, which it survives."""
HANG = 90.0
"""Seconds after which a command hangs, on whatever machine."""
LOCAL = ("--executor", "local", "--tasks", "3", "--workers", "2")
CALLS = ("pwrite64", "fdatasync", "fsync", "rename", "ftruncate", "unlink", "mkdir", "write", "flock")
TRACE = ("strace", "-f", "-qq", "-o")
"""Without ``--seccomp-bpf``, which is faster, but with which strace 6.1 sends no signal."""
FAILING = ("pwrite64", "fdatasync", "fsync", "rename", "ftruncate")
FAULTS = {"SIGKILL": 8, "SIGTERM": 2, "SIGHUP": 1, "worker": 3, "task": 3, "call killed": 4, "call failed": 3}
"""How often each fault is drawn, relative to the others; ``task`` in runs of tasks, ``call`` in others."""


class Process(NamedTuple):
    pid: int
    parent: int
    words: str


class Round:
    """One run, from its first kill to its end."""

    def __init__(
        self, folder: Path, server: FakeServer, draw: random.Random, local: bool, calls: dict[str, int]
    ) -> None:
        self.folder, self.server, self.draw, self.local, self.calls = folder, server, draw, local, calls
        self.complete = False
        self.only: Sequence[str] = ()
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.said = ""
        self.spilt = self.twice = 0
        folder.mkdir(parents=True)
        write_inputs(folder, server)

    def start(self, *before: str) -> subprocess.Popen[str]:
        command = [*before, sys.executable, "-m", "gristmill.cli.main", "run", "kills.yaml", "--quiet"]
        return subprocess.Popen(
            [*command, *(LOCAL if self.local else ())],
            cwd=self.folder,
            env={k: v for k, v in os.environ.items() if k not in ("CI", "GRISTMILL_LOG")},
            stderr=subprocess.PIPE,
            text=True,
        )

    def disturb(self) -> None:
        """Start the run and do one harm to it."""
        known = self.draw_fault()
        before: list[str] = []
        if known.startswith("call"):
            calls = CALLS if known == "call killed" else FAILING
            call = self.draw.choice([call for call in calls if call in self.calls])
            harm = "signal=KILL" if known == "call killed" else f"error={self.draw.choice(('EIO', 'ENOSPC'))}"
            when = self.draw.randint(1, max(1, self.calls[call] // 3))  # it is counted by thread
            before = [*TRACE, "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:{harm}:when={when}"]
        process = self.start(*before)
        if not before:
            for _ in range(1 if known.startswith("SIG") else SEVERAL):
                self.wait_for_the_moment(process)
                self.harm(process, known)
        if self.ended(process, known) != 0 and before:
            self.counts[known] += 1
        self.complete = process.returncode == 0
        print(f"{known} {' '.join(before[-1:])}: status {process.returncode}", flush=True)

    def draw_fault(self) -> str:
        faults = dict(FAULTS)
        for name in ("call killed", "call failed") if self.local or not self.calls else ("task",):
            del faults[name]
        faults = {name: often for name, often in faults.items() if name in self.only} or faults
        return self.draw.choices(list(faults), list(faults.values()))[0]

    def wait_for_the_moment(self, process: subprocess.Popen[str]) -> None:
        """A moment at the start, at work (by the requests that the server has had) or at the end."""
        stats, part = self.server.stats(), self.draw.random()
        if part < 0.15 or stats["keys"] == 2 * ROWS:
            time.sleep(self.draw.random() * START)
            return
        goal = stats["requests"] + self.draw.randint(1, max(1, (2 * ROWS - stats["keys"]) // 3))
        if part > 0.85:
            goal = stats["requests"] + 2 * ROWS - stats["keys"]
        until = time.monotonic() + HANG
        while self.server.stats()["requests"] < goal and process.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(self.draw.random() * (0.05 if part <= 0.85 else 0.5))

    def harm(self, process: subprocess.Popen[str], known: str) -> None:
        below = descendants(process.pid)
        if process.poll() is not None:
            return
        if known.startswith("SIG"):
            process.send_signal(signal.Signals[known])
            self.counts[known] += 1
            process.wait(HANG)
            wait_gone(below, self.problems, known)
            return
        mark = "verifiers.pool.worker" if known == "worker" else "distributed.work"
        victims = [one.pid for one in below if mark in one.words]
        if victims:
            with suppress(ProcessLookupError):
                os.kill(self.draw.choice(victims), signal.SIGKILL)
                self.counts[known] += 1
                self.spilt += CONCURRENCY if known == "task" else 0

    def ended(self, process: subprocess.Popen[str], known: str) -> int:
        """Wait for the command's end, and look at what it says."""
        try:
            _, self.said = process.communicate(timeout=HANG)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            self.problems.append(f"{known}: the command hangs")
            return -1
        if "Traceback" in self.said or "leaked" in self.said:
            self.problems.append(f"{known}: {self.said[-1500:]}")
        if process.returncode:
            self.spilt += CONCURRENCY * (2 if self.local else 1)
        return process.returncode

    def finish(self, expected: dict[str, bytes]) -> None:
        """Give the command once more and leave it alone, if it has not come to its end, and compare."""
        if not self.complete and self.ended(self.start(), "at the end") != 0:
            self.problems.append(f"the last command did not succeed: {self.said[-1500:]}")
            return
        found = outputs(self.folder / "runs/kills")
        for path in sorted(found.keys() | expected.keys()):
            if found.get(path) != expected.get(path):
                self.problems.append(f"{path} is not what it should be: {self.folder}")
        stats = self.server.stats()
        if stats["keys"] != 2 * ROWS or stats["requests"] - stats["keys"] > self.spilt:
            self.problems.append(f"{stats}, of which {self.spilt} requests may have been sent twice")
        self.twice = stats["requests"] - stats["keys"]


def write_inputs(folder: Path, server: FakeServer) -> None:
    rows = [{"id": f"p{i}", "problem": f"problem {i}", "answer": str(1 + i % 2)} for i in range(ROWS)]
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    engine = {
        "kind": "openai",
        "base_url": f"{server.address}/v1",
        "model": "fake",
        "concurrency": CONCURRENCY,
        "abilities": ["chat", "seed"],
    }
    recipe = {
        "name": "kills",
        "source": {"path": "problems.jsonl"},
        "engine": engine,
        "verifier": {"workers": 1},
        "stages": [
            {"stage": "sample", "follow_ups": ["Check it."]},
            {"stage": "demonstrations", "as": "right"},
        ],
        "exports": [{"format": "trl-prompt-completion", "from": "right"}],
        "part_rows": 7,
    }
    (folder / "kills.yaml").write_text(json.dumps(recipe))


def processes() -> dict[int, Process]:
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                found[int(path.name)] = Process(int(path.name), int(fields[1]), words)
    return found


def descendants(pid: int) -> list[Process]:
    every = processes()
    found = {pid}
    while new := {p.pid for p in every.values() if p.parent in found} - found:
        found |= new
    return [every[p] for p in found - {pid}]


def wait_gone(below: list[Process], problems: list[str], known: str) -> None:
    """None of the processes may outlive their command by more than a verifier's deadline."""
    until = time.monotonic() + 20
    while left := [p for p in below if (now := processes().get(p.pid)) and now.words == p.words]:
        if time.monotonic() > until:
            problems.append(f"{known}: left behind: {left}")
            return
        time.sleep(0.05)


def counted(one: Round) -> dict[str, int]:
    """How often a run that is left alone makes each system call; empty where there is no strace."""
    if shutil.which("strace") is None:
        return {}
    table = one.folder / "calls.txt"
    if one.ended(one.start(*TRACE, str(table), "-c", "-e", f"trace={','.join(CALLS)}"), "counted"):
        raise SystemExit(f"the run does not work under strace: {one.said}")
    rows = [line.split() for line in table.read_text().splitlines()]
    return {row[-1]: int(row[3]) for row in rows if row and row[-1] in CALLS}


def run(folder: Path, kills: int, seed: int, only: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """All rounds; the report, and all that is wrong."""
    draw = random.Random(seed)
    counts: Counter[str] = Counter()
    problems: list[str] = []
    began, rounds, twice = time.monotonic(), 0, 0
    server = FakeServer()
    try:
        server.reset(LATENCY_MS)
        alone = Round(folder / "alone", server, draw, local=False, calls={})
        if alone.ended(alone.start(), "alone"):
            raise SystemExit(f"the run does not work even when it is left alone: {alone.said}")
        expected = outputs(alone.folder / "runs/kills")
        server.reset(LATENCY_MS)
        calls = counted(Round(folder / "counted", server, draw, local=False, calls={}))
        while counts.total() < kills:
            server.reset(LATENCY_MS)
            one = Round(folder / f"round-{rounds}", server, draw, local=rounds % 3 == 2, calls=calls)
            one.only = only
            most = min(PER_ROUND, kills - counts.total())
            while one.counts.total() < most and not one.complete and not one.problems:
                one.disturb()
            one.finish(expected)
            counts += one.counts
            where = "local" if one.local else "one machine"
            problems += [f"round {rounds} ({where}): {problem}" for problem in one.problems]
            twice += one.twice
            rounds += 1
            if not one.problems:
                shutil.rmtree(one.folder)
            print(f"{counts.total()} kills, {len(problems)} problems", flush=True)
    finally:
        server.close()
    report: dict[str, Any] = {"kills": counts.total(), "by kind": dict(sorted(counts.items()))}
    report |= {"rounds": rounds, "rows compared": rounds * ROWS, "requests sent twice": twice}
    report |= {"system calls of a run": calls, "seconds": round(time.monotonic() - began)}
    return report, problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--only", nargs="*", default=(), choices=FAULTS, help="these harms alone, where possible"
    )
    parser.add_argument("--folder", type=Path, help="keep the runs that went wrong here")
    parser.add_argument("--json", type=Path, help="write the report to this file")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that its server does not outlive it
    with tempfile.TemporaryDirectory() as name:
        report, problems = run(
            (options.folder or Path(name)).absolute(), options.kills, options.seed, options.only
        )
    for what, value in report.items():
        print(f"{what}: {value}")
    if options.json:
        options.json.write_text(json.dumps({"report": report, "problems": problems}, indent=1))
    if problems:
        sys.exit("\n".join(problem[:2000] for problem in problems))


if __name__ == "__main__":
    main()
