"""Pipelines composed in Python: rows in memory as sources, parts that are not registered, and results."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest
from msgspec import Struct, structs

from gristmill import Pipeline
from gristmill.core.errors import RecipeError
from gristmill.core.exports import Export
from gristmill.core.records import Pair, Problem, Sampled
from gristmill.core.schema import to_frame
from gristmill.core.stages import REJECTED_REASON, Context, Filter, Relation, RowStage
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines import Reply, Scripted
from gristmill.filters import Concat, Keep, Take
from gristmill.pipelines import Named, Run, Source, Until
from gristmill.synth import Measure, MeasurePairs, Sample
from gristmill.testing import pair, problem, sampled
from gristmill.verifiers import ShortAnswer

ENGINE = Scripted(replies=(Reply(texts=("Yes.", "No.")),))
ROWS = [
    {"id": f"p{i}", "problem": f"{i} odd?", "answer": ("no", "yes")[i % 2], "note": "<b>"} for i in range(8)
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRISTMILL_LOG", raising=False)


class Aloud(RowStage, frozen=True):
    """A row stage of this module."""

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Problem

    async def __call__(self, record: Problem, context: Context) -> Sequence[Problem]:
        return [structs.replace(record, problem=record.problem.upper())]


class Odd(Filter, frozen=True):
    """A filter of this module."""

    reads: ClassVar[type[Struct]] = Problem

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        even = pl.col("answer") != "yes"
        return frame.with_columns(pl.when(even).then(pl.lit("even")).alias(REJECTED_REASON))


class Backwards(Relation, frozen=True):
    """A relation of this module."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        return frames[0].reverse()


class OwnExport(Export, frozen=True):
    """An export that no entry point names."""

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Problem

    def rows(self, record: Problem, /) -> Sequence[Problem]:
        return [record]


def says_yes(completion: str, reference: str) -> Verdict:
    return Verdict(Outcome.CORRECT if completion.lower().startswith(reference) else Outcome.INCORRECT, 1.0)


def ids(done: Run, stage: str | None = None) -> list[str]:
    return done.rows(stage).collect()["id"].to_list()


def dataset() -> Any:
    import datasets

    return datasets.Dataset.from_list(ROWS)


def in_file() -> str:
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return "rows.jsonl"


GIVEN: dict[str, Callable[[], Any]] = {
    "dicts": lambda: ROWS,
    "tuple": lambda: tuple(ROWS),
    "records": lambda: [Problem(r["id"], r["problem"], r["answer"]) for r in ROWS],
    "frame": lambda: pl.DataFrame(ROWS),
    "lazy": lambda: pl.LazyFrame(ROWS),
    "dataset": dataset,
    "name": in_file,
    "path": lambda: Path(in_file()),
    "source": lambda: Source(path=in_file()),
}


@pytest.mark.parametrize("given", GIVEN)
def test_a_source_may_be_rows_in_memory_or_a_file(given: str) -> None:
    done = Pipeline(GIVEN[given](), [Keep("answer = 'yes'")]).run("runs/x", quiet=True)
    assert ids(done) == ["p1", "p3", "p5", "p7"]
    assert (done.path / "inputs").exists() == (given not in ("name", "path", "source"))
    if given not in ("records", "dataset"):
        assert json.loads(done.rows().collect()["meta"][0]) == {"note": "<b>"}


@pytest.mark.parametrize(
    ("records", "stage", "kind"),
    [
        ([sampled("p1/0"), sampled("p1/1", index=1)], Measure(scores={"length": "characters"}), Sampled),
        ([pair("a"), pair("b")], MeasurePairs(scores={"length": "characters"}), Pair),
        ([problem("a"), problem("b")], Take(rows=9), Problem),
    ],
    ids=["samples", "pairs", "problems"],
)
def test_records_in_memory_keep_their_type(records: Any, stage: Any, kind: type[Struct]) -> None:
    done = Pipeline(records, [stage]).run("runs/x", quiet=True)
    assert ids(done) == [record.id for record in records]
    kept = done.rows().collect().select(kind.__struct_fields__)
    if kind is Problem:
        assert kept.equals(to_frame(records, kind))
    else:
        assert [score["name"] for score in kept["scores"][0]]


def test_frames_of_a_run_are_sources_of_the_next() -> None:
    first = Pipeline(ROWS, [Sample(samples=2)], engine=ENGINE, verifier="short_answer").run(
        "runs/a", quiet=True
    )
    right = first.rows().filter(pl.col("verdict").struct.field("outcome") == "correct")
    again = Pipeline(Source(run="runs/a"), [Keep("verdict == 'correct'")]).run("runs/b", quiet=True)
    assert ids(again) == right.collect()["id"].to_list()


