"""``revise``: an answer criticised and written anew; ``improvements``: rows that teach to improve one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from msgspec import Struct

from gristmill.core.engine import Message, Sampling
from gristmill.core.errors import RowRejected
from gristmill.core.prompts import RowValues, fill, require, row_places
from gristmill.core.records import Demonstration, Pair, Sampled, Turn
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.synth.preferences.better import Preferring, side, told, written
from gristmill.synth.scorers.base import NOTHING, of_pair, of_sample
from gristmill.synth.scoring import said

_CRITIQUE = (
    "Review your answer above as somebody would who has to rely on it. Name what is wrong, unclear or "
    "missing in it, one point a line. Write no new answer yet."
)
_REVISE = (
    "Write the answer again with these points put right. Give the new answer alone, as if it were the first: "
    "no word about the review or about what has changed."
)
_CALLS = (20, 21)
"""Seeds of critique and revision are derived apart from each other and from those of the samples."""


class Revise(Preferring, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Has a model criticise each sample and write it anew, and pairs the new answer with the first one.

    The pair is kept only where the new answer is found better: a model that revises a right answer often
    makes it wrong. The model reviews within the conversation, as in Constitutional AI (arXiv 2212.08073,
    section 3.1); that the label is not taken from the order of writing but checked is this project's own.

    Rejected are samples that were cut off or are blank, critiques and revisions that are, a revision that
    says the same, and one that is not found better. ``meta`` has the critique and the sample's id.
    """

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = Pair

    critique: str | None = _CRITIQUE
    """The turn that asks for the critique, after the answer; it may have places for the row's columns.
    ``null``: the answer is written anew without one."""
    revision: str = _REVISE
    """The turn that asks for the new answer."""
    sampling: Sampling = Sampling(temperature=0.7)
    """How critique and revision are sampled."""

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        own = row_places(critique=self.critique, revision=self.revision)
        return {**super().places, **own}

    async def __call__(self, sample: Sampled, context: Context) -> Sequence[Pair | Rejection]:
        """One pair, or a rejection."""
        if sample.finish_reason != "stop" or not sample.completion.strip():
            return [Rejection(sample.id, "revision: the sample was cut off or is blank")]
        row, engine = RowValues(sample), context.engine
        turns = (*sample.messages, Message("assistant", sample.completion))
        critique = ""
        if self.critique is not None:
            turns = (*turns, Message("user", fill(self.critique, row)))
            seed = context.seed_for(sample.id, _CALLS[0])
            critique = (await written(engine, turns, self.sampling, seed, "critique")).text
            turns = (*turns, Message("assistant", critique))
        turns = (*turns, Message("user", fill(self.revision, row)))
        new = await written(engine, turns, self.sampling, context.seed_for(sample.id, _CALLS[1]), "revision")
        if new.text == sample.completion.strip():
            return [Rejection(sample.id, "revision: it says the same")]
        pair = Pair(
            f"{sample.id}/revision",
            sample.problem_id,
            "revision",
            sample.messages,
            new.turn,
            (Message("assistant", sample.completion, sample.reasoning),),
            meta=told(sample.meta, critique=critique, sample_id=sample.id),
        )
        both = side(sample, sample.messages, new.text, row, "revised"), of_sample(sample)
        return [await self.pair(pair, both, sample, context)]

    def estimate(self, sample: Sampled) -> Estimate | None:
        """Critique and revision, and the comparison."""
        calls = 1 if self.critique is None else 2
        return self.cost(of_sample(sample), calls, 1, self.sampling.max_tokens, 1)


_IMPROVE = "{problem}\n\nHere is an answer that can be improved:\n\n{reference}\n\nWrite a better one."


class Improvements(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes of each preference pair a row that shows the rejected answer and trains the chosen one.

    These are the (prompt, reference, improved) rows from which PIT (arXiv 2310.00898) learns to improve an
    answer without being told how. Its reward model of the gap between two answers reads the pairs themselves;
    its training by reinforcement is not part of this.
    """

    reads: ClassVar[type[Struct]] = Pair
    writes: ClassVar[type[Struct]] = Demonstration

    prompt: str = _IMPROVE
    """The user turn, with the places ``{problem}``, the prompt's last user turn, and ``{reference}``, the
    rejected answer; further places are columns of ``meta``."""

    def __post_init__(self) -> None:
        require("prompt", self.prompt, "problem", "reference")

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompt wants of a row."""
        return row_places(("problem", "reference"), prompt=self.prompt)

    async def __call__(self, pair: Pair, context: Context) -> Sequence[Demonstration]:
        """The row. ``RowRejected`` for a side that does not end with an answer, and for a blank one."""
        better, worse = of_pair(pair)
        if not better.completion.strip() or not worse.completion.strip():
            raise RowRejected("a blank side")
        asked = fill(self.prompt, RowValues(pair), problem=better.problem, reference=said(pair.rejected))
        last = max((i for i, m in enumerate(pair.prompt) if m.role == "user"), default=len(pair.prompt))
        turns = [Turn(m.role, m.content, False) for m in pair.prompt[:last]]
        turns.append(Turn("user", asked, False))
        turns.append(Turn("assistant", said(pair.chosen), True))
        return [
            Demonstration(
                f"{pair.id}/improved",
                pair.problem_id,
                better.problem,
                better.reference,
                "improvement",
                tuple(turns),
            )
        ]

    def estimate(self, pair: Pair) -> Estimate:
        """Nothing: no engine is called."""
        return NOTHING
