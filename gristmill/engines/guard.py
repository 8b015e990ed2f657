"""Processes that must not outlive us: ``python -m gristmill.engines.guard``, and the way to start it.

The guard reads one JSON line from standard input and then waits for its end, which also comes when the
parent dies in whatever way. It either starts a command in a session of its own (and ends that whole group
of processes), or watches processes that something else has started, of which it is told one by one (and kills
them, unless it is told that they are done).
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
"""From asking a group of processes to end until it is killed."""
_POLL_SECONDS = 0.2
_DONE, _NOW = b"done\n", b"now\n"
_PR_SET_CHILD_SUBREAPER = 36


class Order(Struct, omit_defaults=True):
    """What to guard: a ``command`` to start, its output going to the file ``log``; or without one, the
    processes that it is told of."""

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
            start_new_session=True,  # the terminal's Ctrl-C is not for it
        )
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(order) + b"\n")
        await process.stdin.drain()
        return cls(process)

    @property
    def alive(self) -> bool:
        """Whether the guard, and so its command, runs."""
        return self._process.returncode is None

    def watch(self, pids: Iterable[int]) -> None:
        """Guard these processes too."""
        new = sorted(set(pids) - self._watched)
        self._watched.update(new)
        if new and self.alive and self._process.stdin is not None:
            self._process.stdin.write(b"".join(b"%d\n" % pid for pid in new))

    async def stop(self, *, done: bool = False, now: bool = False) -> None:
        """End the command and the guard. ``now`` kills without asking first; ``done`` leaves the watched
        processes alone."""
        stdin = self._process.stdin
        if stdin is not None and self.alive:
            with contextlib.suppress(ConnectionError):  # it has just ended by itself
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
    """Until standard input ends, or the command does: what was read."""
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
    """End the group of ``process``: it may still have members when the process itself is gone."""
    deadline = time.monotonic() + grace
    _signal(process.pid, signal.SIGTERM)
    while _signal(process.pid, 0) and time.monotonic() < deadline:
        if process.poll() is not None:
            _bury()
        time.sleep(_POLL_SECONDS)
    _signal(process.pid, signal.SIGKILL)
    process.wait()


def _below(pids: set[int]) -> set[int]:
    """All processes below these, from /proc; elsewhere than on Linux none."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found: set[int] = set()
    while new := {pid for pid, parent in parents.items() if parent in pids | found} - found:
        found |= new
    return found


def _adopt() -> None:
    """Become the parent of the orphans below us. Elsewhere than on Linux, init is that."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _bury() -> None:
    """Take note of the dead among our children: until then they count as members of their group."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _signal(group: int, number: int) -> bool:
    """Whether the group still had a member to signal."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def main() -> int:
    """Entry point of the guard: 0 where all went well."""
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
