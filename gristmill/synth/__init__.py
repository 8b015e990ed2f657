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
    from gristmill.synth.balanced import SampleBalanced
    from gristmill.synth.confidence.masked import MaskedConsistency
    from gristmill.synth.confidence.monitor import SelfMonitor
    from gristmill.synth.confidence.rationale import Rationale
    from gristmill.synth.confidence.scored import Confidence
    from gristmill.synth.demonstrations import Demonstrations
    from gristmill.synth.judged import (
        AgreedLabels,
        AttributeScore,
        ChecklistScore,
        CritiqueScore,
        ExtractPrinciples,
        JudgePairTraces,
        JudgeScore,
        JudgeTraces,
        PreferenceScore,
        PrincipleScore,
        RateTogether,
        ReasonedScore,
        RefineJudgePrompt,
        RubricScore,
        SegmentScore,
        SelfCheck,
        Stick,
        ToolScore,
    )
    from gristmill.synth.judging import JudgePairs, JudgeSamples
    from gristmill.synth.preferences.causal import CausalPairs
    from gristmill.synth.preferences.contrast import ContrastPrompts
    from gristmill.synth.preferences.long_context import LongContext
    from gristmill.synth.preferences.neutral import NeutralTies, Tie
    from gristmill.synth.preferences.pairs import MakePairs
    from gristmill.synth.preferences.prompt_consistency import PromptConsistency
    from gristmill.synth.preferences.revise import Improvements, Revise
    from gristmill.synth.preferences.scaffold import Scaffold
    from gristmill.synth.preferences.trajectories import TrajectoryPairs
    from gristmill.synth.preferences.unpaired import Unpaired
    from gristmill.synth.rag.grounding_rows import GroundingRows
    from gristmill.synth.rag.judging import JudgeMetrics
    from gristmill.synth.rag.pairs import RagPairs
    from gristmill.synth.rag.rerank import Rerank
    from gristmill.synth.rag.retrieve import Retrieve
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
    from gristmill.synth.scorers import (
        Attributes,
        DensityRatio,
        Direction,
        Ensemble,
        EnsemblePairs,
        Features,
        FollowUp,
        Implicit,
        InternalJudge,
        Likelihood,
        Logits,
        PairScorer,
        ProcessReward,
        Relevance,
        RewardModel,
        ScorePairs,
        Scorer,
        ScoreSamples,
        VerifierScore,
    )
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
    from gristmill.synth.tree_search.responses import TreeResponses

