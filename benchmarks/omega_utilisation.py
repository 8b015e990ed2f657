"""How much of an engine OmegaPRM keeps busy: requests in flight, of those that the concurrency allows.

    python benchmarks/omega_utilisation.py [--problems 200] [--searches 12] [--latency-ms 50 500] [--json F]

(about 15 minutes; with --many two).

The yardstick server (in a process of its own, on another core) with another answer: its own is always the
same, so that every problem would be always or never solved. Here a solution is 16 steps, each wrong with
probability 0.06, as a pure function of prompt, prefix, and seed + index. Everything else is as in a run:
the OpenAI client, session, completion log, and the runner's map over rows; the verdict is a regular
expression in the same process. In flight is measured twice: by the server (received, not yet answered)
and by the client (sent, answer not yet read); both as the mean over time, divided by the concurrency.

The tail begins when so few problems are unfinished that they cannot fill the concurrency: under 128 where
a request holds all k rollouts, under 16 where each rollout is a request (divided by ``at_once``). A search
asks one thing at a time, so nothing but more problems, or more searches of each at once, can fill it.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from msgspec import Struct, to_builtins

from gristmill.core.engine import Completion, Engine, Request, Sampling
from gristmill.core.errors import RowRejected
from gristmill.core.records import Problem
from gristmill.core.stages import Context
from gristmill.core.steps import Tree
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.log.store import CompletionLog
from gristmill.engines.openai.engine import OpenAI
from gristmill.engines.openai.options import AbilityName
from gristmill.engines.session import Session
from gristmill.pipelines.running.runner import in_own_loop
from gristmill.pipelines.running.stream import OrderedMap
from gristmill.synth.step_values.rollouts import Rollouts
from gristmill.synth.tree_search.omega import OmegaPRM

BENCH = Path(__file__).resolve().parent.parent.parent / "shared" / "bench" / "fake_server.py"
CONCURRENCY, K, STEPS, SLIP = 128, 8, 16, 0.06
_DONE = re.compile(r"step\d+(ok|BAD)")
_BOX = re.compile(r"\\boxed\{(\d+)\}")


class Row(Struct):
    """One measurement. Shares are of the concurrency; ``body`` is the time before the tail."""

    way: str
    latency_ms: float
    rows_in_flight: int
    at_once: int
    trees: int
    requests: int
    seconds: float
    tail_seconds: float
    server: float
    server_body: float
    client: float
    client_body: float
    cpu_seconds: float
    """Of the client: under load the wall time is not its own."""
    limit: int
    """The session's limit at the end: a stalled machine can look like a congested server, and lowers it."""


class Meter:
    """The mean of a count over time; ``marks`` are (time, integral so far, count)."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, float, int]] = []

    def add(self, change: int) -> None:
        now = time.perf_counter()
        before, area, count = self.marks[-1] if self.marks else (now, 0.0, 0)
        self.marks.append((now, area + count * (now - before), count + change))


def mean(marks: list[tuple[float, float, int]], start: float, end: float) -> float:
    """The mean count between two times."""

    def area(at: float) -> float:
        low, high = 0, len(marks)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if marks[middle][0] <= at else (low, middle)
        if not low:
            return 0.0
        before, sofar, count = marks[low - 1]
        return sofar + count * (at - before)

    return (area(end) - area(start)) / (end - start) if end > start else 0.0


def answer(prompt: str, prefix: str, seed: int) -> str:
    """The rest of a solution after ``prefix``."""
    rolled = hashlib.blake2b(f"{prompt}|{prefix}|{seed}".encode(), digest_size=STEPS).digest()
    done = _DONE.findall(prefix)
    right, words = "BAD" not in done, []
    for step in range(len(done) + 1, STEPS + 1):
        slipped = right and rolled[step - 1] < SLIP * 256
        right = right and not slipped
        words.append(f" step{step}{'BAD' if slipped else 'ok'}")
    return "".join(words) + f" \\boxed{{{42 if right else 13}}}"


def serve(script: Path, port: int, cpu: int) -> None:
    """The yardstick server with ``answer`` and a meter of what is in flight."""
    import orjson

    spec = importlib.util.spec_from_file_location("fake_server", script)
    assert spec is not None and spec.loader is not None
    fake = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fake)
    meter = Meter()

    base: Any = fake.Proto

    class Answering(base):  # type: ignore[misc]
        def handle(self, method: str, path: str, body: bytes, close: bool) -> None:
            if path == "/admin/flight":
                self.send(fake.resp(200, orjson.dumps(meter.marks), close=close), close)
                meter.marks = []
            else:
                super().handle(method, path, body, close)

        def chat(self, req: Any, close: bool) -> None:
            meter.add(1)
            super().chat(req, close)

        def finish(self, req: Any, key: Any, code: int, close: bool) -> None:
            meter.add(-1)
            self.pending = None
            fake.S.inflight -= 1
            *_, last = messages = req["messages"]
            prefix = last["content"] if last["role"] == "assistant" else ""
            n = req.get("n") or 1
            texts = [answer(messages[0]["content"], prefix, req["seed"] + i) for i in range(n)]
            choices = [
                {"index": i, "message": {"role": "assistant", "content": t}, "finish_reason": "stop"}
                for i, t in enumerate(texts)
            ]
            usage = {"prompt_tokens": 60, "completion_tokens": sum(len(t.split()) for t in texts)}
            self.send(fake.resp(200, orjson.dumps({"choices": choices, "usage": usage}), close=close), close)

    vars(fake)["Proto"] = Answering
    os.sched_setaffinity(0, {cpu})
    fake.uvloop.run(fake.main(argparse.Namespace(port=port, max_s=900.0)))


class Server:
    """``serve`` in a process of its own, on the last core."""

    def __init__(self, script: Path) -> None:
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        cpu = max(os.sched_getaffinity(0))
        command = [sys.executable, __file__, "--serve", str(script), "--port", str(self.port)]
        self.process = subprocess.Popen([*command, "--cpu", str(cpu)], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        if not self.process.stdout.readline().startswith("listening"):
            raise SystemExit("the server did not start; it needs orjson and uvloop")

    def reset(self, latency_ms: float) -> None:
        url = f"http://127.0.0.1:{self.port}/admin/reset"
        body = json.dumps({"latency_ms": latency_ms}).encode()
        urllib.request.urlopen(urllib.request.Request(url, body, method="POST")).read()
        self.marks()

    def marks(self) -> list[tuple[float, float, int]]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/admin/flight") as reply:
            return [(t, area, count) for t, area, count in json.load(reply)]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


class Metered:
    """An engine whose requests in flight are metered."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.meter = Meter()
        self.model, self.abilities = engine.model, engine.abilities
        self.concurrency = engine.concurrency

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        self.meter.add(1)
        try:
            return await self._engine.generate(request, first=first, n=n)
        finally:
            self.meter.add(-1)

    async def __aenter__(self) -> Self:
        await self._engine.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._engine.__aexit__(kind, error, trace)


