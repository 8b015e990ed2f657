"""Reward functions for TRL, of verifiers, shapes and a user's own functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, cast

from msgspec import Meta, Struct

from gristmill.core.errors import RecipeError
from gristmill.core.registry import locate
from gristmill.core.shaping import Shape
from gristmill.filters.rewards.stage import AnyShape
from gristmill.train.online.turns import FIRST, SelfCorrection
from gristmill.verifiers.loading import at, load
from gristmill.verifiers.rewards import as_trl_reward
from gristmill.verifiers.shaped import Shaped
from gristmill.verifiers.worth import Undecided

Function = Callable[..., list[float | None]]


class Judging(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A verifier, and what it is given."""

    kind: Annotated[str, Meta(min_length=1)] = "math"
    """The name under which it is registered, or ``MODULE:OBJECT``."""
    options: dict[str, Any] = {}
    """The verifier's own options."""
    reference: str = "solution"
    """The column with the reference answers; "" for a verifier that needs none."""
    workers: Annotated[int, Meta(ge=1)] | None = None
    """The processes in which it decides; ``null`` is one a core, at most 4. None where an engine is asked."""
    deadline: Annotated[float, Meta(gt=0)] = 2.0
    """Seconds of processor time after which one decision is given up, with the verdict ``timeout``."""
    engine: dict[str, Any] | None = None
    """For a verifier that asks a model: the engine, by ``kind`` and options as in recipes."""

    def reward(self, undecided: Undecided = None, shape: Shaped | None = None) -> Function:
        """TRL's reward function. Raises ``RecipeError`` as of ``as_trl_reward``."""
        engine = None
        settings: dict[str, Any] = {"workers": self.workers, "deadline": self.deadline}
        if self.engine is not None:
            settings = {}  # it is asked from this process
            kind = self.engine.get("kind")
            if not isinstance(kind, str):
                raise RecipeError(
                    "verifier.engine: the key 'kind' is missing.", remedy="Add it, such as kind: openai."
                )
            rest = {key: value for key, value in self.engine.items() if key != "kind"}
            engine = cast(Any, load(locate("engines", kind), rest, noun="engine"))
        return as_trl_reward(
            self.kind,
            reference=self.reference,
            undecided=undecided,
            shape=shape,
            engine=engine,
            problem="problem",
            options=self.options,
            **settings,
        )


class PolicyReward(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the rewards whose weighted sum a policy is trained on."""

    weight: float = 1.0
    """By which it is multiplied."""
    verifier: Judging | None = None
    """The verifier; ``null`` for that of the training."""
    function: Annotated[str, Meta(pattern=r"^[\w.]+:[\w.]+$")] | None = None
    """A function of your own as ``MODULE:OBJECT``, called as TRL calls its reward functions; in place of a
    verifier."""
    shape: AnyShape | None = None
    """What makes the reward of verdicts, lengths and scores, by ``kind`` as in ``shape_rewards``."""
    scores: dict[str, Judging] = {}
    """Further verifiers, whose rewards are the scores that the shape reads by these names."""
    length: Literal["tokens", "characters", "words"] = "tokens"
    """What the shape takes for the length of an answer."""
    undecided: float | dict[str, float | None] | None = None
    """What an answer is worth whose verdict is not decided: a number, one for each of ``unparseable``,
    ``timeout`` and ``error``, or ``null``, which leaves the answer out."""

    def __post_init__(self) -> None:
        if self.function is not None and (self.verifier or self.shape or self.scores):
            raise RecipeError(
                "rewards: a function stands beside a verifier, shape or scores, which it would not use.",
                remedy="Give the function a reward of its own.",
            )
        if self.scores and self.shape is None:
            raise RecipeError(
                "rewards: scores are given, and no shape that reads them.",
                remedy="Add one, such as shape: {kind: composite, of: {NAME: {threshold: 0.5}}}.",
            )


def make_rewards(
    rewards: Sequence[PolicyReward],
    judging: Judging,
    rows: Sequence[Mapping[str, Any]],
    correction: SelfCorrection | None = None,
    seed: int = 0,
) -> tuple[list[Function], list[float]]:
    """TRL's reward functions and their weights; no ``rewards`` are the verdicts alone.

    The functions find the columns of an answer by its ``row``. With a ``correction`` they judge the second
    turn, and shapes can read what the verifier gave the first as ``first_turn``.
    """
    names: Counter[str] = Counter()
    made = []
    for reward in rewards or [PolicyReward()]:
        function = _with_columns(_function(reward, judging, correction, seed), rows, correction)
        name = reward.function or (reward.verifier or judging).kind
        name = name.rpartition(":")[2] + (f"_{type(reward.shape).__name__.lower()}" if reward.shape else "")
        names[name] += 1
        # TRL names its measures after the function, and would add up those of equal names.
        function.__name__ = name if names[name] == 1 else f"{name}_{names[name]}"
        made.append(function)
    return made, [reward.weight for reward in rewards or [PolicyReward()]]


def _function(
    reward: PolicyReward, judging: Judging, correction: SelfCorrection | None, seed: int
) -> Function:
    """The reward function for answers and the columns of their rows."""
    if reward.function is not None:
        return cast(Function, at(reward.function))
    shape: Shape | None = reward.shape
    undecided: Undecided = reward.undecided
    if shape is None and correction is not None:
        shape = correction.shape
    if shape is None:
        return (reward.verifier or judging).reward(undecided)
    if undecided is None and shape.lowest is not None and shape.lowest < 0:
        undecided = shape.lowest  # left out, an answer would be worth more than a wrong one
    scores = {name: scorer.reward() for name, scorer in reward.scores.items()}
    first = (reward.verifier or judging).reward() if correction is not None else None
    read = (*scores, *([FIRST] if first else []))
    shaped = Shaped(shape=shape, length=reward.length, columns=read, seed=seed)
    whole = (reward.verifier or judging).reward(undecided, shaped)

    def function(completions: Sequence[Any], **columns: Any) -> list[float | None]:
        columns |= {name: score(completions=completions, **columns) for name, score in scores.items()}
        if first is not None:
            columns[FIRST] = first(completions=columns["first_answers"], **columns)
        return whole(completions=completions, **columns)

    return function


def _with_columns(
    function: Function, rows: Sequence[Mapping[str, Any]], correction: SelfCorrection | None
) -> Function:
    """``function`` with the columns of the rows that TRL names, and of two turns the second."""
    keys = sorted({key for row in rows for key in row} - {"prompt", "row"})

    def reward(completions: Sequence[Any], row: Sequence[int], **given: Any) -> list[float | None]:
        given |= {key: [rows[i].get(key) for i in row] for key in keys}
        if correction is not None:
            completions, given["completion_ids"] = given["final_answers"], given["final_ids"]
        return function(completions=completions, **given)

    return reward
