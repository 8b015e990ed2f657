"""How much memory rows take, and batches of them that are bounded by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_SIZE = msgspec.msgpack.Encoder(enc_hook=repr)


def weight(row: Any) -> int:
    """About how much memory a row takes: its bytes as msgpack, or as text where it has values that cannot be
    encoded."""
    try:
        return len(_SIZE.encode(row))
    except (OverflowError, UnicodeEncodeError):
        return len(repr(row))


def batch(
    items: Iterator[T], most: int, most_bytes: int, weigh: Callable[[T], int] = weight
) -> list[tuple[T, int]]:
    """The next items with their weights: at most ``most``, and none after they have ``most_bytes``."""
    found: list[tuple[T, int]] = []
    total = 0
    for item in islice(items, most):
        found.append((item, weigh(item)))
        total += found[-1][1]
        if total >= most_bytes:
            break
    return found
