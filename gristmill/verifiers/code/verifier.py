"""Programs, judged by running them against tests in a process that cannot do harm.

``docs/code-verifier.md`` says what is contained under which sandbox, and how the settings go together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from gristmill.core.verdicts import Verdict
from gristmill.verifiers.code.comparing import last_block, same, same_output
from gristmill.verifiers.code.place import Ended, Sandbox, SandboxLimits
from gristmill.verifiers.code.results import (
    BROKEN,
    ENDED,
    NOT_RUN,
    PASSED,
    RAISED,
    REFUSED,
    SANDBOX,
    TIMEOUT,
    WRONG,
    Told,
    verdict_on,
)
from gristmill.verifiers.code.sandbox import Kind, choose
from gristmill.verifiers.code.trial import ProgramText, ProgramTrial
from gristmill.verifiers.evidence import decided, unparseable
from gristmill.verifiers.guard import answered, failure

_PATH = r"^[^\W\d]\w*(\(\))?(\.[^\W\d]\w*(\(\))?)*$"

Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]


class StdinCase(Struct, frozen=True, forbid_unknown_fields=True):
    """What a program is given on standard input, and what it must then print."""

    input: str
    output: str


class CallCase(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A function of the program, its arguments, and the value, as JSON, that it must return.

    ``Class.method`` and ``Class().method`` are called on a new object, which is made without arguments;
    static and class methods are called on the class by the first of the two.
    """

    function: Annotated[
        str, Meta(pattern=_PATH, description="the name of a function, as Class.method for one in a class")
    ]
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    expected: Any


class Suite(Struct, frozen=True, forbid_unknown_fields=True):
    """A reference. ``setup`` runs before the program, in its name space, for asserts and calls only."""

    stdin: list[StdinCase] = []
    asserts: list[str] = []
    calls: list[CallCase] = []
    setup: str = ""


