"""``answer_marginal``: the reward of a rewritten query, by how likely its passages make the known answer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from gristmill.core.engine import Ability, Message
from gristmill.core.errors import RowRejected
from gristmill.core.prompts import fill_messages, require, row_places
from gristmill.core.records import Sampled, Score, with_score
from gristmill.core.stages import Context, Estimate, RowStage
from gristmill.synth.rag.retrieve import SCORE
from gristmill.synth.rag_methods.base import held, numbered
from gristmill.synth.scorers.likelihood import SCORES, Per, log_likelihood
from gristmill.verifiers.evidence import read_references

MARGINAL = "answer_marginal"
_PROMPT = Message("user", "{passage}\n\n{problem}\n\nAnswer from the passage, as briefly as possible.")


def log_marginal(scores: Sequence[float], logprobs: Sequence[float], temperature: float = 1.0) -> float:
    """log of the sum over passages of P(passage | query) P(answer | passage, question) (AdaQR, arXiv
    2406.10991): P(passage | query) is the softmax of the retriever's scores / ``temperature``, and the second
    is given as natural logs. ``ValueError`` for no passage."""
    if not scores:
        raise ValueError("there is no passage to sum over")
    scaled = [score / temperature for score in scores]
    terms = [s + p for s, p in zip(scaled, logprobs, strict=True)]
    return _log_sum(terms) - _log_sum(scaled)


def _log_sum(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values))


class AnswerMarginal(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Gives each rewritten query the log-probability of the known answer, summed over the passages that the
    query finds (AdaQR, arXiv 2406.10991).

    Reads rewrites as samples whose passages were searched for by the rewrite (``retrieve`` with ``query:
    completion`` and ``scores: true``). The answer's probability is taken after the question as it was asked,
    not after the rewrite, so that a rewrite cannot win by saying the answer. No passage needs a label. The
    stage ``pairs`` makes pairs of rewrites by the score ``answer_marginal``.

    Rejected: a rewrite without a reference answer, or with a passage that has no score.
    """

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = Sampled
    needs: ClassVar[frozenset[Ability]] = SCORES

    temperature: Annotated[float, Meta(gt=0)] = 1.0
    """What the retriever's scores are divided by before the softmax. Scores of BM25 may be far apart: a
    greater temperature lets more passages than the first count."""
    per: Per = "answer"
    """``answer``: the probability of the whole answer; ``token``: its geometric mean over the tokens, which
    does not fall with the answer's length."""
    prompt: tuple[Message, ...] = (_PROMPT,)
    """The turns before the answer, with the places ``{passage}`` and ``{problem}``."""

    def __post_init__(self) -> None:
        require("prompt", self.prompt, "passage", "problem", known=())

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row beside what the stage puts in itself, by option."""
        return row_places(("passage", "problem"), prompt=self.prompt)

    async def __call__(self, record: Sampled, context: Context) -> Sequence[Sampled]:
        """The rewrite with its score."""
        _, found = held(record)
        wanted = read_references(record.answer or "")
        if not wanted:
            raise RowRejected("answer_marginal: no reference answer")
        scores = [one.get(SCORE) for one in found]
        if bare := [n for n, score in enumerate(scores, 1) if not isinstance(score, int | float)]:
            raise RowRejected(
                "answer_marginal: a passage without a score",
                f"passage {bare[0]}; set 'scores: true' in retrieve and mix in no distractors",
            )
        logprobs = await asyncio.gather(
            *(
                log_likelihood(
                    context.engine,
                    fill_messages(self.prompt, passage=numbered([one]), problem=record.problem),
                    wanted[0],
                    self.per,
                )
                for one in found
            )
        )
        value = log_marginal([float(score or 0) for score in scores], logprobs, self.temperature)
        return [with_score(record, Score(MARGINAL, value))]

    def estimate(self, record: Sampled) -> Estimate:
        """A score for each passage."""
        try:
            _, found = held(record)
        except RowRejected:
            return Estimate(0, 0, 0, 0, rows_max=0)
        longest = max(len(numbered([one])) for one in found)
        tokens = (longest + len(record.problem) + len(record.answer or "")) // 4
        return Estimate(0, len(found), tokens, 0, rows_max=1)
