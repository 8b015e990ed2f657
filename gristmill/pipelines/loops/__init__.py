"""Rounds of sampling, curation, training and evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.pipelines.loops.measuring import RoundMeasure
    from gristmill.pipelines.loops.options import Loop, LoopEvaluation, LoopMeasure, LoopStep
    from gristmill.pipelines.loops.rounds import Round, Rounds, run_loop

__all__ = [
    "Loop",
    "LoopEvaluation",
    "LoopMeasure",
    "LoopStep",
    "Round",
    "RoundMeasure",
    "Rounds",
    "run_loop",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "LoopEvaluation": ".options",
        "Loop": ".options",
        "LoopStep": ".options",
        "LoopMeasure": ".options",
        "RoundMeasure": ".measuring",
        "Round": ".rounds",
        "Rounds": ".rounds",
        "run_loop": ".rounds",
    },
)
