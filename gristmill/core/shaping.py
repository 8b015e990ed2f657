"""What a reward is made of: the answers to each problem, and the base class of what makes numbers of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from msgspec import Struct

Rewards = list[float | None]
"""The rewards of a group in its order; ``None`` where there is none, as for an undecided answer."""


VERDICT = "verdict"
"""The name of the score in an answer's own verdict, among its values."""


class Attempt(Struct, frozen=True):
    """An answer as rewards see it.

    ``right`` is ``None`` where its verdict is not decided. ``length`` is in the unit that its user chose.
    ``values`` are numbers by name: those of a reward model, of judges, of an earlier turn. ``extracted`` is
    the answer that was read, ``model`` the engine that it is from.
    """

    id: str
    right: bool | None
    length: float = 0.0
    values: Mapping[str, float] = {}
    text: str = ""
    extracted: str | None = None
    model: str | None = None


class Shape(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """A reward function over answers that are grouped by problem; its fields are its options.

    It is a pure function: the same groups and seed give the same numbers, and an answer's place in its group
    has no say in its own. An answer whose verdict is not decided is neither right nor wrong: its reward is
    ``None``, and it takes no part in the means, ranks and lengths of its group.
    """

    grouped: ClassVar[Any] = True
    """Whether a reward depends on the other answers, so that it cannot be given one answer at a time; a
    property where options decide it."""

    measures: ClassVar[bool] = False
    """Whether it looks at lengths."""

    @property
    def named(self) -> tuple[str, ...]:
        """The scores that it reads by name: those that its options ``of``, ``first`` and ``judge`` give."""
        given = [getattr(self, option, None) for option in ("of", "first", "judge")]
        names = [(one,) if isinstance(one, str) else tuple(one) for one in given if one is not None]
        return tuple(name for some in names for name in some)

    @property
    def lowest(self) -> float | None:
        """The least that an answer can be worth; ``None`` where that has no bound."""
        return 0.0

    @abstractmethod
    def __call__(self, groups: Sequence[Sequence[Attempt]], seed: int = 0, /) -> list[Rewards]:
        """The rewards of all answers, group by group, in order."""
        raise NotImplementedError
