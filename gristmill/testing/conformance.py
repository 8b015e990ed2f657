"""Conformance checks: what every part of a kind must do, to be called from its own tests.

Each takes a part as a recipe makes it, first checks its contract as the loading of a recipe does
(``gristmill.core.contracts``), and then what only running it shows. A breach is a ``RecipeError``,
``ContractError`` or ``RunStopped`` with the same text that a user would read, or an ``AssertionError``.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from gristmill.core.contracts import Ids, check_made, check_opened, check_part, check_table, checked, dry_run
from gristmill.core.engine import Ability, Completion, Engine, Message, Request, Sampling
from gristmill.core.errors import EngineError, RowRejected
from gristmill.core.exports import Export
from gristmill.core.records import Score
from gristmill.core.schema import from_frame, schema, to_frame
from gristmill.core.stages import REJECTED_REASON, Context, Estimate, Filter, Rejection, RowStage
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.options import EngineOptions
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.scorers.base import PairScorer, Scorer, of_pair, of_sample
from gristmill.verifiers.guard import guarded

if TYPE_CHECKING:
    import polars as pl

HOSTILE = ("", " ", "\x00", "\\boxed{", "\\boxed{}", "é" * 1000, "(" * 5000, "\ud800", "{problem}", "NaN")
"""Texts that a model may write and that break careless parsers."""


def check_engine(
    options: EngineOptions, *, messages: Sequence[Message] = (Message("user", "What is 2 + 2?"),)
) -> list[Completion]:
    """Open the engine of ``options``, ask it for completions of ``messages``, and close it.

    With ``Ability.SEED`` the same request gives the same completions, alone or together. Returns them.
    """
    check_part("engines", type(options).__name__, type(options))
    engine = options.open()
    check_opened(type(options).__name__, engine)
    return asyncio.run(_ask(engine, tuple(messages)))


async def _ask(engine: Engine, messages: tuple[Message, ...]) -> list[Completion]:
    request = Request(messages, Sampling(max_tokens=32), seed=7)
    async with engine:
        many = Ability.MANY in engine.abilities
        first = await engine.generate(request, n=2 if many else 1)
        assert isinstance(first, list) and all(isinstance(c, Completion) for c in first), (
            f"'generate' returned {first!r}; it returns a list of Completion"
        )
        assert len(first) == (2 if many else 1), f"{len(first)} completions came of {2 if many else 1}"
        if Ability.SEED in engine.abilities:
            for i, expected in enumerate(first):
                [again] = await engine.generate(request, first=i)
                assert again.text == expected.text, (
                    f"sample {i} of one request was {expected.text!r} and then {again.text!r}; draw sample i "
                    "with seed + i, or leave out Ability.SEED"
                )
    return first


def check_verifier(
    verifier: Callable[[str, str], Verdict],
    *,
    right: Sequence[tuple[str, str]],
    wrong: Sequence[tuple[str, str]] = (),
) -> None:
    """Judge pairs of (completion, reference) that are ``right`` and ``wrong``, and hostile texts.

    It never raises, always returns a ``Verdict``, and says the same of the same texts.
    """
    registered = type(verifier) if isinstance(verifier, Struct) else verifier
    check_part("verifiers", getattr(verifier, "__name__", type(verifier).__name__), registered)
    for pairs, outcome in ((right, Outcome.CORRECT), (wrong, Outcome.INCORRECT)):
        for completion, reference in pairs:
            verdict = guarded(verifier, completion, reference)
            assert verdict.outcome is outcome, f"{completion!r} against {reference!r} is {verdict}"
            again = guarded(verifier, completion, reference)
            assert again == verdict, f"{completion!r} was judged {verdict} and then {again}"
    references = [reference for _, reference in (*right, *wrong)] or ["4"]
    for text in HOSTILE:
        verdict = guarded(verifier, text, references[0])
        assert verdict.outcome is not Outcome.ERROR, f"it fails on {text[:20]!r}: {verdict.detail}"


def context(
    engine: Engine | Callable[[Request, int], Completion | str] = lambda request, index: "\\boxed{4}",
    *,
    verify: Callable[[str, str], Awaitable[Verdict]] | None = None,
    seed: int = 0,
    engines: dict[str, Engine] | None = None,
) -> Context:
    """What a row stage is given: an engine, or the function that a scripted one answers by.

    ``verify`` finds an answer right where it holds the reference, unless another is given.
    """
    if inspect.isfunction(engine):
        engine = ScriptedEngine(engine)
    return Context(engine, verify or _holds, seed, engines or {})  # type: ignore[arg-type]


async def _holds(completion: str, reference: str) -> Verdict:
    right = reference in completion
    return Verdict(Outcome.CORRECT if right else Outcome.INCORRECT, float(right))


def check_row_stage(
    stage: RowStage, records: Sequence[Any], given: Context | None = None
) -> list[Struct | Rejection]:
    """Call a row stage with every one of ``records``, twice, and check what comes of it.

    Its results are of the type it ``writes``, survive being written to columns, have unique ids, are the same
    both times, and are within what ``estimate`` says. Returns all of them, rejections included.
    """
    name = type(stage).__name__
    check_part("stages", name, type(stage))
    check_made("stages", name, stage)
    ids, found = Ids(), list[Struct | Rejection]()
    for record in records:
        before = stage.estimate(record)
        assert before is None or isinstance(before, Estimate), f"'estimate' returned {before!r}"
        kept, rejected = _call(stage, record, given or context())
        assert (kept, rejected) == _call(stage, record, given or context()), (
            f"{name} made something else of {record.id!r} the second time"
        )
        fresh, repeated = ids.fresh(kept)
        assert not repeated, f"{name} gives the id {repeated[0].id!r} twice"
        if before is not None and before.rows_max is not None:
            assert len(kept) <= before.rows_max, f"{len(kept)} rows, but 'estimate' says {before.rows_max}"
        assert from_frame(to_frame(fresh, stage.writes), stage.writes) == list(fresh), (
            f"{name}: its records change when they are written to columns and read back"
        )
        found += [*kept, *rejected]
    return found


def _call(stage: RowStage, record: Any, given: Context) -> tuple[list[Any], list[Rejection]]:
    try:
        results = asyncio.run(_once(stage, record, given))
    except RowRejected as error:
        return [], [Rejection(record.id, error.reason, error.message)]
    except EngineError as error:
        return [], [Rejection(record.id, "engine error", str(error))]
    kept, rejected = checked(type(stage).__name__, stage, record, results, stage.writes)
    return list(kept), list(rejected)


async def _once(stage: RowStage, record: Any, given: Context) -> Any:
    return await stage(record, given)


def check_scorer(
    scorer: Scorer | PairScorer, records: Sequence[Any], given: Context | None = None, *, score: str = "s"
) -> list[Score]:
    """Score every one of ``records`` (samples, or pairs for a ``PairScorer``), twice; the scores.

    They are named as ``names`` says, finite or without a value and with a verdict that says why, the same
    both times.
    """
    name = type(scorer).__name__
    check_part("scorers", name, type(scorer))
    check_made("scorers", name, scorer)
    found: list[Score] = []
    for record in records:
        answers = of_pair(record) if isinstance(scorer, PairScorer) else (of_sample(record),)
        before = scorer.estimate(*answers)
        assert before is None or isinstance(before, Estimate), f"'estimate' returned {before!r}"
        try:
            first, again = (list(asyncio.run(_once_scored(scorer, answers, given, score))) for _ in range(2))
        except RowRejected:
            continue
        assert first == again, f"{name} scored {record.id!r} otherwise the second time"
        assert tuple(s.name for s in first) == scorer.names(score), f"{name} wrote {[s.name for s in first]}"
        for one in first:
            told = one.verdict is not None and bool(one.verdict.rule)
            assert told if one.value is None else math.isfinite(one.value), f"{name} gave {one!r}"
        found += first
    return found


async def _once_scored(
    scorer: Any, answers: Sequence[Any], given: Context | None, score: str
) -> Sequence[Score]:
    scores: Sequence[Score] = await scorer(*answers, given or context(), score)
    return scores


def check_filter(stage: Filter, records: Sequence[Any]) -> dict[str, str]:
    """Run a filter on an empty table and on ``records``, twice; the reasons of those it rejects, by id.

    It keeps every row in its place and decides the same both times.
    """
    name = type(stage).__name__
    check_part("stages", name, type(stage))
    kind = type(records[0]) if records else stage.reads
    dry_run(name, stage, kind)
    before = to_frame(records, kind)
    first, second = _filtered(stage, before), _filtered(stage, before)
    check_table(name, stage, before["id"], first)
    assert first.equals(second), f"{name} decided otherwise the second time"
    rejected = first.filter(first[REJECTED_REASON].is_not_null())
    return dict(zip(rejected["id"], rejected[REJECTED_REASON], strict=True))


def _filtered(stage: Filter, before: pl.DataFrame) -> pl.DataFrame:
    return stage(before.lazy(), 0).collect(engine="in-memory")


def check_export(export: Export, records: Sequence[Any]) -> list[Struct]:
    """Turn every one of ``records`` into rows; those it made. One that it rejects makes none.

    Rows are of its ``row_type`` and survive being written to columns.
    """
    check_part("exports", type(export).__name__, type(export))
    rows: list[Struct] = []
    for record in records:
        try:
            made = export.rows(record)
        except RowRejected:
            continue
        for row in made:
            assert type(row) is export.row_type, f"'rows' made a {type(row).__name__} of {record.id!r}"
        rows += made
        remarks = export.remarks(record)
        assert all(isinstance(n, int) for n in remarks.values()), f"'remarks' returned {remarks!r}"
    assert to_frame(rows, export.row_type).schema == schema(export.row_type)
    return rows
