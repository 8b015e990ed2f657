"""Programs of models, run in a process, and where the system gives one a sandbox, of their own.

``docs/code-verifier.md`` says what each sandbox contains and what it does not. POSIX only.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from gristmill.core.errors import RecipeError
from gristmill.verifiers.code.enclosure import command, environment

Kind = Literal["auto", "bubblewrap", "unshare", "none"]

_GRACE = 5.0
"""Seconds past the wall limit in which a sandbox must start, end and clean up."""
_UIDS = range(61184, 65520)
"""Where root takes a user for one program from: no person or service has these."""


class SandboxLimits(NamedTuple):
    """What one program may use. Sizes in MiB (``output_kb``: KiB); memory is each process's address space."""

    wall_seconds: float = 5.0
    cpu_seconds: float = 5.0
    memory_mb: int = 512
    file_mb: int = 16
    processes: int = 8
    output_kb: int = 256


class SandboxJob(NamedTuple):
    """A program and what to run it on: ``stdin``, or one ``test`` (an ``assert`` or a call) in its names.

    ``fenced``: whether the text is known to be meant as a program.
    """

    program: str
    stdin: str = ""
    test: Mapping[str, Any] | None = None
    setup: str = ""
    fenced: bool = True


class ProgramResult(NamedTuple):
    """How a program ended.

    ``exit``: its exit status, minus the signal if one ended it; ``None`` if the sandbox itself failed, with
    the reason in ``stderr``. ``over``: the limit it met, if any. ``report``: what the driver of the tests
    said; a test is done only if it holds the run's secret, which ``genuine`` tells.
    """

    exit: int | None
    stdout: str = ""
    stderr: str = ""
    over: Literal["", "wall", "cpu", "output"] = ""
    report: Mapping[str, Any] = {}
    genuine: bool = False


class Sandbox(NamedTuple):
    """A kind that works here. ``drops``: root gives each program an unprivileged user of its own."""

    kind: Literal["bubblewrap", "unshare", "none"]
    drops: bool


def choose(kind: Kind, *, allow_root: bool = False) -> Sandbox:
    """The sandbox asked for, or for ``auto`` the best that works, which is found out by using it.

    Raises ``RecipeError`` if that kind does not work here, or if it is none and this is root, who must
    say ``allow_root``.
    """
    for one in ("bubblewrap", "unshare") if kind == "auto" else (kind,):
        if one == "none":
            break
        if not (problem := _problem(one, root := os.geteuid() == 0)):
            return Sandbox(one, drops=root)
        if kind != "auto":
            raise RecipeError(
                f"code: the sandbox {kind!r} does not work here: {problem}.",
                remedy="Install bubblewrap (apt-get install bubblewrap), allow user namespaces, "
                "or take sandbox: auto.",
            )
    if os.geteuid() != 0:
        return Sandbox("none", drops=False)
    if not allow_root:
        raise RecipeError(
            "code: programs of a model are not run by root without a sandbox, and none is active.",
            remedy="Run as another user, install bubblewrap (apt-get install bubblewrap), "
            "or set allow_root: true where losing this machine is no loss.",
        )
    return Sandbox("none", drops=not _problem("none", True))


@functools.cache
def _problem(kind: Literal["bubblewrap", "unshare", "none"], drops: bool) -> str:
    """Why a sandbox does not work; empty if it does. Told by a program that tries to get out of it."""
    tool = {"bubblewrap": "bwrap", "unshare": "unshare"}.get(kind)
    if tool is not None and (sys.platform != "linux" or shutil.which(tool) is None):
        return f"there is no {tool}"
    with socket.create_server(("127.0.0.1", 0)) as server:
        test = {"function": "probe", "args": [server.getsockname()[1]], "kwargs": {}}
        limits = SandboxLimits(wall_seconds=20, cpu_seconds=20, memory_mb=256)
        result = run(SandboxJob(_PROBE, test=test), limits, Sandbox(kind, drops))
    if not result.genuine:
        return (result.stderr.strip().splitlines() or [str(result.report.get("raised", "it ends early"))])[-1]
    found = result.report["value"]
    if drops and found["root"]:
        return "the program is root in it"
    if found["prefix"] != sys.base_prefix:
        return f"an unprivileged user finds Python at {found['prefix']}, not at {sys.base_prefix}"
    if kind == "none":
        return ""
    if found["network"]:
        return "the network can be reached from within it"
    return "" if found["pid"] < 10 else "other processes can be seen from within it"


_PROBE = """
import fractions, os, socket, sys  # fractions: any module that only a readable library has

def probe(port):
    with open("file", "w") as file:
        file.write("written")
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        network = True
    except OSError:
        network = False
    with open("/proc/self/uid_map") as file:
        mapped = file.read().split()
    outside = int(mapped[1]) if mapped[2] == "1" else os.getuid()
    root = outside == os.getuid() == 0
    return {"prefix": sys.base_prefix, "network": network, "pid": os.getpid(), "root": root}
"""


def run(job: SandboxJob, limits: SandboxLimits, sandbox: Sandbox) -> ProgramResult:
    """Run one program to its end or its limits. In a sandbox nothing that it started outlives it."""
    secret = secrets.token_hex(16)
    user = secrets.choice(_UIDS) if sandbox.drops else None
    with _directory(user) as work, tempfile.TemporaryFile() as given, contextlib.ExitStack() as open_files:
        if job.test is None:
            given.write(job.stdin.encode("utf-8", "replace"))
        else:
            given.write(json.dumps({**job.test, "secret": secret}).encode())
        given.seek(0)
        ours, theirs = (open_files.enter_context(s) for s in socket.socketpair())
        reading, writing = os.pipe()
        report = open_files.enter_context(os.fdopen(reading, "rb"))
        with os.fdopen(writing, "wb"):
            try:
                process = _start(sandbox, limits, work, (theirs.fileno(), given.fileno(), writing), user)
            except (OSError, subprocess.SubprocessError) as error:
                return ProgramResult(None, stderr=str(error))
        theirs.close()
        try:
            message = json.dumps(_message(job, limits, sandbox)).encode()
            status, texts, over = _watch(process, ours, report, message, limits)
        finally:
            ours.close()
            _end(process, user if sandbox.kind == "none" else None)
    return _result(status, texts, over, secret, limits)


