"""Which sandbox programs run in: the one asked for, or the better that is found to work.

``docs/code-verifier.md`` says what each contains and what it does not. POSIX only.
"""

from __future__ import annotations

import functools
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import Literal

from gristmill.core.errors import RecipeError
from gristmill.verifiers.code.place import Sandbox, SandboxLimits
from gristmill.verifiers.code.trial import ProgramText, ProgramTrial
from gristmill.verifiers.code.walls import landlock_version

Kind = Literal["auto", "bubblewrap", "unshare", "none"]
SANDBOXES: tuple[Literal["bubblewrap", "unshare"], ...] = ("bubblewrap", "unshare")
"""What keeps files, processes and the network apart, the better first."""


def choose(kind: Kind, *, allow_root: bool = False, strict: bool = False) -> Sandbox:
    """The sandbox asked for, or for ``auto`` the first of ``SANDBOXES`` that works, which is found out by
    using it.

    Raises ``RecipeError`` if none of these works here; and, for ``none``, which nothing falls back to: if
    this is root, who must say ``allow_root`` too; and for what is ``strict``, if the system has no Landlock,
    since the program could then read what is expected of it wherever the user can.
    """
    problems = {}
    for one in SANDBOXES if kind == "auto" else (kind,):
        if one == "none":
            break
        if not (problem := _problem(one, root := os.geteuid() == 0)):
            return Sandbox(one, drops=root)
        problems[one] = problem
    if problems:
        found = "; ".join(f"{one!r}: {problem}" for one, problem in problems.items())
        raise RecipeError(
            f"code: no sandbox that was asked for works here ({found}), and a model's programs are not run "
            "without one.",
            remedy="Install bubblewrap (apt-get install bubblewrap), allow user namespaces, or set "
            "sandbox: none where this user's files and processes may be lost.",
        )
    if strict and not landlock_version():
        raise RecipeError(
            "code: sandbox: none with strict: true needs Landlock, which this system does not have: a "
            "program could read the expected answers.",
            remedy="Install bubblewrap (apt-get install bubblewrap), allow user namespaces or Landlock, "
            "or set strict: false for programs that are not written to cheat.",
        )
    if os.geteuid() != 0:
        return Sandbox("none", drops=False)
    if not allow_root:
        raise RecipeError(
            "code: a model's programs are not run by root without a sandbox.",
            remedy="Run as another user, take sandbox: auto, "
            "or set allow_root: true besides where this machine may be lost.",
        )
    return Sandbox("none", drops=not _problem("none", True))


@functools.cache
def _problem(kind: Literal["bubblewrap", "unshare", "none"], drops: bool) -> str:
    """Why a sandbox does not work; empty if it does. Told by a program that tries to get out of it."""
    tool = {"bubblewrap": "bwrap", "unshare": "unshare"}.get(kind)
    if tool is not None and (sys.platform != "linux" or shutil.which(tool) is None):
        return f"there is no {tool}"
    limits = SandboxLimits(wall_seconds=20, cpu_seconds=20, memory_mb=256)
    with socket.create_server(("127.0.0.1", 0)) as server, tempfile.TemporaryDirectory() as folder:
        Path(folder, "file").touch()
        Path(folder).chmod(0o755)
        request = {"function": "probe", "args": [server.getsockname()[1], folder], "kwargs": {}}
        with ProgramTrial(ProgramText(_PROBE), limits, Sandbox(kind, drops)) as trial:
            ended = trial.call(request)
    report = ended.reports[-1] if ended.reports else {}
    if "value" not in report:
        return str(report.get("raised") or ended.why or "it ends early")
    found = report["value"]
    if drops and found["root"]:
        return "the program is root in it"
    if found["prefix"] != sys.base_prefix:
        return f"an unprivileged user finds Python at {found['prefix']}, not at {sys.base_prefix}"
    if kind == "none":
        return ""
    if found["network"]:
        return "the network can be reached from within it"
    if found["files"]:
        return "files outside can be seen from within it"
    return "" if found["pid"] < 10 else "other processes can be seen from within it"


_PROBE = """
import fractions, os, socket, sys  # fractions: any module that only a readable library has

def probe(port, outside):
    with open("file", "w") as file:
        file.write("written")
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        network = True
    except OSError:
        network = False
    try:
        with open("/proc/self/uid_map") as file:
            mapped = file.read().split()
        user = int(mapped[1]) if mapped[2] == "1" else os.getuid()
    except OSError:
        user = os.getuid()
    try:
        files = bool(os.listdir(outside))
    except OSError:
        files = False
    root = user == os.getuid() == 0
    return {"prefix": sys.base_prefix, "network": network, "pid": os.getpid(), "root": root, "files": files}
"""
