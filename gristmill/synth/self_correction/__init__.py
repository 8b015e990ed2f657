"""Self-correction trajectories: attempt, self-evaluation, correction.

Source: "Self-rewarding correction for mathematical reasoning", arXiv 2502.19613.
"""

from gristmill.synth.self_correction.explore import Explore
from gristmill.synth.self_correction.select import CorrectionPairs, Trajectories
from gristmill.synth.self_correction.trial import CorrectionMetrics, Trial, measure

__all__ = ["CorrectionMetrics", "CorrectionPairs", "Explore", "Trajectories", "Trial", "measure"]