def _message(job: SandboxJob, limits: SandboxLimits, sandbox: Sandbox) -> dict[str, Any]:
    return {
        "program": job.program,
        "setup": job.setup,
        "fenced": job.fenced,
        "mode": "stdin" if job.test is None else "test",
        "sandbox": sandbox.kind,
        "seconds": limits.wall_seconds,
        **limits._asdict(),
    }


@contextlib.contextmanager
def _directory(user: int | None) -> Iterator[str]:
    """A directory of the program's own, removed afterwards whatever it holds."""
    path = tempfile.mkdtemp(prefix="gristmill-code-")
    try:
        if user is not None:
            os.chown(path, user, user)
        yield path
    finally:
        try:
            shutil.rmtree(path)
        except (OSError, RecursionError):  # closed to its owner, or nested past what a path can hold
            for words in (["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
                subprocess.run([*words, "--", path], capture_output=True, check=False)


def _start(
    sandbox: Sandbox, limits: SandboxLimits, work: str, files: tuple[int, int, int], user: int | None
) -> subprocess.Popen[bytes]:
    stdin, given, report = files
    kind = sandbox.kind
    return subprocess.Popen(
        command(kind, work, file_mb=limits.file_mb, user=user, files=(given, report)),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(given, report),
        cwd=work,
        env=environment(kind, work),
        start_new_session=True,
        umask=0o077,
    )


def _watch(
    process: subprocess.Popen[bytes],
    channel: socket.socket,
    report: Any,
    message: bytes,
    limits: SandboxLimits,
) -> tuple[dict[str, Any] | None, list[bytes], bool]:
    """The launcher's status, what came out (stdout, stderr, report), and whether that was too much.

    Too much of it, or too late a status, ends the program: the launcher acts on the end of its socket.
    """
    most = limits.output_kb << 10
    names = (process.stdout, process.stderr, report)
    texts = [bytearray() for _ in names]
    until = time.monotonic() + limits.wall_seconds + _GRACE
    status: dict[str, Any] | None = None
    with selectors.DefaultSelector() as selector:
        for i, stream in enumerate(names):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ, i)
        channel.settimeout(_GRACE)
        try:
            channel.sendall(len(message).to_bytes(8, "big") + message)
            selector.register(channel, selectors.EVENT_READ)
            while status is None and (left := until - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    if key.data is None:
                        status = _read_status(channel)
                    elif not _take(key.fd, texts[key.data], most):
                        selector.unregister(key.fileobj)
                if any(len(text) > most for text in texts):
                    break
        except (TimeoutError, BrokenPipeError, ConnectionResetError):
            status = None  # it did not even start; standard error says why
        if status is None:
            channel.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
        for i, stream in enumerate(names):
            while (
                stream is not None and len(texts[i]) <= most and _take(stream.fileno(), texts[i], most, True)
            ):
                pass
    over = any(len(text) > most for text in texts)
    return status, [bytes(text[:most]) for text in texts], over


def _take(descriptor: int, text: bytearray, most: int, last: bool = False) -> bool:
    """Read a piece; ``False`` at the stream's end, or with ``last`` when there is none now."""
    try:
        piece = os.read(descriptor, 65536)
    except BlockingIOError:
        return not last
    text += piece[: most + 1]
    return bool(piece)


def _read_status(channel: socket.socket) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(channel.recv(4096))
    except (ValueError, ConnectionResetError):  # it died without a word
        return {"failed": "the launcher was ended"}
    return found


def _end(process: subprocess.Popen[bytes], user: int | None) -> None:
    """Kill and reap what is left of the launcher, and all processes of ``user``, the program's own."""
    try:
        process.wait(_GRACE)  # it is cleaning up
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    if user is not None:
        everyone = ["/bin/sh", "-c", "kill -9 -1"]
        subprocess.run(everyone, user=user, group=user, extra_groups=(), capture_output=True, check=False)


def _result(
    status: dict[str, Any] | None, texts: list[bytes], over: bool, secret: str, limits: SandboxLimits
) -> ProgramResult:
    stdout, stderr = (text.decode("utf-8", "replace") for text in texts[:2])
    if over:
        return ProgramResult(-signal.SIGKILL, stdout, stderr, over="output")
    if status is None or "failed" in status:
        why = status["failed"] if status else "the sandbox did not answer"
        return ProgramResult(None, stdout, stderr or why)
    ended, limit = status["exit"], ""
    if status["late"]:
        limit = "wall"
    elif ended == -signal.SIGXCPU or (
        ended == -signal.SIGKILL and status["cpu_seconds"] >= limits.cpu_seconds
    ):
        limit = "cpu"
    report = _read_report(texts[2])
    genuine = secrets.compare_digest(
        str(report.get("secret", "")).encode("utf-8", "replace"), secret.encode()
    )
    return ProgramResult(ended, stdout, stderr, limit, report, genuine)  # type: ignore[arg-type]


def _read_report(text: bytes) -> dict[str, Any]:
    """The first line that the driver wrote, if it is a JSON object. Numbers too long to read are no value."""
    try:
        found = json.loads(text.partition(b"\n")[0] or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
