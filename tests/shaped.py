"""Answers for the tests of rewards."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from hypothesis import strategies as st

from gristmill.core.shaping import Attempt, Shape

_IDS = count()


def answer(right: bool | None, length: float = 1.0, **values: float) -> Attempt:
    return Attempt(f"x{next(_IDS)}", right, length, values)


def group(name: str, *rows: tuple[bool | None, float]) -> list[Attempt]:
    return [Attempt(f"{name}/{i}", right, length) for i, (right, length) in enumerate(rows)]


def groups() -> st.SearchStrategy[list[list[Attempt]]]:
    """Up to four groups of up to six answers with unique ids and the scores ``r`` and ``s``."""
    number = st.integers(-4, 4).map(lambda n: n / 4)
    row = st.tuples(st.sampled_from([True, False, None]), st.integers(0, 99), number, number)

    def made(rows: list[list[tuple[bool | None, int, float, float]]]) -> list[list[Attempt]]:
        return [
            [
                Attempt(f"{g}/{i}", right, n, {"r": r, "s": s, "first": float(r > 0)}, text="so " * n)
                for i, (right, n, r, s) in enumerate(group)
            ]
            for g, group in enumerate(rows)
        ]

    return st.lists(st.lists(row, max_size=6), max_size=4).map(made)


def grouped(shape: Shape, rows: Sequence[Sequence[Attempt]], seed: int = 0) -> dict[str, float | None]:
    """The reward of each answer by its id."""
    made = shape(rows, seed)
    return {a.id: r for g, rewards in zip(rows, made, strict=True) for a, r in zip(g, rewards, strict=True)}
