"""The executors, with the options that each takes from the command line: our own on this machine, datatrove's
on Slurm and Ray.

``open_options`` makes an executor's options from texts; ``run`` on them runs a chain of phases: to the end,
or (Slurm) until all are submitted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta, Struct

from gristmill.core.errors import MissingExtraError, RecipeError, RunStopped
from gristmill.core.machine import cores
from gristmill.core.registry import suggest
from gristmill.core.rules import told
from gristmill.pipelines.distributed.job import TASKS, done
from gristmill.pipelines.distributed.local import run_here, signals
from gristmill.pipelines.distributed.step import TaskStep

Count = Annotated[int, Meta(ge=1)]


class Planned(Struct, frozen=True):
    """A phase to be run: what it does in how many tasks, whether these run row stages, and the folder for the
    executor's own files."""

    step: TaskStep
    tasks: int
    rows: bool
    folder: Path


class Executor(Protocol):
    """The options of an executor."""

    def run(
        self, name: str, chain: Sequence[Planned], workers: int | None, say: Callable[[str], None]
    ) -> bool:
        """Run the phases, each after the one before, with at most ``workers`` tasks of it at a time.

        ``say`` tells the user how far it is. Whether they have run (else: will run). ``RunStopped`` if a task
        did not come to its end, ``KeyboardInterrupt`` where a signal ended it.
        """
        ...

    def verifier_workers(self, workers: int | None, tasks: int) -> int | None:
        """How many verifier processes a task should have; ``None``: as many as its machine has cores."""
        ...


