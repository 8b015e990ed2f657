"""Runs written by hand, for what reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from gristmill.core.stages import Rejection
from gristmill.pipelines.rundir.directory import SUMMARY, hold
from gristmill.pipelines.rundir.parts import Parts
from gristmill.pipelines.rundir.summary import StageCounts, Summary

Stages = dict[str, tuple[type[Struct] | None, Sequence[Any], Sequence[Rejection]]]
"""By a stage's name: what it writes, its rows, and what it dropped."""


def write_run(path: Path, stages: Stages) -> Path:
    """A run directory at ``path``, which is given back."""
    with hold(path) as rundir:
        for i, (name, (record, rows, dropped)) in enumerate(stages.items()):
            parts = Parts(rundir.stage(i, name), record, 100)
            asyncio.run(parts.add(rows, dropped))
            parts.finish()
        rundir.write(SUMMARY, Summary(path.name, 0, "m", [StageCounts(n) for n in stages]).encode())
    return path
