"""Programs, judged by running them against tests in a process that cannot do harm.

``docs/code-verifier.md`` says what is contained under which sandbox, and how the settings go together.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct

from gristmill.core.verdicts import Outcome, Verdict
from gristmill.verifiers.code.sandbox import Kind, ProgramResult, SandboxJob, SandboxLimits, choose, run
from gristmill.verifiers.evidence import decided, unparseable
from gristmill.verifiers.guard import failure, guarded

_WHY = 200
_DETAIL = 4000
"""Characters of the evidence on one test, and on all."""
_FENCE = re.compile(r"[ \t]{0,3}(`{3,}+|~{3,}+)[ \t]*([^\s`{]*)")
_PATH = r"^[^\W\d]\w*(\(\))?(\.[^\W\d]\w*(\(\))?)*$"
_PYTHON = frozenset(("python", "py", "python3"))

_PASSED, _NOT_RUN = "passed", "not run"
_ORDER = {_PASSED: 1, _NOT_RUN: 2}

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

    function: Annotated[str, Meta(pattern=_PATH)]
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

    Raises ``RecipeError`` when made, if ``sandbox`` is one that does not work here, or if this is root
    without any and not ``allow_root``.
    """

    wall_seconds: Positive = 5.0
    cpu_seconds: Positive = 5.0
    memory_mb: Annotated[int, Meta(ge=32)] = 512
    file_mb: Count = 16
    processes: Count = 8
    output_kb: Count = 256
    tolerance: Annotated[float, Meta(ge=0)] = 0.0
    stop_early: bool = False
    sandbox: Kind = "auto"
    allow_root: bool = False

    def __post_init__(self) -> None:
        choose(self.sandbox, allow_root=self.allow_root)

    def __call__(self, completion: str, reference: str) -> Verdict:
        """Judge ``completion``; a reference that is no tests is an ``error``."""
        return guarded(self._verify, completion, reference)

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
        told: list[_Told] = []
        for name, job, expected in _jobs(tests, program, block is not None):
            if self.stop_early and told and told[-1].result != _PASSED:
                told.append(_Told(name, _NOT_RUN, ""))
                continue
            result = run(job, self._limits(), choose(self.sandbox, allow_root=self.allow_root))
            if end := self._not_about_tests(result, program, block is not None):
                return end
            told.append(_Told(name, *self._judge(job, result, expected)))
        return _verdict(told, program)

    def _limits(self) -> SandboxLimits:
        return SandboxLimits(
            self.wall_seconds,
            self.cpu_seconds,
            self.memory_mb,
            self.file_mb,
            self.processes,
            self.output_kb,
        )

    def _not_about_tests(self, result: ProgramResult, program: str, fenced: bool) -> Verdict | None:
        """The verdict, if no test can be run: because of the program's text, the set-up or the sandbox."""
        if result.exit is None:
            return failure("sandbox", _last_line(result.stderr))
        if (why := result.report.get("compile")) is not None:
            if fenced:
                return decided(False, rule="compile error", extracted=program, detail=str(why))
            return unparseable("no code", f"no Python block, and as a whole no program: {why}")
        if (why := result.report.get("setup")) is not None:
            return failure("reference unparseable", f"its setup fails: {why}")
        return None

    def _judge(self, job: SandboxJob, result: ProgramResult, expected: Any) -> tuple[str, str]:
        """How a test went: ``passed``, ``wrong``, ``raised``, ``timeout`` or ``output limit``; and why."""
        if result.over == "output":
            return "output limit", f"more than {self.output_kb} KiB"
        if result.genuine and "done" in result.report:
            return "passed", ""
        if result.genuine:
            value = result.report["value"]
            return (
                ("passed", "") if same(value, expected, self.tolerance) else ("wrong", f"returned {value!r}")
            )
        if result.over:
            limit = self.wall_seconds if result.over == "wall" else self.cpu_seconds
            return "timeout", f"{result.over} limit of {limit:g} s"
        if job.test is not None:
            why = result.report.get("raised")
            return "raised", str(why) if why else f"it ended ({result.exit}) before its test did"
        if result.exit != 0:
            return "raised", f"exit {result.exit}: {_last_line(result.stderr)}"
        if same_output(result.stdout, expected, self.tolerance):
            return "passed", ""
        return "wrong", f"printed {result.stdout!r}"


class _Told(NamedTuple):
    test: str
    result: str
    why: str


