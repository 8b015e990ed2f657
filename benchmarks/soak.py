"""A soak: ``gristmill run`` on several servers that are killed, freeze, hang and answer nonsense at random.

    python benchmarks/soak.py [--minutes 30] [--seed 1] [--json FILE]

One-turn rows (as W1 of the yardstick, soon at a latency that makes them last) go through ``kind: endpoints``
to four fake servers, in processes of their own, while faults drawn from the seed befall them. It ends with
status 1 if a row is lost, repeated or has another row's answer, if requests were sent in a loop, or if the
run's memory grew by 5 % or more after its first minute: the least that it holds in half a minute, which a
leak raises and the bursts of reconnecting to servers do not, or the most, against the most until then.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

from gristmill.engines.vllm.server import free_port

ROOT = Path(__file__).resolve().parent.parent
SERVER = ROOT / "tests" / "fake_server.py"
GROWTH = 0.05
SETTLED = 60.0
"""Seconds after which memory may no longer grow."""
SPAN = 30.0
"""Seconds over which the least and the most of the windows are taken."""
WINDOW = 10.0
"""Seconds over which memory is taken: a part is filled and written several times in it."""
TRIES = 6
ATTEMPTS = TRIES * 3
"""A request's tries, each at no more than three endpoints: the most often that one may be sent at all."""
MODES = {"hang": 2, "garbage": 3, "cut": 2, "error": 3, "busy": 2, "limited": 2}
ODD = {"odd": 2, "abort": 2, "null": 2, "deep": 2}
FAULTS = {"kill": 3, "freeze": 3, "ill": 2, **MODES, **ODD}
"""How often each fault is drawn, relative to the others."""
PAUSE, LASTS = 3.0, (0.5, 8.0)
"""Mean seconds from one fault to the next, and how long one lasts."""
WARM_ROWS, WARM_MS = 20_000, 50.0
"""So many rows come first, at W1's own latency and for a minute at most: they fill the log's page caches
(two of 2 MB), which on a slow start would grow for minutes."""
LATENCY_MS = 600.0
LOSS = 0.5
"""The latency behind the warm-up, roughly, and the part of the ideal throughput that these faults leave."""
PACING, FASTEST_MS, SLOWEST_MS = 2.0, 50.0, 2000.0
"""Seconds from one adjustment of the latency to the next, and its bounds: whatever the faults, the rows shall
last as long as was asked for."""


class FakeServer:
    """A fake server on one port through all its lives, and what it was asked in them."""

    def __init__(self, seconds: float) -> None:
        self.latency_ms = WARM_MS
        self.port = free_port()
        self.command = [sys.executable, str(SERVER), "--port", str(self.port)]
        self.command += ["--seconds", str(seconds)]
        self.requests = self.most_of_one = 0
        self.answered = self.seen = 0  # in its former lives, in this one so far
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        command = [*self.command, "--latency-ms", str(self.latency_ms)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        if not self.process.stdout.readline():
            raise SystemExit(f"the fake server on port {self.port} did not start")

    def ask(self, what: str, value: object | None = None) -> Any:
        data = None if value is None else str(value).encode()
        with urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{self.port}/{what}", data), timeout=30
        ) as answer:
            return json.load(answer)

    def kill(self) -> None:
        stats = self.ask("stats")
        self.requests += stats["requests"]
        self.answered += stats["answered"]
        self.seen = 0
        self.most_of_one = max(self.most_of_one, stats["most_of_one"])
        self.process.kill()
        self.process.wait()