class Code(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Run the last Python block of a completion (or all of it, if it is a program) against tests.

    The reference is a JSON object (see ``Suite``). Each test runs in a process of its own, in a directory
    of its own, for at most ``wall_seconds`` (``cpu_seconds`` of processor time), each process with at most
    ``memory_mb`` MiB of address space, files of at most ``file_mb`` MiB (in a sandbox: all of them
    together), ``processes`` processes and threads at once and ``output_kb`` KiB of output.

    ``correct`` if all tests passed, the score being the share that did; ``timeout`` if all others ran out
    of time. Output is compared by lines without regard to spaces; ``tolerance`` (relative and absolute)
    makes numbers in output and values equal that nearly are. With ``stop_early`` no test is run after the
    first that does not pass: these are told as ``not run`` and the score, a share of all, is a lower bound.

    A test whose sandbox was ended or stopped while it ran is run once more; if that happens again, the
    program did it, which is ``incorrect``.

    Raises ``RecipeError`` when made, if ``sandbox`` is one that does not work here, or if it is ``none`` and
    this is root without ``allow_root``.
    """

    wall_seconds: Positive = 20.0
    """Seconds that one test may take by the clock: far more than the processor time, for a busy machine."""
    cpu_seconds: Positive = 5.0
    """Seconds of processor time of one test."""
    memory_mb: Annotated[int, Meta(ge=32)] = 512
    """MiB of address space of each process; the worst case of a test is ``processes`` times that."""
    file_mb: Count = 16
    """MiB of the largest file; in a sandbox of all files together, which are kept in memory."""
    processes: Count = 8
    """Processes and threads at once."""
    output_kb: Count = 256
    """KiB of standard output, of standard error and of a returned value, each; more ends the program."""
    tolerance: Annotated[float, Meta(ge=0)] = 0.0
    """By how much numbers may differ and still be equal, relative and absolute."""
    stop_early: bool = False
    """Run no test after the first that does not pass."""
    strict: bool | None = None
    """Whether running out of time, or of what it takes to start a sandbox, is ``incorrect``; by default
    (``null``) it is in reward functions and nowhere else."""
    sandbox: Kind = "auto"
    """``bubblewrap``, ``unshare`` or ``none``; ``auto`` is the first of the two sandboxes that works here."""
    allow_root: bool = False
    """With ``sandbox: none``: let root run programs without one."""

    def __post_init__(self) -> None:
        self._sandbox()

    def __call__(self, completion: str, reference: str) -> Verdict:
        """Judge ``completion``; a reference that is not tests is an ``error``."""
        return answered(self._verify, completion, reference)

    @property
    def sandbox_used(self) -> str:
        """The sandbox in which programs run on this machine."""
        return self._sandbox().kind

    def _sandbox(self) -> Sandbox:
        return choose(self.sandbox, allow_root=self.allow_root, strict=bool(self.strict))

    def _verify(self, completion: str, reference: str) -> Verdict:
        try:
            tests = msgspec.json.decode(reference, type=Suite)
        except (ValueError, RecursionError) as error:  # msgspec's errors and lone surrogates are ValueErrors
            return failure("reference unparseable", str(error))
        if not (tests.stdin or tests.asserts or tests.calls):
            return failure("reference unparseable", "it has no tests: give stdin, asserts or calls")
        block = last_block(completion)
        program = completion if block is None else block
        if not program.strip():
            return unparseable("no code", "the program is empty")
        sandbox = self._sandbox()
        with ProgramTrial(
            ProgramText(program, tests.setup, block is not None), self._limits(), sandbox
        ) as trial:
            checked = trial.check()
            if checked.within:  # nothing of the program has run, so this came from outside
                checked = trial.check()
            if end := _not_about_tests(checked, program, block is not None, sandbox.kind):
                return end
            told: list[Told] = []
            for name, run in self._runs(tests, trial):
                skipped = self.stop_early and told and told[-1].result != PASSED
                result = (NOT_RUN, "") if skipped else run()
                if result[0] == ENDED:  # once may have come from outside
                    result = run()
                told.append(Told(name, *result))
        return verdict_on(told, program, sandbox.kind, strict=bool(self.strict))

    def _limits(self) -> SandboxLimits:
        return SandboxLimits(
            self.wall_seconds,
            self.cpu_seconds,
            self.memory_mb,
            self.file_mb,
            self.processes,
            self.output_kb,
        )

    def _runs(self, tests: Suite, trial: ProgramTrial) -> Iterator[tuple[str, Callable[[], tuple[str, str]]]]:
        """Each test's name and what runs it and says how it went: the result and why."""
        for i, stdin in enumerate(tests.stdin):
            yield f"stdin {i}", partial(self._script, trial, stdin)
        for i, text in enumerate(tests.asserts):
            yield f"assert {i}", partial(self._assert, trial, text)
        for i, call in enumerate(tests.calls):
            yield f"call {i}", partial(self._call, trial, call)

    def _script(self, trial: ProgramTrial, case: StdinCase) -> tuple[str, str]:
        ended = trial.script(case.input)
        if met := self._met(ended):
            return met
        if ended.exit != 0:
            return RAISED, f"exit {ended.exit}: {_last_line(ended.stderr)}"
        if same_output(ended.stdout, case.output, self.tolerance):
            return PASSED, ""
        return WRONG, f"printed {ended.stdout!r}"

    def _call(self, trial: ProgramTrial, case: CallCase) -> tuple[str, str]:
        ended = trial.call({"function": case.function, "args": case.args, "kwargs": case.kwargs})
        if met := self._met(ended):
            return met
        report = ended.reports[-1] if ended.reports else {}
        if "value" not in report:
            return RAISED, str(report.get("raised") or f"it ended ({ended.exit}) before its test did")
        value = report["value"]
        return (PASSED, "") if same(value, case.expected, self.tolerance) else (WRONG, f"returned {value!r}")

    def _assert(self, trial: ProgramTrial, text: str) -> tuple[str, str]:
        program, judge = trial.asserted(text)
        if met := self._met(program) or self._met(judge):
            return met
        report = judge.reports[-1] if judge.reports else {}
        if "done" in report:
            return PASSED, ""
        for result in (REFUSED, BROKEN):
            if result in report:
                return result, str(report[result])
        return RAISED, str(report.get("raised") or f"it ended ({program.exit}) before its test did")

    def _met(self, ended: Ended) -> tuple[str, str] | None:
        """The result, if the process met a limit or the sandbox did not last as long as it."""
        if ended.over == "output":
            return "output limit", f"more than {self.output_kb} KiB"
        if ended.over:
            limit = self.wall_seconds if ended.over == "wall" else self.cpu_seconds
            return TIMEOUT, f"{ended.over} limit of {limit:g} s"
        if ended.exit is not None:
            return None
        return (ENDED if ended.within else SANDBOX), ended.why


def _not_about_tests(ended: Ended, program: str, fenced: bool, sandbox: str) -> Verdict | None:
    """The verdict, if no test can be run: because of the program's text, the set-up or the sandbox."""
    where = f" (sandbox: {sandbox})"
    if ended.exit is None:
        return failure("sandbox", ended.why + where)
    reports: dict[str, Any] = {k: v for report in ended.reports for k, v in report.items()}
    if why := reports.get("setup", "it does not end"):
        return failure("reference unparseable", f"its setup fails: {why}"[:400] + where)
    if why := reports.get("compile", f"the compiler ended ({ended.exit})"):
        if fenced:
            return decided(False, rule="compile error", extracted=program, detail=f"{why}{where}")
        return unparseable("no code", f"no Python block, and as a whole no program: {why}{where}")
    return None


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no message"
