"""The simulation of benchmarks/scale.py: what must hold whatever it is fed with."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import ROOT


def _load() -> ModuleType:
    path = ROOT / "benchmarks" / "scale.py"
    spec = importlib.util.spec_from_file_location("gristmill_scale", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # msgspec looks up annotations there
    spec.loader.exec_module(module)
    return module


scale: Any = _load()


def parameters(**changes: Any) -> Any:
    return msgspec.structs.replace(scale.Parameters(), **changes)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 60),
    slots=st.integers(1, 40),
    failures=st.floats(0, 0.5),
    tries=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_every_request_of_a_task_is_accounted_for(
    rows: int, slots: int, failures: float, tries: int, seed: int
) -> None:
    p = parameters(slots=slots, failures=failures, tries=tries)
    task = scale.simulate_task(rows, p, seed)
    assert 0 <= task.lost <= rows
    assert task.completions >= rows - task.lost
    assert task.requests == task.completions + task.retries + task.lost
    assert 0 <= task.tail <= task.seconds and 0 <= task.utilisation <= 1
    assert task.waits >= p.commit_seconds * (task.completions > 0) * 0.999
    assert task == scale.simulate_task(rows, p, seed), "the same seed, the same task"


def test_without_failures_nothing_is_retried_and_slots_are_busy() -> None:
    task = scale.simulate_task(3000, parameters(failures=0.0, slots=16, tokens_sigma=0.1))
    assert task.retries == task.lost == 0 and task.requests == task.completions
    assert task.utilisation > 0.97


def test_a_slow_client_or_log_is_what_holds_a_task_up() -> None:
    free = scale.simulate_task(500, parameters())
    client = scale.simulate_task(500, parameters(client_seconds=1.0))
    log = scale.simulate_task(500, parameters(commits_per_second=1.0))
    assert client.seconds > client.requests and client.client > 0.7
    assert log.seconds > log.completions and log.waits > 100 * free.waits
    assert free.utilisation > max(client.utilisation, log.utilisation)


def test_without_trouble_a_job_takes_its_work() -> None:
    p = parameters(stragglers=0.0, days_to_preemption=1e9, failures=0.0)
    task = scale.simulate_task(200, p)
    job = scale.simulate_job(1e6, 8, 8, p, task)
    assert job.preemptions == 0 and job.repeated == 0
    assert 0.97 < job.efficiency <= 1.01 and job.seconds >= 0.99 * job.ideal


def test_stragglers_cost_less_with_more_tasks_than_gpus() -> None:
    p = parameters(days_to_preemption=1e9)
    task = scale.simulate_task(200, p)
    one, many = (scale.simulate_job(1e8, 64, n, p, task) for n in (64, 64 * 32))
    assert one.efficiency < 0.6 < 0.85 < many.efficiency


def test_preemptions_cost_time_but_little_work() -> None:
    p = parameters(stragglers=0.0, days_to_preemption=0.5)
    task = scale.simulate_task(200, p)
    job = scale.simulate_job(1e8, 64, 64 * 32, p, task)
    assert job.preemptions > 1000 and job.repeated < 0.01 and job.efficiency > 0.8


def test_demands_grow_with_the_rows_and_the_worst_comes_first() -> None:
    p = parameters()
    small, large = (scale.demands(rows, 64, 2048, p) for rows in (1e6, 1e8))
    assert all(d.load <= 1 for d in small)
    assert [d.load for d in large] == sorted((d.load for d in large), reverse=True)
    assert large[0].what.endswith("table stage") and large[0].load > 1
    growth = {d.what: d.load for d in small}
    assert all(d.load >= growth[d.what] for d in large)