__all__ = [
    "Aggregate",
    "AgreedLabels",
    "AskHeldOut",
    "AskOrRefuse",
    "AttributeScore",
    "Attributes",
    "BackwardVote",
    "CausalPairs",
    "ChecklistScore",
    "Clues",
    "Confidence",
    "ConfidencePairs",
    "Consensus",
    "ContrastPrompts",
    "ContrastiveRubrics",
    "CorrectionPairs",
    "CritiqueScore",
    "CrossVotes",
    "Demonstrations",
    "DensityRatio",
    "Direction",
    "Ensemble",
    "EnsemblePairs",
    "Explore",
    "ExtractPrinciples",
    "Features",
    "FollowUp",
    "GroundingRows",
    "HardLooking",
    "Implicit",
    "ImplicitRewards",
    "Improvements",
    "InternalJudge",
    "Introspection",
    "JudgeMetrics",
    "JudgePairTraces",
    "JudgePairs",
    "JudgeRanking",
    "JudgeSamples",
    "JudgeScore",
    "JudgeSteps",
    "JudgeTraces",
    "KnowledgeSamples",
    "Likelihood",
    "Logits",
    "LongContext",
    "MakePairs",
    "MaskedConsistency",
    "Measure",
    "MeasurePairs",
    "NeutralTies",
    "OmegaLabels",
    "OmegaPRM",
    "OmegaPairs",
    "PairScorer",
    "Paraphrase",
    "PassageQuestions",
    "PreferenceScore",
    "PrincipleScore",
    "ProbeKnowledge",
    "ProcessLabels",
    "ProcessReward",
    "PromptConsistency",
    "PseudoLabels",
    "RTuning",
    "RagPairs",
    "RateTogether",
    "Rationale",
    "ReasonedScore",
    "RefineJudgePrompt",
    "RefusalPairs",
    "RefusalSplit",
    "Relevance",
    "Rerank",
    "Retrieve",
    "Revise",
    "RewardModel",
    "RolloutSamples",
    "RubricScore",
    "Sample",
    "SampleBalanced",
    "Scaffold",
    "ScorePairs",
    "ScoreSamples",
    "Scorer",
    "SegmentScore",
    "SelfCheck",
    "SelfMonitor",
    "StepActions",
    "StepValues",
    "Stick",
    "SwapPassages",
    "Tie",
    "ToolScore",
    "Trajectories",
    "TrajectoryPairs",
    "TreeActions",
    "TreePairs",
    "TreeProcess",
    "TreeResponses",
    "TreeSearch",
    "TreeTraces",
    "Trial",
    "UniversalVote",
    "Unpaired",
    "VerbalisedConfidence",
    "VerifierScore",
    "Verify",
    "VerifyPairs",
    "VoteShares",
    "Voting",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "RewardModel": ".scorers",
        "Relevance": ".scorers",
        "ProcessReward": ".scorers",
        "Logits": ".scorers",
        "Likelihood": ".scorers",
        "InternalJudge": ".scorers",
        "Implicit": ".scorers",
        "FollowUp": ".scorers",
        "Features": ".scorers",
        "EnsemblePairs": ".scorers",
        "Ensemble": ".scorers",
        "Direction": ".scorers",
        "DensityRatio": ".scorers",
        "Attributes": ".scorers",
        "AgreedLabels": ".judged",
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
        "AttributeScore": ".judged",
        "BackwardVote": ".ranking",
        "ChecklistScore": ".judged",
        "Clues": ".refusal.controls",
        "ConfidencePairs": ".refusal.calibration",
        "Consensus": ".step_values.judged",
        "ContrastiveRubrics": ".ranking",
        "CorrectionPairs": ".self_correction",
        "CritiqueScore": ".judged",
        "Demonstrations": ".demonstrations",
        "Explore": ".self_correction",
        "ExtractPrinciples": ".judged",
        "HardLooking": ".refusal.controls",
        "ImplicitRewards": ".step_values.implicit",
        "Introspection": ".refusal.introspection",
        "JudgePairTraces": ".judged",
        "GroundingRows": ".rag.grounding_rows",
        "JudgeMetrics": ".rag.judging",
        "JudgePairs": ".judging",
        "JudgeRanking": ".ranking",
        "JudgeSamples": ".judging",
        "JudgeScore": ".judged",
        "JudgeSteps": ".step_values.judged",
        "JudgeTraces": ".judged",
        "KnowledgeSamples": ".refusal.probe",
        "CausalPairs": ".preferences.causal",
        "ContrastPrompts": ".preferences.contrast",
        "Improvements": ".preferences.revise",
        "LongContext": ".preferences.long_context",
        "NeutralTies": ".preferences.neutral",
        "PromptConsistency": ".preferences.prompt_consistency",
        "Revise": ".preferences.revise",
        "Scaffold": ".preferences.scaffold",
        "TrajectoryPairs": ".preferences.trajectories",
        "Tie": ".preferences.neutral",
        "TreeResponses": ".tree_search.responses",
        "MakePairs": ".preferences.pairs",
        "Measure": ".scoring",
        "MeasurePairs": ".scoring",
        "OmegaLabels": ".tree_search.omega_harvest",
        "OmegaPRM": ".tree_search.omega",
        "OmegaPairs": ".tree_search.omega_harvest",
        "PairScorer": ".scorers",
        "PassageQuestions": ".refusal.passages",
        "PreferenceScore": ".judged",
        "PrincipleScore": ".judged",
        "ProbeKnowledge": ".refusal.probe",
        "ProcessLabels": ".step_values.labels",
        "RTuning": ".refusal.data",
        "RateTogether": ".judged",
        "ReasonedScore": ".judged",
        "RefineJudgePrompt": ".judged",
        "RagPairs": ".rag.pairs",
        "RefusalPairs": ".refusal.pairs",
        "RefusalSplit": ".refusal.split",
        "Rerank": ".rag.rerank",
        "Retrieve": ".rag.retrieve",
        "RolloutSamples": ".step_values.samples",
        "RubricScore": ".judged",
        "Sample": ".sampling",
        "ScorePairs": ".scorers",
        "ScoreSamples": ".scorers",
        "Scorer": ".scorers",
        "SegmentScore": ".judged",
        "SelfCheck": ".judged",
        "SampleBalanced": ".balanced",
        "StepActions": ".step_values.labels",
        "StepValues": ".step_values.estimate",
        "Stick": ".judged",
        "SwapPassages": ".refusal.passages",
        "ToolScore": ".judged",
        "Trajectories": ".self_correction",
        "TreeActions": ".tree_search.harvest",
        "TreePairs": ".tree_search.pairs",
        "TreeProcess": ".tree_search.harvest",
        "TreeSearch": ".tree_search.mcts",
        "TreeTraces": ".tree_search.harvest",
        "Trial": ".self_correction",
        "Unpaired": ".preferences.unpaired",
        "VerbalisedConfidence": ".refusal.calibration",
        "VerifierScore": ".scorers",
        "Verify": ".scoring",
        "VerifyPairs": ".scoring",
    },
)
