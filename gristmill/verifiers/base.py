"""What every built-in verifier has beside its verdict: its reward functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable

    from gristmill.verifiers.rewards import Reward


class Rewarding(Struct, frozen=True):
    """A verifier that is a Struct of options, with reward functions made of it."""

    def as_trl_reward(self, **options: Any) -> Reward:
        """This verifier as a reward function for TRL: ``rewards.as_trl_reward(self, ...)``."""
        from gristmill.verifiers.rewards import as_trl_reward

        return as_trl_reward(self, **options)

    def as_verl_reward(self, **options: Any) -> Callable[..., float]:
        """This verifier as a custom reward for verl: ``rewards.as_verl_reward(self, ...)``."""
        from gristmill.verifiers.rewards import as_verl_reward

        return as_verl_reward(self, **options)
