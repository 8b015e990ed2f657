"""What a recipe is made of: the keys as they are written, and the parts that they name."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from gristmill.core.contracts import check_part
from gristmill.core.errors import RecipeError
from gristmill.core.exports import Export
from gristmill.core.money import Budget, Price
from gristmill.core.registry import find, locate, names, suggest
from gristmill.core.stages import Refer
from gristmill.engines.options import NONE
from gristmill.pipelines.recipe.method import Method
from gristmill.pipelines.sources.source import Source
from gristmill.verifiers.loading import load as load_verifier
from gristmill.verifiers.loading import refer_of, refuses_of
from gristmill.verifiers.pool.in_process import InProcess, pool_for
from gristmill.verifiers.pool.pool import Pool

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
"""What the names of recipes, stages and exported files match: safe as the name of a file."""

# In Python '$' also matches before a last line break.
Name = Annotated[
    str,
    Meta(
        pattern=rf"^{NAME}$(?!\n)",
        description="up to 64 letters, digits, '_', '-' and '.', of which the first is a letter or digit",
    ),
]
Count = Annotated[int, Meta(ge=1)]
PartName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$(?!\n)",
        description="up to 64 letters, digits, '_' and '-', of which the first is a letter or digit",
    ),
]
"""Of engines, verifiers and sources. No dots: in ``--set engines.NAME.tries=3`` they divide."""


_DEFAULT = "math"
_RUN_PROGRAMS = ("code", "combine")
"""Of ours, those that may run programs; to import the others here would only take time."""


class VerifierOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A verifier, and the processes in which it decides."""

    kind: str = _DEFAULT
    """The name under which it is registered."""
    workers: Count | None = None
    """Its processes; ``null`` is one a core, at most 4."""
    deadline: Annotated[float, Meta(gt=0)] = 2.0
    """Seconds of processor time after which one decision is given up, with the verdict ``timeout``; one that
    only waits is given up after 30 times as many seconds by the clock."""
    memory_mb: Count = 1024
    """MiB of address space that a process may take."""
    options: dict[str, Any] = {}
    """The verifier's own options."""

    def open(self) -> Pool | InProcess:
        """The worker processes; they start at the first verdict."""
        return Pool(
            self.kind,
            workers=self.workers,
            deadline=self.deadline,
            memory_mb=self.memory_mb,
            options=self.options,
        )

    def refer(self) -> Refer | None:
        """How the verifier wants a row's problem with its answer; ``None`` if it wants the answer alone."""
        if self.kind == _DEFAULT:
            return None  # without importing it here, which would take 60 ms of every run's start
        return refer_of(self.kind)

    def refuses(self) -> Callable[[str], str] | None:
        """What says why nothing can be judged by a reference; ``None`` for a verifier that does not say."""
        if self.kind != _DEFAULT:
            return refuses_of(load_verifier(locate("verifiers", self.kind), self.options))
        made = cache(partial(load_verifier, locate("verifiers", self.kind), self.options))
        # A whole number needs no look, nor the verifier's import, which would take 60 ms of a run's start.
        return lambda reference: "" if reference.isdecimal() else made().refuses(reference)  # type: ignore[attr-defined]

    def sandbox(self) -> str:
        """The sandbox in which the verifier runs programs on this machine; empty if it runs none.

        Raises ``RecipeError`` where it refuses to run them.
        """
        target = locate("verifiers", self.kind)
        if target.startswith("gristmill.") and self.kind not in _RUN_PROGRAMS:
            return ""
        found: str = getattr(load_verifier(target, self.options), "sandbox_used", "")
        return found

    def check(self, place: str) -> None:
        """Refuse a verifier that is not registered, and options that it does not take. ``RecipeError``."""
        if self.kind not in names("verifiers"):
            remedy = suggest(self.kind, names("verifiers"))
            raise RecipeError(f"{place}.kind: {self.kind!r} is not a registered verifier.", remedy=remedy)
        if not self.options and locate("verifiers", self.kind).startswith("gristmill."):
            return  # one of ours is imported by its worker processes only
        try:
            check_part("verifiers", self.kind, find("verifiers", self.kind))
            load_verifier(locate("verifiers", self.kind), self.options)
        except (RecipeError, ImportError, AttributeError) as e:
            remedy = e.remedy if isinstance(e, RecipeError) else "Install or repair the package it is from."
            raise RecipeError(f"{place}.options: {getattr(e, 'message', e)}", remedy=remedy) from e


class GivenVerifier(VerifierOptions, frozen=True, kw_only=True):
    """A verifier that is an object, in a pipeline composed in Python; ``kind`` says where it is from."""

    verifier: Any = None
    """The function or object itself."""

    def refer(self) -> Refer | None:
        """How the object wants a row's problem with its answer; ``None`` if it wants the answer alone."""
        return refer_of(self.verifier)

    def refuses(self) -> Callable[[str], str] | None:
        """What says why nothing can be judged by a reference; ``None`` for an object that does not say."""
        return refuses_of(self.verifier)

    def sandbox(self) -> str:
        """The sandbox in which the object runs programs on this machine; empty if it runs none."""
        found: str = getattr(self.verifier, "sandbox_used", "")
        return found

    def open(self) -> Pool | InProcess:
        """Worker processes, or this one where they cannot import it (a warning says so)."""
        settings = {"workers": self.workers, "deadline": self.deadline, "memory_mb": self.memory_mb}
        return pool_for(self.verifier, **settings)


