"""Rounds of sampling, curation, training and evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.pipelines.loops.measuring import Measured
    from gristmill.pipelines.loops.options import Evaluation, Loop, LoopStep, Measure
    from gristmill.pipelines.loops.rounds import Round, Rounds, run_loop

__all__ = [
    "Evaluation",
    "Loop",
    "LoopStep",
    "Measure",
    "Measured",
    "Round",
    "Rounds",
    "run_loop",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Evaluation": ".options",
        "Loop": ".options",
        "LoopStep": ".options",
        "Measure": ".options",
        "Measured": ".measuring",
        "Round": ".rounds",
        "Rounds": ".rounds",
        "run_loop": ".rounds",
    },
)
