"""Questions put in another way: known ones that look hard, and questions whose clues come one by one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.knowledge import Certainty
from gristmill.core.prompts import RowValues, fields, fill, require, row_places
from gristmill.core.records import Problem
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.synth.refusal.data import NOTHING, Sentence, SplitPart
from gristmill.synth.refusal.texts import HARD_LOOKING
from gristmill.verifiers.text.words import sentences

_CALL = 5


class HardLooking(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Puts questions that the model knows so that they look hard: controls against over-refusal.

    The evidence of the split is carried over unchanged, since what is asked is the same. So they go through
    ``r_tuning`` as further data, and held-out ones test whether a model refuses by the sound of a question.
    """

    reads: ClassVar[type[Struct]] = Certainty
    writes: ClassVar[type[Struct]] = Certainty
    needs: ClassVar[frozenset[Ability]] = frozenset()

    templates: Annotated[tuple[Sentence, ...], Meta(min_length=1)] = HARD_LOOKING
    """The ways to put a question, each with the place ``{problem}`` and places for any column."""
    each: Annotated[int, Meta(ge=1)] = 1
    """The questions made of each, by different templates that are chosen by seed."""
    parts: Annotated[tuple[SplitPart, ...], Meta(min_length=1)] = ("train",)
    """The parts of the split that are used: ``[train]`` for data, ``[test, test_ood]`` for a test."""

    def __post_init__(self) -> None:
        for template in self.templates:
            require("templates", template, "problem")
        if self.each > len(self.templates):
            raise RecipeError(
                f"over_refusal_controls: {self.each} of each from {len(self.templates)} templates.",
                remedy="Give more templates, or a smaller 'each'.",
            )

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the templates want of a row."""
        return row_places(templates=self.templates)

    async def __call__(self, record: Certainty, context: Context) -> Sequence[Certainty | Rejection]:
        """The question in other words, ``each`` times."""
        if record.part not in self.parts:
            return [Rejection(record.id, f"not of the parts wanted: {record.part}")]
        if record.certain != "sure":
            return [Rejection(record.id, "not known, so no control")]
        chosen = random.Random(context.seed_for(record.id, _CALL)).sample(self.templates, self.each)
        return [
            replace(record, id=f"{record.id}/hard{i}", problem=fill(template, RowValues(record)))
            for i, template in enumerate(chosen)
        ]

    def estimate(self, record: Certainty) -> Estimate:
        """It calls no engine."""
        return replace(NOTHING, rows_max=self.each)


class Clues(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes a question of the first clue, of the first two, and so on: the incremental form of quiz bowl.

    Each prefix is a problem of its own, so that probing and splitting find out from which clue on the model
    knows, and ``r_tuning`` (``method: refuse``, ``refusals`` that ask to wait) writes answer or abstention by
    the model's own answers at that point. ``meta`` holds ``question_id``, the whole question's id, for a
    split that keeps its prefixes on one side, and ``clue`` and ``clue_count``.

    The format is that of QANTA and GRACE (arXiv 2502.19684); that it becomes refusal data is this project's
    own.
    """

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Problem
    needs: ClassVar[frozenset[Ability]] = frozenset()

    clues: str = "clues"
    """The column that holds the list of clues, in their order; without it the sentences of the problem's
    text are the clues."""
    prompt: Sentence = "{clues}\nWho or what is it?"
    """The text of each problem, in which ``{clues}`` are the clues so far and ``{NAME}`` any other column."""
    separator: str = " "
    """What is between two clues."""
    least: Annotated[int, Meta(ge=1)] = 1
    """The clues of the shortest prefix."""

    def __post_init__(self) -> None:
        require("prompt", self.prompt, "clues")

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompt wants of a row."""
        return row_places(("clues",), prompt=self.prompt)

    async def __call__(self, record: Problem, context: Context) -> Sequence[Problem | Rejection]:
        """A problem for each number of clues, from ``least`` on."""
        meta = fields(record.meta)
        listed = self._clues(record, meta)
        if len(listed) < max(2, self.least):
            raise RowRejected("has too few clues", f"{len(listed)} were found")
        rest = {name: held for name, held in meta.items() if name != self.clues}
        made: list[Problem | Rejection] = []
        for count in range(self.least, len(listed) + 1):
            told = {**rest, "question_id": record.id, "clue": count, "clue_count": len(listed)}
            made.append(
                replace(
                    record,
                    id=f"{record.id}/clues{count}",
                    problem=fill(self.prompt, RowValues(record), clues=self.separator.join(listed[:count])),
                    meta=msgspec.json.encode(told).decode(),
                )
            )
        return made

    def _clues(self, record: Problem, meta: dict[str, Any]) -> list[str]:
        held = meta.get(self.clues)
        if held is None:
            return sentences(record.problem)
        if not isinstance(held, list) or not all(isinstance(c, str) for c in held):
            raise RowRejected(f"{self.clues!r} is not a list of texts")
        return [c.strip() for c in held if c.strip()]

    def estimate(self, record: Problem) -> Estimate:
        """It calls no engine."""
        try:
            clues = len(self._clues(record, fields(record.meta)))
        except RowRejected:
            clues = 0
        return replace(NOTHING, rows_max=max(0, clues + 1 - self.least))
