"""The header of a recipe that is a method of the literature: where it is from, and what its rows are like."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

Family = Literal[
    "self-correction", "step-values", "refusal", "preference", "rag", "verifiers", "filters", "rl-data",
    "synth", "export", "pipelines", "train", "merging", "eval",
]  # fmt: skip
"""What a method is about."""
Need = Literal[
    "answers", "judge", "several models", "log-probabilities", "scores of given text", "reward model",
    "passages", "pairs", "options", "categories", "feedback", "embeddings", "checkpoints", "GPU",
]  # fmt: skip
"""What a method cannot do without: columns of the data, or abilities of an engine."""
Status = Literal["works", "partial", "none"]
Text = Annotated[str, Meta(min_length=1)]
SCRIPTED, EMBEDDED = "scripted", "embedded"
"""What ``--engine`` takes beside a file: the answers in a header, and the embedded model."""


class ScriptedRun(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a method runs without a model: seconds, the same everywhere."""

    engine: dict[str, Any] = {}
    """The options of the engine ``scripted`` in the place of the recipe's ``engine``: its ``replies``."""
    engines: dict[str, dict[str, Any]] = {}
    """Likewise for the recipe's ``engines``, by name; one that is missing here is given ``engine``'s."""
    set: dict[str, Any] = {}
    """Further keys of the recipe, by place: ``{limit: 4, "stages.0.samples": 2}``."""


class MethodTraining(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The training that a method's rows are for: ``gristmill train KIND --data RUN[:STAGE]``."""

    kind: Text
    """The kind of training."""
    stage: str = ""
    """The stage whose rows it reads; empty for the last."""
    options: dict[str, Any] = msgspec.field(name="set", default_factory=dict)
    """Its options, by name: what the method is."""


class Expect(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must hold of the rows of one stage, or of one exported file, after the scripted run.

    Expressions are those of the stage ``where``; a column of lists or objects, such as ``turns``, also stands
    as JSON text in ``turns_json``.
    """

    stage: str = ""
    """The stage; empty for the last."""
    export: str = ""
    """The file in the run's exports, in place of a stage: JSON lines or Parquet."""
    least: int = 1
    """It has no fewer rows."""
    most: int | None = None
    """It has no more rows."""
    every: tuple[Text, ...] = ()
    """What holds of every row."""
    some: tuple[Text, ...] = ()
    """What holds of one row or more, each."""
    rejected: dict[str, int] = {}
    """Rows that the stage rejected: the least number, by the reason."""

    def __post_init__(self) -> None:
        if self.stage and self.export:
            raise ValueError("'stage' and 'export' exclude each other")
        if not (self.every or self.some):
            raise ValueError("'every' or 'some' must say what the rows are like")


class Method(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A method: its paper, what it does, what it needs, and how its recipe is known to do it."""

    title: Text
    """The name by which the field knows it."""
    papers: tuple[Text, ...] = ()
    """Its papers' arXiv ids."""
    year: int
    """When it was published."""
    family: Family
    """What it is about."""
    what: Text
    """What it does and why, in three lines or so."""
    makes: Text
    """The rows that come out."""
    differs: str = ""
    """What this recipe does differently from the paper, or leaves out."""
    expected: str = ""
    """The effect to expect of training on the rows, and who measured it on what."""
    needs: tuple[Need, ...] = ()
    """What it cannot do without."""
    status: Status = "works"
    """Whether all of it is here."""
    why: str = ""
    """What is missing and why, unless it works."""
    loop: str = ""
    """The loop that repeats it over rounds: ``gristmill loop NAME``."""
    train: MethodTraining | None = None
    """The training that its rows are for."""
    scripted: ScriptedRun = ScriptedRun()
    """How it runs without a model."""
    expect: tuple[Expect, ...] = ()
    """What must hold after the scripted run; false of rows that plain sampling makes."""
    without: dict[str, Any] = {}
    """Keys of the recipe that turn the method off, by place: with them ``expect`` must be false. Empty where
    plain sampling makes rows of another kind."""

    def __post_init__(self) -> None:
        if (self.status == "works") == bool(self.why):
            raise ValueError("'why' goes with a status other than 'works'")
        if self.status != "none" and not self.expect:
            raise ValueError("'expect' is missing")
