"""What runs between a sandbox and one program: limits, a supervisor, and the driver of the tests.

Its text is given to ``python -c`` by ``gristmill.verifiers.code.sandbox``, inside the sandbox: nothing may
be imported but the standard library. Standard input is a socket with the job (8 bytes of length and JSON),
which stays open: its end means that whoever asked is gone. The last message on it is the status.
"""

import json
import os
import resource
import select
import signal
import struct
import sys
import time
import types
from typing import Any

# prctl(2), capset(2), mount(2), mount_setattr(2)
_SET_SUBREAPER, _NO_NEW_PRIVILEGES = 36, 38
_CAPABILITY_VERSION = 0x20080522
_NOSUID_NODEV = 2 | 4
_MOUNT_SETATTR, _HERE, _RECURSIVE, _READ_ONLY_NOSUID = 442, -100, 0x8000, 1 | 2


def main(stdin: int, report: int) -> None:
    """Prepare the sandbox from within, fork the program and see to its end."""
    size = int.from_bytes(_read(0, 8), "big")
    job = json.loads(_read(0, size))
    try:
        _prepare(job)
        _silent_children(wake := os.pipe())
        child = os.fork()
    except OSError as error:
        _status({"failed": str(error)})
        return
    if child == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _program(job, stdin, report)
        return
    for descriptor in (1, 2, stdin, report):
        os.close(descriptor)
    status = _supervise(child, wake[0], job["seconds"])
    if job["sandbox"] == "none":  # elsewhere the end of this process is the end of all others
        _sweep(child)
    _status(status)


def _read(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = os.read(descriptor, size - len(data))
        if not chunk:
            sys.exit("the launcher was told nothing")
        data += chunk
    return data


def _status(status: dict[str, Any]) -> None:
    try:
        os.write(0, json.dumps(status).encode())
    except OSError:  # whoever asked is gone
        sys.exit(1)


def _prepare(job: dict[str, Any]) -> None:
    """What only the sandbox's own root may do, then no privileges for anyone from here on."""
    if sys.platform != "linux":
        return
    import ctypes  # not needed elsewhere, and slow to import

    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int, what: str) -> None:
        if result != 0:
            raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")

    check(libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "no_new_privs")
    if job["sandbox"] == "none":
        check(libc.prctl(_SET_SUBREAPER, 1, 0, 0, 0), "subreaper")
    if job["sandbox"] != "unshare":
        return
    # A namespace within this one would bring back rights, such as to mount memory without limit.
    file = os.open("/proc/sys/user/max_user_namespaces", os.O_WRONLY)
    os.write(file, b"0")
    os.close(file)
    attributes = struct.pack("QQQQ", _READ_ONLY_NOSUID, 0, 0, 0)
    check(libc.syscall(_MOUNT_SETATTR, _HERE, b"/", _RECURSIVE, attributes, len(attributes)), "read-only")
    here = os.fsencode(os.getcwd())  # noqa: PTH109 - pathlib is slow to import
    size = f"size={job['file_mb']}m,nr_inodes=10000,mode=700".encode()
    check(libc.mount(b"tmpfs", here, b"tmpfs", _NOSUID_NODEV, size), "tmpfs")
    os.chdir(here)
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    check(libc.capset(header, bytes(24)), "capset")


def _silent_children(wake: tuple[int, int]) -> None:
    os.set_blocking(wake[1], False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake[1])


def _supervise(child: int, woken: int, seconds: float) -> dict[str, Any]:
    """Wait for the program, its time, or the end of whoever asked; then kill what is left of its group."""
    until = time.monotonic() + seconds
    late = False
    while True:
        pid, status, used = os.wait4(child, os.WNOHANG)
        if pid:
            break
        left = until - time.monotonic()
        ready = select.select([0, woken], [], [], max(left, 0))[0]
        late = not ready and left <= 0
        if 0 in ready or late:
            _kill_group(child)
            _, status, used = os.wait4(child, 0)
            break
        if woken in ready:
            os.read(woken, 1000)
    cpu = used.ru_utime + used.ru_stime
    return {"exit": os.waitstatus_to_exitcode(status), "late": late, "cpu_seconds": cpu}


def _kill_group(leader: int) -> None:
    try:
        os.kill(leader, signal.SIGKILL)  # it may not lead a group yet
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _sweep(child: int) -> None:
    """Kill what the program left behind: its group, then all that this process, as their reaper, inherits."""
    _kill_group(child)
    until = time.monotonic() + 2
    while time.monotonic() < until:
        for pid in _processes():
            try:
                with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - pathlib is slow to import
                    fields = file.read().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == os.getpid():
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.005)


def _processes() -> list[int]:
    names = os.listdir("/proc") if sys.platform == "linux" else []  # noqa: PTH208 - as above
    return [int(name) for name in names if name.isdigit()]


