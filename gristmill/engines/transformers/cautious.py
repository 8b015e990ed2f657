"""Cautious next token prediction (CNTP, arXiv 2507.03038): where a model is not sure how to go on, it tries
several ways up to the next punctuation mark, and takes the one that it finds most likely as a whole."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Sampling
from gristmill.core.errors import RecipeError
from gristmill.engines.transformers.drawing import DrawnToken, RowDraws
from gristmill.engines.transformers.guiding import Follower


class Cautious(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When to try several continuations, and how many (CNTP, arXiv 2507.03038)."""

    low: Annotated[float, Meta(ge=0)] = 0.01
    """The entropy of the next token, in nats, from which on several continuations are tried."""
    high: Annotated[float, Meta(gt=0)] = 1.5
    """The entropy, in nats, from which on there are ``most`` of them; between the two their number grows
    linearly. It is above ``low``."""
    most: Annotated[int, Meta(ge=2)] = 10
    """The largest number of continuations of one place; at least 2."""
    until: Annotated[str, Meta(min_length=1)] = ".,;:!?\n。，、；：！？"
    """The characters at which a continuation ends: a token that has one of them is its last."""
    longest: Annotated[int, Meta(ge=1)] = 64
    """The most tokens of a continuation, where none of ``until`` comes (the limit is ours)."""

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise RecipeError(
                f"cautious: low ({self.low:g}) is not below high ({self.high:g}).",
                remedy="Give a low entropy at which few continuations are tried, and a higher one.",
            )

    @property
    def identity(self) -> str:
        """What the engine's identity has to name."""
        return (
            f"cautious={self.low:g}-{self.high:g} most={self.most} until={self.until!r} "
            f"longest={self.longest}"
        )


def trials_of(entropy: float, options: Cautious) -> int:
    """How many continuations are tried at an entropy in nats: 1 below ``low``, ``most`` from ``high`` on, and
    between them 1 + (most - 1) (entropy - low) / (high - low), rounded up."""
    if entropy < options.low:
        return 1
    share = min(1.0, (entropy - options.low) / (options.high - options.low))
    # Rounded before it is rounded up, so that a hair of a floating point number makes no trial.
    return max(2, 1 + math.ceil(round((options.most - 1) * share, 9)))


def entropy_of(logits: Any) -> float:
    """The entropy, -sum p log p, in nats, of the distribution that logits (tokens) describe."""
    import torch

    chances = torch.log_softmax(logits.double(), dim=-1)
    return float(-(chances.exp() * chances).nan_to_num(0.0).sum())


def likeliest(trials: Sequence[Sequence[DrawnToken]]) -> int:
    """The place of the trial with the lowest perplexity, exp(-mean log p); of equal ones, the first."""
    return min(range(len(trials)), key=lambda i: -sum(one.logprob for one in trials[i]) / len(trials[i]))


class CautiousDraw:
    """One answer that is drawn cautiously. Its random numbers depend on its seed alone."""

    def __init__(
        self, options: Cautious, model: Any, sampling: Sampling, stops: set[int], piece: Callable[[int], str]
    ) -> None:
        """``stops`` are the tokens that end an answer, ``piece`` the text of a token."""
        self._options = options
        self._model = model
        # The log-probability of each token is needed for perplexities, whether it is asked for or not.
        self._sampling = replace(sampling, logprobs=sampling.logprobs or 0)
        self._stops = stops
        self._piece = piece

    def draw(
        self, prompt: Any, seed: int, most: int, done: Callable[[Sequence[int]], bool]
    ) -> list[DrawnToken]:
        """The tokens of an answer to a prompt (1, length), at most ``most``; ``done`` says of what is drawn
        so far whether it is enough."""
        import torch

        follower = Follower(self._model, torch.ones_like(prompt), logits_to_keep=1)
        alone = RowDraws(self._sampling, [seed])
        drawn: list[DrawnToken] = []
        while len(drawn) < most and not (drawn and drawn[-1].token in self._stops):
            if drawn and done([one.token for one in drawn]):
                break
            ids = torch.cat([prompt, prompt.new_tensor([[one.token for one in drawn]])], dim=1)
            logits = follower.read(ids.long())
            count = trials_of(entropy_of(logits[0]), self._options)
            if count == 1:
                alone(ids, logits)
                drawn.append(alone.of(0)[-1])
                continue
            seeds = [_seed(seed, len(drawn), trial) for trial in range(count)]
            room = min(self._options.longest, most - len(drawn))
            trials = self._trials(follower.branched(count), ids, logits, seeds, room)
            drawn += trials[likeliest(trials)]
        return drawn

    def _trials(
        self, follower: Follower, ids: Any, logits: Any, seeds: Sequence[int], room: int
    ) -> list[list[DrawnToken]]:
        """A continuation for each seed, of at most ``room`` tokens."""
        import torch

        rows = len(seeds)
        ids, logits = ids.repeat(rows, 1), logits.repeat(rows, 1)
        draws = RowDraws(self._sampling, seeds)
        ended: list[int | None] = [None] * rows
        for length in range(1, room + 1):
            tokens = draws(ids, logits).argmax(dim=-1)
            ended = [
                length if end is None and self._ends(int(token)) else end
                for end, token in zip(ended, tokens, strict=True)
            ]
            if None not in ended or length == room:
                break
            # A row that has ended goes on for nothing, so that the rows stay as long as each other.
            ids = torch.cat([ids, tokens[:, None]], dim=1)
            logits = follower.read(ids)
        return [list(draws.of(row))[: ended[row] or room] for row in range(rows)]

    def _ends(self, token: int) -> bool:
        return token in self._stops or not set(self._options.until).isdisjoint(self._piece(token))


def _seed(seed: int, place: int, trial: int) -> int:
    """A seed for each trial at each place, in 63 bits as torch takes them."""
    digest = hashlib.blake2b(f"{seed} {place} {trial}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
