"""Rubrics with weights: by item, by dimension, and by the scenario of the row (MR-RML, arXiv 2511.16139)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from gristmill.core.engine import Ability, Engine, Message
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.prompts import require
from gristmill.core.stages import Estimate
from gristmill.core.verdicts import Verdict
from gristmill.verifiers.evidence import Check, decided, unparseable
from gristmill.verifiers.judges.asking import Asking
from gristmill.verifiers.judges.base import bounds, needs_of
from gristmill.verifiers.judges.content import judged_part
from gristmill.verifiers.judges.judge import SYSTEM
from gristmill.verifiers.judges.rubric import Line, ask_each
from gristmill.verifiers.raters.base import PartRater, Rated, evidence, of_row

_ASK_ITEM = Message(
    "user",
    "{problem}\n\n{response}\n\n{question}\n\nIs what QUESTION says true of RESPONSE? Judge nothing else. "
    "{answer_with}",
)


class RubricItem(Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that is true of a good answer, or of a bad one."""

    text: Line
    """The item in words."""
    weight: float = 1.0
    """Points that it gives if it is true. Below 0 it is a fault, which takes points away; not 0."""
    dimension: str = ""
    """The dimension that it belongs to."""

    def __post_init__(self) -> None:
        if not self.weight:
            raise RecipeError(
                f"the rubric's item {self.text[:60]!r} has the weight 0.", remedy="Leave it out, or weigh it."
            )


