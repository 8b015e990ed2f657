"""Sampled principles and critiques: a judge that writes, asked several times (SPCT, arXiv 2504.02495)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from gristmill.core.engine import Ability, Completion, Engine, Message, Request, Sampling
from gristmill.core.errors import RecipeError
from gristmill.core.prompts import fill_messages, require
from gristmill.core.stages import Estimate, derive_seed
from gristmill.core.verdicts import Verdict
from gristmill.verifiers.evidence import decided, unparseable
from gristmill.verifiers.judges.asking import Asking
from gristmill.verifiers.judges.base import Comparison, bounds, draw, fence, quote, quoted
from gristmill.verifiers.judges.content import judged_part, judged_parts
from gristmill.verifiers.judges.judge import SYSTEM, presentations
from gristmill.verifiers.judges.replies import Unread, read_ending
from gristmill.verifiers.raters.base import ListRating, evidence

_SCORES = r"\[\[\s*([0-9]+(?:\s*,\s*[0-9]+)*)\s*\]\]"
_CRITIQUE = Message(
    "user",
    "{problem}\n\n{responses}\n\nFirst write the principles by which an answer to PROBLEM in particular is "
    "to be judged, with a weight for each. Then criticise each of the {count} responses by these principles, "
    "one after another. Then give each a whole number from 1 (worst) to {highest} (best). Neither length nor "
    "the order in which they stand matters. End with the {count} numbers, in the order of the responses, in "
    "double brackets, written only once and as the last thing, such as [[5, 7]] for two.",
)
_SOUND = Message(
    "user",
    "{problem}\n\n{critique}\n\nCRITIQUE judges answers to PROBLEM. Are its principles the ones that matter "
    "for PROBLEM, and do its numbers follow from what it says? {answer_with}",
)


class Written(NamedTuple):
    """One reply: the scores by index of the response, and what was written."""

    scores: tuple[int, ...]
    text: str


class Critiques(Struct, frozen=True, forbid_unknown_fields=True):
    """Asks several times for principles, critiques and scores of one answer or several, and adds the scores.

    Each time the answers come in another order. Score of an answer: its sum over the replies that count,
    divided by the most that it can be, with 1 as 0. With ``kept`` a second question filters the replies: of
    those that can be read, the ``kept`` that are most surely found sound count.
    """

    samples: Annotated[int, Meta(ge=1, le=256)] = 4
    """The replies, 1 to 256. If fewer than half of them can be read, nothing is told."""
    kept: Annotated[int, Meta(ge=1)] | None = None
    """The replies that count, after the question whether each is sound; ``null``: all, without that
    question. At most ``samples``. One whose soundness could not be read does not count."""
    highest: Annotated[int, Meta(ge=2, le=100)] = 10
    """The highest score, 2 to 100; the lowest is 1."""
    accept: Annotated[float, Meta(ge=0, le=1)] = 0.7
    """The lowest score, 0 to 1, that is ``correct``, where one answer is judged."""
    sampling: Sampling = Sampling(temperature=0.7, max_tokens=2048)
    """How the replies are sampled; several need a temperature above 0."""
    asking: Asking = Asking()
    """How the second question is asked."""
    prompt: tuple[Message, ...] = (SYSTEM, _CRITIQUE)
    """The prompt for principles and critiques, with ``{problem}``, ``{responses}``, ``{count}``,
    ``{highest}`` and ``{fence}``."""
    sound: tuple[Message, ...] = (SYSTEM, _SOUND)
    """The second question, with ``{problem}``, ``{critique}``, ``{answer_with}`` and ``{fence}``."""

    def __post_init__(self) -> None:
        require("prompt", self.prompt, "responses", known=("problem", "count", "highest", "fence"))
        require("sound", self.sound, "critique", "answer_with", known=("problem", "fence"))
        if self.samples > 1 and self.sampling.temperature == 0:
            raise RecipeError(
                f"critiques: {self.samples} samples at temperature 0 differ in nothing but the order.",
                remedy="Set sampling.temperature to 0.7.",
            )
        if self.kept is not None and self.kept > self.samples:
            raise RecipeError(
                f"critiques: kept is {self.kept}, more than {self.samples} samples.",
                remedy=f"Set kept to at most {self.samples}.",
            )

    @property
    def needs(self) -> frozenset[Ability]:
        """To chat."""
        return frozenset({Ability.CHAT})

    def estimate(self, completion: str, reference: str, *, problem: str) -> Estimate:
        """A reply per sample, and one question about each if they are filtered."""
        return self._estimate(problem, completion)

    def estimate_pair(self, first: str, second: str, *, problem: str) -> Estimate:
        """As ``estimate``: each reply is about both answers."""
        return self._estimate(problem, first, second)

    def estimate_list(self, responses: Sequence[str], *, problem: str) -> Estimate:
        """As ``estimate``: each reply is about all answers."""
        return self._estimate(problem, *responses)

    def _estimate(self, *texts: str) -> Estimate:
        questions = self.samples * (1 if self.kept is None else 1 + self.asking.votes)
        return bounds(questions, 1, "text", self.sampling.max_tokens, *texts)

    async def __call__(
        self, completion: str, reference: str, *, problem: str, engine: Engine, seed: int
    ) -> Verdict:
        """Judge one answer; the detail holds what was written, as JSON."""
        shown = judged_part(completion)
        if isinstance(shown, Verdict):
            return shown
        found = await self.rate_together([shown], problem=problem, engine=engine, seed=seed)
        [score] = found.scores
        rule = f"critiques: {found.read} of {found.asked} read"
        if score is None:
            return unparseable(rule, found.detail)
        return decided(score >= self.accept, rule=rule, score=score, detail=found.detail)

    async def compare(
        self, first: str, second: str, *, problem: str, engine: Engine, seed: int
    ) -> Comparison:
        """Which of two answers has the greater sum; equal sums are a tie.

        The orders alternate, so ``samples`` should be even.
        """
        shown = judged_parts(first, second)
        if isinstance(shown, str):
            return Comparison(None, detail=shown)
        found = await self.rate_together(shown, problem=problem, engine=engine, seed=seed)
        a, b = found.scores
        if a is None or b is None:
            return Comparison(None, detail=found.detail)
        return Comparison("tie" if a == b else "first" if a > b else "second", a, b, detail=found.detail)

    async def rate_together(
        self, responses: Sequence[str], *, problem: str, engine: Engine, seed: int
    ) -> ListRating:
        """The sums for ``responses``, divided by the most that they can be."""
        orders = presentations(len(responses), self.samples, seed)
        read = await asyncio.gather(
            *(self._written(responses, order, i, problem, engine, seed) for i, order in enumerate(orders))
        )
        written = [one for one in read if not isinstance(one, Unread)]
        unread = [one.why for one in read if isinstance(one, Unread)]
        count = len(written)
        nothing = (None,) * len(responses)
        if 2 * count < self.samples:
            return ListRating(nothing, count, self.samples, evidence(unread=unread))
        if self.kept is not None:
            shares = await asyncio.gather(*(self._soundness(w, problem, engine, seed) for w in written))
            sure = sorted((i for i, s in enumerate(shares) if s is not None), key=lambda i: -(shares[i] or 0))
            if not sure:
                return ListRating(
                    nothing, count, self.samples, evidence(unread=["no critique could be checked"])
                )
            written = [written[i] for i in sorted(sure[: self.kept])]
        sums = [sum(w.scores[i] - 1 for w in written) for i in range(len(responses))]
        most = len(written) * (self.highest - 1)
        detail = evidence(critiques=[{"scores": w.scores, "text": w.text} for w in written], unread=unread)
        return ListRating(tuple(s / most for s in sums), count, self.samples, detail)

    async def _written(
        self,
        responses: Sequence[str],
        order: Sequence[int],
        index: int,
        problem: str,
        engine: Engine,
        seed: int,
    ) -> Written | Unread:
        code = fence(seed, (problem, *responses))
        messages = fill_messages(
            self.prompt,
            problem=quote("PROBLEM", problem, code),
            responses="\n\n".join(quote(f"RESPONSE {n}", responses[i], code) for n, i in enumerate(order, 1)),
            count=str(len(order)),
            highest=str(self.highest),
            fence=code,
        )
        request = Request(messages, self.sampling, derive_seed(seed, "critique", index))
        [answer] = await draw(engine, request, 1)
        return self._read(answer, order)

    def _read(self, answer: Completion, order: Sequence[int]) -> Written | Unread:
        said = read_ending(answer, _SCORES)
        if isinstance(said, Unread):
            return said
        numbers = [int(n) for n in said.split(",")]
        if len(numbers) != len(order):
            return Unread(f"{len(numbers)} scores for {len(order)} responses")
        if strange := [n for n in numbers if not 1 <= n <= self.highest]:
            return Unread(f"the score {strange[0]} is not from 1 to {self.highest}")
        by_index = dict(zip(order, numbers, strict=True))
        return Written(tuple(by_index[i] for i in range(len(order))), answer.text)

    async def _soundness(self, written: Written, problem: str, engine: Engine, seed: int) -> float | None:
        """The share of yes to the second question; ``None`` where it could not be read."""
        values = quoted(seed, problem=problem, critique=written.text)
        ballot = await self.asking.choose(self.sound, values, ("yes", "no"), engine=engine, seed=seed)
        return ballot.share("yes")
