"""Row stages that make training data from a model's own samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.synth.agreement.combined import Aggregate, UniversalVote
    from gristmill.synth.agreement.crossed import CrossVotes
    from gristmill.synth.agreement.labels import PseudoLabels
    from gristmill.synth.agreement.paraphrase import Paraphrase
    from gristmill.synth.agreement.vote import VoteShares, Voting
    from gristmill.synth.confidence.masked import MaskedConsistency
    from gristmill.synth.confidence.monitor import SelfMonitor
    from gristmill.synth.confidence.rationale import Rationale
    from gristmill.synth.confidence.scored import Confidence
    from gristmill.synth.demonstrations import Demonstrations
    from gristmill.synth.judging import JudgePairs, JudgeSamples
    from gristmill.synth.ranking import BackwardVote, ContrastiveRubrics, JudgeRanking
    from gristmill.synth.refusal.ask import AskHeldOut, AskOrRefuse
    from gristmill.synth.refusal.calibration import ConfidencePairs, VerbalisedConfidence
    from gristmill.synth.refusal.controls import Clues, HardLooking
    from gristmill.synth.refusal.data import RTuning
    from gristmill.synth.refusal.introspection import Introspection
    from gristmill.synth.refusal.pairs import RefusalPairs
    from gristmill.synth.refusal.passages import PassageQuestions, SwapPassages
    from gristmill.synth.refusal.probe import KnowledgeSamples, ProbeKnowledge
    from gristmill.synth.refusal.split import RefusalSplit
    from gristmill.synth.sampling import Sample
    from gristmill.synth.scoring import Measure, MeasurePairs, Verify, VerifyPairs
    from gristmill.synth.self_correction import CorrectionPairs, Explore, Trajectories, Trial
    from gristmill.synth.step_values.estimate import StepValues
    from gristmill.synth.step_values.implicit import ImplicitRewards
    from gristmill.synth.step_values.judged import Consensus, JudgeSteps
    from gristmill.synth.step_values.labels import ProcessLabels, StepActions
    from gristmill.synth.step_values.samples import RolloutSamples
    from gristmill.synth.tree_search.harvest import TreeActions, TreeProcess, TreeTraces
    from gristmill.synth.tree_search.mcts import TreeSearch
    from gristmill.synth.tree_search.omega import OmegaPRM
    from gristmill.synth.tree_search.omega_harvest import OmegaLabels, OmegaPairs
    from gristmill.synth.tree_search.pairs import TreePairs

__all__ = [
    "Aggregate",
    "AskHeldOut",
    "AskOrRefuse",
    "BackwardVote",
    "Clues",
    "Confidence",
    "ConfidencePairs",
    "Consensus",
    "ContrastiveRubrics",
    "CorrectionPairs",
    "CrossVotes",
    "Demonstrations",
    "Explore",
    "HardLooking",
    "ImplicitRewards",
    "Introspection",
    "JudgePairs",
    "JudgeRanking",
    "JudgeSamples",
    "JudgeSteps",
    "KnowledgeSamples",
    "MaskedConsistency",
    "Measure",
    "MeasurePairs",
    "OmegaLabels",
    "OmegaPRM",
    "OmegaPairs",
    "Paraphrase",
    "PassageQuestions",
    "ProbeKnowledge",
    "ProcessLabels",
    "PseudoLabels",
    "RTuning",
    "Rationale",
    "RefusalPairs",
    "RefusalSplit",
    "RolloutSamples",
    "Sample",
    "SelfMonitor",
    "StepActions",
    "StepValues",
    "SwapPassages",
    "Trajectories",
    "TreeActions",
    "TreePairs",
    "TreeProcess",
    "TreeSearch",
    "TreeTraces",
    "Trial",
    "UniversalVote",
    "VerbalisedConfidence",
    "Verify",
    "VerifyPairs",
    "VoteShares",
    "Voting",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Aggregate": ".agreement.combined",
        "Confidence": ".confidence.scored",
        "CrossVotes": ".agreement.crossed",
        "MaskedConsistency": ".confidence.masked",
        "Paraphrase": ".agreement.paraphrase",
        "PseudoLabels": ".agreement.labels",
        "Rationale": ".confidence.rationale",
        "SelfMonitor": ".confidence.monitor",
        "UniversalVote": ".agreement.combined",
        "VoteShares": ".agreement.vote",
        "Voting": ".agreement.vote",
        "AskHeldOut": ".refusal.ask",
        "AskOrRefuse": ".refusal.ask",
        "BackwardVote": ".ranking",
        "Clues": ".refusal.controls",
        "ConfidencePairs": ".refusal.calibration",
        "Consensus": ".step_values.judged",
        "ContrastiveRubrics": ".ranking",
        "Demonstrations": ".demonstrations",
        "Explore": ".self_correction",
        "HardLooking": ".refusal.controls",
        "ImplicitRewards": ".step_values.implicit",
        "Introspection": ".refusal.introspection",
        "JudgePairs": ".judging",
        "JudgeRanking": ".ranking",
        "JudgeSamples": ".judging",
        "JudgeSteps": ".step_values.judged",
        "KnowledgeSamples": ".refusal.probe",
        "Measure": ".scoring",
        "MeasurePairs": ".scoring",
        "OmegaLabels": ".tree_search.omega_harvest",
        "OmegaPRM": ".tree_search.omega",
        "OmegaPairs": ".tree_search.omega_harvest",
        "CorrectionPairs": ".self_correction",
        "PassageQuestions": ".refusal.passages",
        "ProbeKnowledge": ".refusal.probe",
        "ProcessLabels": ".step_values.labels",
        "RTuning": ".refusal.data",
        "RefusalPairs": ".refusal.pairs",
        "RefusalSplit": ".refusal.split",
        "RolloutSamples": ".step_values.samples",
        "Sample": ".sampling",
        "StepActions": ".step_values.labels",
        "StepValues": ".step_values.estimate",
        "SwapPassages": ".refusal.passages",
        "Trajectories": ".self_correction",
        "TreeActions": ".tree_search.harvest",
        "TreePairs": ".tree_search.pairs",
        "TreeProcess": ".tree_search.harvest",
        "TreeSearch": ".tree_search.mcts",
        "TreeTraces": ".tree_search.harvest",
        "Trial": ".self_correction",
        "VerbalisedConfidence": ".refusal.calibration",
        "Verify": ".scoring",
        "VerifyPairs": ".scoring",
    },
)
