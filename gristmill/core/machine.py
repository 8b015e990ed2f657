"""What this process may use of the machine it is on."""

from __future__ import annotations

import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


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
