"""The command that encloses one program: who it runs as, in which sandbox, with which environment."""

from __future__ import annotations

import shlex
import shutil
import stat
import sys
from pathlib import Path

PLACE = "/program"
"""The working directory in a sandbox, where no path of ours is seen."""
_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/alternatives")


def command(kind: str, work: str, *, file_mb: int, user: int | None, words: list[str]) -> list[str]:
    """The words that start Python with ``words`` in a sandbox of ``kind``, as ``user`` if this is root.

    ``work`` is the program's directory.
    """
    become = [] if user is None else _become(user, work, hidden=kind != "none")
    return [
        *become,
        *_wrapper(kind, file_mb),
        sys.executable,
        "-P",
        "-s",
        "-B",
        *words,
    ]


def environment(kind: str, work: str) -> dict[str, str]:
    """All that a program finds in its environment."""
    home = work if kind == "none" else PLACE
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {
        **threads,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "PYTHONUTF8": "1",
        "PYTHONHASHSEED": "0",
        "HOME": home,
        "TMPDIR": home,
    }


def _become(user: int, work: str, *, hidden: bool) -> list[str]:
    """The command by which root becomes ``user``, for whom Python must be within reach.

    Where a directory above it is closed to others (``/root``), ``hidden`` lays an empty one over that, for
    the program alone, in which only Python is found.
    """
    numbers = [f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    drop = [_tool("setpriv"), *numbers, "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
    closed = {home: wall for home in _homes() if (wall := _wall(home))} if hidden else {}
    if not closed:
        return drop
    stash = f"{work}/stash"
    lines = ["set -e", "umask 022"]
    for i, home in enumerate(closed):
        lines += [f"mkdir {stash}{i}", f"mount --bind {shlex.quote(home)} {stash}{i}"]
    for wall in sorted(set(closed.values())):
        lines.append(f"mount -t tmpfs -o mode=755,size=1m tmpfs {shlex.quote(wall)}")
    for i, home in enumerate(closed):
        lines += [f"mkdir -p {shlex.quote(home)}", f"mount --move {stash}{i} {shlex.quote(home)}"]
        lines.append(f"rmdir {stash}{i}")
    script = "; ".join([*lines, 'umask 077; cd .; exec "$@"'])
    return [_tool("unshare"), "--mount", "/bin/sh", "-c", script, "sh", *drop]


def _homes() -> list[str]:
    """Where Python is: the virtual environment, what it was made from, and what its link points to."""
    return sorted(
        {sys.prefix, sys.base_prefix, str(Path(sys.executable).resolve().parent.parent)} - {"/", "/usr"}
    )


def _wall(path: str) -> str | None:
    """The outermost directory above ``path`` that others may not enter."""
    above = reversed(Path(path).parents)
    return next((str(one) for one in above if not one.stat().st_mode & stat.S_IXOTH), None)


def seen() -> list[str]:
    """All that a program sees of the file system beside its directory: Python and the system's libraries."""
    return [*(path for path in _SYSTEM if Path(path).exists()), *_homes()]


def _wrapper(kind: str, file_mb: int) -> list[str]:
    if kind == "none":
        return []
    if kind == "unshare":
        names = "--user --map-root-user --mount --pid --fork --kill-child --mount-proc --net --ipc --uts"
        return [_tool("unshare"), *names.split()]
    binds = [word for path in seen() for word in ("--ro-bind", path, path)]
    return [
        _tool("bwrap"),
        *("--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--as-pid-1"),
        *("--perms", "0700", "--size", str(file_mb << 20), "--tmpfs", PLACE),
        *binds,
        *("--proc", "/proc", "--dev", "/dev"),
        *("--remount-ro", "/", "--remount-ro", "/dev", "--chdir", PLACE),
    ]


def _tool(name: str) -> str:
    return shutil.which(name) or name
