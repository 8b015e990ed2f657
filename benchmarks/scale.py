"""What breaks first at 10^6, 10^8 and 10^9 rows: a discrete-event simulation on measured parameters.

    python benchmarks/scale.py [--rows 1e6 1e8 1e9] [--parameters FILE] [--json FILE]
    python benchmarks/scale.py --measure FILE        measures this machine (about a minute; 1 GB of disk)

Two simulations. ``simulate_task`` follows every request of one task: slots, lengths, retries, back-off, the
client's processor and the log's group commits. ``simulate_job`` follows the tasks of a whole run: shards that
are not equal, stragglers, pre-emptions that are resumed from the log. ``demands`` compares what single
parts of a run would have to hold or do with what they can. The findings stand in docs/scale.md.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
from collections import deque
from pathlib import Path

import msgspec
from msgspec import Struct


class Parameters(Struct, frozen=True, kw_only=True):
    """What the simulation is fed with. Those of the first group are measured (``--measure``; defaults: two
    shared cores, noisy), those of the second are assumptions about the work and the cluster."""

    commits_per_second: float = 4_900.0
    """Completions that one log takes, 128 waiting at a time, when it holds 200,000 (new: 10,600)."""
    commit_seconds: float = 0.0002
    """A group commit, whatever it holds."""
    log_bytes: float = 4_600.0
    """Of the log's file, for each completion of ``text_bytes``."""
    merges_per_second: float = 7_300.0
    client_seconds: float = 0.00033
    """The client's processor, for each request over HTTP."""
    resumed_per_second: float = 23_000.0
    """Completions that a resumed run reads from its log, stages and files included, by a busy processor."""
    parts_per_second: float = 21_000.0
    """Samples that one process reads from parts and writes into others."""
    row_bytes: float = 2_700.0
    """Of memory, for each sample in a table."""
    part_bytes: float = 740.0
    """Of Parquet, for each sample."""
    id_bytes: float = 22.0
    """Of memory, for each id that the source has given (at most; not measured)."""

    text_bytes: float = 2_000.0
    completions_per_row: float = 4.0
    tokens_mean: float = 500.0
    tokens_sigma: float = 0.8
    """Of the logarithm of a completion's length: a long tail."""
    tokens_per_second: float = 2_500.0
    """Of one GPU at full use."""
    slots: int = 128
    """Requests in flight at one GPU."""
    failures: float = 0.02
    backoff: float = 0.5
    tries: int = 6
    stragglers: float = 0.03
    """The share of GPUs that work at ``straggler_speed``."""
    straggler_speed: float = 0.5
    days_to_preemption: float = 2.0
    """Mean, for one GPU."""
    restart_seconds: float = 300.0
    """From a pre-emption until the model is loaded again."""
    memory: float = 256e9
    """Of the machine that runs a table stage."""
    file: float = 1e12
    """The largest single file that one still likes to copy, back up and merge."""
    patience: float = 24 * 3600.0
    """Seconds for a step that one process does alone after the last token."""


class Task(Struct, frozen=True):
    """How one task went. ``tail`` are the seconds at the end in which not all slots had work; ``waits`` the
    mean seconds a finished completion waited for its commit."""

    rows: int
    completions: int
    requests: int
    retries: int
    lost: int
    seconds: float
    tail: float
    utilisation: float
    waits: float
    client: float


class _TaskRun:
    """A task in the middle: what it waits for, by the time at which that comes, and what it has counted."""

    def __init__(self, rows: int, p: Parameters, seed: int) -> None:
        self.p = p
        self.draw = random.Random(seed)
        # Adaptive stages: at least one completion, and a geometric tail around the mean.
        stop = 1 / p.completions_per_row
        self.left = [1 + int(math.log(1 - self.draw.random()) / math.log(1 - stop)) for _ in range(rows)]
        self.ready: deque[tuple[int, int]] = deque((row, 0) for row in range(rows))
        self.events: list[tuple[float, int, str, int, int]] = []
        self.free = p.slots
        self.now = self.client_free = self.commit_free = self.full_until = 0.0
        self.busy = self.waited = 0.0
        self.completions = self.requests = self.retries = self.lost = self.order = 0

    def at(self, end: float, what: str, row: int, tries: int) -> None:
        """``what`` will happen to a request at ``end``; equal times in the order of the calls."""
        self.order += 1
        heapq.heappush(self.events, (end, self.order, what, row, tries))

    def send(self, row: int, tries: int) -> None:
        """A request takes a slot and waits for the client's processor."""
        p, draw = self.p, self.draw
        self.free -= 1
        self.requests += 1
        self.retries += tries > 0
        self.client_free = max(self.now, self.client_free) + p.client_seconds
        if draw.random() < p.failures:
            self.at(self.client_free + 0.05, "failed", row, tries)
            return
        mu = math.log(p.tokens_mean) - p.tokens_sigma**2 / 2
        length = draw.lognormvariate(mu, p.tokens_sigma) * p.slots / p.tokens_per_second
        self.busy += length
        self.at(self.client_free + length, "answered", row, tries)

    def commit(self, row: int, tries: int) -> None:
        """An answer is queued for the log: what comes while a commit runs goes into the next one."""
        self.commit_free = max(self.now, self.commit_free) + 1 / self.p.commits_per_second
        end = max(self.commit_free, self.now + self.p.commit_seconds)
        self.waited += end - self.now
        self.at(end, "committed", row, tries)

    def end(self, what: str, row: int, tries: int) -> None:
        """A request gives its slot back: its answer is in the log, or it has failed."""
        self.free += 1
        if what == "committed":
            self.completions += 1
            self.left[row] -= 1
            if self.left[row]:
                self.ready.appendleft((row, 0))  # in the rows' order, as the runner's window demands
        elif tries + 1 == self.p.tries:
            self.lost += 1
        else:
            pause = self.p.backoff * 2**tries * self.draw.uniform(0.5, 1.0)
            self.at(self.now + pause, "again", row, tries + 1)


