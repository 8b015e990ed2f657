"""Each thing that can be wrong with a part is one error that names the part, the member and the remedy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, ClassVar

import polars as pl
import pytest
from msgspec import Struct, convert

from gristmill.core.contracts import (
    check_filter,
    check_made,
    check_opened,
    check_part,
)
from gristmill.core.engine import Ability
from gristmill.core.errors import RecipeError
from gristmill.core.exports import Export
from gristmill.core.records import Problem
from gristmill.core.registry import Group, find, names
from gristmill.core.stages import Context, Filter, Relation, RowStage
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.options import EngineOptions
from gristmill.engines.scripted import ScriptedEngine
from gristmill.testing import problem

GROUPS: list[Group] = ["engines", "verifiers", "model_verifiers", "scorers", "stages", "exports", "records"]


class Good(RowStage):
    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Problem

    async def __call__(self, record: Problem, context: Context) -> Sequence[Problem]:
        return [record]


class NoCall(RowStage):
    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Problem


class NoBase(Struct):
    async def __call__(self, record: Problem, context: Context) -> list[Problem]:
        return [record]


class PlainDef(Good):
    def __call__(self, record: Problem, context: Context) -> list[Problem]:  # type: ignore[override]
        return [record]


class Yields(Good):
    async def __call__(self, record: Problem, context: Context) -> AsyncIterator[Problem]:  # type: ignore[override]
        yield record


class NoContext(Good):
    async def __call__(self, record: Problem) -> list[Problem]:  # type: ignore[override]
        return [record]


class NoWrites(RowStage):
    reads: ClassVar[type[Struct]] = Problem

    async def __call__(self, record: Problem, context: Context) -> list[Problem]:
        return [record]


class ReadsDict(Good):
    reads: ClassVar[Any] = dict


class Nameless(Struct):
    text: str


class NumberId(Struct):
    id: int


class Holds(Struct):
    id: str
    things: dict[str, int]


class WritesNameless(Good):
    writes: ClassVar[type[Struct]] = Nameless


class WritesNumberId(Good):
    writes: ClassVar[type[Struct]] = NumberId


class WritesDict(Good):
    writes: ClassVar[type[Struct]] = Holds


class AsyncEstimate(Good):
    async def estimate(self, record: Problem) -> None:  # type: ignore[override]
        return None


class OddOption(Good):
    find: Callable[[str], str] = str.upper


class StageOption(Good):
    stage: str = ""


class AsyncFilter(Filter):
    async def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:  # type: ignore[override]
        return frame


class NoSeed(Filter):
    def __call__(self, frame: pl.LazyFrame) -> pl.LazyFrame:  # type: ignore[override]
        return frame


def a_stage(record: Problem, context: Context) -> list[Problem]:
    return [record]


@pytest.mark.parametrize(
    ("stage", "member", "remedy"),
    [
        (NoBase, "inherits none of RowStage, Filter and Relation", "class NAME.RowStage."),
        (a_stage, "inherits none of RowStage, Filter and Relation", "class NAME.RowStage."),
        (NoCall, "does not define '__call__'", "Add 'def __call__'"),
        (PlainDef, "'__call__' is a plain 'def'", "Write 'async def __call__'"),
        (Yields, "'__call__' yields its results", "Collect them in a list"),
        (NoContext, r"'__call__' cannot be called with \(self, record, context\)", "Change its parameters"),
        (NoWrites, "has no 'writes'", "Add 'writes: ClassVar"),
        (ReadsDict, "'reads' is the class dict, which is not a record type", "inherits msgspec.Struct"),
        (WritesNameless, "first field is not 'id: str'", "Make 'id: str' its first field"),
        (WritesNumberId, "first field is not 'id: str'", "Make 'id: str' its first field"),
        (WritesDict, "'writes' is Holds, which has no columns", "Use the types"),
        (AsyncEstimate, "'estimate' is an 'async def'", "plain 'def'"),
        (OddOption, "its option 'find' has a type that a recipe cannot hold", "Use str, int"),
        (StageOption, "its option 'stage' has the name of a key", "Rename"),
        (AsyncFilter, "'__call__' is an 'async def'", "plain 'def'.*a RowStage"),
        (NoSeed, r"'__call__' cannot be called with \(self, frame, seed\)", "Change its parameters"),
    ],
)
def test_a_bad_stage_is_one_error_with_part_member_and_remedy(stage: Any, member: str, remedy: str) -> None:
    where = f"stage 'mine' .*test_contracts:{stage.__name__}.*: .*"
    with pytest.raises(RecipeError, match=f"(?s){where}{member}.*{remedy}"):
        check_part("stages", "mine", stage, reserved=("stage", "as", "from", "engine"))


def test_what_is_registered_and_has_no_hash_is_told_of_too() -> None:
    with pytest.raises(RecipeError, match="it inherits none of RowStage, Filter and Relation"):
        check_part("stages", "mine", {"a": "mapping"})


def test_what_a_stage_inherits_need_not_be_written() -> None:
    """Without ``needs`` and without ``estimate``, which the base has."""
    check_part("stages", "mine", Good)
    check_made("stages", "mine", Good())
    assert Good().needs == frozenset()


class Row(Struct):
    id: str
    text: str


class GoodExport(Export):
    """Has no ``suffix`` and no ``remarks`` of its own."""

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Row

    def rows(self, record: Problem) -> list[Row]:
        return [Row(record.id, record.problem)]


class NoRows(Export):
    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Row


class NoReads(Export):
    writes: ClassVar[type[Struct]] = Row

    def rows(self, record: Problem) -> list[Row]:
        return []


class Csv(GoodExport):
    suffix: ClassVar[str] = ".csv"


class LooseExport(Struct):
    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Row

    def rows(self, record: Problem) -> list[Row]:
        return []


class YieldingExport(GoodExport):
    def rows(self, record: Problem) -> Iterator[Row]:  # type: ignore[override]
        yield Row(record.id, "")


@pytest.mark.parametrize(
    ("export", "member", "remedy"),
    [
        (LooseExport, "does not inherit Export", "class NAME.Export."),
        (NoRows, "does not define 'rows'", "Add 'def rows'"),
        (NoReads, "has no 'reads'", "Add 'reads: ClassVar"),
        (Csv, "'suffix' is '.csv'", "Give one of .jsonl, .parquet"),
        (YieldingExport, "'rows' yields its results", "return them at once"),
    ],
)
def test_a_bad_export_is_one_error(export: Any, member: str, remedy: str) -> None:
    with pytest.raises(RecipeError, match=f"export 'mine' .*{export.__name__}.*{member}.*{remedy}"):
        check_part("exports", "mine", export)


def test_an_export_needs_no_suffix_and_no_remarks() -> None:
    check_part("exports", "mine", GoodExport)
    assert GoodExport().suffix == ".jsonl"
    assert GoodExport().remarks(problem()) == {}


class NoOpen(EngineOptions):
    """Says nothing of how to open it."""


class LooseEngine(Struct):
    def open(self) -> ScriptedEngine:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("options", "member", "remedy"),
    [
        (LooseEngine, "does not inherit EngineOptions", "class NAME.EngineOptions."),
        (NoOpen, "does not define 'open'", "Add 'def open'"),
    ],
)
def test_bad_engine_options_are_one_error(options: Any, member: str, remedy: str) -> None:
    with pytest.raises(RecipeError, match=f"engine 'mine' .*{options.__name__}.*{member}.*{remedy}"):
        check_part("engines", "mine", options)


class NoEnter:
    model, abilities, concurrency = "m", frozenset({Ability.CHAT}), 1

    async def generate(self, request: Any, *, first: int = 0, n: int = 1) -> list[Any]:
        return []


class Whole(NoEnter):
    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *error: object) -> None:
        return None


class Unnamed(Whole):
    model = ""


class Listed(Whole):
    abilities = ("chat",)  # type: ignore[assignment]


class Blocking(Whole):
    def generate(self, request: Any, *, first: int = 0, n: int = 1) -> list[Any]:  # type: ignore[override]
        return []


class OneOnly(Whole):
    async def generate(self, request: Any) -> list[Any]:  # type: ignore[override]
        return []


@pytest.mark.parametrize(
    ("engine", "member", "remedy"),
    [
        (NoEnter, "has no '__aenter__'", "Add it"),
        (Unnamed, "'model' is the text ''", "names the weights"),
        (Listed, "'abilities' is a tuple, not a frozenset of Ability", "Ability.CHAT"),
        (Blocking, "'generate' is a plain 'def'", "async def generate"),
        (OneOnly, r"'generate' cannot be called with \(request, first=0, n=1\)", "Change its parameters"),
    ],
)
def test_a_bad_opened_engine_is_one_error(engine: Any, member: str, remedy: str) -> None:
    with pytest.raises(RecipeError, match=f"engine 'mine' .*{engine.__name__}.*{member}.*{remedy}"):
        check_opened("mine", engine())
    check_opened("mine", Whole())


async def waits(completion: str, reference: str) -> Verdict:
    return Verdict(Outcome.CORRECT)


def one_text(completion: str) -> Verdict:
    return Verdict(Outcome.CORRECT)


class LooseVerifier:
    def __call__(self, completion: str, reference: str) -> Verdict:
        return Verdict(Outcome.CORRECT)


class Uncalled(Struct):
    strict: bool = True


@pytest.mark.parametrize(
    ("verifier", "member", "remedy"),
    [
        (waits, "'__call__' is an 'async def'", "gristmill.model_verifiers"),
        (one_text, r"'__call__' cannot be called with \(completion, reference\)", "Change its parameters"),
        (LooseVerifier, "not a msgspec.Struct", "class NAME.Struct"),
        (LooseVerifier(), "neither a function nor a class", "Register the function, or the class"),
        (Uncalled, "has no '__call__'", "Add 'def __call__"),
        ("math", "the text 'math', neither a function nor a class", "Register"),
    ],
)
def test_a_bad_verifier_is_one_error(verifier: Any, member: str, remedy: str) -> None:
    with pytest.raises(RecipeError, match=f"verifier 'mine' .*: .*{member}.*{remedy}"):
        check_part("verifiers", "mine", verifier)


def test_a_model_verifier_says_what_it_needs_and_costs() -> None:
    class NoEstimate(Struct):
        needs: ClassVar[frozenset[Ability]] = frozenset()

        async def __call__(
            self, completion: str, reference: str, *, problem: str, engine: Any, seed: int
        ) -> Any:
            return None

    with pytest.raises(RecipeError, match=r"model verifier 'mine' .*no 'estimate'.*Add 'def estimate"):
        check_part("model_verifiers", "mine", NoEstimate)
    with pytest.raises(
        RecipeError, match=r"model verifier 'mine' .*none of '__call__', 'compare' and 'rate_together'"
    ):
        check_part("model_verifiers", "mine", Uncalled)


def test_needs_uses_verifiers_and_inputs_have_types() -> None:
    class Loose(Good):
        needs: ClassVar[Any] = ["chat"]

    class LooseUses(Good):
        uses: ClassVar[Any] = {"judge": {Ability.CHAT}}

    class OneName(Good):
        verifiers: ClassVar[Any] = "math"

    class NoTables(Relation):
        inputs: ClassVar[Any] = (2, 1)

        def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
            return frames[0]

    for stage, member in (
        (Loose(), "'needs' is a list"),
        (LooseUses(), r"\"uses\['judge'\]\" is a set"),
        (OneName(), "'verifiers' is the text 'math'"),
        (NoTables(), r"'inputs' is \(2, 1\)"),
    ):
        with pytest.raises(RecipeError, match=f"stage 'mine' .*{member}"):
            check_made("stages", "mine", stage)


def test_every_part_of_ours_keeps_its_contract() -> None:
    needed: dict[str, dict[str, Any]] = {
        "where": {"condition": "id = 'x'"},
        "disagreements": {"scorers": ["a"]},
        "balance_domains": {"by": "id"},
        "best_of": {"score": "verdict"},
        "datatrove": {"dedup": "exact", "text": "id"},
        "dedupe": {"text": "id"},
        "quality": {"text": "id", "repetition": {}},
        "decontaminate": {"references": ["math500"], "text": "id"},
    }
    needed |= {name: {"rows": 1} for name in ("head", "take")}
    for group in GROUPS:
        for name in names(group):
            part = find(group, name)
            check_part(group, name, part)
            if group == "stages" and issubclass(part, Filter):
                check_filter(name, convert(needed.get(name, {}), part), part.reads)