class Trouble(threading.Thread):
    """Faults that befall servers, one after the other on each, on several at once. Drawn from the seed."""

    def __init__(self, servers: list[FakeServer], options: argparse.Namespace, rows: int) -> None:
        super().__init__(daemon=True)
        self.servers = servers
        self.draw = random.Random(options.seed)
        self.counts: Counter[str] = Counter()
        self.over = threading.Event()
        self.until: dict[int, tuple[float, str]] = {}
        self.seconds, self.concurrency, self.rows = 60 * options.minutes, options.concurrency, rows
        self.paced = 0.0

    def run(self) -> None:
        next_fault = started = time.monotonic()
        while not self.over.wait(0.05):
            now = time.monotonic()
            self.pace(now - started)
            for i, (end, fault) in list(self.until.items()):
                if end <= now:
                    self.mend(self.servers[i], fault)
                    del self.until[i]
            well = [i for i in range(len(self.servers)) if i not in self.until]
            if next_fault <= now and well:
                i = self.draw.choice(well)
                fault = self.draw.choices(list(FAULTS), list(FAULTS.values()))[0]
                self.counts[fault] += 1
                self.until[i] = (now + self.draw.uniform(*LASTS), fault)
                self.befall(self.servers[i], fault)
                next_fault = now + self.draw.expovariate(1 / PAUSE)
        for i, (_, fault) in self.until.items():
            self.mend(self.servers[i], fault)

    def pace(self, seconds: float) -> None:
        """After the warm-up, the latency at which the rows that are left last for the time that is left."""
        if seconds < self.paced:
            return
        self.paced = seconds + PACING
        well = [s for i, s in enumerate(self.servers) if i not in self.until]
        for server in well:
            server.seen = server.ask("stats")["answered"]
        done = sum(s.answered + s.seen for s in self.servers)
        if done < WARM_ROWS and seconds < SETTLED:
            return
        each = max(0.0, self.seconds - seconds) / max(1, self.rows - done)
        latency_ms = min(SLOWEST_MS, max(FASTEST_MS, 1000 * LOSS * self.concurrency * each))
        for server in well:
            server.latency_ms = latency_ms
            server.ask("latency", latency_ms)

    def befall(self, server: FakeServer, fault: str) -> None:
        if fault == "kill":
            server.kill()
        elif fault == "freeze":
            server.process.send_signal(signal.SIGSTOP)
        elif fault == "ill":
            server.ask("health", 503)
        else:
            server.ask("mode", fault)

    def mend(self, server: FakeServer, fault: str) -> None:
        if fault == "kill":
            server.start()
        elif fault == "freeze":
            server.process.send_signal(signal.SIGCONT)
        elif fault == "ill":
            server.ask("health", 200)
        else:
            server.ask("mode", "well")


def write_inputs(folder: Path, servers: list[FakeServer], rows: int, concurrency: int) -> None:
    with (folder / "problems.jsonl").open("w") as file:
        file.writelines(json.dumps({"id": f"r{i}", "problem": f"problem {i}."}) + "\n" for i in range(rows))
    engine = {
        "kind": "endpoints",
        "endpoints": [{"base_url": s.url, "weight": 1 + i % 2} for i, s in enumerate(servers)],
        "model": "fake",
        "concurrency": concurrency,
        "tries": TRIES,
        "request_timeout": 10,
        "health_interval": 2,
        "health_timeout": 2,
    }
    recipe = {
        "name": "soak",
        "source": {"path": "problems.jsonl"},
        "engine": engine,
        "stages": [{"stage": "sample", "verify": False}],
        "part_rows": 500,
    }
    (folder / "soak.yaml").write_text(json.dumps(recipe))


