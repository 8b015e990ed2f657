"""Scorers: what gives an answer, or the two sides of a pair, a named number with its evidence.

A scorer is a frozen ``msgspec.Struct`` whose fields are its options, registered under the entry point group
``gristmill.scorers``. The stages ``score`` and ``score_pairs`` apply it; it knows no record and rejects none.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from msgspec import Struct

from gristmill.core.engine import Ability, Message
from gristmill.core.errors import RowRejected
from gristmill.core.prompts import RowValues
from gristmill.core.records import Pair, Sampled, Score
from gristmill.core.stages import Context, Estimate
from gristmill.verifiers.evidence import unparseable

_CHARS_PER_TOKEN = 4
"""For estimates only."""
NOTHING = Estimate(0, 0, 0, 0, rows_max=1)
"""The estimate of a scorer that asks no engine."""


class Answered(Struct, frozen=True):
    """An answer to be scored: a sample, or one side of a pair.

    ``messages`` are the turns before ``completion``. ``reference`` is the reference answer, ``None`` where
    there is none. ``row`` has the record's fields and those of its ``meta`` by name, as prompts see them.
    ``side`` is "chosen" or "rejected" for a side of a pair, "" for a sample.
    """

    id: str
    problem_id: str
    problem: str
    messages: tuple[Message, ...]
    completion: str
    reference: str | None
    row: Mapping[str, Any]
    scores: tuple[Score, ...] = ()
    side: str = ""
    finish_reason: str = "stop"

    def held(self, name: str) -> Score | None:
        """The score of that name that the record has already; of a side, ``SIDE_NAME``, or ``SIDE`` where the
        name is empty."""
        wanted = "_".join(filter(None, (self.side, name)))
        return next((score for score in self.scores if score.name == wanted), None)


class Scoring(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What scorers of answers and of pairs have in common; see ``Scorer`` and ``PairScorer``."""

    needs: ClassVar[Any] = frozenset[Ability]()
    """The abilities that the stage's engine must have; a property where options decide it."""
    uses: ClassVar[Any] = {}
    """The abilities needed of further engines, by the engine's name; a property where options decide it."""
    verifiers: ClassVar[Any] = ()
    """The names of the recipe's further verifiers that it calls; a property where options decide it."""
    verifies: ClassVar[Any] = False
    """Whether it judges by the recipe's main verifier and a row's own answer."""

    def names(self, score: str) -> tuple[str, ...]:
        """The names of the scores that it writes, given the stage's option ``score``."""
        return (score,)

    @property
    def places(self) -> Mapping[str, frozenset[str]]:
        """What its prompts want of the row, by the option (``gristmill.core.prompts.row_places``)."""
        return {}

    def cautions(self) -> Sequence[str]:
        """What a user should know of these options before anything is paid for; a sentence each."""
        return ()


class Scorer(Scoring, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An async function of one answer that gives its scores.

    ``__call__`` gets the answer and the context of the stage, and returns scores named as ``names(score)``
    says, in that order, where ``score`` is the option of the stage. An answer that it cannot score raises
    ``RowRejected`` with a short reason, or has a score without a value and a verdict that says why
    (``unscored``): the row is kept either way. The same answer, options and seed give the same scores.
    """

    @abstractmethod
    async def __call__(self, answer: Answered, context: Context, score: str, /) -> Sequence[Score]:
        """The scores of ``answer``. Raises ``RowRejected`` and what the engines raise."""
        raise NotImplementedError

    def estimate(self, answer: Answered, /) -> Estimate | None:
        """What one call will cost; ``None`` where nothing can be said."""
        return None if self.needs or self.uses else NOTHING


class PairScorer(Scoring, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As ``Scorer``, of the two sides of a pair together; only ``score_pairs`` takes it."""

    @abstractmethod
    async def __call__(
        self, chosen: Answered, rejected: Answered, context: Context, score: str, /
    ) -> Sequence[Score]:
        """The scores of the pair. Raises as a ``Scorer`` does."""
        raise NotImplementedError

    def estimate(self, chosen: Answered, rejected: Answered, /) -> Estimate | None:
        """What one call will cost; ``None`` where nothing can be said."""
        return None if self.needs or self.uses else NOTHING


def unscored(name: str, why: str, detail: str = "") -> Score:
    """A score without a value, which says ``why`` in its verdict: ``unparseable``, never right or wrong."""
    return Score(name, None, unparseable(why, detail))


def of_sample(sample: Sampled) -> Answered:
    """A sample's completion as an answer to be scored."""
    return Answered(
        id=sample.id,
        problem_id=sample.problem_id,
        problem=sample.problem,
        messages=sample.messages,
        completion=sample.completion,
        reference=sample.answer,
        row=RowValues(sample),
        scores=sample.scores,
        finish_reason=sample.finish_reason,
    )


def of_pair(pair: Pair) -> tuple[Answered, Answered]:
    """Both sides of a pair as answers to be scored: the last turn of each, after the turns before it.

    The problem is the prompt's last user turn, the reference the field ``answer`` of ``meta``.
    ``RowRejected`` where a side does not end with an answer.
    """
    row = RowValues(pair)
    problem = next((m.content for m in reversed(pair.prompt) if m.role == "user"), "")
    given = row.get("answer")
    reference = None if given is None else str(given)

    def side(name: str, turns: tuple[Message, ...]) -> Answered:
        if not turns or turns[-1].role != "assistant":
            raise RowRejected("no answer at the end", f"the {name} side does not end with an assistant turn")
        return Answered(
            id=f"{pair.id}/{name}",
            problem_id=pair.problem_id,
            problem=problem,
            messages=(*pair.prompt, *turns[:-1]),
            completion=turns[-1].content,
            reference=reference,
            row=row,
            scores=pair.scores,
            side=name,
        )

    return side("chosen", pair.chosen), side("rejected", pair.rejected)


def tokens_of(answer: Answered) -> int:
    """The tokens of the turns before an answer and of the answer, at four characters each; for estimates."""
    return (sum(len(m.content) for m in answer.messages) + len(answer.completion)) // _CHARS_PER_TOKEN
