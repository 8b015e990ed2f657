"""What a loop's file says: the steps of a round, and what is measured after each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from gristmill.core.errors import RecipeError
from gristmill.core.registry import suggest

Kind = Literal["sft", "preference", "reward", "process_reward", "policy"]
_POLICIES = ("sft", "preference", "policy")
_Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*$")]
RESERVED = ("model", "base", "round", "seed", "previous", "before", "after")
"""Names that places have of themselves."""


class LoopStep(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A step of a round. One of ``run``, ``train`` and ``merge`` says what it does."""

    name: _Name
    """What later steps and measures call it."""
    run: str | dict[str, Any] | None = None
    """A recipe to run: its file, the name of one that is shipped, or the recipe itself."""
    set: tuple[str, ...] = ()
    """Overrides of the recipe, as ``KEY=VALUE``."""
    train: Kind | None = None
    """A kind of training."""
    data: tuple[str, ...] = ()
    """The rows to train on: ``STEP:STAGE`` of this round, ``previous.STEP:STAGE`` of the round before
    (nothing in the first), or a JSON lines file; several are put behind each other."""
    options: dict[str, Any] = field(default_factory=dict, name="with")
    """The options of the training. Its ``model`` is by default the one that the round began with, and its
    ``seed`` the loop's plus the number of the round."""
    merge: tuple[str, ...] = ()
    """The words of a ``gristmill merge`` command without ``--out``: ``[average, ${base}, ${tuned}]``."""
    next: bool | None = None
    """Whether the next step and the next round continue with this step's model. By default so of ``sft``,
    ``preference``, ``policy`` and ``merge``, and not of reward models."""

    def __post_init__(self) -> None:
        given = [key for key in ("run", "train", "merge") if getattr(self, key)]
        if len(given) != 1:
            has = " and ".join(given) or "none"
            raise RecipeError(
                f"the step {self.name!r}: it must have one of run, train and merge, but has {has}.",
                remedy="Give each of them a step of its own.",
            )
        if self.name in RESERVED:
            raise RecipeError(
                f"the step {self.name!r}: a loop uses that name itself.", remedy="Choose another name."
            )
        if self.train and not self.data:
            raise RecipeError(
                f"the step {self.name!r} does not say what to train on.", remedy="Add data: [STEP:STAGE]."
            )

    @property
    def leads(self) -> bool:
        """Whether the loop continues with this step's model."""
        return (bool(self.merge) or self.train in _POLICIES) if self.next is None else self.next


class LoopMeasure(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number of each round: the mean of an expression over the rows of a stage."""

    of: str = "evaluate"
    """``evaluate``, or the name of a step that runs a recipe."""
    stage: str | None = None
    """The stage; ``null`` is the last."""
    value: str | None = None
    """An expression that gives a number or a truth value, such as ``verdict == 'correct'``. Rows for which it
    is null are not counted. ``null`` counts the rows. Of a stage ``self_correction_trial`` it is a metric of
    self-correction: ``turn1``, ``final``, ``delta``, ``i_to_c``, ``c_to_i``, ...; of ``ask_held_out`` and
    ``ask_or_refuse`` one of refusal: ``accuracy``, ``refusal_rate``, ``willingness``, ``ap``, ..."""
    where: str | None = None
    """Only rows that meet this condition."""


class LoopEvaluation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A recipe that is run before the first round and after each one."""

    run: str | dict[str, Any]
    """As of a step."""
    set: tuple[str, ...] = ()
    """Overrides of the recipe, as ``KEY=VALUE``."""


class Loop(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rounds of sampling, curation, training and evaluation.

    In every text of its recipes, options and words, ``${model}`` is the model that the loop has come to,
    ``${base}`` the one it began with, ``${STEP}`` what a step of this round made (the folder of a model or
    of a run), ``${previous.STEP}`` the same of the round before; ``.gguf`` behind a model is that model as a
    file for llama.cpp. ``${round}`` and ``${seed}`` are numbers.
    """

    name: Annotated[str, Meta(pattern=r"^[\w.-]+$")]
    """The loop's name, and that of its folder."""
    model: Annotated[str, Meta(min_length=1)]
    """The folder of weights to begin with."""
    rounds: Annotated[int, Meta(ge=1)] = 1
    """How many rounds. A finished loop continues when it is given more."""
    seed: int = 0
    """The seed of the first round; each round has the next one."""
    seeds: Annotated[int, Meta(ge=1)] = 1
    """How many times all of it is done, with seeds 1,000 apart; the table gives means and all values."""
    like: str = ""
    """What ``model`` was written from, if ``.gguf`` is used: a GGUF file; by default the embedded model."""
    steps: Annotated[tuple[LoopStep, ...], Meta(min_length=1)]
    """The steps of a round, in order."""
    evaluate: LoopEvaluation | None = None
    """What is measured of the models; ``null`` for nothing."""
    measures: Mapping[str, LoopMeasure] = field(default_factory=dict)
    """The columns of the table of rounds."""

    def __post_init__(self) -> None:
        names = [step.name for step in self.steps]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise RecipeError(f"two steps are called {twice!r}.", remedy="Give one another name.")
        runs = [step.name for step in self.steps if step.run] + (["evaluate"] if self.evaluate else [])
        for name, measure in self.measures.items():
            if measure.of not in runs:
                raise RecipeError(
                    f"measures.{name}.of: {measure.of!r} is not a step that runs a recipe.",
                    remedy=suggest(measure.of, runs) if runs else "Add a step with 'run', or 'evaluate'.",
                )
