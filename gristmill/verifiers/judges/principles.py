"""Judging by principles: binary ones (RLBFF, arXiv 2509.21319), each asked alone, and SALMON's preference
(arXiv 2310.05910): a judge's logit gaps, combined by a fixed formula."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Engine, Message
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.prompts import require
from gristmill.core.stages import Estimate
from gristmill.core.verdicts import Verdict
from gristmill.verifiers.evidence import Check, unparseable
from gristmill.verifiers.judges.asking import Asking
from gristmill.verifiers.judges.base import Comparison, bounds, needs_of
from gristmill.verifiers.judges.content import judged_part, judged_parts
from gristmill.verifiers.judges.judge import SYSTEM, Judge
from gristmill.verifiers.judges.rubric import Line, ask_each, tally

_LEAST = 1e-6
"""The assumed probability of a word that is not among the listed tokens, so that gaps stay finite."""


_ASK_PRINCIPLE = Message(
    "user",
    "{problem}\n\n{response}\n\n{question}\n\nDoes RESPONSE satisfy the principle in QUESTION? Judge nothing "
    "else. {answer_with}",
)


class Gap(NamedTuple):
    """The judge's logit of the first response minus that of the second, by one principle.

    ``ahead`` with the first shown first, ``behind`` with the second shown first.
    """

    ahead: float
    behind: float

    @property
    def agreed(self) -> float:
        """The mean of both, or 0 if their signs differ."""
        return (self.ahead + self.behind) / 2 if min(self) > 0 or max(self) < 0 else 0.0


class Dominant(Struct, frozen=True):
    """The principle with the largest absolute score, and the response that it favours."""

    index: int
    winner: Literal["first", "second"]


class Drawn(NamedTuple):
    """A principle drawn for one comparison, by its index; ``negated`` turns it into its opposite."""

    principle: int
    negated: bool


async def principle_gaps(
    judge: Judge,
    principles: Sequence[str],
    first: str,
    second: str,
    *,
    problem: str,
    engine: Engine,
    seed: int,
) -> tuple[Gap | None, ...]:
    """The gap by each principle, each judged alone in both orders; ``None`` if one could not be read.

    Raises ``RecipeError`` if the judge does not read probabilities, since text has no logits.
    """
    if judge.tie or judge.asking.way(engine, ("A", "B")) != "probabilities":
        raise RecipeError(
            "principle gaps need the token probabilities of two words.",
            remedy="Use an engine with log-probabilities, a judge without tie, asking.votes: 1 and "
            "asking.read: auto or probabilities.",
        )
    found = await asyncio.gather(
        *(
            judge.compare(first, second, problem=problem, criteria=p, engine=engine, seed=seed)
            for p in principles
        )
    )
    return tuple(c.orders and Gap(*(_logit(p) for p in c.orders)) for c in found)


def _logit(probability: float) -> float:
    kept = min(max(probability, _LEAST), 1 - _LEAST)
    return math.log(kept / (1 - kept))


def principle_variances(gaps: Sequence[Sequence[Gap]]) -> tuple[float, ...]:
    """The population variance over the data of each principle's agreed gap.

    ``gaps``: one sequence per principle, with its gap on each pair of responses. The authors' code takes the
    variances as given; computing them like this is the project's own choice.
    """
    return tuple(_variance([gap.agreed for gap in own]) for own in gaps)


def _variance(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return sum((v - mean) ** 2 for v in values) / len(values)


def principle_scores(
    gaps: Sequence[Gap], variances: Sequence[float], negated: Sequence[bool] = ()
) -> tuple[float, ...]:
    """The score of each principle: its agreed gap divided by its variance, the sign flipped if negated.

    As in the authors' code it is divided by the variance and not by the standard deviation. Raises
    ``ValueError`` for sequences of unequal length and for a variance that is not positive: a principle
    that is the same on every pair carries no information and must be left out.
    """
    signs = [-1.0 if n else 1.0 for n in negated] if negated else [1.0] * len(gaps)
    for i, variance in enumerate(variances):
        if not variance > 0:
            raise ValueError(f"principle {i} has variance {variance}, which is not positive; leave it out")
    return tuple(sign * g.agreed / v for g, v, sign in zip(gaps, variances, signs, strict=True))


def dominant(scores: Sequence[float]) -> Dominant | None:
    """The principle with the largest absolute score, the first of equal ones; ``None`` if all are 0."""
    index = max(range(len(scores)), key=lambda i: abs(scores[i]), default=None)
    if index is None or scores[index] == 0:
        return None
    return Dominant(index, "first" if scores[index] > 0 else "second")


def draw_principles(count: int, seed: int, *, most: int = 8, rate: float = 0.2) -> tuple[Drawn, ...]:
    """Principles for one comparison, out of ``count``, without repetition; each is negated with probability
    1/2.

    How many is drawn from Geometric(``rate``) until it is at most ``most`` (and ``count``).
    """
    if count < 1 or most < 1 or not 0 < rate <= 1:
        raise ValueError(f"cannot draw at most {most} of {count} principles at rate {rate}")
    rng = random.Random(seed)
    number = 0
    while not 1 <= number <= min(most, count):
        number = 1
        while rng.random() >= rate:
            number += 1
    return tuple(Drawn(i, rng.random() < 0.5) for i in rng.sample(range(count), number))


class Principle(Struct, frozen=True, forbid_unknown_fields=True):
    """A principle by which two answers are compared."""

    text: Annotated[str, Meta(min_length=1)]
    """The principle in words."""
    variance: Annotated[float, Meta(gt=0)] = 1.0
    """The variance of its agreed gap over your data (see ``principle_variances``), above 0."""
    negated: bool = False
    """Whether the answer that follows the principle less is the better one."""


class Salmon(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Compares two answers as SALMON does: the principle with the largest absolute score decides.

    Its engine must return token probabilities.
    """

    principles: Annotated[tuple[Principle, ...], Meta(min_length=1)]
    """The principles, at least one. If all have the variance 1.0, the gaps are compared as they are."""
    judge: Judge = Judge()
    """How each principle is judged."""

    @property
    def needs(self) -> frozenset[Ability]:
        """Token probabilities, since text has no logits."""
        return frozenset({Ability.CHAT, Ability.LOGPROBS})

    def estimate_pair(self, first: str, second: str, *, problem: str) -> Estimate:
        """Two questions per principle, one for each order."""
        one = self.judge.estimate_pair(first, second, problem=problem)
        count = len(self.principles)
        least, most = one.completions_min * count, one.completions_max * count
        return replace(one, completions_min=least, completions_max=most)

    async def compare(
        self, first: str, second: str, *, problem: str, engine: Engine, seed: int
    ) -> Comparison:
        """The answer that the dominant principle favours; a tie if all scores are 0, open if one is
        unread or an answer says nothing."""
        if isinstance(shown := judged_parts(first, second), str):
            return Comparison(None, detail=shown)
        texts = [p.text for p in self.principles]
        gaps = await principle_gaps(
            self.judge, texts, first, second, problem=problem, engine=engine, seed=seed
        )
        read = [gap for gap in gaps if gap is not None]
        if len(read) < len(gaps):
            return Comparison(None, detail=f"unread: {texts[gaps.index(None)]}")
        variances, negated = [p.variance for p in self.principles], [p.negated for p in self.principles]
        scores = principle_scores(read, variances, negated)
        best = dominant(scores)
        if best is None:
            return Comparison("tie", detail="every score is 0")
        return Comparison(best.winner, detail=f"{texts[best.index]}: {scores[best.index]:.4g}")