async def verify(completion: str, reference: str) -> Verdict:
    found = _BOX.findall(completion)
    if not found:
        return Verdict(Outcome.UNPARSEABLE)
    return Verdict(Outcome.CORRECT if found[-1] == reference else Outcome.INCORRECT, extracted=found[-1])


def client(port: int, many: bool) -> OpenAI:
    """The engine, with or without the ability to give several completions of one request."""
    abilities: tuple[AbilityName, ...] = ("chat", "continue", "seed")
    return OpenAI(
        base_url=f"http://127.0.0.1:{port}/v1",
        model="fake",
        concurrency=CONCURRENCY,
        continue_mode="vllm",
        abilities=(*abilities, "many") if many else abilities,
    )


def measure(
    server: Server, latency_ms: float, many: bool, rows: int, problems: int, searches: int, at_once: int
) -> Row:
    """OmegaPRM over ``problems``, with ``rows`` of them at a time."""
    server.reset(latency_ms)
    options = client(server.port, many)
    stage = OmegaPRM(
        k=K, searches=searches, at_once=at_once, rollouts=Rollouts(sampling=Sampling(max_tokens=64))
    )
    engine = Metered(options.open())
    ended: list[float] = []
    trees: list[Tree] = []

    async def work(problem: Problem) -> list[Tree]:
        try:
            return await stage(problem, Context(session, verify, 0))
        except RowRejected:
            return []
        finally:
            ended.append(time.perf_counter())

    async def emit(made: list[Tree]) -> None:
        trees.extend(made)

    items: Iterator[Problem] = (Problem(f"p{i}", f"Problem {i}", "42") for i in range(problems))
    with tempfile.TemporaryDirectory() as folder, CompletionLog(Path(folder) / "log.sqlite") as log:
        session = Session(engine, options, log)

        async def main() -> None:
            async with session:
                await OrderedMap(items, work, emit, workers=rows, window=16 * rows).run()

        cpu = time.process_time()
        in_own_loop(main())
        cpu = time.process_time() - cpu
        requests, limit = session.stats.requests, session.stats.limit
    marks, own = server.marks(), engine.meter.marks
    start, end = own[0][0], own[-1][0]
    enough = CONCURRENCY // at_once if many else CONCURRENCY // K // at_once
    tail = sorted(ended)[-enough] if len(ended) >= enough and rows >= enough else end

    def share(of: list[tuple[float, float, int]], until: float) -> float:
        return round(mean(of, start, until) / CONCURRENCY, 3)

    return Row(
        "one request of k" if many else "k requests of one",
        latency_ms,
        rows,
        stage.at_once,
        len(trees),
        requests,
        round(end - start, 2),
        round(end - tail, 2),
        share(marks, end),
        share(marks, tail),
        share(own, end),
        share(own, tail),
        round(cpu, 2),
        limit,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--searches", type=int, default=12)
    parser.add_argument("--latency-ms", type=float, nargs="*", default=[50.0, 500.0])
    parser.add_argument("--rows", type=int, nargs="*", default=[round(1.5 * CONCURRENCY), 3 * CONCURRENCY])
    parser.add_argument("--at-once", type=int, nargs="*", default=[1, 4], help="OmegaPRM's own option")
    parser.add_argument(
        "--one-by-one", action="append_const", dest="ways", const=False, help="k requests of one"
    )
    parser.add_argument("--many", action="append_const", dest="ways", const=True, help="one request of k")
    parser.add_argument("--bench", type=Path, default=BENCH)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--cpu", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, args.port, args.cpu)
        return
    if not args.bench.exists():
        print(f"skipped: the yardstick server is not at {args.bench}; give its place by --bench")
        return
    server = Server(args.bench)
    done: list[Row] = []
    try:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print(*Row.__struct_fields__, sep="\t")
        for latency in args.latency_ms:
            for many in args.ways or (True, False):
                # One at a time is measured on few: it would take as long as all of them together.
                ways = [(1, 1, 3), *((r, a, args.problems) for r in args.rows for a in args.at_once)]
                for rows, at_once, problems in ways:
                    row = measure(server, latency, many, rows, problems, args.searches, at_once)
                    done.append(row)
                    print(*to_builtins(row).values(), sep="\t", flush=True)
    finally:
        server.close()
    if args.json:
        args.json.write_text(json.dumps(to_builtins(done), indent=1) + "\n")


if __name__ == "__main__":
    main()