def _jobs(tests: Suite, program: str, fenced: bool) -> list[tuple[str, SandboxJob, Any]]:
    jobs: list[tuple[str, SandboxJob, Any]] = []
    for i, stdin in enumerate(tests.stdin):
        jobs.append((f"stdin {i}", SandboxJob(program, stdin=stdin.input, fenced=fenced), stdin.output))
    for i, text in enumerate(tests.asserts):
        jobs.append((f"assert {i}", SandboxJob(program, "", {"assert": text}, tests.setup, fenced), None))
    for i, call in enumerate(tests.calls):
        asked = {"function": call.function, "args": call.args, "kwargs": call.kwargs}
        jobs.append((f"call {i}", SandboxJob(program, "", asked, tests.setup, fenced), call.expected))
    return jobs


def _verdict(told: list[_Told], program: str) -> Verdict:
    passed = sum(one.result == _PASSED for one in told)
    rule, detail = f"{passed} of {len(told)} tests", _detail(told, passed)
    others = {one.result for one in told} - {_PASSED, _NOT_RUN}
    if others == {"timeout"}:
        return Verdict(Outcome.TIMEOUT, extracted=program, rule=rule, detail=detail)
    return decided(not others, rule=rule, score=passed / len(told), extracted=program, detail=detail)


def _detail(told: list[_Told], passed: int) -> str:
    """The tests as JSON; of many, as many as there is room for: those that did not pass, passed, ran not."""
    found: dict[str, Any] = {"passed": passed, "of": len(told), "tests": []}
    room = _DETAIL - 60
    for one in sorted(told, key=lambda one: _ORDER.get(one.result, 0)):
        shown = {"test": one.test, "result": one.result, "why": one.why[:_WHY]}
        if not one.why:
            del shown["why"]
        room -= len(json.dumps(shown)) + 1
        if room < 0:
            found["left_out"] = len(told) - len(found["tests"])
            break
        found["tests"].append(shown)
    return json.dumps(found, separators=(",", ":"))


def last_block(text: str) -> str | None:
    """The last fenced block of ``text`` that is marked as Python, else the last without a mark, if any.

    A block that the text ends in need not be closed.
    """
    found: dict[bool, str] = {}
    fence, label, start = "", "", 0
    lines = text.replace("\r\n", "\n").split("\n")
    for i, line in enumerate([*lines, None]):
        mark = _FENCE.match(line) if line is not None else None
        if not fence:
            if mark is not None:
                fence, label, start = mark[1], mark[2].lower(), i + 1
        elif line is None or (mark is not None and mark[1].startswith(fence) and not mark[2]):
            if label in _PYTHON or not label:
                found[bool(label)] = "\n".join(lines[start:i])
            fence = ""
    return found.get(True, found.get(False))


def same_output(printed: str, expected: str, tolerance: float = 0.0) -> bool:
    """Whether two texts have the same lines, but for spaces and for blank lines at either end."""
    left, right = ([line.split() for line in text.strip().split("\n")] for text in (printed, expected))
    if left == right or not tolerance:
        return left == right
    return len(left) == len(right) and all(
        len(a) == len(b) and all(_same_words(x, y, tolerance) for x, y in zip(a, b, strict=True))
        for a, b in zip(left, right, strict=True)
    )


def _same_words(left: str, right: str, tolerance: float) -> bool:
    if left == right:
        return True
    try:
        return math.isclose(float(left), float(right), rel_tol=tolerance, abs_tol=tolerance)
    except ValueError:
        return False


def same(value: Any, expected: Any, tolerance: float = 0.0) -> bool:
    """Whether two values of JSON are equal: ``2`` is ``2.0`` but not ``true``."""
    if isinstance(value, list) and isinstance(expected, list):
        return len(value) == len(expected) and all(
            same(a, b, tolerance) for a, b in zip(value, expected, strict=True)
        )
    if isinstance(value, Mapping) and isinstance(expected, Mapping):
        return value.keys() == expected.keys() and all(same(value[k], expected[k], tolerance) for k in value)
    if isinstance(value, bool) or isinstance(expected, bool):
        return value is expected
    if tolerance and isinstance(value, int | float) and isinstance(expected, int | float):
        try:
            return math.isclose(value, expected, rel_tol=tolerance, abs_tol=tolerance)
        except OverflowError:  # an integer that no float holds
            return value == expected
    return bool(value == expected)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no message"
