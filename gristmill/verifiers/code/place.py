"""A sandbox with a launcher in it, which runs one program, or the tests of one, process after process.

What it runs is never asked whether a test passed: here come what it printed, what it reported, and how it
ended, and the verdict is formed from these elsewhere.
"""

from __future__ import annotations

import contextlib
import functools
import json
import marshal
import os
import secrets
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib import resources
from typing import Any, Literal, NamedTuple

from gristmill.verifiers.code.enclosure import PLACE, command, environment, seen

_START = 20.0
"""Seconds in which a launcher must be ready."""
_GRACE = 3.0
"""Seconds past the wall limit in which a process must be ended and told of."""
_UIDS = range(61184, 65520)
"""Where root takes a user for one program from: no person or service has these."""
_PARTS = ("wire", "walls", "separation", "guest", "referee", "launcher")
"""The modules that are sent to the launcher, in the order in which they need one another."""
_BOOT = """
import marshal, os, sys, types
with os.fdopen(int(sys.argv[1]), "rb") as file:
    parts, job = marshal.load(file)
for name, code in parts:
    module = sys.modules[name] = types.ModuleType(name)
    exec(code, module.__dict__)
    if name.count("."):
        sys.modules.setdefault(name.rpartition(".")[0], types.ModuleType(name.rpartition(".")[0]))
        setattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2], module)
module.main(job)
"""

Limit = Literal["", "wall", "cpu", "output"]


class SandboxLimits(NamedTuple):
    """What one program may use. Sizes in MiB (``output_kb``: KiB); memory is each process's address space."""

    wall_seconds: float = 5.0
    cpu_seconds: float = 5.0
    memory_mb: int = 512
    file_mb: int = 16
    processes: int = 8
    output_kb: int = 256


class Sandbox(NamedTuple):
    """A kind that works here. ``drops``: root gives each program an unprivileged user of its own."""

    kind: Literal["bubblewrap", "unshare", "none"]
    drops: bool


class Ended(NamedTuple):
    """How a process ended.

    ``exit``: its exit status, minus the signal if one ended it; ``None`` if the launcher did not say, with
    the reason in ``why`` and in ``within`` whether that launcher had been at work before. ``over``: the limit
    it met, if any. ``reports``: its messages, as it wrote them.
    """

    exit: int | None
    stdout: str = ""
    stderr: str = ""
    over: Limit = ""
    reports: Sequence[dict[str, Any]] = ()
    why: str = ""
    within: bool = False


class SandboxPlace:
    """A launcher in a sandbox, started when made. ``program`` and ``setup`` are all that it learns of.

    ``failed`` says why it is of no use, if it is not: because it could not be started, or was ended since;
    ``ready`` whether it could.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        limits: SandboxLimits,
        *,
        program: str = "",
        setup: str = "",
        fenced: bool = True,
    ) -> None:
        self._limits = limits
        # A program and the text that judges it are never the same user.
        self._user = secrets.choice(_UIDS[::2] if program else _UIDS[1::2]) if sandbox.drops else None
        self._kind = sandbox.kind
        self.failed = ""
        self.ready = False
        self._work = _directory(self._user)
        self._process: subprocess.Popen[bytes] | None = None
        self.channel, theirs = socket.socketpair()
        job = {
            "program": program,
            "setup": setup,
            "fenced": fenced,
            "sandbox": sandbox.kind,
            "seen": seen(),
            "place": PLACE,
            **limits._asdict(),
        }
        with theirs, tempfile.TemporaryFile() as given:
            given.write(marshal.dumps((_parts(), job)))
            given.seek(0)
            try:
                self._start(given.fileno(), theirs)
            except (OSError, subprocess.SubprocessError) as error:
                self.failed = str(error)
                self.close()
                return
        self.channel.settimeout(_START)
        self.ready = bool((self.answer() or {}).get("ready"))
        if not self.ready:
            self.close()

    def _start(self, given: int, theirs: socket.socket) -> None:
        limits = self._limits
        words = ["-c", _BOOT, str(given)]
        self._process = subprocess.Popen(
            command(self._kind, self._work, file_mb=limits.file_mb, user=self._user, words=words),
            stdin=theirs.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(given,),
            cwd=self._work,
            env=environment(self._kind, self._work),
            start_new_session=True,
            umask=0o077,
        )

    def ask(self, kind: bytes, files: Sequence[int] = ()) -> None:
        """Ask for a process of ``kind`` (see ``launcher``), which gets copies of ``files``."""
        try:
            socket.send_fds(self.channel, [kind], list(files))
        except OSError:
            self.failed = self.failed or "the launcher was ended"

    def answer(self) -> dict[str, Any] | None:
        """The launcher's next word; ``None`` if there is none, and then it ``failed``."""
        try:
            found: dict[str, Any] = json.loads(self.channel.recv(4096))
        except (OSError, ValueError):
            self.failed = self.failed or "the launcher was ended"
            return None
        if "failed" in found:
            self.failed = str(found["failed"])
        return found

    def close(self) -> None:
        """End the launcher and all that it started, and remove its directory."""
        self.failed = self.failed or "it is closed"
        self.channel.close()
        process, self._process = self._process, None
        if process is not None:
            try:
                process.wait(_GRACE)  # it ends with its socket
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            assert process.stdout is not None
            with process.stdout as said:
                os.set_blocking(said.fileno(), False)
                lines = (said.read() or b"").decode("utf-8", "replace").strip().splitlines()
            if lines and self.failed == "the launcher was ended":
                self.failed = lines[-1]
        if self._user is not None and self._kind == "none":
            everyone = ["/bin/sh", "-c", "kill -9 -1"]
            who: dict[str, Any] = {"user": self._user, "group": self._user, "extra_groups": ()}
            subprocess.run(everyone, **who, capture_output=True, check=False)
        _remove(self._work)

    def __enter__(self) -> SandboxPlace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@functools.cache
