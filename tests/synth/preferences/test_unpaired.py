"""The stage ``unpaired``: one row for each answer, with a label, and the balance of the labels."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from msgspec.structs import replace
from table_rows import RIGHT, WRONG, called, out, rejected, sample, samples

from gristmill.core.engine import Message
from gristmill.core.errors import GristmillError, RecipeError
from gristmill.core.records import Labelled, Pair, Sampled, Score
from gristmill.core.schema import from_frame, to_frame
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.pipelines.sources import source
from gristmill.pipelines.sources.options import Source
from gristmill.synth import Unpaired
from gristmill.synth.preferences.unpaired import rows_kept, weights


def judged(right: int, wrong: int) -> list[Sampled]:
    return [
        sample(f"p{i}", completion=f"answer {i}", verdict=RIGHT if i < right else WRONG)
        for i in range(right + wrong)
    ]


def pair(name: str, chosen: str, rejected: str, *scores: Score) -> Pair:
    sides = ((Message("assistant", text),) for text in (chosen, rejected))
    return Pair(name, "p", "all", (Message("user", "?"),), *sides, scores=scores, meta='{"k":1}')


def pairs(*rows: Pair) -> pl.LazyFrame:
    return to_frame(rows, Pair).lazy()


@pytest.mark.parametrize(
    ("wanted", "unwanted", "weight", "kept"),
    [
        (3, 3, (1.0, 1.0), (3, 3)),
        (4, 3, (1.0, 1.0), (4, 3)),  # 4/3 is inside
        (8, 3, (1.0, 2.0), (4, 3)),  # 8 / (2 * 3) = 4/3
        (3, 6, (2.0, 1.0), (3, 3)),  # 2 * 3 / 6 = 1
        (1, 9, (9.0, 1.0), (1, 1)),
        (9, 1, (1.0, 6.75), (1, 1)),
    ],
)
def test_the_balance_rule(
    wanted: int, unwanted: int, weight: tuple[float, float], kept: tuple[int, int]
) -> None:
    """The weighted ratio of KTO lies in [1, 4/3] (section G.12 of the definitions)."""
    found = weights(wanted, unwanted)
    assert found == pytest.approx(weight)
    assert 1 - 1e-9 <= found[0] * wanted / (found[1] * unwanted) <= 4 / 3 + 1e-9
    assert rows_kept(wanted, unwanted) == kept
    assert 1 <= kept[0] / kept[1] <= 4 / 3


def test_samples_become_rows_by_their_verdicts_with_weights() -> None:
    odd = [
        sample("u", completion="u", verdict=Verdict(Outcome.TIMEOUT)),
        sample("n", completion="n", verdict=None),
        replace(judged(1, 0)[0], id="again"),
    ]
    rows = from_frame(out(Unpaired(), samples(*judged(1, 3), *odd)), Labelled)
    assert [(r.id, r.label, r.weight) for r in rows] == [
        ("p0/0", True, 3.0),
        ("p1/0", False, 1.0),
        ("p2/0", False, 1.0),
        ("p3/0", False, 1.0),
    ]
    assert rows[0].prompt == (Message("user", "What is p0?"),)
    assert rows[0].completion == (Message("assistant", "answer 0"),)
    assert rows[0].scores == (Score("verdict", 1.0, RIGHT),)
    assert rejected(Unpaired(), samples(*judged(1, 3), *odd)) == {
        "u/0": "unpaired: blank, cut off or undecided",
        "n/0": "unpaired: no value to tell the label by",
        "again": "unpaired: the same text as another sample",
    }


def test_samples_become_rows_by_thresholds_of_a_score() -> None:
    rows = [sample("p", i, completion=f"{i}", scores=(Score("reward", float(i)),)) for i in range(5)]
    stage = Unpaired(by="scores.reward", above=3, below=1, balance="none")
    assert [(r.index, r.label) for r in _labels(stage, rows)] == [
        (0, False),
        (1, False),
        (3, True),
        (4, True),
    ]
    assert rejected(stage, samples(*rows)) == {"p/2": "unpaired: its value lies between 1 and 3"}


class _Row(Labelled):
    @property
    def index(self) -> int:
        return int(self.id.rpartition("/")[2])


def _labels(stage: Unpaired, rows: list[Sampled]) -> list[_Row]:
    return from_frame(out(stage, samples(*rows)), _Row)


def test_rows_are_taken_instead_of_weighted_where_that_is_wanted() -> None:
    frame = samples(*judged(2, 6))
    found = out(Unpaired(balance="rows"), frame, seed=1)
    assert found["label"].sum() == 2 and found.height == 4 and set(found["weight"]) == {1.0}
    lost = rejected(Unpaired(balance="rows"), frame, seed=1)
    assert len(lost) == 4 and set(lost.values()) == {"unpaired: above its label's share"}


def test_each_side_of_pairs_is_a_row_once_and_a_text_on_both_sides_is_none() -> None:
    given = pairs(
        pair("a", "x", "y", Score("chosen", 9.0), Score("rejected", 2.0), Score("margin", 7.0)),
        pair("b", "x", "z", Score("chosen_words", 4.0)),
        pair("c", "z", "w"),
    )
    rows = from_frame(out(Unpaired(balance="none"), given), Labelled)
    assert [(r.id, r.label, r.completion[0].content) for r in rows] == [
        ("a/chosen", True, "x"),
        ("a/rejected", False, "y"),
        ("c/rejected", False, "w"),
    ]
    assert [r.scores for r in rows] == [(Score("score", 9.0),), (Score("score", 2.0),), ()]
    assert rows[0].meta == '{"k":1}' and rows[0].problem_id == "p"
    assert rejected(Unpaired(balance="none"), given) == {
        "b/chosen": "unpaired: the same side as in an earlier pair",
        "b/rejected": "unpaired: chosen in one pair and rejected in another",
        "c/chosen": "unpaired: chosen in one pair and rejected in another",
    }


def test_one_label_alone_cannot_be_balanced() -> None:
    with pytest.raises(GristmillError, match="none of the 2 rows is unwanted"):
        called(Unpaired(), samples(*judged(2, 0)))
    assert out(Unpaired(balance="none"), samples(*judged(2, 0))).height == 2


def test_options_that_contradict_each_other_are_refused() -> None:
    for options in ({"above": 0.0}, {"below": 2.0}, {"ratio": (2.0, 1.0)}):
        with pytest.raises(RecipeError, match="Let the first be the smaller one"):
            Unpaired(**options)  # type: ignore[arg-type]


def test_labelled_rows_are_read_back_by_a_source(tmp_path: Path) -> None:
    rows = out(Unpaired(), samples(*judged(2, 2)))
    rows.write_parquet(tmp_path / "rows.parquet")
    found = list(source.read(Source(path=str(tmp_path / "rows.parquet"), reads="labelled")))
    assert found == from_frame(rows, Labelled)
