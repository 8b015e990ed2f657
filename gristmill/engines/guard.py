"""Processes that must not outlive this one: ``python -m gristmill.engines.guard``, and how to start it.

The guard reads one JSON line from standard input and then waits for the end of standard input, which also
comes when the parent is killed. It either starts a command in a session of its own (and ends the whole
process group), or watches processes that something else has started, whose ids it is sent one by one (and
kills them, unless it is told that they are done).

No library is used for this: psutil can find and kill processes, but only something outside of the parent can
do so after the parent was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

_GRACE_SECONDS = 15.0
"""The time between asking a process group to end and killing it."""
_POLL_SECONDS = 0.2
_DONE, _NOW = b"done\n", b"now\n"
_PR_SET_CHILD_SUBREAPER = 36


class Order(Struct, omit_defaults=True):
    """What to guard: a ``command`` to start, with its output in the file ``log``; without a command, the
    processes whose ids it is sent."""

    command: tuple[str, ...] = ()
    log: str = ""


class Guard:
    """The parent's side of a guard."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._watched: set[int] = set()

    @classmethod
    async def start(cls, order: Order, env: Mapping[str, str] | None = None) -> Guard:
        """Start a guard, and with it the command, in the environment ``env`` (default: our own)."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gristmill.engines.guard",
            stdin=asyncio.subprocess.PIPE,
            env=env,
            start_new_session=True,  # so that the terminal's Ctrl-C does not reach it
        )
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(order) + b"\n")
        await process.stdin.drain()
        return cls(process)

    @property
    def alive(self) -> bool:
        """Whether the guard (and with it the command) is running."""
        return self._process.returncode is None

    def watch(self, pids: Iterable[int]) -> None:
        """Guard these processes (by id) too."""
        new = sorted(set(pids) - self._watched)
        self._watched.update(new)
        if new and self.alive and self._process.stdin is not None:
            self._process.stdin.write(b"".join(b"%d\n" % pid for pid in new))

    async def stop(self, *, done: bool = False, now: bool = False) -> None:
        """End the command and the guard. ``now`` kills without asking first; ``done`` leaves the watched
        processes alone."""
        stdin = self._process.stdin
        if stdin is not None and self.alive:
            with contextlib.suppress(ConnectionError):  # the guard has just ended by itself
                if done or now:
                    stdin.write(_DONE if done else _NOW)
                    await stdin.drain()
                stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 2 * _GRACE_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


def _wait(process: subprocess.Popen[bytes] | None) -> bytes:
    """Read standard input until it ends or the command does; returns what was read."""
    said = b""
    while process is None or process.poll() is None:
        ready, _, _ = select.select([0], [], [], None if process is None else _POLL_SECONDS)
        if ready:
            data = os.read(0, 4096)
            if not data:
                break
            said += data
    return said


def _end(process: subprocess.Popen[bytes], grace: float) -> None:
    """End the group of ``process``, which may have other members after the process itself has ended."""
    deadline = time.monotonic() + grace
    _signal(process.pid, signal.SIGTERM)
    while _signal(process.pid, 0) and time.monotonic() < deadline:
        if process.poll() is not None:
            _bury()
        time.sleep(_POLL_SECONDS)
    _signal(process.pid, signal.SIGKILL)
    process.wait()


def _below(pids: set[int]) -> set[int]:
    """The ids of all descendants of ``pids``, from /proc; empty on systems other than Linux."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found: set[int] = set()
    while new := {pid for pid, parent in parents.items() if parent in pids | found} - found:
        found |= new
    return found


def _adopt() -> None:
    """Become the parent of orphaned descendants (Linux only; on other systems init adopts them)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _bury() -> None:
    """Reap ended children, which count as members of their group until then."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _signal(group: int, number: int) -> bool:
    """Send a signal to a group; whether the group still had a member."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def main() -> int:
    """Entry point of the guard; returns 0 if all went well."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = b""
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    order = msgspec.json.decode(line, type=Order)
    if not order.command:
        said = _wait(None)
        watched = set() if said.endswith(_DONE) else set(map(int, said.split()))
        for pid in watched | _below(watched):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return 0
    _adopt()
    with Path(order.log or os.devnull).open("ab") as log:
        process = subprocess.Popen(
            order.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    said = _wait(process)
    _end(process, 0.0 if said.endswith(_NOW) else _GRACE_SECONDS)
    return int(process.wait() != 0)


if __name__ == "__main__":
    sys.exit(main())