class WeightedRubric(PartRater, frozen=True, forbid_unknown_fields=True):
    """Whether each item of a rubric is true of an answer, asked alone, and the sum of the weights.

    The points of a dimension are the weights of its true items, divided by the sum of its weights above 0,
    between 0 and 1. Without scenarios the score is that of all items together. In a scenario it is the mean
    of the dimensions by the scenario's weights, so proportional to the projection of their vector on the
    scenario's: within a scenario both put answers in the same order. One item that could not be read leaves
    its dimension and the score open.
    """

    items: tuple[RubricItem, ...] = ()
    """The items for every row, unless ``column`` names a column."""
    column: str | None = None
    """The column in which each row has its own items: texts, or objects with ``text``, ``weight`` and
    ``dimension``."""
    dimensions: tuple[Line, ...] = ()
    """The dimensions whose points are parts of the score. Empty: those of ``items``."""
    scenarios: dict[str, dict[str, Annotated[float, Meta(ge=0)]]] = field(default_factory=dict)
    """The weight of each dimension, at least 0, by scenario. A dimension that is not named counts 0."""
    scenario: str = "scenario"
    """The column that names the row's scenario. Read only if there are scenarios."""
    accept: Annotated[float, Meta(ge=0, le=1)] = 0.75
    """The lowest score, 0 to 1, that is ``correct``."""
    asking: Asking = Asking()
    """How an item is asked about."""
    ask: tuple[Message, ...] = (SYSTEM, _ASK_ITEM)
    """The prompt for one item, with ``{problem}``, ``{response}``, ``{question}`` (the item),
    ``{answer_with}`` and ``{fence}``."""
    weights: dict[str, float] = field(default_factory=dict)
    """The weights of the dimensions themselves, where every row has the same; ``scenarios`` take their
    place."""

    def __post_init__(self) -> None:
        require("ask", self.ask, "response", "question", "answer_with", known=("problem", "fence"))
        if not self.items and self.column is None:
            raise RecipeError("the rubric has no items.", remedy="Set items, or column for items by row.")
        known = set(self.part_names)
        for name, weights in {"weights": self.weights, **self.scenarios}.items():
            if unknown := sorted(set(weights) - known):
                raise RecipeError(
                    f"rubric: {name}: {unknown[0]!r} is not a dimension.",
                    remedy=f"The dimensions are: {', '.join(sorted(known)) or 'none'}. Set dimensions, or "
                    "the dimension of items.",
                )
            if weights and not sum(weights.values()) > 0:
                raise RecipeError(f"rubric: the weights of {name} sum to 0.", remedy="Weigh a dimension.")

    @property
    def needs(self) -> frozenset[Ability]:
        """Token probabilities, where they alone are to be read."""
        return needs_of(self.asking.read)

    @property
    def part_names(self) -> tuple[str, ...]:
        """The dimensions."""
        return self.dimensions or tuple(dict.fromkeys(i.dimension for i in self.items if i.dimension))

    def for_row(self, row: Mapping[str, Any]) -> WeightedRubric:
        """This rubric with the row's items and the weights of its scenario."""
        items, weights = self.items, self.weights
        if self.column is not None:
            given = of_row(row, self.column, tuple[RubricItem | str, ...])
            items = tuple(RubricItem(one) if isinstance(one, str) else one for one in given)
            if not items:
                raise RowRejected("the rubric is empty", f"the column {self.column!r} has no item")
            kept = set(self.part_names)
            if strange := sorted({i.dimension for i in items if i.dimension and kept} - kept):
                raise RowRejected(
                    "unknown dimension", f"{strange[0]!r} is not one of {', '.join(sorted(kept))}"
                )
        if self.scenarios:
            name = of_row(row, self.scenario, str)
            if name not in self.scenarios:
                raise RowRejected(
                    "unknown scenario", f"{name!r} is not one of {', '.join(sorted(self.scenarios))}"
                )
            weights = self.scenarios[name]
        return replace(
            self, items=items, column=None, dimensions=self.part_names, weights=weights, scenarios={}
        )

    def estimate(self, completion: str, reference: str, *, problem: str) -> Estimate:
        """One question per item; of a rubric by row, 12 items are expected."""
        asking = self.asking
        rows = len(self.items) or 12
        return bounds(rows, asking.votes, asking.read, asking.sampling.max_tokens, problem, completion)

    async def rate(
        self, completion: str, reference: str, *, problem: str, engine: Engine, seed: int
    ) -> Rated:
        """The points, by dimension and in all."""
        shown = judged_part(completion)
        if not self.items:
            why = f"its items are in the column {self.column!r}, which only the stages judge and score read"
            shown = unparseable("no rubric", why)
        if isinstance(shown, Verdict):
            return Rated(shown, dict.fromkeys(self.part_names))
        texts = [item.text for item in self.items]
        checks = await ask_each(self.asking, self.ask, shown, texts, problem, engine, seed)
        parts = {
            name: points([(i, c) for i, c in zip(self.items, checks, strict=True) if i.dimension == name])
            for name in self.part_names
        }
        score = self._total(parts, points(list(zip(self.items, checks, strict=True))))
        detail = evidence(
            items=[
                {"text": i.text, "weight": i.weight, "true": c.passed, "votes": c.why}
                for i, c in zip(self.items, checks, strict=True)
            ]
        )
        if score is None:
            return Rated(unparseable("rubric: an item was not read", detail), parts)
        return Rated(decided(score >= self.accept, rule="rubric", score=score, detail=detail), parts)

    def _total(self, parts: Mapping[str, float | None], whole: float | None) -> float | None:
        """The score: of all items, or the weighted mean of the dimensions that the row has items of."""
        if not self.weights or whole is None:
            return whole
        there = {i.dimension for i in self.items}
        weighed = [(w, parts[name]) for name, w in self.weights.items() if name in there]
        total = sum(w for w, _ in weighed)
        return sum(w * p for w, p in weighed if p is not None) / total if total else None


def points(checked: Sequence[tuple[RubricItem, Check]]) -> float | None:
    """The weights of the true items over the sum of those above 0, between 0 and 1.

    With faults alone, 1 less the share of the faults' weight. ``None`` without items, or if one is unread.
    """
    if not checked or any(check.passed is None for _, check in checked):
        return None
    got = sum(item.weight for item, check in checked if check.passed)
    best = sum(item.weight for item, _ in checked if item.weight > 0)
    if not best:
        return 1 - got / sum(item.weight for item, _ in checked)
    return min(1.0, max(0.0, got / best))