def simulate_task(rows: int, p: Parameters, seed: int = 0) -> Task:
    """Every request of a task of ``rows`` rows on one GPU, each row's requests one after the other.

    A request waits for a slot, then for the client's processor (one at a time), is answered after its length
    at the speed of one slot, fails with ``failures`` and backs off, and holds its slot until its group
    commit. A row that has failed ``tries`` times is lost. ``utilisation`` is of the slots.
    """
    run = _TaskRun(rows, p, seed)
    while run.ready or run.events:
        while run.free and run.ready:
            run.send(*run.ready.popleft())
        if not run.free:
            run.full_until = run.now
        run.now, _, what, row, tries = heapq.heappop(run.events)
        if what == "answered":
            run.commit(row, tries)
        elif what == "again":
            run.ready.append((row, tries))
        else:
            run.end(what, row, tries)
    return Task(
        rows=rows,
        completions=run.completions,
        requests=run.requests,
        retries=run.retries,
        lost=run.lost,
        seconds=run.now,
        tail=run.now - run.full_until,
        utilisation=run.busy / (run.now * p.slots),
        waits=run.waited / max(1, run.completions),
        client=run.requests * p.client_seconds / run.now,
    )


class Job(Struct, frozen=True):
    """How the tasks of a run went, in seconds. ``repeated`` is the share of the work done twice."""

    tasks: int
    seconds: float
    ideal: float
    efficiency: float
    preemptions: int
    last_tenth: float
    repeated: float


def simulate_job(rows: float, gpus: int, tasks: int, p: Parameters, task: Task, seed: int = 0) -> Job:
    """``tasks`` shards of ``rows`` rows on ``gpus`` GPUs, the next shard to the next GPU that is free.

    A shard's work is normal around its mean: a sum of many rows' (central limit), with the spread of the
    rows in ``task`` (geometric counts of log-normal lengths). To it comes the tail that ``task`` had, in
    which its slots run empty. A pre-empted task starts again after ``restart_seconds``, reads its log, and
    repeats what was in flight. ``ideal`` is the work without any of this, spread evenly.
    """
    draw = random.Random(seed)
    n = rows / tasks
    mean = p.completions_per_row * p.tokens_mean
    variance = p.completions_per_row * p.tokens_mean**2 * (math.exp(p.tokens_sigma**2) - 1)
    variance += p.tokens_mean**2 * p.completions_per_row * (p.completions_per_row - 1)
    speeds = [p.straggler_speed if draw.random() < p.stragglers else 1.0 for _ in range(gpus)]
    free = [(0.0, i) for i in range(gpus)]
    heapq.heapify(free)
    ends: list[float] = []
    in_flight = p.slots * p.tokens_mean / p.tokens_per_second / 2
    preemptions, repeated = 0, 0.0
    for _ in range(tasks):
        start, gpu = heapq.heappop(free)
        work = max(0.0, draw.gauss(n * mean, math.sqrt(n * variance))) / p.tokens_per_second
        left, now = work / speeds[gpu] + min(task.tail, work), start
        total = left
        while left > (until := draw.expovariate(1 / (p.days_to_preemption * 86400))):
            preemptions += 1
            done = (total - left + until) / total * n * p.completions_per_row
            now += until + p.restart_seconds + done / p.resumed_per_second
            left += in_flight - until
            repeated += in_flight
        now += left
        ends.append(now)
        heapq.heappush(free, (now, gpu))
    ends.sort()
    seconds = ends[-1]
    ideal = rows * mean / p.tokens_per_second / gpus
    used = gpus * p.tokens_per_second
    return Job(
        tasks=tasks,
        seconds=seconds,
        ideal=ideal,
        efficiency=ideal / seconds,
        preemptions=preemptions,
        last_tenth=seconds - ends[min(len(ends) - 1, int(0.9 * len(ends)))],
        repeated=repeated * p.tokens_per_second / (seconds * used),
    )


