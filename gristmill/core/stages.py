"""The kinds of stage, and what a stage is given to work with.

A stage is a frozen ``msgspec.Struct`` whose fields are its options in a recipe, so that its options,
their ranges and their JSON Schema are declared once. A ``RowStage`` is called with one record and the
context; a ``Filter`` with a Polars ``LazyFrame``, of which it keeps rows; a ``Relation`` with one frame or
several, of which it makes another.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Completion, Engine, Sampling
from gristmill.core.errors import RecipeError
from gristmill.core.prompts import RowValues
from gristmill.core.verdicts import Verdict, unfinished

if TYPE_CHECKING:
    import polars as pl

REJECTED_REASON = "rejected_reason"
"""The column in which a filter or a relation says why a row is rejected; null keeps the row."""
REJECTED_DETAIL = "rejected_detail"
"""The column in which it may say more of a rejected row than the reason by which rows are counted."""


class Rejection(Struct, frozen=True):
    """A rejected row, as in ``rejected.parquet``: which record, why, and the details.

    ``reason`` is a short fixed phrase, by which rejections are counted. ``row`` is the 1-based row of the
    source, where that is known; a row of a source that has no id of its own is called "row N".
    """

    id: str | None
    reason: str
    detail: str = ""
    row: int | None = None


class Estimate(Struct, frozen=True):
    """Bounds on what one record will cost a stage: completions, and tokens of one prompt and answer.

    ``rows_max`` is the most records that it makes of one, ``None`` where that has no bound.
    ``completions_expected`` is what a stage that stops early expects to ask for, before it has seen anything;
    ``None`` where it cannot say.
    """

    completions_min: int
    completions_max: int
    prompt_tokens: int
    completion_tokens: int
    rows_max: int | None = None
    completions_expected: float | None = None


def _uncounted(verdict: Verdict) -> None:
    """What ``Context.count`` does outside of a run."""


def _unmeasured(name: str, value: int) -> None:
    """What ``Context.measure`` does outside of a run."""


Refer = Callable[[str, str, Mapping[str, Any]], str]
"""From a problem, its answer and the columns of its row to the reference that a verifier is given."""


class Context(Struct, frozen=True):
    """What a row stage may use: the engine (paced, retried and logged), the verifier, the run's seed, and
    the recipe's further engines by their names (a prover, a judge, a reference model).

    ``verify`` counts its verdicts for the run's summary; a stage that has one from elsewhere (a judge)
    hands it to ``count``. ``verifiers`` are the recipe's further ones by their names, counted likewise.
    ``measure`` takes a whole number under a name, of which the summary shows the mean.
    """

    engine: Engine
    verify: Callable[[str, str], Awaitable[Verdict]]
    seed: int
    engines: Mapping[str, Engine] = {}
    count: Callable[[Verdict], None] = _uncounted
    verifiers: Mapping[str, Callable[[str, str], Awaitable[Verdict]]] = {}
    refer: Mapping[str, Refer] = {}
    """How verifiers that want a row's problem get it with its answer; the main one's name is empty."""
    measure: Callable[[str, int], None] = _unmeasured

    def about(self, record: Any) -> Context:
        """This context for the answers to one record: verifiers that want its problem get it."""
        problem = getattr(record, "problem", None)
        if not self.refer or not isinstance(problem, str):
            return self
        row = RowValues(record)

        def told(name: str, verify: Callable[[str, str], Awaitable[Verdict]]) -> Any:
            if (refer := self.refer.get(name)) is None:
                return verify
            return lambda completion, reference: verify(completion, refer(problem, reference, row))

        named = {name: told(name, verify) for name, verify in self.verifiers.items()}
        return replace(self, verify=told("", self.verify), verifiers=named, refer={})

    async def judge(self, completion: Completion, reference: str, *, begun: str = "") -> Verdict:
        """The verdict on a completion, after the text ``begun`` where it continues one.

        One that was cut off is not an answer, right or wrong: ``unparseable``, and counted as such.
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


def alike(draws: int, sampling: Sampling, option: str) -> Sequence[str]:
    """A caution where several draws of one prompt are at temperature 0; ``option`` is where that is set."""
    if draws < 2 or sampling.temperature > 0:
        return ()
    return [
        f"{draws} draws at temperature 0 are most likely {draws} times the same answer, each paid for. "
        f"Raise {option}.temperature, or draw one."
    ]


class Anything(Struct, frozen=True):
    """What a stage reads that takes any record: all have an id."""

    id: str


