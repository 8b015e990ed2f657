"""Verifiers that ask a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.verifiers.judges.base import ModelVerifier
    from gristmill.verifiers.judges.judge import Judge
    from gristmill.verifiers.judges.option_shuffle import OptionShuffle
    from gristmill.verifiers.judges.principles import BinaryPrinciples, Salmon
    from gristmill.verifiers.judges.rubric import Checklist

__all__ = ["BinaryPrinciples", "Checklist", "Judge", "ModelVerifier", "OptionShuffle", "Salmon"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "BinaryPrinciples": ".principles",
        "Checklist": ".rubric",
        "Judge": ".judge",
        "ModelVerifier": ".base",
        "OptionShuffle": ".option_shuffle",
        "Salmon": ".principles",
    },
)