def test_parts_need_not_be_registered_and_options_reach_all(recwarn: pytest.WarningsRecorder) -> None:
    pipeline = Pipeline(
        {"rows": ROWS, "more": [problem("more", answer="yes")]},
        [
            Named(Aloud(), reads=["rows"]),
            Odd(),
            Named(Concat(), "both", ["Odd", "more"]),
            Backwards(),
            Named(Sample(samples=2), "draw", engine="other"),
            Keep("verdict == 'correct'"),
        ],
        engine="none",
        engines={"other": ENGINE},
        verifier=says_yes,
        verifiers={"short": ShortAnswer()},
        seed=3,
        limit=6,
    )
    assert [stage.known for stage in pipeline.plan().stages] == [True] * 5 + [False]
    done = pipeline.run("runs/x", quiet=True)
    assert ids(done, "Backwards") == ["more", "p5", "p3", "p1"]
    assert done.rows("both").collect()["problem"][0] == "1 ODD?"
    assert done.rejected("Odd").collect()["reason"].to_list() == ["even"] * 3
    drawn = done.rows("draw").collect()
    assert ids(done) == drawn.filter(pl.col("completion") == "Yes.")["id"].to_list()
    assert done.summary.seed == 3
    # It may be run again, and pays nothing.
    assert pipeline.run("runs/x", quiet=True).summary.spent.requests == 0
    assert not recwarn.list  # this module can be imported by the workers


def test_until_and_exports_are_those_of_a_recipe() -> None:
    sources = {
        "rows": [{"id": f"p{i}", "problem": f"{i}?"} for i in range(200)],
        "pairs": [pair("a"), pair("b")],
    }
    made = Pipeline(
        sources,
        [Sample(verify=False)],
        engine=ENGINE,
        exports=["trl-dpo"],
        until=Until(stage="sample", rows=40),
    )
    done = made.run("runs/x", quiet=True)
    assert 40 <= len(ids(done)) <= 42 and done.summary.ended.startswith("Ended with 4")
    assert (done.path / "exports/trl-dpo.jsonl").read_text().count("\n") == 2


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"stages": []}, "the pipeline has no stages"),
    ({"stages": [Named(Sample(), reads=["rows"])]}, "'from: rows' names no source"),
    ({"stages": [Measure(scores={"n": "words"})]}, "reads Sampled records"),
    ({"stages": [Named(Sample(), engine="other")]}, "wants the engine 'other'"),
    ({"verifier": "maths"}, "'maths' is not a registered verifier"),
    ({"verifier": lambda completion: None}, "cannot be called with"),
    ({"engine": "scriptd"}, "Did you mean 'scripted'"),
    ({"exports": ["trl-dpo"]}, "trl-dpo reads Pair records"),
    ({"exports": [OwnExport()]}, "is not registered"),
]


@pytest.mark.parametrize(("changed", "said"), WRONG, ids=range(len(WRONG)))
def test_what_does_not_fit_is_said_when_it_is_made(changed: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"stages": [Sample()], "engine": ENGINE, **changed}
    with pytest.raises(RecipeError) as caught:
        Pipeline(ROWS, **given)
    assert said in str(caught.value)
    assert not Path("runs").exists()


def test_a_run_gives_frames_data_sets_and_a_display_that_does_no_harm() -> None:
    done = Pipeline(ROWS, [Named(Keep("problem != '<script>'"), "kept")]).run("runs/x", quiet=True)
    assert isinstance(done.rows(), pl.LazyFrame)
    found = done.dataset("kept")
    assert type(found).__name__ == "Dataset" and found["id"] == [row["id"] for row in ROWS]
    assert found.num_rows == 8 and "problem" in found.column_names
    none = Pipeline(ROWS, [Named(Keep("problem = '<script>'"), "kept")]).run("runs/y", quiet=True)
    shown = none._repr_html_()
    assert "&lt;script&gt;" in shown and "<script>" not in shown and "runs/y" in shown
    assert none.dataset().num_rows == 0


SCRIPT = """
from typing import ClassVar
from msgspec import Struct, structs
from gristmill import Pipeline
from gristmill.core import Outcome, Problem, RowStage, Verdict
from gristmill.synth import Sample

class Aloud(RowStage, frozen=True):
    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Problem
    mark: str = "!"
    async def __call__(self, record, context):
        return [structs.replace(record, problem=record.problem + self.mark)]

class Starts(Struct, frozen=True):
    length: int = 1
    def __call__(self, completion, reference):
        return Verdict(Outcome.CORRECT if completion[: self.length] == reference else Outcome.INCORRECT, 1.0)

if __name__ == "__main__":
    rows = [{"id": f"p{i}", "problem": f"{i}", "answer": "Y"} for i in range(40)]
    engine = {"kind": "scripted", "replies": [{"texts": ["Yes", "No"]}]}
    made = Pipeline(rows, [Aloud(mark="?"), Sample()], engine=engine, verifier=Starts(1))
    run = made.run("runs/s", quiet=True)
    frame = run.rows().collect()
    right = frame["verdict"].struct.field("outcome") == "correct"
    assert (right == (frame["completion"] == "Yes")).all() and 0 < right.sum() < 40
    assert frame["problem"][3] == "3?"
"""


def test_a_script_with_parts_of_its_own_runs_and_is_warned_once(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Warning:") == 1 and "__main__:Starts" in done.stderr
