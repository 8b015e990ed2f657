"""``confidence``: what the model that is asked thinks of samples that are there already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from gristmill.core.engine import Ability, Message, TokenLogprob, score_request
from gristmill.core.records import Sampled, Score, with_score
from gristmill.core.stages import Context, Estimate, RowStage
from gristmill.synth.confidence.tokens import (
    TokenMeasure,
    measured,
    perplexity,
    self_aligned,
)
from gristmill.synth.scoring import cut_off

_CHARS_PER_TOKEN = 4

TextMeasure = Literal["mean_logprob", "min_logprob", "perplexity", "self_aligned"]


class Confidence(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Puts the log-probabilities that a model gives to a sample among its scores; nothing is generated.

    It needs an engine that scores given texts. Such an engine returns no alternatives, so that entropy and
    self-certainty are for ``sample`` with ``confidence``, as the samples are drawn. The reasoning before a
    completion is not scored. Samples that were cut off or are empty have no scores, and none is rejected.
    """

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = Sampled
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.SCORE})

    measures: Annotated[tuple[TextMeasure, ...], Meta(min_length=1)] = ("mean_logprob",)
    """``mean_logprob``, ``min_logprob`` and ``perplexity`` of the completion's tokens after its prompt.
    ``self_aligned``: how much the question lowers the answer's perplexity, in [-1, 1], which takes a second
    request with no question; where the verdict is decided also ``self_aligned_reward``."""
    alpha: Annotated[float, Meta(ge=0)] = 0.2
    """``self_aligned_reward`` is 1 for a right answer and 0 for a wrong one, plus alpha * ``self_aligned``
    (SAR, arXiv 2509.05489)."""
    without: str = ""
    """The user turn in place of the question. Chat templates differ in what they make of an empty one; some
    servers refuse it, for which a neutral text does."""
    prefix: str = ""
    """What the names of the scores begin with, such as ``teacher_``, where several models score the same
    samples."""

    async def __call__(self, sample: Sampled, context: Context) -> Sequence[Sampled]:
        """The sample with its scores."""
        if not self._asks(sample):
            return [sample]
        given = await self._tokens(sample.messages, sample, context)
        plain: list[TokenMeasure] = [m for m in self.measures if m != "self_aligned"]
        found = measured(given, plain)
        if "self_aligned" in self.measures:
            alone = await self._tokens((Message("user", self.without),), sample, context)
            value = self_aligned(perplexity(alone), perplexity(given))
            found["self_aligned"] = value
            if sample.verdict is not None and sample.verdict.decided:
                found["self_aligned_reward"] = float(sample.verdict.correct) + self.alpha * value
        for name, value in found.items():
            sample = with_score(sample, Score(self.prefix + name, value))
        return [sample]

    def estimate(self, sample: Sampled) -> Estimate:
        """One score of prompt and completion, or two."""
        if not self._asks(sample):
            return Estimate(0, 0, 0, 0, rows_max=1)
        requests = 2 if "self_aligned" in self.measures else 1
        chars = sum(len(m.content) for m in sample.messages) + len(sample.completion)
        return Estimate(requests, requests, chars // _CHARS_PER_TOKEN, 0, rows_max=1)

    def _asks(self, sample: Sampled) -> bool:
        return cut_off(sample) is None and bool(sample.completion)

    async def _tokens(
        self, messages: Sequence[Message], sample: Sampled, context: Context
    ) -> tuple[TokenLogprob, ...]:
        [answer] = await context.engine.generate(score_request(messages, sample.completion))
        return answer.logprobs or ()
