"""Co-Reward: answers to a problem are labelled by the vote over answers to its rewordings, and the other way
round (arXiv 2508.00410, with the rules of ``resistzzz/Co-Reward`` as the project's notes have them)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING, ClassVar

import msgspec
from msgspec import Struct

from gristmill.core.errors import RecipeError
from gristmill.core.records import Sampled
from gristmill.core.stages import REJECTED_REASON, Relation
from gristmill.filters.tables import with_unique_ids
from gristmill.synth.agreement.answers import Answers, Equal, same
from gristmill.synth.agreement.scores import with_scores
from gristmill.synth.agreement.vote import Ballots, Voting
from gristmill.verifiers.rules.votes import Votes

if TYPE_CHECKING:
    import polars as pl

ORIGIN = "paraphrase_of"
"""The key of ``meta`` in which the stage ``paraphrase`` puts the id of the problem that it reworded."""


def cross_rewards(
    answers: Sequence[str | None], label: str | None, equal: Equal = "math"
) -> list[float] | None:
    """1 for each answer that equals the ``label`` of the other side, else 0; an answer that is missing has 0.

    ``None`` without a label: a tie of the other side labels nothing (the project's own).
    """
    if label is None:
        return None
    return [float(answer is not None and same(answer, label, equal)) for answer in answers]


def group_advantages(rewards: Sequence[float]) -> list[float]:
    """(reward - mean) / sample standard deviation, in a group of rewards; 0 for all where they are equal."""
    if len(rewards) < 2 or max(rewards) - min(rewards) < _EQUAL:
        return [0.0] * len(rewards)
    middle, spread = mean(rewards), stdev(rewards)
    return [(reward - middle) / spread for reward in rewards]


_EQUAL = 1e-12


class CrossVotes(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Labels each side's samples by the other side's vote: reads the samples of the problems and those of
    their paraphrases, and puts out both with the scores ``co_reward`` and ``co_advantage``.

    All paraphrases of a problem vote together; the first table's rows come first. A sample whose other side
    has no samples, or a vote without a winner, is rejected, since it has no label. Advantages are over the
    samples of one problem or one paraphrase.
    """

    reads: ClassVar[type[Struct]] = Sampled
    inputs: ClassVar[tuple[int, int | None]] = (2, 2)

    answers: Answers = "math"
    """Where an answer is read, as in ``vote``."""
    equal: Equal | None = None
    """When answers are equal, as in ``vote``."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The samples of both tables with their scores."""
        import polars as pl

        if frames[0].collect_schema() != frames[1].collect_schema():
            raise RecipeError(
                "cross_votes: the two tables of samples have different columns.",
                remedy="Sample problems and paraphrases with the same options.",
            )
        voting = Voting(answers=self.answers, equal=self.equal)
        sides = [list(voting.ballots(frame)) for frame in frames]
        labels = [
            {key: _label(held, voting.votes(held)) for key, held in _together(side).items()} for side in sides
        ]
        rows = [self._scores(side, labels[1 - i]) for i, side in enumerate(sides)]
        made = [
            with_scores(frame, [scores for scores, _ in own]).with_columns(
                pl.Series(REJECTED_REASON, [reason for _, reason in own], pl.String)
            )
            for frame, own in zip(frames, rows, strict=True)
        ]
        return with_unique_ids(pl.concat(made))

    def _scores(
        self, side: Sequence[Ballots], labels: dict[str, str | None]
    ) -> list[tuple[dict[str, float | None], str | None]]:
        """The scores of each row of a side, or why it has none."""
        found: dict[int, tuple[dict[str, float | None], str | None]] = {}
        for ballots in side:
            label = labels.get(_origin(ballots))
            rewards = cross_rewards([c.answer for c in ballots.casts], label, self.equal or self._default)
            if rewards is None:
                reason = "cross_votes: the other side has no label"
                found |= {c.row: ({"co_reward": None, "co_advantage": None}, reason) for c in ballots.casts}
                continue
            for cast, reward, advantage in zip(
                ballots.casts, rewards, group_advantages(rewards), strict=True
            ):
                found[cast.row] = ({"co_reward": reward, "co_advantage": advantage}, None)
        return [found[i] for i in range(len(found))]

    @property
    def _default(self) -> Equal:
        return "text" if self.answers == "short" else "math"

    def rows_max(self, rows: Sequence[int]) -> int:
        """The rows of both tables."""
        return sum(rows)


def _origin(ballots: Ballots) -> str:
    """The problem that a row's problem is a paraphrase of, or its own id."""
    meta = msgspec.json.decode(ballots.meta or "{}")
    origin = meta.get(ORIGIN) if isinstance(meta, dict) else None
    return origin if isinstance(origin, str) else ballots.problem_id


def _together(side: Sequence[Ballots]) -> dict[str, Ballots]:
    """The samples of a side by the problem that they go back to."""
    found: dict[str, Ballots] = {}
    for ballots in side:
        key = _origin(ballots)
        casts = found[key].casts if key in found else []
        found[key] = ballots._replace(casts=[*casts, *ballots.casts])
    return found


def _label(ballots: Ballots, votes: Votes) -> str | None:
    if votes.index is None or votes.tied:
        return None
    return ballots.casts[votes.index].answer