class Until(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a run has made enough. It then ends as a complete run of what there is."""

    stage: Name | None = None
    """The stage whose rows are counted."""
    rows: Count | None = None
    """End when the stage has kept this many rows."""
    at_most: Count | None = None
    """Take no more than this many rows of the source that is tried: the first from whose rows ``stage`` is
    made by asking a model. Others are read whole."""
    minutes: Annotated[float, Meta(gt=0)] | None = None
    """Begin no further row after this time."""
    grace_minutes: Annotated[float, Meta(ge=0)] | None = None
    """With ``minutes``: how much longer rows at work may take before they are given up; ``null`` waits for
    all of them, so that nothing that was paid for is lost."""

    def __post_init__(self) -> None:
        if (self.rows is None) != (self.stage is None):
            raise ValueError("'rows' and 'stage' go together")
        if self.grace_minutes is not None and self.minutes is None:
            raise ValueError("'grace_minutes' goes with 'minutes'")
        if self.at_most is not None and self.rows is None:
            raise ValueError("'at_most' goes with 'rows' and 'stage'")


class Card(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What only a person can say of the rows, for the card of ``gristmill push``."""

    title: str = ""
    """The data set's name as people read it; empty for the recipe's name."""
    summary: str = ""
    """What the rows are and what they are for, in a sentence or two."""
    licence: str = ""
    """The licence of the rows, as the Hub names it: ``apache-2.0``, ``cc-by-4.0``, ``other``."""
    model_licences: dict[str, str] = {}
    """The terms of the models that wrote or judged the rows, by the model's name."""
    source_licences: dict[str, str] = {}
    """The terms of the data that the rows are made of, by the source's name."""
    languages: list[str] = []
    """Codes of two or three letters: ``en``."""
    tags: list[str] = []
    """Words by which people search for it."""
    uses: str = ""
    """What the rows are meant for, and what not."""
    limits: list[str] = []
    """What a user must know before training on them, beside what the run itself can tell."""
    personal_information: str = ""
    """Whether the rows speak of people, and what was done about it."""
    authors: list[str] = []
    """Who answers for it."""


class EngineEntry(Struct, frozen=True):
    """An engine: the name it has in the recipe, and the options Struct registered as ``kind``."""

    name: str
    kind: str
    options: Any

    def same_as(self, other: EngineEntry) -> bool:
        """Whether both describe one engine, whatever their names."""
        return (self.kind, self.options) == (other.kind, other.options)


class ExportEntry(Struct, frozen=True):
    """An export: its registered name, the stage or source whose records it reads, and the file's name."""

    format: str
    reads_from: str
    path: str
    export: Export


class Plain(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a recipe, with engines, stages and exports as they are written."""

    name: Name
    """The run's name: its directory is ``runs/NAME``."""
    stages: Annotated[list[dict[str, Any]], Meta(min_length=1)]
    """The stages, in order. Each reads the one before it, or what its ``from`` names."""
    engine: dict[str, Any] = msgspec.field(default_factory=lambda: {"kind": NONE})
    """The engine that stages ask: ``kind`` and that kind's options. It may be left out where none asks it."""
    source: Source | None = None
    """Where the rows come from, if from one place. Its name is ``source``."""
    sources: dict[PartName, Source] = {}
    """Several sources by their names; the first is what the first stage reads if it names nothing."""
    seed: int = 0
    """All randomness derives from it."""
    verifier: VerifierOptions = VerifierOptions()
    """The verifier that judges answers against references."""
    verifiers: dict[PartName, VerifierOptions] = {}
    """Further verifiers, by the names that stages call them."""
    exports: list[dict[str, Any]] = []
    """Files in trainers' formats, written at the end."""
    limit: Count | None = None
    """Take only the first rows of each source."""
    until: Until | None = None
    """When to end before the source does."""
    rows_in_flight: Count | None = None
    """Rows at work at a time; ``null``: one and a half for each request that may be in flight."""
    part_rows: Count = 10_000
    """Rows in a Parquet part, at most."""
    engines: dict[PartName, dict[str, Any]] = {}
    """Further engines, by the names that stages call them."""
    prices: dict[str, Price] | str = {}
    """What models cost, by the ``model`` of the engines, or the YAML file that holds such a mapping."""
    budget: Budget | None = None
    """What the run may spend; ``null`` for no limit."""
    card: Card | None = None
    """What ``gristmill push`` writes into the data set's card beside what the run tells."""
    method: Method | None = None
    """The method of the literature that the recipe is, if it is one: see ``gristmill methods``."""


class StageKeys(Struct, frozen=True, kw_only=True):
    """The keys of a stage beside its own options."""

    stage: str
    """The name under which the stage is registered."""
    as_: Name | None = msgspec.field(default=None, name="as")
    """Its name in this recipe; by default the one it is registered under."""
    from_: str | list[str] | None = msgspec.field(default=None, name="from")
    """The source or stage that it reads, or a list of them; by default the stage before it."""
    engine: str | None = None
    """The one of the recipe's ``engines`` that it asks in place of ``engine``."""


class ExportKeys(Struct, frozen=True, kw_only=True):
    """The keys of an export beside its own options."""

    format: str
    """The name under which the format is registered."""
    from_: str | None = msgspec.field(default=None, name="from")
    """The stage or source that it reads; by default the last that has what the format needs."""
    path: Name | None = None
    """The file's name in the run's exports folder."""


class EngineKeys(Struct, frozen=True, kw_only=True):
    """The key of an engine beside its own options."""

    kind: str
    """The name under which the engine is registered."""