class Local(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Processes of this machine, by default as many as it has cores. See ``local``."""

    def run(
        self, name: str, chain: Sequence[Planned], workers: int | None, say: Callable[[str], None]
    ) -> bool:
        """See ``Executor``."""
        with signals() as stop:
            for phase in chain:
                whole = Path(phase.step.folder)
                folders = [
                    whole / TASKS / f"{rank:05d}" if phase.rows else whole for rank in range(phase.tasks)
                ]
                ranks = [rank for rank, folder in enumerate(folders) if not done(folder)]
                most = workers or cores()
                run_here(phase.step, ranks, most, phase.folder / "logs", stop, say)
        return True

    def verifier_workers(self, workers: int | None, tasks: int) -> int | None:
        """The cores are shared by the tasks that run at a time."""
        return max(1, cores() // min(tasks, workers or cores()))


class Ray(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Ray cluster: the one at ``address``, else the one of this machine or of ``RAY_ADDRESS``, else a new
    one on this machine. ``time``: the seconds after which a task is given up (datatrove has no other way to
    notice a worker that hangs)."""

    address: str | None = None
    cpus_per_task: Count = 1
    gpus_per_task: Annotated[int, Meta(ge=0)] = 0
    mem_per_cpu_gb: Annotated[float, Meta(gt=0)] = 2.0
    time: Count | None = None

    def run(
        self, name: str, chain: Sequence[Planned], workers: int | None, say: Callable[[str], None]
    ) -> bool:
        """See ``Executor``."""
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError("Ray", install="pip install 'gristmill[ray]'") from error
        from datatrove.executor import RayPipelineExecutor

        ours = not ray.is_initialized()
        if ours:
            ray.init(address=self.address, log_to_driver=False)
        former = None
        try:
            for phase in chain:
                executor = RayPipelineExecutor(
                    pipeline=[phase.step],
                    tasks=phase.tasks,
                    workers=workers or -1,
                    logging_dir=str(phase.folder),
                    depends=former,
                    cpus_per_task=self.cpus_per_task,
                    gpus_per_task=self.gpus_per_task if phase.rows else 0,
                    mem_per_cpu_gb=self.mem_per_cpu_gb,
                    time=self.time,
                )
                executor.run()
                _check_ended(executor, phase)
                former = executor
        finally:
            if ours:
                ray.shutdown()
        return True

    def verifier_workers(self, workers: int | None, tasks: int) -> int | None:
        """Ray reserves cores, but does not bind a task to them."""
        return self.cpus_per_task


class Slurm(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Slurm cluster, through ``sbatch``: an array job for each phase with many tasks, each job depending on
    the one before. ``time`` (such as 08:00:00) is a task's limit. The others are datatrove's; one of
    ``venv_path``, ``condaenv`` and ``env_command`` say how a job finds Python, else it uses this very one.

    ``gpus_per_task`` is for the phases with row stages. A phase between two of them is one task with
    ``cpus_per_merge`` cores of ``mem_per_merge_gb`` in all, and ``time_per_merge`` (default: ``time``).
    """

    partition: str
    time: str
    cpus_per_task: Count = 1
    mem_per_cpu_gb: Count = 2
    gpus_per_task: Annotated[int, Meta(ge=0)] = 0
    cpus_per_merge: Count = 1
    mem_per_merge_gb: Count = 8
    time_per_merge: str | None = None
    qos: str = "normal"
    venv_path: str | None = None
    condaenv: str | None = None
    env_command: str | None = None
    sbatch_args: dict[str, str] = {}
    srun_args: dict[str, str] = {}
    max_array_size: int = 1001
    mail_user: str | None = None
    requeue: bool = True

    def run(
        self, name: str, chain: Sequence[Planned], workers: int | None, say: Callable[[str], None]
    ) -> bool:
        """See ``Executor``: submits them all."""
        from datatrove.executor import SlurmPipelineExecutor

        former = None
        python = str(Path(sys.executable).parent)
        command = self.env_command
        if not (command or self.venv_path or self.condaenv):
            command = f'export PATH="{python}:$PATH"'
        for phase in chain:
            former = SlurmPipelineExecutor(
                pipeline=[phase.step],
                tasks=phase.tasks,
                time=self.time if phase.rows else self.time_per_merge or self.time,
                partition=self.partition,
                cpus_per_task=self.cpus_per_task if phase.rows else self.cpus_per_merge,
                mem_per_cpu_gb=self.mem_per_cpu_gb
                if phase.rows
                else -(-self.mem_per_merge_gb // self.cpus_per_merge),
                gpus_per_task=self.gpus_per_task if phase.rows else 0,
                workers=workers or -1,
                job_name=f"{name}-{phase.step.label}",
                qos=self.qos,
                env_command=command,
                condaenv=self.condaenv,
                venv_path=self.venv_path,
                # A phase whose former one failed can never start, and would wait in the queue for ever.
                sbatch_args={"kill-on-invalid-dep": "yes", **self.sbatch_args},
                srun_args=self.srun_args or None,
                max_array_size=self.max_array_size,
                mail_user=self.mail_user,
                requeue=self.requeue,
                logging_dir=str(phase.folder),
                depends=former,
            )
        try:
            assert former is not None
            former.launch_job()
        except FileNotFoundError as error:
            raise RunStopped(
                "there is no sbatch here.", remedy="Give this command on a login node of the cluster."
            ) from error
        return False

    def verifier_workers(self, workers: int | None, tasks: int) -> int | None:
        """Slurm binds a task to its cores where it is set up to; this holds everywhere."""
        return self.cpus_per_task


KINDS: dict[str, type[Any]] = {"local": Local, "slurm": Slurm, "ray": Ray}


def open_options(kind: str, options: Sequence[str]) -> Executor:
    """The executor ``kind`` with ``KEY=VALUE`` options; keys of a mapping as ``sbatch_args.account=NAME``.

    Raises ``RecipeError``, and ``MissingExtraError`` where the executor's library is not installed.
    """
    if kind not in KINDS:
        raise RecipeError(f"{kind!r} is not an executor.", remedy=suggest(kind, KINDS))
    data: dict[str, Any] = {}
    for option in options:
        place, equals, text = option.partition("=")
        first, _, rest = place.strip().partition(".")
        if not equals or not first:
            raise RecipeError(f"--option {option!r} is not an assignment.", remedy="Write it as KEY=VALUE.")
        if rest:
            data.setdefault(first, {})[rest] = text
        else:
            data[first] = text
    fields = KINDS[kind].__struct_fields__
    for key in data:
        if key not in fields:
            raise RecipeError(f"--option {key}: {kind} has no such option.", remedy=suggest(key, fields))
    if kind != "local":
        try:
            import datatrove  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("datatrove", install="pip install 'gristmill[distributed]'") from error
    try:
        # Not through YAML, which reads the time 24:00:00 as a number.
        made: Executor = msgspec.convert(data, KINDS[kind], strict=False)
    except msgspec.ValidationError as error:
        raise RecipeError(
            f"the {kind} executor: {told(error, KINDS[kind])}.",
            remedy="Give it with --option KEY=VALUE; see docs/distributed.md.",
        ) from error
    return made


def _check_ended(executor: Any, phase: Planned) -> None:
    """Refuse a phase of which tasks have not ended: Ray's executor only warns of them."""
    missing = executor.get_incomplete_ranks(skip_completed=True)
    if not missing:
        return
    errors = Path(phase.step.folder) / "errors"
    said = [errors / f"{rank:05d}.txt" for rank in missing]
    first = next((f"; task {path.stem}: {path.read_text()}" for path in said if path.exists()), "")
    raise RunStopped(
        f"{phase.step.label}: {len(missing)} of {phase.tasks} tasks did not come to their end{first}",
        remedy="Give the same command again: only what is unfinished runs. "
        f"The logs are in {phase.folder / 'logs'}.",
    )
