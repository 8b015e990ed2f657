"""Records survive the trip through a frame and through Parquet, nested and optional fields included."""

from pathlib import Path

import msgspec
import polars as pl
import pytest

from gristmill.core import records
from gristmill.core.engine import Completion, TokenLogprob, TokenScore
from gristmill.core.schema import from_frame, schema, to_frame
from gristmill.core.verdicts import Outcome, Verdict

EXPLORATION = records.Exploration(
    id="p1",
    problem="1 + 1?",
    answer="2",
    style="verify",
    stopped="wanted",
    bases=(
        records.Base(
            index=0,
            attempt=records.Judged(
                Completion(
                    "\\boxed{3}", "length", 5, 4, (TokenLogprob("3", -0.5, (TokenScore("2", -1.0),)),)
                ),
                Verdict(Outcome.INCORRECT, 0.0, "3", "math-verify"),
            ),
            evaluations=(
                records.Evaluation(Completion("?"), None),
                records.Evaluation(Completion("x"), False),
            ),
            corrections=(records.Judged(Completion("2"), Verdict(Outcome.TIMEOUT)),),
        ),
        records.Base(index=1, attempt=records.Judged(Completion(""), Verdict(Outcome.ERROR))),
    ),
)


def every_record() -> list[type[msgspec.Struct]]:
    return [
        v
        for v in vars(records).values()
        if isinstance(v, type) and issubclass(v, msgspec.Struct) and v is not msgspec.Struct
    ]


@pytest.mark.parametrize("record", every_record(), ids=lambda r: r.__name__)
def test_every_record_has_a_schema_for_each_field(record: type[msgspec.Struct]) -> None:
    assert schema(record).names() == list(record.__struct_fields__)
    assert pl.DataFrame(schema=schema(record)).to_arrow().schema.names == list(record.__struct_fields__)


def test_nested_records_come_back_from_parquet(tmp_path: Path) -> None:
    frame = to_frame([EXPLORATION], records.Exploration)
    frame.write_parquet(tmp_path / "x.parquet")
    assert from_frame(pl.read_parquet(tmp_path / "x.parquet"), records.Exploration) == [EXPLORATION]


def test_nulls_stay_nulls() -> None:
    rows = [records.Problem("a", "q"), records.Problem("b", "q", "1", 3, '{"k": 1}')]
    assert from_frame(to_frame(rows, records.Problem), records.Problem) == rows
    assert to_frame([], records.Problem).schema == schema(records.Problem)


def test_a_type_without_a_column_is_refused() -> None:
    class Odd(msgspec.Struct):
        x: dict[str, int]

    with pytest.raises(TypeError, match="no column type"):
        schema(Odd)
