"""The processes of one training, as ``accelerate launch`` starts them: how many, and which this is."""

from __future__ import annotations

import os


def processes() -> int:
    """How many processes train together; 1 where none were launched."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return int(os.environ.get("RANK", "0")) == 0
