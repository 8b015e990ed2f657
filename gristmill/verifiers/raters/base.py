"""What a rater says of one answer: a verdict, and a number for each of its parts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import msgspec
from msgspec import Struct

from gristmill.core.engine import Ability, Engine, Message, Request
from gristmill.core.errors import InputError, RecipeError, RowRejected
from gristmill.core.prompts import fill_messages
from gristmill.core.stages import Estimate
from gristmill.core.verdicts import Verdict
from gristmill.verifiers.judges.asking import Asking
from gristmill.verifiers.judges.loading import load_any
from gristmill.verifiers.judges.replies import Unread

T = TypeVar("T")


class Rated(Struct, frozen=True):
    """A verdict, and the numbers of the parts by name; ``None`` for one that could not be told.

    ``value`` is the number that goes with the verdict, if that is not its score.
    """

    verdict: Verdict
    parts: Mapping[str, float | None] = {}
    value: float | None = None


class PartRater(Struct, frozen=True, forbid_unknown_fields=True):
    """A model verifier whose verdict has parts, each with a number of its own; a subclass gives ``rate``.

    As every model verifier it may have ``for_row``, for what it reads from a row (its rubric, its principle).
    """

    @property
    @abstractmethod
    def part_names(self) -> tuple[str, ...]:
        """The names of the parts, in order."""

    @abstractmethod
    async def rate(
        self, completion: str, reference: str, *, problem: str, engine: Engine, seed: int
    ) -> Rated:
        """As a call, with the parts."""

    async def __call__(
        self, completion: str, reference: str, *, problem: str, engine: Engine, seed: int
    ) -> Verdict:
        """The verdict of ``rate``."""
        return (await self.rate(completion, reference, problem=problem, engine=engine, seed=seed)).verdict


class ListRating(Struct, frozen=True):
    """Numbers for several answers to one problem, in [0, 1] by index; ``None`` for one that was not rated.

    ``read`` of ``asked`` replies could be read. ``detail`` is the evidence: what the replies said, as JSON.
    """

    scores: tuple[float | None, ...]
    read: int
    asked: int
    detail: str = ""


class ListRater(Protocol):
    """What rates several answers to one problem together. Registered as model verifiers are."""

    @property
    def needs(self) -> frozenset[Ability]:
        """What the engine must be able to do."""
        ...

    def estimate_list(self, responses: Sequence[str], *, problem: str) -> Estimate:
        """Bounds on what one call will cost."""
        ...

    async def rate_together(
        self, responses: Sequence[str], *, problem: str, engine: Engine, seed: int
    ) -> ListRating:
        """Numbers for ``responses``, of which there is at least one. Raises what ``engine`` does."""
        ...


def load_list_rater(kind: str, options: Mapping[str, Any]) -> ListRater:
    """The model verifier registered as ``kind``, or at ``MODULE:OBJECT``, which rates answers together.

    Raises ``RecipeError`` for an unknown one, an option it does not take, or one that does not.
    """
    found = load_any(kind, options)
    if not hasattr(found, "rate_together"):
        raise RecipeError(
            f"{kind} does not rate several answers together.",
            remedy="Use principle_ranking, critiques or bootstrapped.",
        )
    return cast(ListRater, found)


async def ask_json(
    asking: Asking,
    prompt: Sequence[Message],
    values: Mapping[str, str],
    parse: Callable[[str], T],
    *,
    engine: Engine,
    seed: int,
) -> tuple[list[T], list[str]]:
    """What the votes of ``asking`` say, each read by ``parse`` with one attempt to repair it, and why the
    others could not be read."""
    request = Request(fill_messages(prompt, **values), asking.sampling, seed)
    found = await asking.structure(request, parse, engine=engine, n=asking.votes)
    return (
        [one for one in found if not isinstance(one, Unread)],
        [one.why for one in found if isinstance(one, Unread)],
    )


def of_row(row: Mapping[str, Any], column: str, kind: type[T]) -> T:
    """The column of a row as ``kind``; ``RowRejected`` where it is missing or not of that form."""
    value = row.get(column)
    if value is None:
        raise RowRejected(f"has no {column!r}", f"the row has nothing, or null, in the column {column!r}")
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise RowRejected(f"{column!r} has another form", str(error)[:300]) from error


def evidence(**told: Any) -> str:
    """The detail of a verdict: what was said, as JSON."""
    return msgspec.json.encode(told).decode()


def read_rows(file: str, kind: type[T], form: str) -> list[T]:
    """The rows of a JSON Lines file as ``kind``. ``InputError`` with the row for one that is not, saying what
    ``form`` it should have."""
    remedy = f"Write rows such as {form}, one a line."
    try:
        lines = Path(file).read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"the file cannot be read: {error}.", path=file, remedy=remedy) from error
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(msgspec.json.decode(line, type=kind))
            except (ValueError, RecursionError) as error:
                raise InputError(
                    f"the row has another form: {error}.", path=file, row=number, remedy=remedy
                ) from error
    return found
