"""Verifiers as the reward functions of RL trainers: TRL's GRPO and RLOO, and verl's custom reward."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gristmill.core.errors import RecipeError
from gristmill.core.verdicts import Verdict
from gristmill.verifiers.isolation import Pool

Reward = Callable[..., list[float | None]]


class _Lazy:
    """A pool that starts with its first verdict, once in each process (a fork cannot share it)."""

    def __init__(self, verifier: str, options: Mapping[str, Any]) -> None:
        self._verifier = verifier
        self._options = options
        self._lock = threading.Lock()
        self._pool: tuple[int, Pool] | None = None

    def verdicts(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """The verdicts of (completion, reference) pairs, in order, as many at once as there are workers."""
        futures = [self._open().submit(*pair) for pair in pairs]
        return [f.result() for f in futures]

    def _open(self) -> Pool:
        with self._lock:
            if self._pool is None or self._pool[0] != os.getpid():
                pool = Pool(self._verifier, **self._options)
                atexit.register(pool.close)
                self._pool = os.getpid(), pool
            return self._pool[1]


def as_trl_reward(
    verifier: str = "math",
    *,
    reference: str = "answer",
    right: float = 1.0,
    wrong: float = 0.0,
    undecided: float | None = None,
    **pool: Any,
) -> Reward:
    """A reward function for TRL's ``GRPOTrainer`` and ``RLOOTrainer``.

    ``reference`` is the data set's column with the reference answers. A verdict that is neither right nor
    wrong gives ``undecided``; TRL leaves a completion with ``None`` out of this reward. ``pool`` is passed
    to ``Pool``: workers, deadline, memory_mb, options.
    """
    lazy = _Lazy(verifier, pool)

    def reward(completions: Sequence[Any], **columns: Any) -> list[float | None]:
        if reference not in columns:
            raise RecipeError(
                f"the data set has no column {reference!r} for the reward.",
                remedy=f"Name the one with the answers: as_trl_reward(reference=...). "
                f"It has: {', '.join(sorted(columns))}.",
            )
        pairs = [(_text(c), str(r)) for c, r in zip(completions, columns[reference], strict=True)]
        return [_worth(v, right, wrong, undecided) for v in lazy.verdicts(pairs)]

    # TRL names its metrics after the function.
    reward.__name__ = f"gristmill_{verifier.rpartition(':')[2]}"
    return reward


def as_verl_reward(
    verifier: str = "math",
    *,
    right: float = 1.0,
    wrong: float = 0.0,
    undecided: float = 0.0,
    **pool: Any,
) -> Callable[..., float]:
    """A ``compute_score(data_source, solution_str, ground_truth, extra_info=None)`` for verl.

    Assign it in a file of your own and name that file in ``custom_reward_function.path``.
    """
    lazy = _Lazy(verifier, pool)

    def compute_score(
        data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **_: Any
    ) -> float:
        [verdict] = lazy.verdicts([(solution_str, str(ground_truth))])
        worth = _worth(verdict, right, wrong, undecided)
        return undecided if worth is None else worth

    return compute_score


def _text(completion: Any) -> str:
    """The text of a completion: a string, or a conversation of which the last message counts."""
    if isinstance(completion, str):
        return completion
    return str(completion[-1]["content"]) if completion else ""


def _worth(verdict: Verdict, right: float, wrong: float, undecided: float | None) -> float | None:
    if not verdict.decided:
        return undecided
    return right if verdict.correct else wrong
