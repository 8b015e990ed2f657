"""What a loop's file says: the steps of a round, and what is measured after each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from gristmill.core.errors import RecipeError
from gristmill.core.registry import suggest
from gristmill.train.weights import Precision

Kind = Literal["sft", "preference", "reward", "process_reward", "policy", "encoder"]
_POLICIES = ("sft", "preference", "policy")
_FILES = {"grid": ".jsonl", "front": ".json"}
"""Merge commands that measure models and write a file."""
_Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*$")]
RESERVED = ("model", "base", "round", "seed", "previous", "before", "after")
"""Names that places have of themselves."""


class LoopValue(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number or text that a run has found, and that later steps and rounds are told."""

    stage: str | None = None
    """The stage in whose rows it stands; ``null`` is the last."""
    value: Annotated[str, Meta(min_length=1)]
    """An expression that gives it, such as the name of a column. All rows must give the same."""
    where: str | None = None
    """Only rows that meet this condition."""


class LoopStep(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A step of a round. One of ``run``, ``train`` and ``merge`` says what it does."""

    name: _Name
    """What later steps and measures call it."""
    run: str | dict[str, Any] | None = None
    """A recipe to run: its file, the name of one that is shipped, or the recipe itself."""
    set: tuple[str, ...] = ()
    """Overrides of the recipe, as ``KEY=VALUE``."""
    values: Mapping[_Name, LoopValue] = field(default_factory=dict)
    """What later steps are told of the run, as ``${STEP.NAME}``."""
    own_seed: bool = False
    """Whether the recipe keeps its own seed in every round and repetition. What it draws of the same model is
    then found in the log again, and shared by all seeds."""
    train: Kind | None = None
    """A kind of training."""
    data: tuple[str, ...] = ()
    """The rows to train on: ``STEP:STAGE`` of this round, ``previous.STEP:STAGE`` of the round before
    (nothing in the first), or a JSON lines file, such as ``${STEP}/exports/FILE``; several are put behind
    each other."""
    options: dict[str, Any] = field(default_factory=dict, name="with")
    """The options of the training. Its ``model`` is by default the one that the round began with, and its
    ``seed`` the loop's plus the number of the round."""
    merge: tuple[str, ...] = ()
    """The words of a ``gristmill merge`` command without ``--out``: ``[average, ${base}, ${tuned}]``. Of
    ``grid`` and ``front`` the place ``${STEP}`` is the file that they write."""
    next: bool | None = None
    """Whether the next step and the next round continue with this step's model. By default so of ``sft``,
    ``preference``, ``policy`` and ``merge``, and not of reward models and encoders."""
    once: bool = False
    """Whether it is done in the first round only; later rounds use what it made then."""

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
        if self.values and not self.run:
            raise RecipeError(
                f"the step {self.name!r}: it has values but no run to take them from.",
                remedy="Leave out 'values', or name them at a step with 'run'.",
            )
        if self.train and not self.data:
            raise RecipeError(
                f"the step {self.name!r} does not say what to train on.", remedy="Add data: [STEP:STAGE]."
            )
        if self.ending and self.next:
            raise RecipeError(
                f"the step {self.name!r}: next is true, and 'merge {self.merge[0]}' writes no model.",
                remedy="Leave next out.",
            )

    @property
    def leads(self) -> bool:
        """Whether the loop continues with this step's model."""
        by_itself = (bool(self.merge) and not self.ending) or self.train in _POLICIES
        return by_itself if self.next is None else self.next

    @property
    def ending(self) -> str:
        """That of the file which a merge command writes in place of a model; else empty."""
        return _FILES.get(self.merge[0], "") if self.merge else ""


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
    own_seed: bool = False
    """As of a step."""


class Loop(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rounds of sampling, curation, training and evaluation.

    In every text of its recipes, options and words, ``${model}`` is the model that the loop has come to,
    ``${base}`` the one it began with, ``${STEP}`` what a step of this round made (the folder of a model or
    of a run), ``${STEP.NAME}`` one of its values, ``${previous....}`` the same of the round before; ``.gguf``
    behind a model is that model as a file for llama.cpp. ``${round}`` and ``${seed}`` are numbers. Of several
    names with ``or`` between them the first that there is counts; the last may be a number.
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
    precision: Precision = "f16"
    """The numbers in which ``.gguf`` stores matrices: of ``q8_0`` a model is half as large, and on a CPU
    answers come faster."""
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
