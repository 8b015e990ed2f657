"""What ``benchmarks/scale.py`` is fed with: the real log, parts, merge and runner, measured here."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msgspec import Struct

from gristmill.core.engine import Completion, Message, Request, Sampling
from gristmill.core.records import Sampled
from gristmill.core.schema import to_frame
from gristmill.engines.log import tools as log_tools
from gristmill.engines.log.store import CompletionLog, request_key
from gristmill.pipelines.rundir import parts
from gristmill.pipelines.rundir.directory import StageDir
from gristmill.pipelines.rundir.parts import Parts, encode

ROOT = Path(__file__).resolve().parent.parent
COMPLETIONS = 200_000
WAITING = 128
ROWS = 4_000
CHARS = 2_000


def text(draw: random.Random, words: list[str]) -> str:
    """About ``CHARS`` characters, of words whose frequency falls as one over their rank."""
    weights = [1 / (i + 1) for i in range(len(words))]
    return " ".join(draw.choices(words, weights, k=CHARS // 7))[:CHARS]


def vocabulary(draw: random.Random) -> list[str]:
    return ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 10))) for _ in range(3000)]


async def fill(log: CompletionLog, texts: list[str], first: int, count: int) -> None:
    """``count`` completions of as many requests, ``WAITING`` puts at a time."""
    numbers = iter(range(first, first + count))

    async def put() -> None:
        for i in numbers:
            request = Request((Message("user", f"problem {i}. " + texts[i % 500][:300]),), Sampling(), i)
            key = request_key("model", request)
            await log.put(key, 0, [Completion(texts[i % len(texts)], "stop", 100, 500)])

    await asyncio.gather(*(put() for _ in range(WAITING)))


def measure_log(folder: Path, texts: list[str]) -> dict[str, float]:
    """Commits per second at the end of the filling, bytes, the length of a lone commit, and the merge."""
    path, rates = folder / "log.sqlite", []
    with CompletionLog(path) as log:
        for first in range(0, COMPLETIONS, COMPLETIONS // 8):
            started = time.perf_counter()
            asyncio.run(fill(log, texts, first, COMPLETIONS // 8))
            rates.append(COMPLETIONS / 8 / (time.perf_counter() - started))

        async def alone() -> float:
            started = time.perf_counter()
            for i in range(200):
                request = Request((Message("user", f"lone {i}"),), Sampling(), i)
                await log.put(request_key("model", request), 0, [Completion("x")])
            return (time.perf_counter() - started) / 200

        lone = asyncio.run(alone())
    started = time.perf_counter()
    merged = log_tools.merge(folder / "merged.sqlite", [path])
    seconds = time.perf_counter() - started
    return {
        "commits_per_second": round(rates[-1]),
        "commits_per_second_at_first": round(rates[0]),
        "commit_seconds": round(lone, 6),
        "log_bytes": round(path.stat().st_size / COMPLETIONS),
        "merges_per_second": round(merged.added / seconds),
    }


async def write(folder: StageDir, records: Iterable[Struct]) -> None:
    """Records as a stage's parts."""
    writer = Parts(folder, Sampled, 1000)
    for record in records:
        await writer.add([record])
    writer.finish()


def measure_rows(folder: Path, texts: list[str]) -> dict[str, float]:
    """Bytes of a sample in memory and in Parquet, and how fast one process puts parts together anew."""
    samples = [
        Sampled(f"p{i}/0", f"p{i}", 0, t[:300], "42", (Message("user", t[:300]),), t, "stop", 100, 500)
        for i, t in enumerate(texts)
    ]
    frame = to_frame(samples, Sampled)
    first, second = StageDir(folder, "first"), StageDir(folder, "second")

    async def rewrite() -> float:
        await write(first, samples)
        started = time.process_time()
        await write(second, parts.read(first.path, Sampled))
        return time.process_time() - started

    return {
        "parts_per_second": round(len(samples) / asyncio.run(rewrite())),
        "row_bytes": round(frame.estimated_size() / len(samples)),
        "part_bytes": round(len(encode(frame)) / len(samples)),
    }


def cpu(command: list[str], folder: Path) -> float:
    """Processor seconds of a whole process."""
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "GRISTMILL_LOG")}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with status {process.returncode}: {errors[-2000:].decode()}")
    return usage.ru_utime + usage.ru_stime


def measure_client(folder: Path) -> dict[str, float]:
    """Processor seconds of a run for each request, and for each that the log answers instead: the difference
    of a long and a short run, so that the start is not in it."""
    script = ROOT / "tests" / "fake_server.py"
    server = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        base = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        rows = ({"id": f"r{i}", "problem": f"problem {i}."} for i in range(ROWS))
        (folder / "problems.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        recipe = {
            "name": "client",
            "source": {"path": "problems.jsonl"},
            "engine": {"kind": "openai", "base_url": base, "model": "m", "concurrency": WAITING},
            "stages": [{"stage": "sample", "verify": False}],
        }
        (folder / "client.yaml").write_text(json.dumps(recipe))
        command = [sys.executable, "-m", "gristmill.cli.main", "run", "client.yaml", "--quiet"]
        start = min(cpu([*command, "--limit", "10", "--set", f"name=s{i}"], folder) for i in range(3))
        sent = cpu(command, folder)
        again = min(cpu([*command, "--set", f"name=again{i}"], folder) for i in range(3))
    finally:
        server.kill()
        server.wait()
    return {
        "client_seconds": round((sent - start) / (ROWS - 10), 6),
        "resumed_per_second": round(ROWS / max(1e-3, again - start)),
    }


def measure() -> dict[str, Any]:
    """Everything, by the names of ``Parameters`` (and one more, for the page)."""
    draw = random.Random(0)
    words = vocabulary(draw)
    texts = [text(draw, words) for _ in range(2_000)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found: dict[str, Any] = measure_rows(folder, texts) | measure_client(folder)
        found |= measure_log(folder, texts)
    return found | {"text_bytes": CHARS}
