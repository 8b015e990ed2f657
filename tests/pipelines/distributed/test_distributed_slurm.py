"""What is given to Slurm, by a stub ``sbatch``; and that what is given does the work when it is run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from distributed_parts import ENGINE, PHASES, STAGES, install, outputs

from gristmill.cli.options import SOME

pytest.importorskip("datatrove", reason="datatrove is not installed: pip install 'gristmill[distributed]'")

SBATCH = """#!{python}
import json, os, pathlib, sys
jobs = pathlib.Path({folder!r})
number = 100 + len(list(jobs.glob("*.json")))
text = pathlib.Path(sys.argv[-1]).read_text()
(jobs / f"{{number}}.json").write_text(json.dumps({{"arguments": sys.argv[1:-1], "script": text}}))
print("Submitted batch job", number)
"""
SRUN = '#!/bin/bash\nwhile [[ $1 == -* ]]; do [[ $1 == -n ]] && shift; shift; done\nexec "$@"\n'
SCONTROL = '#!/bin/bash\n[[ $1 == show ]] && echo "$3"\n'
OPTIONS = [
    "partition=gpu",
    "time=24:00:00",
    "gpus_per_task=1",
    "sbatch_args.account=abc",
    "mem_per_merge_gb=16",
]


class Submitted(NamedTuple):
    number: str
    directives: dict[str, str]
    depends: str | None
    offset: str
    script: str


class Cluster:
    """A directory with the commands of Slurm, which only write down what they are given."""

    def __init__(self, path: Path, environment: dict[str, str]) -> None:
        self.jobs, bins = path / "jobs", path / "bin"
        self.jobs.mkdir(parents=True)
        bins.mkdir()
        stub = SBATCH.format(python=sys.executable, folder=str(self.jobs))
        for name, text in (("sbatch", stub), ("srun", SRUN), ("scontrol", SCONTROL)):
            (bins / name).write_text(text)
            (bins / name).chmod(0o755)
        self.environment = environment | {"PATH": f"{bins}{os.pathsep}{environment['PATH']}"}

    def submitted(self) -> list[Submitted]:
        """The jobs that do work, in order; datatrove adds one after each that adds up its statistics."""
        found = []
        for path in sorted(self.jobs.glob("*.json")):
            job = json.loads(path.read_text())
            directives = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", job["script"], re.MULTILINE))
            given = dict(a.removeprefix("--").split("=", 1) for a in job["arguments"])
            if "launch_pickled_pipeline" in job["script"]:
                offset = given["export"].rpartition("=")[2]
                depends = given.get("dependency")
                found.append(Submitted(path.stem, directives, depends, offset, job["script"]))
        return found

    def execute(self, job: Submitted, index: int, place: Any) -> subprocess.CompletedProcess[str]:
        """One task of an array job, as Slurm would start it."""
        environment = self.environment | {
            "SLURM_ARRAY_TASK_ID": str(index),
            "RUN_OFFSET": job.offset,
            "SLURM_NODELIST": "node1",
        }
        words = ["bash", "-c", job.script]
        return subprocess.run(words, cwd=place.path, env=environment, capture_output=True, text=True)


@pytest.fixture
def place(workspace: Any, tmp_path: Path) -> Any:
    workspace.environment |= install(tmp_path / "plug")
    workspace.write_problems(30)
    workspace.write_recipe(ENGINE, stages=STAGES, part_rows=7)
    return workspace


@pytest.fixture
def cluster(place: Any, tmp_path: Path) -> Cluster:
    made = Cluster(tmp_path / "slurm", place.environment)
    place.environment = made.environment
    return made


def submit(place: Any, *more: str, tasks: int = 4) -> subprocess.CompletedProcess[str]:
    words = ["run", "test.yaml", "--executor", "slurm", "--tasks", str(tasks), *more]
    done: subprocess.CompletedProcess[str] = place.gristmill(
        *words, *(w for option in OPTIONS for w in ("--option", option))
    )
    return done


def test_each_phase_is_an_array_job_that_depends_on_the_one_before(place: Any, cluster: Cluster) -> None:
    done = submit(place, "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "submitted; when all is done: gristmill show runs/test\n"
    jobs = cluster.submitted()
    assert [job.directives["job-name"] for job in jobs] == [f"test-{label}" for label in PHASES]
    assert [job.directives["array"] for job in jobs] == ["0-0%2", "0-3%2"] * 3 + ["0-0%2"]
    assert jobs[0].depends is None
    for before, job in pairwise(jobs):
        assert job.depends == f"afterok:{before.number}"
    for job in jobs:
        rows = job.directives["array"] == "0-3%2"
        assert job.directives["partition"] == "gpu"
        assert job.directives["time"] == "24:00:00"
        assert job.directives["account"] == "abc"
        assert job.directives["kill-on-invalid-dep"] == "yes"
        assert "requeue" in job.directives
        assert job.directives.get("gpus") == ("1" if rows else None)
        assert job.directives["mem-per-cpu"] == ("2G" if rows else "16G")
        assert f'export PATH="{Path(sys.executable).parent}:$PATH"' in job.script
    assert not (place.path / "runs/test/summary.json").exists()


def test_more_tasks_than_an_array_may_have_are_several_jobs(place: Any, cluster: Cluster) -> None:
    place.write_recipe(ENGINE)
    assert submit(place, "--option", "max_array_size=4", tasks=10).returncode == 0
    jobs = cluster.submitted()
    assert [(job.directives["array"], job.offset) for job in jobs] == [
        ("0-0", "0"),
        ("0-3", "0"),
        ("0-3", "1"),
        ("0-3", "2"),
        ("0-0", "0"),
    ]
    # datatrove has each array of a phase wait for the one before, and the next phase for the last.
    assert [job.depends for job in jobs][-1] == f"afterok:{jobs[3].number}"


def test_without_sbatch_the_error_says_where_to_go(place: Any, tmp_path: Path) -> None:
    place.environment = place.environment | {"PATH": str(tmp_path)}
    done = submit(place)
    assert done.returncode == 5
    assert "error: there is no sbatch here. Give this command on a login node" in done.stderr


def test_a_missing_option_is_told_before_anything_is_written(place: Any, cluster: Cluster) -> None:
    done = place.gristmill("run", "test.yaml", "--executor", "slurm", "--tasks", "4")
    assert done.returncode == 2
    assert done.stderr.startswith("error: the slurm executor: the key 'partition' is missing")
    assert not (place.path / "runs").exists() and not cluster.submitted()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_submitted_scripts_make_one_machines_bytes_and_only_what_failed_is_submitted_again(
    place: Any, cluster: Cluster
) -> None:
    assert submit(place).returncode == 0
    first = cluster.submitted()
    for job in first[:3]:
        for index in range(4 if job.directives["array"] == "0-3" else 1):
            done = cluster.execute(job, index, place)
            assert done.returncode == 0, done.stderr
    assert cluster.execute(first[3], 1, place).returncode == 0
    # Out of order, as if Slurm had not kept to the dependency: nothing unfinished is taken as whole.
    early = cluster.execute(first[4], 0, place)
    assert early.returncode != 0 and "task 0 of 03-draw has not come to its end" in early.stderr
    assert submit(place).returncode == 0
    second = cluster.submitted()[len(first) :]
    assert [job.directives["job-name"] for job in second] == [f"test-{label}" for label in PHASES[3:]]
    assert [job.directives["array"] for job in second] == ["0-2", "0-0", "0-3", "0-0"]
    assert [job.depends for job in second] == [None, *(f"afterok:{job.number}" for job in second[:-1])]
    for job in second:
        for index in range(int(job.directives["array"].rpartition("-")[2]) + 1):
            done = cluster.execute(job, index, place)
            assert done.returncode == 0, done.stderr
    one = place.gristmill("run", "test.yaml", "--runs", "one", "--log", "one.sqlite")
    assert one.returncode == SOME, one.stderr  # a stage fails on some rows
    assert outputs(place.path / "runs/test") == outputs(place.path / "one/test")