def resident(pid: int) -> int:
    """Bytes of memory that a process holds, 0 when it has ended."""
    with suppress(FileNotFoundError, ProcessLookupError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def watch(process: subprocess.Popen[bytes], most: float) -> list[tuple[float, int]]:
    """Memory over time, until the run ends; it is killed after ``most`` seconds."""
    started = time.monotonic()
    samples = []
    while process.poll() is None:
        now = time.monotonic() - started
        if size := resident(process.pid):
            samples.append((now, size))
        if now > most:
            process.kill()
        time.sleep(0.25)
    return samples


def windows(samples: list[tuple[float, int]]) -> list[tuple[float, float]]:
    """The median memory of each whole window of time, by its begin."""
    by_window: dict[int, list[int]] = {}
    for at, size in samples:
        by_window.setdefault(int(at // WINDOW), []).append(size)
    whole = sorted(by_window)[:-1]
    return [(w * WINDOW, median(by_window[w])) for w in whole]


def growth(samples: list[tuple[float, int]]) -> tuple[float, float, float]:
    """Memory (bytes, the least window) in the half-minute behind the first minute; by how much that of any
    later one is above it, and its most above the most until then. Zeros where the run was too short."""
    spans: dict[int, list[float]] = {}
    for at, size in windows(samples):
        spans.setdefault(int(at // SPAN), []).append(size)
    settled = int(SETTLED // SPAN)
    later = [sizes for span, sizes in spans.items() if span > settled]
    if not later:
        return 0.0, 0.0, 0.0
    before = [max(sizes) for span, sizes in spans.items() if span <= settled]
    base = min(spans[settled])
    return base, max(map(min, later)) / base - 1, max(map(max, later)) / max(before) - 1


def check_rows(folder: Path, rows: int) -> list[str]:
    """What is wrong with the output: rows lost, repeated, out of order, or with another row's answer."""
    import polars as pl

    problems = []
    at = wrong = 0
    for path in sorted((folder / "runs/soak/01-sample").glob("part-*.parquet")):
        for row_id, text in pl.read_parquet(path, columns=["problem_id", "completion"]).rows():
            wrong += row_id != f"r{at}" or not text.startswith(f"answer 0 to problem {at}.")
            at += 1
    if at != rows or wrong:
        problems.append(f"{at:,} rows of {rows:,}, of which {wrong:,} are not as they should be")
    rejected = pl.read_parquet(folder / "runs/soak/01-sample/rejected.parquet")
    if rejected.height:
        problems.append(f"{rejected.height:,} rows rejected, the first: {rejected.row(0)}")
    return problems


def soak(options: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Run it; the report, and all that is wrong."""
    seconds = 60 * options.minutes
    rows = WARM_ROWS + round(LOSS * seconds * options.concurrency / (LATENCY_MS / 1000))
    servers = [FakeServer(3 * seconds + 300) for _ in range(options.servers)]
    trouble = Trouble(servers, options, rows)
    process: subprocess.Popen[bytes] | None = None
    try:
        write_inputs(folder, servers, rows, options.concurrency)
        command = [sys.executable, "-m", "gristmill.cli.main", "run", "soak.yaml", "--quiet"]
        environment = {k: v for k, v in os.environ.items() if k not in ("CI", "GRISTMILL_LOG")}
        started = time.monotonic()
        with (folder / "stderr.txt").open("wb") as errors:
            process = subprocess.Popen(command, cwd=folder, env=environment, stderr=errors)
        trouble.start()
        samples = watch(process, 3 * seconds + 240)
        took = time.monotonic() - started
        trouble.over.set()
        trouble.join(60)
        for server in servers:
            server.kill()
    finally:
        for child in [*(server.process for server in servers), process]:
            if child is not None and child.poll() is None:
                child.kill()
                child.wait()
    notes = (folder / "stderr.txt").read_text(errors="replace").splitlines()
    if process.returncode:
        return {}, [f"the run ended with status {process.returncode} after {took:.0f} s", *notes[-5:]]
    problems = check_rows(folder, rows)
    requests, most_of_one = sum(s.requests for s in servers), max(s.most_of_one for s in servers)
    if requests > 2 * rows or most_of_one > ATTEMPTS:
        problems.append(f"{requests:,} requests for {rows:,} rows, one of them {most_of_one} times")
    settled, least, most = growth(samples)
    if not settled:
        problems.append(f"it ended after {took:.0f} s, which says nothing about memory: give more --minutes")
    if max(least, most) >= GROWTH:
        problems.append(f"memory grew after the first minute: by {least:.1%} at least, {most:.1%} at most")
    report: dict[str, Any] = {"seconds": round(took, 1), "rows": rows, "rows/s": round(rows / took, 1)}
    report |= {"requests": requests, "most tries of one row at one server": most_of_one}
    report |= {"endpoint warnings": len(notes), "faults": dict(sorted(trouble.counts.items()))}
    report |= {"MB after a minute": round(settled / 1e6, 1)}
    report |= {"growth of the least": round(least, 4), "growth of the most": round(most, 4)}
    report |= {"MB by window": [round(size / 1e6, 1) for _, size in windows(samples)]}
    return report, problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="about how long it takes; CI: 2")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--servers", type=int, default=4)
    parser.add_argument("--concurrency", type=int, default=128)
    parser.add_argument("--folder", type=Path, help="keep the run here")
    parser.add_argument("--json", type=Path, help="write the report to this file")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing outlives it
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            report, problems = soak(options, folder)
        except urllib.error.URLError as error:
            raise SystemExit(
                f"a fake server is out of order, which is not the run's fault: {error}"
            ) from error
    for what, value in report.items():
        print(f"{what}: {value:,}" if isinstance(value, int) else f"{what}: {value}")
    if options.json:
        options.json.write_text(json.dumps({"report": report, "problems": problems}, indent=1))
    if problems:
        sys.exit("\n".join(problem[:2000] for problem in problems))


if __name__ == "__main__":
    main()
