"""What a verdict is worth to a trainer: its score between two numbers, never more for deciding nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from gristmill.core.errors import RecipeError
from gristmill.core.registry import find, suggest
from gristmill.core.verdicts import Outcome, Verdict

Undecided = float | None | Mapping[str, float | None]
_UNDECIDED = (Outcome.UNPARSEABLE, Outcome.TIMEOUT, Outcome.ERROR)


class RewardScale(Struct, frozen=True):
    """From a verdict to a reward.

    A decided verdict with a score is worth ``wrong + (right - wrong) * score``, so that a BLEU of .489 is
    .489; without one, or if not ``graded``, ``right`` or ``wrong``. ``undecided`` is one number (or ``None``)
    or a mapping of them from ``unparseable``, ``timeout`` and ``error``, where one that is not named is worth
    ``wrong``. ``None`` leaves a completion out.

    Raises ``RecipeError`` for numbers by which a completion that stalls earns more than a wrong one. ``None``
    is 0 to a trainer that has no other reward, and so goes with a ``wrong`` of 0 at least.
    """

    right: float = 1.0
    wrong: float = 0.0
    undecided: Undecided = None
    graded: bool = True

    def __post_init__(self) -> None:
        known = [str(one) for one in _UNDECIDED]
        given = (
            self.undecided if isinstance(self.undecided, Mapping) else dict.fromkeys(known, self.undecided)
        )
        for name, worth in given.items():
            if name not in known:
                raise RecipeError(
                    f"rewards: {name!r} is not an outcome that decides nothing.", remedy=suggest(name, known)
                )
            if worth is None and self.wrong < 0:
                raise RecipeError(
                    f"rewards: {name} is left out (None), which trainers count as 0: more than "
                    f"{self.wrong:g} for a wrong answer, so that not deciding would pay.",
                    remedy=f"Give undecided={self.wrong:g}, or less.",
                )
            if worth is not None and not worth <= self.wrong:
                raise RecipeError(
                    f"rewards: {name} is worth {worth:g}, more than {self.wrong:g} for a wrong answer, "
                    "so that not deciding would pay.",
                    remedy=f"Give undecided={self.wrong:g}, or less.",
                )
        if not (math.isfinite(self.right) and math.isfinite(self.wrong) and self.wrong <= self.right):
            raise RecipeError(
                f"rewards: right is worth {self.right:g} and wrong {self.wrong:g}.",
                remedy="Give two numbers, the first not less than the second.",
            )

    def of(self, verdict: Verdict) -> float | None:
        """The reward for ``verdict``; ``None`` leaves the completion out."""
        if verdict.decided:
            share = verdict.score if self.graded and verdict.score is not None else float(verdict.correct)
            return self.wrong + (self.right - self.wrong) * share
        if isinstance(self.undecided, Mapping):
            return self.undecided.get(verdict.outcome, self.wrong)
        return self.undecided


def strict(options: Mapping[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    """A verifier's options as they are for rewards: what can be ``strict`` is, unless they say otherwise.

    ``fields`` are the verifier's; parts of it that are verifiers by ``kind`` are made strict too.
    """
    made = dict(options)
    if "strict" in fields and made.get("strict") is None:
        made["strict"] = True
    if "parts" in fields:
        made["parts"] = [_strict_part(part) for part in made.get("parts", ())]
    return made


def _strict_part(part: Any) -> Any:
    if not isinstance(part, Mapping) or not isinstance(part.get("kind"), str):
        return part  # a mistake, which is told where the verifier is made
    return strict(part, getattr(find("verifiers", part["kind"]), "__struct_fields__", ()))
