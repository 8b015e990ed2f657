"""Verifiers: plain functions from a completion to a verdict, run where they cannot hurt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.verifiers.code import Code
    from gristmill.verifiers.grounding import Grounding, GroundingJudge
    from gristmill.verifiers.gym import reward_app, serve_rewards
    from gristmill.verifiers.judges import (
        BinaryPrinciples,
        Checklist,
        Judge,
        ModelVerifier,
        OptionShuffle,
        Salmon,
    )
    from gristmill.verifiers.judges.asking import Asking
    from gristmill.verifiers.judges.base import Comparer, Comparison
    from gristmill.verifiers.judges.host import Host
    from gristmill.verifiers.math import Math
    from gristmill.verifiers.pool import InProcess, Pool, pool_for
    from gristmill.verifiers.raters import (
        AttributeRatings,
        Bootstrapped,
        Critiques,
        InstructedJudge,
        PrincipleRanking,
        ReasonedJudge,
        Segments,
        ToolJudge,
        WeightedRubric,
    )
    from gristmill.verifiers.rewards import as_trl_reward, as_verl_batch_reward, as_verl_reward
    from gristmill.verifiers.rules import Bleu, Choice, Combine, Constraints, Format, ShortAnswer
    from gristmill.verifiers.shaped import Shaped

__all__ = [
    "Asking",
    "AttributeRatings",
    "BinaryPrinciples",
    "Bleu",
    "Bootstrapped",
    "Checklist",
    "Choice",
    "Code",
    "Combine",
    "Comparer",
    "Comparison",
    "Constraints",
    "Critiques",
    "Format",
    "Grounding",
    "GroundingJudge",
    "Host",
    "InProcess",
    "InstructedJudge",
    "Judge",
    "Math",
    "ModelVerifier",
    "OptionShuffle",
    "Pool",
    "PrincipleRanking",
    "ReasonedJudge",
    "Salmon",
    "Segments",
    "Shaped",
    "ShortAnswer",
    "ToolJudge",
    "WeightedRubric",
    "as_trl_reward",
    "as_verl_batch_reward",
    "as_verl_reward",
    "pool_for",
    "reward_app",
    "serve_rewards",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Asking": ".judges.asking",
        "AttributeRatings": ".raters",
        "BinaryPrinciples": ".judges",
        "Bleu": ".rules",
        "Bootstrapped": ".raters",
        "Checklist": ".judges",
        "Choice": ".rules",
        "Code": ".code",
        "Combine": ".rules",
        "Comparer": ".judges.base",
        "Comparison": ".judges.base",
        "Constraints": ".rules",
        "Critiques": ".raters",
        "Format": ".rules",
        "Grounding": ".grounding",
        "GroundingJudge": ".grounding",
        "Host": ".judges.host",
        "InProcess": ".pool",
        "InstructedJudge": ".raters",
        "Judge": ".judges",
        "Math": ".math",
        "ModelVerifier": ".judges",
        "OptionShuffle": ".judges",
        "Pool": ".pool",
        "PrincipleRanking": ".raters",
        "ReasonedJudge": ".raters",
        "Salmon": ".judges",
        "Segments": ".raters",
        "Shaped": ".shaped",
        "ShortAnswer": ".rules",
        "ToolJudge": ".raters",
        "WeightedRubric": ".raters",
        "as_trl_reward": ".rewards",
        "as_verl_batch_reward": ".rewards",
        "as_verl_reward": ".rewards",
        "reward_app": ".gym",
        "serve_rewards": ".gym",
        "pool_for": ".pool",
    },
)