class BinaryPrinciples(Struct, frozen=True, forbid_unknown_fields=True):
    """RLBFF (arXiv 2509.21319): whether a response satisfies each of several principles, yes or no, each
    asked alone.

    The score is the share that is satisfied. The reference is not used.
    """

    principles: tuple[Line, ...] = ()
    """The principles for every row, unless ``column`` names a column."""
    column: str | None = None
    """The column in which each row has its own principles, as a text or a list of texts. A row without it is
    not judged. Read by the stages ``judge`` and ``score``."""
    accept: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """The lowest share, in (0, 1], that is ``correct``."""
    asking: Asking = Asking()
    """How a principle is asked about."""
    ask: tuple[Message, ...] = (SYSTEM, _ASK_PRINCIPLE)
    """The prompt for one principle, with ``{problem}``, ``{response}``, ``{question}``, ``{answer_with}`` and
    ``{fence}``."""

    def __post_init__(self) -> None:
        if not self.principles and self.column is None:
            raise RecipeError(
                "binary_principles: there are no principles.",
                remedy="Set principles, or column for principles by row.",
            )
        require("ask", self.ask, "response", "question", "answer_with", known=("problem", "fence"))

    @property
    def needs(self) -> frozenset[Ability]:
        """Token probabilities, where they alone are to be read."""
        return needs_of(self.asking.read)

    def for_row(self, row: Mapping[str, Any]) -> BinaryPrinciples:
        """This with the principles of a row; ``RowRejected`` where it has none."""
        if self.column is None:
            return self
        value = row.get(self.column)
        given = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else ()
        kept = tuple(one for one in given if isinstance(one, str) and one.strip())
        if not kept or len(kept) < len(given):
            raise RowRejected("no principles", f"the column {self.column!r} does not hold texts")
        return replace(self, principles=kept, column=None)

    def estimate(self, completion: str, reference: str, *, problem: str) -> Estimate:
        """One question per principle; of principles by row, 4 are expected."""
        asking = self.asking
        rows = len(self.principles) or 4
        return bounds(rows, asking.votes, asking.read, asking.sampling.max_tokens, problem, completion)

    async def __call__(
        self, completion: str, reference: str, *, problem: str, engine: Engine, seed: int
    ) -> Verdict:
        """Judge one answer by every principle."""
        if not self.principles:
            why = f"they are in the column {self.column!r}, which only the stages judge and score read"
            return unparseable("no principles", why)
        shown = judged_part(completion)
        if isinstance(shown, Verdict):
            return shown
        return tally(await self.check(shown, problem=problem, engine=engine, seed=seed), self.accept)

    async def check(self, completion: str, *, problem: str, engine: Engine, seed: int) -> tuple[Check, ...]:
        """One row per principle; ``passed`` is ``None`` if the answer could not be read or is tied."""
        return await ask_each(self.asking, self.ask, completion, self.principles, problem, engine, seed)
