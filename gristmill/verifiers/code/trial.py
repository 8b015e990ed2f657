"""One program on trial: each test in a process of its own, and what judges it in another sandbox."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gristmill.verifiers.code import launcher
from gristmill.verifiers.code.place import Ended, Sandbox, SandboxLimits, SandboxPlace, Task, given, watch


class ProgramText(NamedTuple):
    """A program. ``setup`` runs before it; ``fenced``: whether the text is known to be meant as a program."""

    program: str
    setup: str = ""
    fenced: bool = True


class ProgramTrial:
    """Runs a program's tests. Use it in a ``with`` statement, at whose end all of it is gone.

    A sandbox is started for the program with the first test, and one for the texts of asserts with the first
    of these; one that was ended from within is replaced.
    """

    def __init__(self, text: ProgramText, limits: SandboxLimits, sandbox: Sandbox) -> None:
        self._text, self._limits, self._sandbox = text, limits, sandbox
        self._open = contextlib.ExitStack()
        self._place: SandboxPlace | None = None
        self._bench: SandboxPlace | None = None

    def __enter__(self) -> ProgramTrial:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def check(self) -> Ended:
        """Whether set-up and program can be used: reports ``setup`` and ``compile``, empty for yes.

        Nothing of the program has run when it is told, and nothing that it does later can change it.
        """
        with given("") as nothing:
            return self._one(launcher.CHECK, nothing)

    def script(self, stdin: str) -> Ended:
        """Run the program as a script that reads ``stdin``."""
        with given(stdin) as file:
            return self._one(launcher.SCRIPT, file)

    def call(self, request: Mapping[str, Any]) -> Ended:
        """Call one ``function`` with ``args`` and ``kwargs``; the last report has its ``value``."""
        message = json.dumps({"do": "plain", **request})
        with given(message, framed=True) as file:
            return self._one(launcher.SERVE, file)

    def asserted(self, test: str) -> tuple[Ended, Ended]:
        """Run a test's text beside the program: how the program ended, and how the text did."""
        place = self._program()
        self._bench = self._fresh(self._bench, "", self._text.setup)
        with given(test) as file, _pair() as (ours, theirs):
            # The program's end of the wire is both what it reads and what it reports on.
            program = Task(place, launcher.SERVE, ours, report=ours)
            text = Task(self._bench, launcher.JUDGE, file, extra=(theirs,))
        watch([program, text], self._limits)
        return program.ended(self._limits), text.ended(self._limits)

    def _one(self, kind: bytes, file: int) -> Ended:
        task = Task(self._program(), kind, file)
        watch([task], self._limits)
        return task.ended(self._limits)

    def _program(self) -> SandboxPlace:
        self._place = self._fresh(self._place, self._text.program, self._text.setup)
        return self._place

    def _fresh(self, place: SandboxPlace | None, program: str, setup: str) -> SandboxPlace:
        if place is not None and not place.failed:
            return place
        fenced = self._text.fenced
        made = SandboxPlace(self._sandbox, self._limits, program=program, setup=setup, fenced=fenced)
        return self._open.enter_context(made)


@contextlib.contextmanager
def _pair() -> Iterator[tuple[int, int]]:
    ends = socket.socketpair()
    with ends[0], ends[1]:
        yield ends[0].fileno(), ends[1].fileno()
