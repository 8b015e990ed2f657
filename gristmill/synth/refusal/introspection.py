"""The model's own judgement whether a question is within its abilities, kept where it agrees with itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Message, Sampling
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.knowledge import Certainty
from gristmill.core.prompts import RowValues, fill, require, row_places, taken
from gristmill.core.records import Demonstration, Turn
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.synth.refusal.data import Sentence, SplitPart
from gristmill.synth.refusal.texts import CAN_YOU, FEASIBLE, I_CAN, I_CANNOT
from gristmill.verifiers.judges.asking import Asking
from gristmill.verifiers.judges.base import bounds, fence, needs_of, quote

LABELS = ("feasible", "infeasible")
_CALL = 4
_EIGHT = Asking(read="text", votes=8, sampling=Sampling(temperature=0.7, max_tokens=256))
_EPSILON = 1e-9
"""Shares are quotients of small counts; a consensus that is given as 0.7 must admit 7 of 10."""


class Introspection(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Asks the model several times whether it could answer, and keeps what it says in consensus.

    After KnowRL (arXiv 2510.11407), where a model judges tasks feasible or infeasible eight times and the
    agreement is its reward. Here the tasks are given, not made by the model, and a consensus becomes a
    conversation to imitate, not a reward.
    """

    reads: ClassVar[type[Struct]] = Certainty
    writes: ClassVar[type[Struct]] = Demonstration

    asking: Asking = _EIGHT
    """How the model is asked; ``asking.votes`` is the number of judgements."""
    prompt: tuple[Message, ...] = (Message("user", FEASIBLE),)
    """The messages that ask, with ``{problem}``, ``{answer_with}`` and any column; each column is quoted."""
    consensus: Annotated[float, Meta(gt=0.5, le=1)] = 0.75
    """The least share of the readable judgements that must agree, inclusive. Fewer than half readable, or a
    tie, is not a consensus."""
    truth: Literal["ignore", "agree"] = "ignore"
    """``agree`` rejects a consensus that contradicts the split (sure is feasible). Without it a model that is
    always wrong about itself is confirmed in that, which is the price of using no references."""
    parts: Annotated[tuple[SplitPart, ...], Meta(min_length=1)] = ("train",)
    """The parts of the split that become data; the others are for evaluation."""
    question: Sentence = CAN_YOU
    """The question as it is trained, with ``{problem}`` and places for any column."""
    feasible: Sentence = I_CAN
    """What the model says of itself where it finds the task feasible."""
    infeasible: Sentence = I_CANNOT
    """What the model says of itself where it does not."""

    def __post_init__(self) -> None:
        require("prompt", self.prompt, "problem", "answer_with")
        require("question", self.question, "problem")
        if self.asking.votes < 2:
            raise RecipeError(
                "feasibility_introspection: one judgement is not a consensus.",
                remedy="Set asking.votes to 8.",
            )

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        asked = row_places(("problem", "fence", "answer_with"), prompt=self.prompt)
        return asked | row_places(question=self.question)

    @property
    def needs(self) -> frozenset[Ability]:
        """What the engine must be able to do."""
        return needs_of(self.asking.read)

    async def __call__(self, record: Certainty, context: Context) -> Sequence[Demonstration | Rejection]:
        """One record, or a ``Rejection`` with the votes."""
        if record.part not in self.parts:
            return [Rejection(record.id, f"not of the parts wanted: {record.part}")]
        seed = context.seed_for(record.id, _CALL)
        columns = taken(RowValues(record), self.places["prompt"])
        code = fence(seed, [record.problem, *columns.values()])
        values = {"problem": quote("TASK", record.problem, code), "fence": code}
        values |= {name: quote(name.replace("_", " ").upper(), text, code) for name, text in columns.items()}
        ballot = await self.asking.choose(self.prompt, values, LABELS, engine=context.engine, seed=seed)
        best = ballot.best
        if best is None or (ballot.share(best) or 0.0) < self.consensus - _EPSILON:
            return [Rejection(record.id, "no consensus on feasibility", ballot.detail)]
        if self.truth == "agree":
            if record.certain is None:
                raise RowRejected("left out by the split's rule")
            if (record.certain == "sure") is not (best == LABELS[0]):
                detail = f"{ballot.detail}; {record.correct} of {record.decided} answers are right"
                return [Rejection(record.id, "the consensus contradicts the evidence", detail)]
        turns = (
            Turn("user", fill(self.question, RowValues(record)), False),
            Turn("assistant", self.feasible if best == LABELS[0] else self.infeasible, True),
        )
        made_id = f"{record.id}/introspection"
        return [
            Demonstration(made_id, record.id, record.problem, record.answer, f"introspection/{best}", turns)
        ]

    def estimate(self, record: Certainty) -> Estimate:
        """All votes, each at its full length."""
        asked = (record.problem, *(m.content for m in self.prompt))
        cost = bounds(1, self.asking.votes, self.asking.read, self.asking.sampling.max_tokens, *asked)
        return replace(cost, rows_max=1)
