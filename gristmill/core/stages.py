"""The two kinds of stage, and what a stage is given to work with.

A stage is a frozen ``msgspec.Struct`` whose fields are its options in a recipe, so that its options,
their ranges and their JSON Schema are declared once. A *row stage* is called with one record and the
context; a *table stage* with a Polars ``LazyFrame``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from msgspec import Struct

from gristmill.core.engine import Ability, Completion, Engine
from gristmill.core.errors import RecipeError
from gristmill.core.verdicts import Verdict, unfinished

if TYPE_CHECKING:
    import polars as pl

REJECTED = "rejected_reason"
"""The column in which a table stage says why a row is dropped; null keeps the row."""


class Rejection(Struct, frozen=True):
    """Something a row stage drops beside what it keeps: which record, why, and the details."""

    id: str
    reason: str
    detail: str = ""


class Estimate(Struct, frozen=True):
    """Bounds on what one record will cost a stage: completions, and tokens of one prompt and answer."""

    completions_min: int
    completions_max: int
    prompt_tokens: int
    completion_tokens: int


def _uncounted(verdict: Verdict) -> None:
    """What ``Context.count`` does outside of a run."""


class Context(Struct, frozen=True):
    """What a row stage may use: the engine (paced, retried and logged), the verifier, the run's seed, and
    the recipe's further engines by their names (a prover, a judge, a reference model).

    ``verify`` counts its verdicts for the run's summary; a stage that has one from elsewhere (a judge)
    hands it to ``count``.
    """

    engine: Engine
    verify: Callable[[str, str], Awaitable[Verdict]]
    seed: int
    engines: Mapping[str, Engine] = {}
    count: Callable[[Verdict], None] = _uncounted

    async def judge(self, completion: Completion, reference: str, *, begun: str = "") -> Verdict:
        """The verdict on a completion, after the text ``begun`` where it continues one.

        One that was cut off is no answer, right or wrong: ``unparseable``, and counted as such.
        """
        verdict = unfinished(completion)
        if verdict is None:
            return await self.verify(begun + completion.text, reference)
        self.count(verdict)
        return verdict

    def named(self, name: str | None) -> Engine:
        """The engine of that name; ``None`` is the stage's own. ``RecipeError`` where there is none."""
        if name is None:
            return self.engine
        if name not in self.engines:
            known = ", ".join(self.engines) or "none"
            raise RecipeError(
                f"there is no engine named {name!r} (there are: {known}).",
                remedy=f"Add it to the recipe under engines: {{{name}: {{kind: ...}}}}.",
            )
        return self.engines[name]

    def seed_for(self, record_id: str, call: int = 0) -> int:
        """The seed of call ``call`` for a record: in [0, 2^31), a pure function of run seed, id and call."""
        return derive_seed(self.seed, record_id, call)


def derive_seed(run_seed: int, record_id: str, call: int = 0) -> int:
    """A seed in [0, 2^31) that depends only on the run's seed, the record and the call's index."""
    text = f"{run_seed}\x1f{record_id}\x1f{call}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big") >> 1


class RowStage(Protocol):
    """An async function of one record. ``needs`` are the abilities that its own engine must have.

    A stage that asks for further engines by ``context.named`` should say so by an optional property
    ``uses: Mapping[str, frozenset[Ability]]``, the abilities it needs of each by the engine's name, so that
    a missing one is an error before the first token is spent.

    It returns the records it makes and a ``Rejection`` for each thing it drops; or raises
    ``RowRejected``, by which the record itself is rejected.
    """

    reads: ClassVar[type[Struct]]
    writes: ClassVar[type[Struct]]

    @property
    def needs(self) -> frozenset[Ability]:
        """What its own engine must be able to do; a ``ClassVar`` where that depends on no option."""
        ...

    async def __call__(self, record: Any, context: Context, /) -> Sequence[Struct]:
        """The records made from ``record``, with a ``Rejection`` for each one dropped."""
        ...

    def estimate(self, record: Any, /) -> Estimate:
        """What ``record`` will cost (``completions_max`` 0 for a stage that calls no engine)."""
        ...


class TableStage(Protocol):
    """A function of a whole table. It calls no model and adds the column ``REJECTED``."""

    reads: ClassVar[type[Struct]]
    writes: ClassVar[type[Struct]]

    def __call__(self, frame: pl.LazyFrame, seed: int, /) -> pl.LazyFrame:
        """All rows of ``frame`` in order, with the reason in ``REJECTED`` for those to drop."""
        ...


Stage = RowStage | TableStage
