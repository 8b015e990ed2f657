"""How the next token of each row of a batch is drawn: with a generator of its own, which no other row moves.

Transformers' own sampling draws for all rows from one generator, so that a sample would depend on its batch.
Here a logits processor draws, and leaves only the drawn token possible for the greedy choice behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gristmill.core.engine import Sampling, TokenLogprob, TokenScore


class DrawnToken(NamedTuple):
    """A token that was drawn, with its log-probability, and those of the likeliest ones."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]

    def told(self, piece: Callable[[int], str]) -> TokenLogprob:
        """The token and its alternatives as text."""
        top = tuple(TokenScore(piece(token), logprob) for token, logprob in self.top)
        return TokenLogprob(piece(self.token), self.logprob, top)


class RowDraws:
    """A logits processor that draws one token for each row, row i with the seed ``seeds[i]``."""

    def __init__(self, sampling: Sampling, seeds: Sequence[int]) -> None:
        import torch
        from transformers import (
            MinPLogitsWarper,
            RepetitionPenaltyLogitsProcessor,
            TemperatureLogitsWarper,
            TopKLogitsWarper,
            TopPLogitsWarper,
        )

        self._sampling = sampling
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._rows: list[list[DrawnToken]] = [[] for _ in seeds]
        steps: list[Any] = []
        if sampling.repetition_penalty != 1.0:
            steps.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
        if sampling.temperature not in (0.0, 1.0):
            steps.append(TemperatureLogitsWarper(sampling.temperature))
        if sampling.min_p:
            steps.append(MinPLogitsWarper(sampling.min_p))
        if sampling.top_k:
            steps.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            steps.append(TopPLogitsWarper(sampling.top_p))
        self._steps = steps

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores of which only the drawn token's is finite."""
        import torch

        raw = scores.float()
        kept = raw
        for step in self._steps:
            kept = step(input_ids, kept)
        if self._sampling.temperature == 0:
            chosen = kept.argmax(dim=-1)
        else:
            # Each row's own number in [0, 1) finds its place among the tokens, on whichever device.
            places = torch.tensor([torch.rand(1, generator=g).item() for g in self._generators])
            sums = torch.softmax(kept, dim=-1).double().cumsum(dim=-1)
            wanted = places.to(sums.device, torch.float64)[:, None] * sums[:, -1:]
            chosen = (sums <= wanted).sum(dim=-1).clamp(max=scores.shape[-1] - 1)
        if self._sampling.logprobs is not None:
            self._note(torch.log_softmax(raw, dim=-1), chosen, self._sampling.logprobs)
        left = torch.full_like(scores, float("-inf"))
        return left.scatter(1, chosen[:, None], 0.0)

    def _note(self, logprobs: Any, chosen: Any, most: int) -> None:
        top = logprobs.topk(most, dim=-1) if most else None
        for i, row in enumerate(self._rows):
            token = int(chosen[i])
            pairs = zip(top.indices[i].tolist(), top.values[i].tolist(), strict=True) if top else ()
            row.append(DrawnToken(token, float(logprobs[i, token]), tuple(pairs)))

    def of(self, row: int) -> Sequence[DrawnToken]:
        """The tokens that were drawn for a row, with what was asked of their log-probabilities."""
        return self._rows[row]


class Ends:
    """A stopping criterion for each row: a text of ``stop`` is in what it wrote, or it is given up."""

    def __init__(
        self,
        stop: Sequence[str],
        begin: int,
        decoded: Callable[[Sequence[int]], str],
        given_up: Callable[[int], bool],
    ) -> None:
        """``begin`` is the length of the prompts."""
        self._stop = stop
        self._begin = begin
        self._decoded = decoded
        self._given_up = given_up
        self._window = max(map(len, stop), default=0) + 8

    def __call__(self, input_ids: Any, scores: Any, **further: Any) -> Any:
        """Which rows are done. Only the last tokens are looked at: each is at least one byte of the text."""
        import torch

        done = []
        for place, row in enumerate(input_ids):
            text = self._decoded(row[self._begin :][-self._window :].tolist()) if self._stop else ""
            done.append(self._given_up(place) or any(stop in text for stop in self._stop))
        return torch.tensor(done, device=input_ids.device)
