"""Rows of reward models: pairs, ties, and answers with scores."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from msgspec import Meta, Struct

from gristmill.core.engine import Message
from gristmill.core.errors import InputError
from gristmill.train.base.conversations import conversation, messages_of
from gristmill.train.base.data import read_as, remedy
from gristmill.train.base.options import Training

Said = tuple[Message, ...] | str | None


class NamedValue(Struct, frozen=True):
    """A score of an answer."""

    name: str
    value: float


class RewardRow(Struct, frozen=True):
    """A line of ``trl-dpo``, ``trl-dpo-weighted``, ``trl-reward``, ``ties`` or ``scored-answers``.

    Without a ``prompt`` the sides are whole conversations.
    """

    id: str = ""
    prompt: tuple[Message, ...] | str = ()
    chosen: Said = None
    rejected: Said = None
    margin: float = 0.0
    weight: Annotated[float, Meta(ge=0)] = 1.0
    flip: Annotated[float, Meta(ge=0, le=0.5)] = 0.0
    first: Said = None
    second: Said = None
    completion: Said = None
    scores: tuple[NamedValue, ...] = ()


class RewardedPair(NamedTuple):
    """The tokens of both sides of a pair or a tie; ``places`` are an earlier and a later token of the first
    side's answer and one of the second side's, for the goal-conditioned term, or ``None``."""

    first: list[int]
    second: list[int]
    margin: float
    weight: float
    flip: float
    tie: bool
    places: tuple[int, int, int] | None


class ScoredRow(NamedTuple):
    """The tokens of a conversation, its targets, NaN where there is none, and with how many tokens the prompt
    alone begins in the same way."""

    tokens: list[int]
    targets: list[float]
    prompt: int


def read_compared(options: Training, tokenizer: Any, path: Path) -> Iterator[tuple[int, RewardedPair]]:
    """The pairs and ties of a file with their row numbers. ``InputError`` for another row."""
    for number, row in read_as(path, RewardRow, "reward"):
        sides = (row.chosen, row.rejected) if row.chosen is not None else (row.first, row.second)
        if sides[0] is None or sides[1] is None:
            raise InputError(
                "it has not the two sides of a pair or a tie.",
                path=str(path),
                row=number,
                remedy="Answers with scores need the option 'attributes'. " + remedy("reward"),
            )
        first, second = (tokens_of(row, side, tokenizer, options, number) for side in sides)
        if first == second:
            raise InputError(
                "its two sides are the same.", path=str(path), row=number, remedy="Leave such pairs out."
            )
        places = _places(f"{options.seed} {number} {row.id}", first, second)
        tie = row.chosen is None
        yield number, RewardedPair(first, second, row.margin, row.weight, row.flip, tie, places)


def read_scored(
    options: Training, tokenizer: Any, path: Path, attributes: tuple[str, ...]
) -> Iterator[tuple[int, ScoredRow]]:
    """Answers with a target for each of the ``attributes``. ``InputError`` for a row that has none."""
    for number, row in read_as(path, RewardRow, "reward"):
        scores = {score.name: score.value for score in row.scores}
        targets = [scores.get(name, math.nan) for name in attributes]
        if row.completion is None or all(map(math.isnan, targets)):
            raise InputError(
                f"it is not an answer with a score called {' or '.join(attributes)}.",
                path=str(path),
                row=number,
                remedy=f"Name its scores in 'attributes': {', '.join(sorted(scores)) or 'it has none'}.",
            )
        tokens = tokens_of(row, row.completion, tokenizer, options, number)
        prompt = conversation(messages_of(row.prompt, "user"), tokenizer, options, number)
        yield number, ScoredRow(tokens, targets, _same(tokens, prompt))


def tokens_of(row: RewardRow, answer: Said, tokenizer: Any, options: Training, number: int) -> list[int]:
    """The tokens of the prompt with an answer."""
    assert answer is not None
    turns = messages_of(row.prompt, "user") + messages_of(answer, "assistant")
    return conversation(turns, tokenizer, options, number)


def _same(first: Sequence[int], second: Sequence[int]) -> int:
    """With how many tokens both begin."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


def _places(seed: str, first: list[int], second: list[int]) -> tuple[int, int, int] | None:
    """Tokens by a hash of ``seed``, behind what the sides have in common."""
    begin = _same(first, second)
    if len(first) - begin < 2 or len(second) - begin < 1:
        return None
    drawn = [
        int.from_bytes(hashlib.blake2b(f"{seed} {i}".encode(), digest_size=8).digest()) for i in range(3)
    ]
    source = begin + drawn[0] % (len(first) - begin - 1)
    goal = source + 1 + drawn[1] % (len(first) - source - 1)
    return source, goal, begin + drawn[2] % (len(second) - begin)
