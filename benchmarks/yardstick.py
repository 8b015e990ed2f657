"""Measures ``gristmill run`` against the bare client of the shared yardstick, side by side.

    python benchmarks/yardstick.py [--repeats 5] [--kill] [--bench DIR] [--json FILE]

The server runs on one core, the clients (in turn) on another, each as a whole process, start-up and
files included. Needs orjson and uvloop for the server. Prints a table, and JSON with every number.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

ROOT = Path(__file__).resolve().parent.parent
FOLLOW_UPS = [f"Turn {t}: check your answer and correct it if needed." for t in (2, 3)]
ANSWER = re.compile(r"\[\[ans=([^/\]]+)/(\d+)\]\]")
CONCURRENCY, LATENCY = 128, 0.05
# In a process of its own: a child's peak memory begins with that of the process that starts it.
READ = """
import json, sys, polars
rows = polars.read_parquet(sys.argv[1]).select("problem_id", "completion").rows()
json.dump(rows, sys.stdout)
"""


class Workload(NamedTuple):
    rows: int
    turns: int
    faults: float
    """The share of HTTP 500, and again of HTTP 429."""

    @property
    def ideal(self) -> float:
        return self.rows * self.turns / CONCURRENCY * LATENCY


WORKLOADS = {"W1": Workload(5000, 1, 0.0), "W2": Workload(500, 3, 0.0), "W3": Workload(500, 1, 0.05)}


class Limits(msgspec.Struct):
    """What the project promises, by workload: multiples of the ideal (W3: of the bare client), CPU
    seconds and megabytes."""

    wall: float
    span: float | None = None
    cpu: float | None = None
    rss: float | None = None


LIMITS = {"W1": Limits(1.6, 1.25, 2.5, 150), "W2": Limits(2.5, 1.3), "W3": Limits(1.3)}


class Measured(msgspec.Struct):
    wall: float
    span: float
    cpu: float
    rss_mb: float
    lost: int
    repeated: int
    """Requests beyond one for each answer and each injected failure."""


class Server:
    """The fake server in a process of its own, pinned to the last core."""

    def __init__(self, script: Path) -> None:
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        cpu = str(sorted(os.sched_getaffinity(0))[-1])
        self.process = subprocess.Popen(
            [sys.executable, str(script), "--port", str(self.port), "--cpu", cpu],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        if not self.process.stdout.readline().startswith("listening"):
            raise SystemExit("the fake server did not start; it needs orjson and uvloop")

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def reset(self, faults: float) -> None:
        body = {"latency_ms": LATENCY * 1000, "p500": faults, "p429": faults}
        url = f"http://127.0.0.1:{self.port}/admin/reset"
        urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), method="POST")).read()

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/admin/stats") as answer:
            return dict(json.load(answer))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def write_inputs(folder: Path, base: str) -> None:
    for name, load in WORKLOADS.items():
        lines = (
            {"id": f"r{i}", "prompt": f"[[id=r{i}]] What is {i} + {i + 1}? Put the answer in a box."}
            for i in range(load.rows)
        )
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        recipe = {
            "name": name.lower(),
            "source": {"path": f"{name}.jsonl"},
            "engine": {"kind": "openai", "base_url": base, "model": "fake", "concurrency": CONCURRENCY},
            "stages": [{"stage": "sample", "follow_ups": FOLLOW_UPS[: load.turns - 1]}],
        }
        (folder / f"{name}.yaml").write_text(json.dumps(recipe))


def client(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """A client on the first core, with nothing of this process's environment that changes what it shows."""
    cpu = min(os.sched_getaffinity(0))
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "GRISTMILL_LOG")}
    return subprocess.Popen(
        ["taskset", "-c", str(cpu), *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def commands(bench: Path, base: str, name: str, load: Workload) -> dict[str, list[str]]:
    bare = [sys.executable, str(bench / "client_bare.py"), "--lib", "aiohttp", "--base", base]
    bare += ["--input", f"{name}.jsonl", "--out", ".", "--c", str(CONCURRENCY), "--turns", str(load.turns)]
    gristmill = [str(Path(sys.executable).with_name("gristmill")), "run", f"{name}.yaml"]
    return {"bare": bare, "gristmill": gristmill}


def answers(who: str, folder: Path, name: str) -> list[str]:
    """The rows in the output whose last answer belongs to them, by id."""
    turns = WORKLOADS[name].turns - 1
    if who == "bare":
        rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
        found = [(row["id"], row["texts"][-1], len(row["texts"]) - 1) for row in rows]
    else:
        parts = str(folder / "runs" / name.lower() / "01-sample" / "part-*.parquet")
        read = subprocess.run([sys.executable, "-c", READ, parts], stdout=subprocess.PIPE, check=True)
        found = [(row_id, text, turns) for row_id, text in json.loads(read.stdout)]
    ids = []
    for row_id, text, turn in found:
        match = ANSWER.search(text)
        if match and match.groups() == (row_id, str(turn)):
            ids.append(row_id)
    return ids


def clean(folder: Path) -> None:
    for leftover in ("runs", ".gristmill"):
        shutil.rmtree(folder / leftover, ignore_errors=True)
    (folder / "rows.jsonl").unlink(missing_ok=True)


def measure(server: Server, bench: Path, folder: Path, name: str, who: str) -> Measured:
    load = WORKLOADS[name]
    clean(folder)
    server.reset(load.faults)
    start = time.perf_counter()
    process = client(commands(bench, server.base, name, load)[who], folder)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{who} on {name} ended with status {process.returncode}")
    stats = server.stats()
    found = answers(who, folder, name)
    return Measured(
        wall=wall,
        span=stats["span_s"],
        cpu=usage.ru_utime + usage.ru_stime,
        rss_mb=usage.ru_maxrss / 1024,
        lost=load.rows - len(set(found)) + stats["broken_chain"],
        repeated=stats["requests"]
        - stats["keys"]
        - stats["n500"]
        - stats["n429"]
        + len(found)
        - len(set(found)),
    )


def kill(server: Server, bench: Path, folder: Path) -> dict[str, int]:
    """W4: W1, killed at half of the answers and started again."""
    load = WORKLOADS["W1"]
    clean(folder)
    server.reset(0.0)
    command = commands(bench, server.base, "W1", load)["gristmill"]
    process = client(command, folder)
    while server.stats()["ok"] < load.rows / 2:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(2 * LATENCY)
    stopped = server.stats()
    if client(command, folder).wait():
        raise SystemExit("gristmill did not end well after the kill")
    stats = server.stats()
    found = answers("gristmill", folder, "W1")
    return {
        "answered before the kill": stopped["ok"],
        "in flight at most": stopped["max_inflight"],
        "rows": len(found),
        "lost": load.rows - len(set(found)),
        "requests repeated": stats["requests"] - stats["keys"],
    }


def median(runs: list[Measured]) -> Measured:
    middle = {f: statistics.median(getattr(r, f) for r in runs) for f in ("wall", "span", "cpu", "rss_mb")}
    return Measured(**middle, lost=max(r.lost for r in runs), repeated=max(r.repeated for r in runs))


def judged(name: str, ours: Measured, bare: Measured) -> list[str]:
    """Which promises are broken."""
    load, limits = WORKLOADS[name], LIMITS[name]
    base = bare.wall if name == "W3" else load.ideal
    checks = [
        ("wall", ours.wall / base, limits.wall),
        ("span", ours.span / load.ideal, limits.span),
        ("cpu", ours.cpu, limits.cpu),
        ("rss", ours.rss_mb, limits.rss),
        ("lost", ours.lost, 0),
        ("repeated", ours.repeated, 0),
    ]
    return [
        f"{what} {value:.2f} > {limit:g}"
        for what, value, limit in checks
        if limit is not None and value > limit
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--bench", type=Path, default=ROOT.parent / "shared" / "bench")
    parser.add_argument("--kill", action="store_true", help="W4 too: SIGKILL at half, start again")
    parser.add_argument("--json", type=Path, help="write every number to this file")
    args = parser.parse_args()
    if not (args.bench / "fake_server.py").exists():
        raise SystemExit(f"skipped: the yardstick's server is not at {args.bench} (give --bench DIR)")
    results: dict[str, dict[str, list[Measured]]] = {n: {"bare": [], "gristmill": []} for n in WORKLOADS}
    killed: dict[str, int] = {}
    server = Server(args.bench / "fake_server.py")
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_inputs(folder, server.base)
            for _ in range(args.repeats):
                for load, by_client in results.items():
                    for who, runs in by_client.items():
                        runs.append(measure(server, args.bench, folder, load, who))
            if args.kill:
                killed = kill(server, args.bench, folder)
    finally:
        server.close()
    report(results, killed)
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode({"runs": results, "W4": killed})))


def report(results: dict[str, dict[str, list[Measured]]], killed: dict[str, int]) -> None:
    head = f"{'':3} {'client':10} {'wall s':>7} {'/ideal':>7} {'/bare':>6} {'span/ideal':>11} "
    print(head + f"{'CPU s':>6} {'RSS MB':>7} {'lost':>5} {'repeated':>9}  best wall/ideal, span/ideal")
    for name, by_client in results.items():
        bare = median(by_client["bare"])
        ideal = WORKLOADS[name].ideal
        for who, runs in by_client.items():
            m = median(runs)
            best = f"{min(r.wall for r in runs) / ideal:.2f}, {min(r.span for r in runs) / ideal:.2f}"
            print(
                f"{name:3} {who:10} {m.wall:7.2f} {m.wall / ideal:7.2f} {m.wall / bare.wall:6.2f} "
                f"{m.span / ideal:11.2f} {m.cpu:6.2f} {m.rss_mb:7.0f} {m.lost:5} {m.repeated:9}  {best}"
            )
        broken = judged(name, median(by_client["gristmill"]), bare)
        print(f"{name:3} {'limits hold' if not broken else 'LIMITS BROKEN: ' + '; '.join(broken)}")
    if killed:
        print("W4  " + ", ".join(f"{what} {n}" for what, n in killed.items()))


if __name__ == "__main__":
    main()
