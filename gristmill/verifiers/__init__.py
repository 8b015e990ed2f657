"""Verifiers: plain functions from a completion to a verdict, run where they cannot hurt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.verifiers.code import Code
    from gristmill.verifiers.grounding import Grounding, GroundingJudge
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
    from gristmill.verifiers.rewards import as_trl_reward, as_verl_batch_reward, as_verl_reward
    from gristmill.verifiers.rules import Bleu, Choice, Combine, Constraints, Format, ShortAnswer
    from gristmill.verifiers.shaped import Shaped

__all__ = [
    "Asking",
    "BinaryPrinciples",
    "Bleu",
    "Checklist",
    "Choice",
    "Code",
    "Combine",
    "Comparer",
    "Comparison",
    "Constraints",
    "Format",
    "Grounding",
    "GroundingJudge",
    "Host",
    "InProcess",
    "Judge",
    "Math",
    "ModelVerifier",
    "OptionShuffle",
    "Pool",
    "Salmon",
    "Shaped",
    "ShortAnswer",
    "as_trl_reward",
    "as_verl_batch_reward",
    "as_verl_reward",
    "pool_for",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Asking": ".judges.asking",
        "BinaryPrinciples": ".judges",
        "Bleu": ".rules",
        "Checklist": ".judges",
        "Choice": ".rules",
        "Code": ".code",
        "Combine": ".rules",
        "Comparer": ".judges.base",
        "Comparison": ".judges.base",
        "Constraints": ".rules",
        "Format": ".rules",
        "Grounding": ".grounding",
        "GroundingJudge": ".grounding",
        "Host": ".judges.host",
        "InProcess": ".pool",
        "Judge": ".judges",
        "Math": ".math",
        "ModelVerifier": ".judges",
        "OptionShuffle": ".judges",
        "Pool": ".pool",
        "Salmon": ".judges",
        "Shaped": ".shaped",
        "ShortAnswer": ".rules",
        "as_trl_reward": ".rewards",
        "as_verl_batch_reward": ".rewards",
        "as_verl_reward": ".rewards",
        "pool_for": ".pool",
    },
)