def _limit(job: dict[str, Any]) -> None:
    seconds = max(1, round(job["cpu_seconds"] + 0.5))
    wanted = [
        (resource.RLIMIT_CPU, seconds, seconds + 1),
        (resource.RLIMIT_AS, job["memory_mb"] << 20, None),
        (resource.RLIMIT_FSIZE, job["file_mb"] << 20, None),
        (resource.RLIMIT_NPROC, job["processes"] + _others(job["sandbox"]), None),
        (resource.RLIMIT_NOFILE, 64, None),
        (resource.RLIMIT_CORE, 0, None),
    ]
    for which, soft, most in wanted:
        hard = resource.getrlimit(which)[1]
        most = soft if most is None else most
        # What we ourselves are held to cannot be raised, and need not be refused.
        top = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (min(soft, top), top))


def _others(sandbox: str) -> int:
    """The processes and threads that count against the limit without being the program's."""
    if sandbox != "none":  # this supervisor, and bubblewrap's own
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


def _program(job: dict[str, Any], stdin: int, report: int) -> None:
    """In the child: run the program, by itself or for one test."""
    os.setsid()
    os.dup2(stdin if job["mode"] == "stdin" else os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor in set(range(3, 256)) - {stdin, report}:
        try:
            os.close(descriptor)
        except OSError:  # not open
            continue
    _limit(job)
    sys.argv = ["program.py"]
    sys.path.insert(0, "")
    module = types.ModuleType("__main__" if job["mode"] == "stdin" else "program")
    sys.modules[module.__name__] = module
    try:
        code = _compiled(job)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        _say(report, {"compile": _told(error)})
        os._exit(1)
    if job["mode"] == "stdin":
        os.close(report)
        os.close(stdin)
        exec(code, module.__dict__)  # noqa: S102 - what this process is for
        return
    _drive(job, code, module.__dict__, stdin, report)


def _compiled(job: dict[str, Any]) -> types.CodeType:
    if not job["fenced"]:
        import ast

        if all(isinstance(s, ast.Expr) and not _calls(s) for s in ast.parse(job["program"]).body):
            raise SyntaxError("no program: nothing is defined, called or assigned")
    return compile(job["program"], "program.py", "exec")


def _calls(statement: Any) -> bool:
    import ast

    return any(isinstance(node, ast.Call) for node in ast.walk(statement))


def _told(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except BaseException as worse:  # noqa: BLE001 - the program's own __str__ may do anything
        return f"{type(error).__name__}, whose text raised {type(worse).__name__}"


def _say(report: int, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(report, data) :]


def _drive(job: dict[str, Any], code: types.CodeType, names: dict[str, Any], tests: int, report: int) -> None:
    """Run set-up, program and one test in one name space, and report with the secret.

    The secret and the test are read when the program has run: what it does at its top level finds neither
    in memory.
    """
    message: dict[str, Any]
    run, build = exec, compile  # the program may have others in their place when the test's turn comes
    if job["setup"]:
        try:
            exec(compile(job["setup"], "setup.py", "exec"), names)  # noqa: S102 - as below
        except BaseException as error:  # noqa: BLE001 - told to the parent, as all below
            _say(report, {"setup": _told(error)})
            os._exit(1)
    try:
        exec(code, names)  # noqa: S102 - what this process is for
    except BaseException as error:  # noqa: BLE001 - also SystemExit: leaving early is no success
        _say(report, {"raised": _told(error)})
        os._exit(1)
    with os.fdopen(tests, encoding="utf-8") as file:
        test = json.load(file)
    try:
        if "assert" in test:
            run(build(test["assert"], "test.py", "exec"), names)
            message = {"done": True}
        else:
            function = _named(names, test["function"])
            message = {"value": _plain(function(*test["args"], **test["kwargs"]), 0)}
        message["secret"] = test["secret"]
        _say(report, message)
    except BaseException as error:  # noqa: BLE001 - as above
        _say(report, {"raised": _told(error)})
    os._exit(0)  # neither the program's threads nor its atexit functions have a say


def _named(names: dict[str, Any], path: str) -> Any:
    """What ``path`` names: ``f``, ``Class.method`` (of a new object, if it takes one), ``Class().method``."""
    found: Any = None
    for i, part in enumerate(path.split(".")):
        name = part.removesuffix("()")
        if i == 0:
            found = names[name]
        else:
            if isinstance(found, type) and isinstance(_unbound(found, name), types.FunctionType):
                found = found()
            found = getattr(found, name)
        if name != part:
            found = found()
    return found


def _unbound(owner: type, name: str) -> Any:
    """An attribute of a class as it was written there, static and class methods unlike functions."""
    return next((vars(base)[name] for base in owner.__mro__ if name in vars(base)), None)


def _plain(value: Any, depth: int) -> Any:
    """``value`` as JSON has it: tuples are lists, keys strings, arrays lists; anything else is an error."""
    if depth > 50:
        raise ValueError("the value is nested more than 50 deep")
    if type(value) in (bool, int, float, str, type(None)):
        return value
    if type(value) in (list, tuple):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if hasattr(value, "tolist"):  # NumPy's arrays and numbers
        return _plain(value.tolist(), depth + 1)
    raise TypeError(f"a {type(value).__name__} was returned, which no expected value in JSON equals")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
