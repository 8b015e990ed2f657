"""Writes ``data/arithmetic.jsonl``: arithmetic and word problems, the same bytes every time.

Run it with ``python benchmarks/make_problems.py`` after a change; a test compares the file with its output.
``level`` is the number of steps. A level-1 sum or difference stays below 20, so that a model of
a hundred million parameters solves some of them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

SEED = 20250226
NAMES = ("Tom", "Mia", "Ben", "Ana", "Leo", "Zoe", "Sam", "Ida", "Max", "Eva")
THINGS = ("apples", "books", "coins", "eggs", "pens", "cards", "shells", "stamps", "beads", "cups")

Draw = tuple[str, int]
"""A problem's text and its answer."""


def add(r: random.Random) -> Draw:
    """One sum, result below 20."""
    a = r.randint(1, 17)
    b = r.randint(1, 19 - a)
    return f"What is {a} + {b}?", a + b


def subtract(r: random.Random) -> Draw:
    """One difference of numbers below 20, result at least 0."""
    a = r.randint(2, 19)
    b = r.randint(1, a)
    return f"What is {a} - {b}?", a - b


def multiply(r: random.Random) -> Draw:
    """One product of one-digit numbers."""
    a, b = r.randint(2, 9), r.randint(2, 9)
    return f"What is {a} * {b}?", a * b


def story_one(r: random.Random) -> Draw:
    """A story with one sum or difference below 20."""
    who, what = r.choice(NAMES), r.choice(THINGS)
    if r.random() < 0.5:
        a = r.randint(2, 15)
        b = r.randint(2, 19 - a)
        return f"{who} has {a} {what} and gets {b} more. How many {what} does {who} have?", a + b
    a = r.randint(4, 19)
    b = r.randint(2, a - 1)
    return f"{who} has {a} {what} and gives away {b}. How many {what} does {who} have left?", a - b


def sum_two(r: random.Random) -> Draw:
    """Two sums or differences, left to right, never below 0."""
    a, b = r.randint(5, 40), r.randint(2, 30)
    if r.random() < 0.5:
        c = r.randint(1, a + b)
        return f"What is {a} + {b} - {c}?", a + b - c
    c = r.randint(2, 30)
    return f"What is {a} + {b} + {c}?", a + b + c


def product_two(r: random.Random) -> Draw:
    """A product and a sum; the product binds more tightly."""
    a, b, c = r.randint(2, 12), r.randint(2, 9), r.randint(1, 30)
    if r.random() < 0.5:
        return f"What is {a} * {b} + {c}?", a * b + c
    return f"What is {c} + {a} * {b}?", c + a * b


def story_two(r: random.Random) -> Draw:
    """A story with a product and a sum or difference."""
    who, what = r.choice(NAMES), r.choice(THINGS)
    a, b = r.randint(2, 9), r.randint(3, 12)
    if r.random() < 0.5:
        c = r.randint(1, a * b - 1)
        text = f"{who} buys {a} boxes with {b} {what} each and uses {c} of the {what}."
        return f"{text} How many {what} are left?", a * b - c
    c = r.randint(2, 20)
    text = f"{who} buys {a} boxes with {b} {what} each and finds {c} more {what}."
    return f"{text} How many {what} does {who} have?", a * b + c


def product_three(r: random.Random) -> Draw:
    """Two products and the sum of both."""
    a, b, c, d = (r.randint(2, 12) for _ in range(4))
    return f"What is {a} * {b} + {c} * {d}?", a * b + c * d


def sum_three(r: random.Random) -> Draw:
    """A sum in brackets, multiplied, less something."""
    a, b, c = r.randint(2, 20), r.randint(2, 20), r.randint(2, 6)
    d = r.randint(1, (a + b) * c)
    return f"What is ({a} + {b}) * {c} - {d}?", (a + b) * c - d


def story_three(r: random.Random) -> Draw:
    """A story with two products and a sum."""
    who, other = r.sample(NAMES, 2)
    a, b, c, d = r.randint(2, 9), r.randint(3, 12), r.randint(2, 9), r.randint(3, 12)
    text = f"{who} reads {a} pages a day for {b} days. {other} reads {c} pages a day for {d} days."
    return f"{text} How many pages do they read together?", a * b + c * d


def product_four(r: random.Random) -> Draw:
    """Two products and two sums."""
    a, b, c, d = (r.randint(2, 12) for _ in range(4))
    e = r.randint(1, a * b + c * d)
    return f"What is {a} * {b} + {c} * {d} - {e}?", a * b + c * d - e


def story_four(r: random.Random) -> Draw:
    """A shop: two products, their sum, and the change."""
    who = r.choice(NAMES)
    a, b, c, d = r.randint(2, 6), r.randint(2, 9), r.randint(2, 6), r.randint(2, 9)
    cost = a * b + c * d
    paid = (cost // 10 + 1) * 10
    text = f"{who} buys {a} tickets at {b} dollars each and {c} drinks at {d} dollars each."
    return f"{text} {who} pays with {paid} dollars. How many dollars does {who} get back?", paid - cost


PLAN: tuple[tuple[str, int, int, Callable[[random.Random], Draw]], ...] = (
    ("sum", 1, 60, add),
    ("difference", 1, 40, subtract),
    ("story", 1, 40, story_one),
    ("product", 1, 20, multiply),
    ("sum", 2, 24, sum_two),
    ("product", 2, 16, product_two),
    ("story", 2, 20, story_two),
    ("sum", 3, 14, sum_three),
    ("product", 3, 12, product_three),
    ("story", 3, 14, story_three),
    ("product", 4, 16, product_four),
    ("story", 4, 24, story_four),
)
"""Kind, level, how many, and what draws one."""


def problems() -> Iterator[dict[str, str | int]]:
    """All rows, by level, the kinds of a level evenly mixed, so that the first N rows hold all of them.

    Each kind draws from its own generator, so that a change moves no other kind.
    """
    seen: set[str] = set()
    placed: list[tuple[int, float, dict[str, str | int]]] = []
    for kind, level, count, draw in PLAN:
        r = random.Random(f"{SEED}-{kind}-{level}")
        number = 0
        while number < count:
            text, answer = draw(r)
            if text in seen:
                continue
            seen.add(text)
            number += 1
            row_id = f"{kind}-{level}-{number:03d}"
            row = {"id": row_id, "problem": text, "answer": str(answer), "level": level, "kind": kind}
            placed.append((level, (number - 0.5) / count, row))
    yield from (row for *_, row in sorted(placed, key=lambda p: p[:2]))


def render() -> bytes:
    """The whole file."""
    return "".join(json.dumps(row) + "\n" for row in problems()).encode()


if __name__ == "__main__":
    (Path(__file__).parents[1] / "data" / "arithmetic.jsonl").write_bytes(render())
