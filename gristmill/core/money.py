"""What models cost, and how much a run may spend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct


class Price(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one model costs, in US dollars for a million tokens."""

    input: Annotated[float, Meta(ge=0)]
    """Dollars for a million tokens of prompts."""
    output: Annotated[float, Meta(ge=0)]
    """Dollars for a million tokens of answers, those of the reasoning included."""

    def usd(self, tokens_in: float, tokens_out: float) -> float:
        """What so many tokens cost, in dollars."""
        return (tokens_in * self.input + tokens_out * self.output) / 1e6

    def times(self, share: float) -> Price:
        """The price at a share of it."""
        return self if share == 1 else Price(input=self.input * share, output=self.output * share)


class Budget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run may spend, all its continuations together. It stops, resumable, before it spends more."""

    usd: Annotated[float, Meta(gt=0)] | None = None
    """The most US dollars, at the recipe's ``prices``; ``null`` for no limit."""
    tokens: Annotated[float, Meta(gt=0)] | None = None
    """The most tokens of prompts and answers together, such as ``5e7``; ``null`` for no limit."""

    def __post_init__(self) -> None:
        if self.usd is None and self.tokens is None:
            raise ValueError("a budget needs 'usd', 'tokens' or both")


def price_of(prices: Mapping[str, Price], options: object) -> Price | None:
    """The price of the engine that ``options`` describe, by its ``model``; ``None`` where none is given."""
    price = prices.get(getattr(options, "model", ""))
    return None if price is None else price.times(getattr(options, "price_share", 1.0))


def shown_usd(usd: float) -> str:
    """Dollars as text: cents, and two digits of less than a cent."""
    return f"${usd:,.2f}" if usd >= 0.01 or usd == 0 else f"${usd:.2g}"