class Demand(Struct, frozen=True):
    """What one part must hold or do (``need``), what it can (``limit``), and what is done about it."""

    what: str
    need: float
    limit: float
    unit: str
    answer: str

    @property
    def load(self) -> float:
        """Above 1 it breaks."""
        return self.need / self.limit


def demands(rows: float, gpus: int, tasks: int, p: Parameters) -> list[Demand]:
    """The parts of a run in one process with one log (``one``), of each task of a distributed one
    (``task``), and of the single tasks between and behind them (``finish``); the worst first."""
    completions = rows * p.completions_per_row
    rate = gpus * p.tokens_per_second / p.tokens_mean
    file, shard = completions * p.log_bytes, completions / tasks
    resume, own = completions / p.resumed_per_second, "--executor: each task has its own"
    split = "several runs, each of a part of the source"
    # A table stage: the frame, its copy while it is filtered, and the stage's own columns.
    found = [
        Demand("one, finish: memory of a table stage", 3 * completions * p.row_bytes, p.memory, "B", split),
        Demand("one, finish: memory for source ids", rows * p.id_bytes, p.memory, "B", split),
        Demand("one: the log's file", file, p.file, "B", own),
        Demand("one: commits into the log", rate, p.commits_per_second, "/s", own),
        Demand("one: the client's processor", rate * p.client_seconds, 1.0, "cores", own),
        Demand("one: resume from the log", resume, p.patience, "s", own),
        Demand("one, finish: part files in a folder", completions / 10_000, 1e5, "files", "part_rows"),
        Demand("task: the log's file", shard * p.log_bytes, p.file, "B", "more tasks"),
        Demand("task: resume from its log", shard / p.resumed_per_second, p.patience, "s", "more tasks"),
        Demand("finish: the merged log's file", file, p.file, "B", split),
        Demand("finish: logs merged", completions / p.merges_per_second, p.patience, "s", split),
        Demand("finish: parts put together", completions / p.parts_per_second, p.patience, "s", split),
    ]
    return sorted(found, key=lambda d: -d.load)


CLUSTERS = {1e6: 8, 1e8: 64, 1e9: 512}
"""For a number of rows: GPUs."""
PER_GPU = (1, 8, 32, 128, 512)
"""Into how many tasks a run is divided, for each GPU."""
TASKS = 32
"""The one of these for which ``demands`` are shown."""


def cluster(rows: float) -> int:
    """GPUs for ``rows`` rows: those of the nearest size in ``CLUSTERS``."""
    return CLUSTERS[min(CLUSTERS, key=lambda known: abs(math.log(known / rows)))]


def report(sizes: list[float], p: Parameters, seed: int) -> dict[str, object]:
    """Print what happens at each size; the same as data."""
    made: dict[str, object] = {"parameters": msgspec.to_builtins(p)}
    task = simulate_task(5_000, p, seed)
    made["task"] = msgspec.to_builtins(task)
    print(
        f"one task of {task.rows:,} rows: {task.seconds:,.0f} s, slots busy {task.utilisation:.1%}, ", end=""
    )
    print(f"tail {task.tail:,.0f} s, {task.retries:,} retries, {task.lost} lost, commits wait ", end="")
    print(f"{task.waits * 1000:.1f} ms, client {task.client:.2%} of a core")
    for rows in sizes:
        gpus = cluster(rows)
        print(f"\n{rows:,.0f} rows, {gpus} GPUs")
        jobs = []
        for per_gpu in PER_GPU:
            job = simulate_job(rows, gpus, per_gpu * gpus, p, task, seed)
            jobs.append(msgspec.to_builtins(job))
            print(f"  {job.tasks:7,} tasks: {job.seconds / 86400:6.2f} days, ", end="")
            print(f"{job.efficiency:6.1%} of the ideal, ", end="")
            print(f"{job.preemptions:5,} pre-emptions, {job.repeated:.4%} done twice, ", end="")
            print(f"last tenth {job.last_tenth / 3600:.1f} h")
        found = demands(rows, gpus, TASKS * gpus, p)
        for d in found:
            mark = "BREAKS" if d.load > 1 else "      "
            print(f"  {mark} {d.load:9.3f}  {d.what}: {d.need:.3g} of {d.limit:.3g} {d.unit} ({d.answer})")
        made[f"{rows:.0e}"] = {"jobs": jobs, "demands": [msgspec.to_builtins(d) for d in found]}
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=float, nargs="+", default=list(CLUSTERS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parameters", type=Path, help="a JSON file as --measure writes it")
    parser.add_argument("--measure", type=Path, metavar="FILE", help="measure this machine")
    parser.add_argument("--json", type=Path, help="write every number to this file")
    options = parser.parse_args()
    if options.measure:
        from scale_measure import measure

        found = measure()
        options.measure.write_text(json.dumps(found, indent=1))
        print(json.dumps(found, indent=1))
        return
    known = options.parameters.read_bytes() if options.parameters else b"{}"
    made = report(options.rows, msgspec.json.decode(known, type=Parameters), options.seed)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(made)))


if __name__ == "__main__":
    main()