class RowStage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An async function of one record; a subclass gives ``reads``, ``writes`` and ``__call__``.

    It is given records that have all fields of ``reads`` in the same types, and may have more. Where a stage
    writes the type that it reads, columns that its input has besides are carried over to what it makes.
    """

    reads: ClassVar[type[Struct]]
    writes: ClassVar[type[Struct]]
    needs: ClassVar[Any] = frozenset[Ability]()
    """The abilities that its engine must have, a ``frozenset``; a property where options decide it."""
    uses: ClassVar[Any] = {}
    """For a stage that asks further engines by ``context.named``: the abilities it needs of each, by the
    engine's name; a property where options decide it."""
    verifiers: ClassVar[Any] = ()
    """The names of the recipe's further verifiers that it calls; a property where options decide it."""
    verifies: ClassVar[Any] = False
    """Whether it judges by the recipe's main verifier and a row's own ``answer``; a property where options
    decide it. Answers by which nothing can be judged are then refused as the source is read, and rows
    without one are counted."""

    @abstractmethod
    async def __call__(self, record: Any, context: Context, /) -> Sequence[Struct]:
        """The records made from ``record``, with a ``Rejection`` for each one rejected.

        A ``RowRejected`` that is raised rejects the record itself, under its reason.
        """
        raise NotImplementedError

    def estimate(self, record: Any, /) -> Estimate | None:
        """What ``record`` will cost; ``None`` where nothing can be said, which ``plan`` shows as "?"."""
        return None if self.needs or self.uses else Estimate(0, 0, 0, 0)

    def cautions(self) -> Sequence[str]:
        """What a user should know of these options before anything is paid for; a sentence each."""
        return ()


class TableStage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``Filter`` and ``Relation`` have in common: they read whole tables and ask no model."""

    reads: ClassVar[type[Struct]] = Anything
    writes: ClassVar[type[Struct] | None] = None
    """The record that comes out. ``None``: of a filter the input's own, of a relation what a run on empty
    frames shows."""
    adds: ClassVar[frozenset[str]] = frozenset()
    """The keys that it puts into ``meta``, which prompts of later stages may name."""
    row_by_row: ClassVar[Any] = False
    """Whether what becomes of a row depends on this row alone; a property where options decide it. A run then
    gives it the table part by part and holds one part in memory. A relation that says so gives all rows that
    it gets, in order, with their ids."""

    def keyed(self, frame: pl.LazyFrame, /) -> pl.LazyFrame | None:
        """Of each row, in order, its ``id`` and what this stage decides by, made of this row alone. ``None``,
        the default: that is no less than the rows.

        Called with such tables in place of the whole ones, the stage decides the same. Of a filter a run then
        holds these in memory. A relation has this where its rows are rows of its tables (all of the same
        columns), in another order, not all or some twice: it carries along a column that it does not know, by
        which the run finds the rows again. A column that it gives besides is taken in place of the row's own.
        """
        return None

    def measured(self, kept: pl.DataFrame, /) -> Mapping[str, Sequence[int]]:
        """Whole numbers that ``kept``, rows that came out, show: by a name, for each row that has one.

        Of large tables it is called for some rows at a time. The summary shows the means of all, as of what a
        row stage measures.
        """
        return {}


class Filter(TableStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A function of a table that keeps some of its rows; a subclass gives ``__call__``."""

    marks_only: ClassVar[bool] = False
    """Whether it leaves all columns as they are and only says which rows to reject. A run then holds no more
    in memory than ids, reasons and the columns that it looks at, and copies the rows part by part."""

    @abstractmethod
    def __call__(self, frame: pl.LazyFrame, seed: int, /) -> pl.LazyFrame:
        """All rows of ``frame`` in order, with the reason in ``REJECTED_REASON`` for those to reject, and if
        there is more to say of one, that in ``REJECTED_DETAIL``."""
        raise NotImplementedError


class Relation(TableStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A function of tables that makes another: it may add and reorder rows, and change columns.

    A subclass gives ``__call__``. In a recipe its inputs are listed under ``from``.
    """

    inputs: ClassVar[tuple[int, int | None]] = (1, 1)
    """The fewest and the most tables that it reads; ``None``: any number."""

    @abstractmethod
    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int, /) -> pl.LazyFrame:
        """The rows, with unique texts in the column ``id``. It may have ``REJECTED_REASON``, with the reason
        in it for rows to reject, and ``REJECTED_DETAIL``; of these rows only the id counts besides."""
        raise NotImplementedError

    def for_inputs(self, names: Sequence[str]) -> Relation:
        """This stage for inputs of these names, where its options name them."""
        return self

    def apart_by(self, schema: pl.Schema, /) -> str | None:
        """The column of its one table by whose values rows are treated apart from all others; ``None``, the
        default: there is none.

        Its result is then that for the rows of each value, one after another in the order of their first rows
        in the table, with ids that are unique. It rejects no rows but those in which the value is null.
        A run of a large table gives it some values at a time.
        """
        return None

    def rows_max(self, rows: Sequence[int]) -> int | None:
        """The most rows that come of tables of so many ``rows``; ``None`` where that has no bound."""
        return None


Stage = RowStage | Filter | Relation
