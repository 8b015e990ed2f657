"""What this process may use of the machine it is on."""

from __future__ import annotations

import os
import re
from pathlib import Path

from gristmill.core.errors import GristmillError

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_MOST_MEMORY = Path("/sys/fs/cgroup/memory.max")
VARIABLE = "GRISTMILL_TABLE_MEMORY"
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SHARE = 4


def cores() -> int:
    """How many CPU cores this process may use, at least one: those it is bound to, and no more than the
    quota of its container (cgroup v2) allows.

    Not ``os.cpu_count``, which counts what the machine has: threads beyond the cores wait for each other.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text().split()
        return max(1, min(bound, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or "max": no quota
        return bound


def memory() -> int:
    """How many bytes of memory this process may use: what the machine has, and no more than its container
    (cgroup v2) allows."""
    has = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(has, int(_MOST_MEMORY.read_text()))
    except (OSError, ValueError):  # no such file, or "max": no limit
        return has


def table_memory() -> int:
    """How many bytes of memory the tables of a stage may take: ``$GRISTMILL_TABLE_MEMORY``, a number with KB,
    MB, GB or TB behind it (powers of 1000), or else a quarter of what this process may use.

    ``GristmillError`` for anything else in it.
    """
    said = os.environ.get(VARIABLE, "").strip()
    if not said:
        return memory() // _SHARE
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([KMGT]?B?)", said.upper())
    unit = found[2].replace("B", "") if found else ""
    size = round(float(found[1]) * _UNITS[f"{unit}B" if unit else ""]) if found else 0
    if size < 1:
        raise GristmillError(
            f"{VARIABLE}: {said!r} is not a size.",
            remedy="Give a number of bytes, or one such as 2GB or 500MB.",
        )
    return size


def shown_bytes(size: int) -> str:
    """A size for a reader, such as ``1.5 GB``."""
    unit = next(name for name in ("TB", "GB", "MB", "KB", "") if size >= _UNITS[name] or not name)
    return f"{size / _UNITS[unit]:.1f} {unit}" if unit else f"{size} bytes"
