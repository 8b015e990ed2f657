"""The share of the machine's memory that tables may take in a run."""

from __future__ import annotations

import os
import re

from gristmill.core.errors import GristmillError
from gristmill.core.machine import memory

VARIABLE = "GRISTMILL_TABLE_MEMORY"
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SHARE = 4


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
