"""What runs between a sandbox and a program: it forks a process for each test and sees to its end.

It is sent, as code, into a Python of its own by ``gristmill.verifiers.code.place``: nothing may be imported
but the standard library and what is sent with it. Standard input is a socket: each byte on it asks for one
process, of the kind that the byte names, with the descriptors it is to have; the answer is its status. The
socket's end means that the caller is gone. What a test expects never comes here.
"""

import _socket
import json
import os
import select
import signal
import struct
import sys
import time
from typing import Any

from gristmill.verifiers.code import walls

CHECK, SCRIPT, SERVE, JUDGE, STOP = b"c", b"i", b"s", b"j", b"x"
"""What a process is for: see if set-up and program can be used; run the program by itself; answer for it;
run a test's text. ``STOP`` ends the one that runs."""

_FIRST_OF_SYSTEM = 10
"""A process number under this is one of a namespace of our own."""


def main(job: dict[str, Any]) -> None:
    """Prepare the sandbox from within, say so, then serve until the socket ends."""
    channel = _socket.socket(fileno=os.dup(0))
    try:
        walls.close_up(job)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the first process of a namespace heeds no others
        _silent_children(wake := os.pipe())
    except OSError as error:
        _say(channel, {"failed": str(error)})
        return
    _say(channel, {"ready": True})
    while True:
        kind, files = _asked(channel)
        if kind == STOP:  # it came when the process had ended by itself
            continue
        try:
            child = os.fork()
        except OSError as error:
            _say(channel, {"failed": str(error)})
            return
        if child == 0:
            _process(job, kind, files)
            return
        for file in files:
            os.close(file)
        status = _supervise(child, channel, wake[0], job["wall_seconds"])
        _sweep(child, job["sandbox"])
        _say(channel, status)


def _asked(channel: _socket.socket) -> tuple[bytes, list[int]]:
    """The next byte and the descriptors that come with it; the end of the socket is the end of us."""
    kind, extra, _, _ = channel.recvmsg(1, _socket.CMSG_SPACE(8 * 4))
    if not kind:
        sys.exit()
    files: list[int] = []
    for _, _, data in extra:
        files += struct.unpack(f"{len(data) // 4}i", data)
    return kind, files


def _say(channel: _socket.socket, status: dict[str, Any]) -> None:
    try:
        channel.sendall(json.dumps(status).encode())
    except OSError:  # whoever asked is gone
        sys.exit(1)


def _silent_children(wake: tuple[int, int]) -> None:
    for end in wake:
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake[1], warn_on_full_buffer=False)


def _supervise(child: int, channel: _socket.socket, woken: int, seconds: float) -> dict[str, Any]:
    """Wait for the process, its time, or a word from the caller; then kill what is left of its group."""
    until = time.monotonic() + seconds
    late = False
    while True:
        pid, status, used = os.wait4(child, os.WNOHANG)
        if pid:
            break
        left = until - time.monotonic()
        ready = select.select([channel.fileno(), woken], [], [], max(left, 0))[0]
        late = not ready and left <= 0
        if channel.fileno() in ready or late:
            _kill_group(child)
            _, status, used = os.wait4(child, 0)
            if not late:
                _asked(channel)
            break
        if woken in ready:
            os.read(woken, 1000)
    cpu = used.ru_utime + used.ru_stime
    return {"exit": os.waitstatus_to_exitcode(status), "late": late, "cpu_seconds": cpu}


def _kill_group(leader: int) -> None:
    for kill in (os.kill, os.killpg):  # it may not lead a group yet
        try:
            kill(leader, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def _sweep(child: int, sandbox: str) -> None:
    """Kill and reap all that the process left behind, in sessions of their own too.

    In a namespace all other processes are its; without, those that this process, as their reaper, inherits.
    """
    _kill_group(child)
    until = time.monotonic() + 2
    while time.monotonic() < until:
        if sandbox == "none":
            _kill_children()
        elif os.getpid() < _FIRST_OF_SYSTEM:
            _kill_all()
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.002)


def _kill_all() -> None:
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:  # there is none
        return


def _kill_children() -> None:
    for pid in _processes():
        try:
            with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - pathlib is slow to import
                fields = file.read().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                os.kill(pid, signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue


def _processes() -> list[int]:
    names = os.listdir("/proc") if sys.platform == "linux" else []  # noqa: PTH208 - as above
    return [int(name) for name in names if name.isdigit()]


def _others(sandbox: str) -> int:
    """The processes and threads that count against the limit without being the program's."""
    if sandbox != "none":  # this one, and those that made the sandbox
        return 3
    mine = 0
    for pid in _processes():
        tasks = f"/proc/{pid}/task"
        try:
            if os.stat(tasks).st_uid == os.getuid():  # noqa: PTH116 - as above
                mine += len(os.listdir(tasks))  # noqa: PTH208
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return mine


def _process(job: dict[str, Any], kind: bytes, files: list[int]) -> None:
    """In the child: take its descriptors, 0 to 2 and the rest, close all others, and do what it is for.

    A script leaves by the end of ``main``, as any does; the others leave at once, so that neither threads
    nor exit functions of the program have a say.
    """
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    given, out, err, *rest = files
    rest = [os.dup(file) for file in (given, *rest)] if kind != SCRIPT else []
    reading = given if kind == SCRIPT else os.open(os.devnull, os.O_RDONLY)
    for target, file in enumerate((reading, out, err)):
        os.dup2(file, target)
    kept = [os.dup2(file, 100 + i) for i, file in enumerate(rest)]
    os.closerange(3, 100)
    os.closerange(100 + len(kept), 1024)
    kept = [os.dup2(file, 3 + i) for i, file in enumerate(kept)]
    os.closerange(100, 1024)
    walls.limit(job, _others(job["sandbox"]))
    if kind != JUDGE:
        walls.open_own()
    if job["sandbox"] == "none":
        walls.fence(job["seen"])
    sys.argv = ["program.py"]
    sys.path.insert(0, "")
    _work(job, kind, kept)


def _work(job: dict[str, Any], kind: bytes, files: list[int]) -> None:
    from gristmill.verifiers.code import guest
    from gristmill.verifiers.code.wire import Wire

    if kind == SCRIPT:
        guest.alone(job)
        return
    given, report, *rest = files
    if kind == CHECK:
        guest.checked(job, Wire(given, report))
    elif kind == SERVE:
        guest.serve(job, Wire(given, report))
    else:
        from gristmill.verifiers.code import referee

        with os.fdopen(given, encoding="utf-8") as file:
            test = file.read()
        referee.judge(test, job["setup"], Wire(rest[0], rest[0], job["output_kb"] << 10), Wire(-1, report))
    os._exit(0)
