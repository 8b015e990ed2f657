"""The conformance checks pass what is right and say what is wrong."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import polars as pl
import pytest
from msgspec import Struct, structs

from gristmill.core import (
    REJECTED_REASON,
    Ability,
    Completion,
    Context,
    ContractError,
    Dialogue,
    Engine,
    Estimate,
    Export,
    Filter,
    Outcome,
    Pair,
    Problem,
    Rejection,
    Request,
    RowStage,
    RunStopped,
    Sampled,
    Verdict,
)
from gristmill.engines import EngineOptions, EngineWrapper, Reply, Scripted
from gristmill.filters import BalanceKinds
from gristmill.pipelines.exports import TrlDpo, TrlSft
from gristmill.synth import Demonstrations, Sample
from gristmill.testing import (
    check_engine,
    check_export,
    check_filter,
    check_row_stage,
    check_verifier,
    context,
    conversation,
    demonstration,
    pair,
    passage,
    problem,
    sampled,
    trajectory,
)
from gristmill.verifiers import Choice, Math, ShortAnswer


def test_parts_of_ours_conform() -> None:
    assert check_engine(Scripted(replies=(Reply(("a", "b")),)))[0].text in ("a", "b")
    check_verifier(Math(), right=[("\\boxed{4}", "4")], wrong=[("\\boxed{5}", "4")])
    check_verifier(ShortAnswer(), right=[("Paris", "paris")])
    check_verifier(Choice(), right=[("The answer is (B).", "B")])
    made = check_row_stage(Sample(samples=2), [problem("a"), problem("b")])
    assert [row.id for row in made if isinstance(row, Sampled)] == ["a/0", "a/1", "b/0", "b/1"]
    assert len(check_row_stage(Demonstrations(), [sampled()])) == 1
    rejected = check_filter(
        BalanceKinds(ratio=1.0), [demonstration(str(i), kind=k) for i, k in enumerate("aab")]
    )
    assert len(rejected) == 1
    assert len(check_export(TrlSft(), [conversation(), trajectory()])) == 2
    assert len(check_export(TrlDpo(), [pair()])) == 1


def test_builders_make_records_of_their_types() -> None:
    assert problem().answer in sampled().completion
    assert pair(kind="other").kind == "other"
    assert passage().id == "t1"
    with pytest.raises(TypeError, match="Unexpected keyword"):
        problem(answr="4")


class Drifting(EngineOptions):
    """Never says the same twice, although it promises to."""

    def open(self) -> Engine:
        numbers = itertools.count()

        class Drift(EngineWrapper):
            async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
                return [Completion(str(next(numbers))) for _ in range(n)]

        return Drift(Scripted(replies=(Reply(("a",)),)).open())


class Stingy(EngineOptions):
    def open(self) -> Engine:
        class One(EngineWrapper):
            async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
                return [Completion("a")]

        return One(Scripted(replies=(Reply(("a",)),)).open())


def test_an_engine_that_breaks_a_promise_is_found() -> None:
    with pytest.raises(AssertionError, match=r"sample 0 .* leave out Ability.SEED"):
        check_engine(Drifting())
    with pytest.raises(AssertionError, match="1 completions came of 2"):
        check_engine(Stingy())


def careless(completion: str, reference: str) -> Verdict:
    return Verdict(Outcome.CORRECT if completion.split()[-1] == reference else Outcome.INCORRECT)


def test_a_verifier_that_fails_on_some_text_is_found() -> None:
    with pytest.raises(AssertionError, match="it fails on '': IndexError"):
        check_verifier(careless, right=[("It is 4", "4")])
    with pytest.raises(AssertionError, match=r"'5' against '4' is .*INCORRECT"):
        check_verifier(Math(), right=[("5", "4")])


class Odd(RowStage):
    """A stage that goes wrong in the way that it is told."""

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Problem
    how: str = "right"

    async def __call__(self, record: Problem, context: Context) -> Any:
        made = {
            "right": [record],
            "nothing": None,
            "other": [sampled()],
            "twice": [record, record],
            "changing": [structs.replace(record, problem=str(next(NUMBERS)))],
            "many": [structs.replace(record, id=str(i)) for i in range(3)],
            "typed": [structs.replace(record, level="high")],
        }
        return made[self.how]

    def estimate(self, record: Problem) -> Estimate:
        return Estimate(0, 0, 0, 0, rows_max=2)


NUMBERS = itertools.count()


@pytest.mark.parametrize(
    ("how", "kind", "said"),
    [
        ("nothing", ContractError, "returned None"),
        ("other", ContractError, "returned a Sampled"),
        ("twice", AssertionError, "gives the id 'p1' twice"),
        ("changing", AssertionError, "something else of 'p1' the second time"),
        ("many", AssertionError, "3 rows, but 'estimate' says 2"),
        ("typed", ContractError, "got `str`"),
    ],
)
def test_a_stage_that_goes_wrong_is_found(how: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        check_row_stage(Odd(how=how), [problem()])
    assert check_row_stage(Odd(), [problem()]) == [problem()]


def test_a_rejection_is_a_result() -> None:
    cut = context(lambda request, index: Completion("2 +", finish_reason="length"))
    [found] = check_row_stage(Sample(follow_ups=("Sure?",)), [problem()], cut)
    assert isinstance(found, Rejection)
    assert found.reason == "unfinished turn before the last"


class Turned(Filter):
    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        return frame.reverse().with_columns(pl.lit(None, pl.String).alias(REJECTED_REASON))


def test_a_filter_that_reorders_rows_is_found() -> None:
    with pytest.raises(RunStopped, match=r"Turned.*returned 'b' where its input has 'a'"):
        check_filter(Turned(), [problem("a"), problem("b")])


class Wrong(Export):
    reads: ClassVar[type[Struct]] = Dialogue
    writes: ClassVar[type[Struct]] = Pair

    def rows(self, record: Dialogue) -> Sequence[Struct]:
        return [problem()]


def test_an_export_of_other_rows_is_found() -> None:
    with pytest.raises(AssertionError, match="'rows' made a Problem of 'c1'"):
        check_export(Wrong(), [conversation()])


def test_a_context_verifies_by_containment_and_takes_an_engine() -> None:
    given = context(Scripted(replies=(Reply(("4",)),)).open())
    assert Ability.CHAT in given.engine.abilities
    [row] = check_row_stage(Sample(), [problem()], given)
    assert isinstance(row, Sampled)
    assert row.verdict is not None and row.verdict.correct
