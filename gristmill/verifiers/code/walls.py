"""What a sandbox is made of from within: a root with nothing of the user's in it, limits, Landlock.

Runs in the launcher's process, before the program's. Linux only, except for the limits.
"""

import ctypes
import os
import resource
import struct
import sys
from typing import Any

# prctl(2), capset(2), mount(2), mount_setattr(2), landlock(7)
_SET_DUMPABLE, _SET_SUBREAPER, _NO_NEW_PRIVILEGES = 4, 36, 38
_CAPABILITY_VERSION = 0x20080522
_BIND, _RECURSIVE, _NOSUID_NODEV = 4096, 16384, 2 | 4
_MOUNT_SETATTR, _HERE, _ALL_BELOW, _READ_ONLY_NOSUID = 442, -100, 0x8000, 1 | 2
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _BENEATH = 1, 1
_EXECUTE, _WRITE, _READ_FILE, _READ_DIRECTORY = 1, 2, 4, 8
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights over files each version of Landlock's interface knows."""
_NETWORK_SINCE, _SCOPES_SINCE = 4, 6
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def libc() -> Any:
    """The C library, whose calls leave ``errno`` behind."""
    return ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> int:
    """``result``, or ``OSError`` if it says that the call failed."""
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def close_up(job: dict[str, Any]) -> None:
    """What only the sandbox's own root may do, then no privileges for anyone from here on.

    The launcher itself is closed to debuggers, among which is a program of the same user.
    """
    if sys.platform != "linux":
        return
    call = libc()
    check(call.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "no_new_privs")
    check(call.prctl(_SET_SUBREAPER, 1, 0, 0, 0), "subreaper")
    if job["sandbox"] == "unshare":
        _new_root(call, job)
    check(call.prctl(_SET_DUMPABLE, 0, 0, 0, 0), "dumpable")


def open_own() -> None:
    """Let this process read its own ``/proc/self`` again, which one that is closed to debuggers cannot."""
    if sys.platform == "linux":
        check(libc().prctl(_SET_DUMPABLE, 1, 0, 0, 0), "dumpable")


def _new_root(call: Any, job: dict[str, Any]) -> None:
    """Make a root of a few directories, for reading only, and one to write in; give up all rights over it."""
    # A namespace within this one would bring back rights, such as to mount memory without limit.
    file = os.open("/proc/sys/user/max_user_namespaces", os.O_WRONLY)
    os.write(file, b"0")
    os.close(file)
    root = os.getcwd()  # noqa: PTH109 - pathlib is slow to import
    check(call.mount(b"tmpfs", os.fsencode(root), b"tmpfs", _NOSUID_NODEV, b"size=1m,mode=755"), "root")
    for path in (*job["seen"], *_DEVICES, "/proc"):
        target = root + path
        if os.path.isdir(path):  # noqa: PTH112 - as above
            os.makedirs(target, exist_ok=True)  # noqa: PTH103
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
        what = os.fsencode(path), os.fsencode(target)
        check(call.mount(*what, None, _BIND | _RECURSIVE, None), f"bind {path}")
    place = root + job["place"]
    os.mkdir(place)  # noqa: PTH102
    os.chdir(root)
    os.chroot(".")
    attributes = struct.pack("QQQQ", _READ_ONLY_NOSUID, 0, 0, 0)
    check(call.syscall(_MOUNT_SETATTR, _HERE, b"/", _ALL_BELOW, attributes, len(attributes)), "read-only")
    size = f"size={job['file_mb']}m,nr_inodes=10000,mode=700".encode()
    check(call.mount(b"tmpfs", os.fsencode(job["place"]), b"tmpfs", _NOSUID_NODEV, size), "tmpfs")
    os.chdir(job["place"])
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    check(call.capset(header, bytes(24)), "capset")


def limit(job: dict[str, Any], others: int) -> None:
    """Hold this process to the job's limits; ``others`` processes of its user are not the program's."""
    seconds = max(1, round(job["cpu_seconds"] + 0.5))
    wanted = [
        (resource.RLIMIT_CPU, seconds, seconds + 1),
        (resource.RLIMIT_AS, job["memory_mb"] << 20, None),
        (resource.RLIMIT_FSIZE, job["file_mb"] << 20, None),
        (resource.RLIMIT_NPROC, job["processes"] + others, None),
        (resource.RLIMIT_NOFILE, 64, None),
        (resource.RLIMIT_CORE, 0, None),
    ]
    for which, soft, most in wanted:
        hard = resource.getrlimit(which)[1]
        most = soft if most is None else most
        # What we ourselves are held to cannot be raised, and need not be refused.
        top = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (min(soft, top), top))


def landlock_version() -> int:
    """The version of Landlock's interface, 0 where the kernel has none."""
    if sys.platform != "linux":
        return 0
    return max(int(libc().syscall(_CREATE_RULESET, None, 0, _VERSION)), 0)


def fence(seen: list[str]) -> None:
    """Leave this process no file but ``seen``, for reading, and its directory, as far as Landlock goes.

    From version 4 on it has no TCP either, from version 6 on no signals to processes outside. Debugging
    these, which is what reading their memory needs, is closed in all versions.
    """
    version = landlock_version()
    if not version:
        return
    call = libc()
    rights = (1 << _RIGHTS.get(version, 16)) - 1
    network = 3 if version >= _NETWORK_SINCE else 0
    scopes = 3 if version >= _SCOPES_SINCE else 0
    words = (rights, network, scopes)[: 1 + (version >= _NETWORK_SINCE) + (version >= _SCOPES_SINCE)]
    given = struct.pack(f"{len(words)}Q", *words)
    rules = check(call.syscall(_CREATE_RULESET, given, len(given), 0), "landlock")
    reading = _EXECUTE | _READ_FILE | _READ_DIRECTORY
    here = os.getcwd()  # noqa: PTH109 - as above
    allowed = [(path, reading) for path in seen] + [(here, rights)]
    allowed += [(path, _READ_FILE | _WRITE) for path in _DEVICES]
    for path, right in allowed:
        if not os.path.isdir(path):  # noqa: PTH112 - as above
            right &= _EXECUTE | _READ_FILE | _WRITE
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("=Qi", right, file)
        check(call.syscall(_ADD_RULE, rules, _BENEATH, rule, 0), f"landlock {path}")
        os.close(file)
    check(call.syscall(_RESTRICT_SELF, rules, 0), "landlock")
    os.close(rules)
