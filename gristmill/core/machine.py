"""What this process may use of the machine it is on."""

from __future__ import annotations

import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_MOST_MEMORY = Path("/sys/fs/cgroup/memory.max")


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