def _parts() -> tuple[tuple[str, Any], ...]:
    """The launcher's modules as code, for a Python of the same version: they need not be found over there."""
    package = "gristmill.verifiers.code"
    folder = resources.files(package)
    named = [(f"{package}.{part}", folder.joinpath(f"{part}.py").read_text("utf-8")) for part in _PARTS]
    return tuple((name, compile(text, f"{name}.py", "exec", dont_inherit=True)) for name, text in named)


def _directory(user: int | None) -> str:
    path = tempfile.mkdtemp(prefix="gristmill-code-")
    if user is not None:
        os.chown(path, user, user)
    return path


def _remove(path: str) -> None:
    """Remove a program's directory, whatever it holds."""
    try:
        shutil.rmtree(path)
    except (OSError, RecursionError):  # closed to its owner, or nested past what a path can hold
        for words in (["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
            subprocess.run([*words, "--", path], capture_output=True, check=False)


class Task:
    """One process that a place was asked for, and what has come of it so far."""

    def __init__(
        self, place: SandboxPlace, kind: bytes, given: int, extra: Sequence[int] = (), report: int = -1
    ) -> None:
        """Ask for it. ``given`` is what it reads; ``report`` takes its reports, a pipe of ours by default."""
        self.place = place
        self.status: dict[str, Any] | None = None
        pipes = [os.pipe() for _ in range(2 if report >= 0 else 3)]
        self.streams = [reading for reading, _ in pipes]
        self.texts = [bytearray() for _ in pipes]
        theirs = [writing for _, writing in pipes]
        files = [given, *theirs, *([report] if report >= 0 else []), *extra]
        place.ask(kind, files)
        for end in theirs:
            os.close(end)
        for end in self.streams:
            os.set_blocking(end, False)

    def stop(self) -> None:
        """End the process; its status comes all the same."""
        if self.status is None:
            self.place.ask(b"x")

    def ended(self, limits: SandboxLimits) -> Ended:
        """How it ended, once ``watch`` is through."""
        most = limits.output_kb << 10
        stdout, stderr = (bytes(t[:most]).decode("utf-8", "replace") for t in self.texts[:2])
        reports = _messages(bytes(self.texts[2])) if len(self.texts) > 2 else []
        for end in self.streams:
            os.close(end)
        if self.status is None or "failed" in self.status:
            why = self.place.failed or "the sandbox did not answer"
            return Ended(None, stdout, stderr, "", reports, why, self.status is None and self.place.ready)
        over: Limit = ""
        if any(len(text) > most for text in self.texts):
            over = "output"
        elif self.status["late"]:
            over = "wall"
        elif self.status["exit"] == -signal.SIGXCPU or (
            self.status["exit"] == -signal.SIGKILL and self.status["cpu_seconds"] >= limits.cpu_seconds
        ):
            over = "cpu"
        return Ended(self.status["exit"], stdout, stderr, over, reports)


def watch(tasks: Sequence[Task], limits: SandboxLimits) -> None:
    """Collect what the tasks put out until each has ended; the last one's end is the end of all.

    Output past the limit ends a task. A place that does not answer in time is closed.
    """
    most = limits.output_kb << 10
    until = time.monotonic() + limits.wall_seconds + _GRACE
    with selectors.DefaultSelector() as selector:
        for task in tasks:
            for i, stream in enumerate(task.streams):
                selector.register(stream, selectors.EVENT_READ, (task, i))
            if task.place.failed:
                continue
            selector.register(task.place.channel, selectors.EVENT_READ, (task, None))
        waiting = [task for task in tasks if not task.place.failed]
        while waiting and (left := until - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                task, i = key.data
                if i is None:
                    task.status = task.place.answer()
                    selector.unregister(key.fileobj)
                    waiting.remove(task)
                    if task is tasks[-1]:
                        for other in waiting:
                            other.stop()
                elif not _take(key.fd, task.texts[i], most):
                    selector.unregister(key.fd)
                elif len(task.texts[i]) > most:
                    selector.unregister(key.fd)
                    task.stop()
    for task in tasks:
        for i, stream in enumerate(task.streams):
            while len(task.texts[i]) <= most and _take(stream, task.texts[i], most, True):
                pass
        if task.status is None:
            task.place.close()


def _take(descriptor: int, text: bytearray, most: int, last: bool = False) -> bool:
    """Read a piece; ``False`` at the stream's end, or with ``last`` when there is none now."""
    try:
        piece = os.read(descriptor, 65536)
    except BlockingIOError:
        return not last
    text += piece[: most + 1]
    return bool(piece)


def _messages(text: bytes) -> list[dict[str, Any]]:
    """What was reported: as many messages (8 bytes of length, JSON) as there are whole ones."""
    found: list[dict[str, Any]] = []
    while len(text) >= 8 and len(text) >= 8 + (size := int.from_bytes(text[:8], "big")):
        try:
            message = json.loads(text[8 : 8 + size])
        except (ValueError, RecursionError):  # numbers too long to read are no value
            break
        if not isinstance(message, dict):
            break
        found.append(message)
        text = text[8 + size :]
    return found


@contextlib.contextmanager
def given(text: str, *, framed: bool = False) -> Iterator[int]:
    """A descriptor that reads ``text``, of a file without a name; ``framed``: as a message."""
    data = text.encode("utf-8", "replace")
    with tempfile.TemporaryFile() as file:
        file.write((len(data).to_bytes(8, "big") if framed else b"") + data)
        file.seek(0)
        yield file.fileno()
