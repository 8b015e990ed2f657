"""``pass_rate`` counts, ``band`` keeps: the numbers of the papers, and plain Python beside them."""

from __future__ import annotations

from collections import defaultdict

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from table_rows import RIGHT, WRONG, out, rejected, sample, samples

from gristmill.core.contracts import dry_run
from gristmill.core.errors import RecipeError
from gristmill.core.records import Problem, Sampled, Score
from gristmill.core.schema import from_frame, schema
from gristmill.core.shares import learnability, pass_at_k, wilson
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.filters import Band, PassRate

TIMEOUT = Verdict(Outcome.TIMEOUT)
VERDICTS = st.sampled_from([RIGHT, WRONG, TIMEOUT, None])


def of(problem: str, *verdicts: Verdict | None) -> list[Sampled]:
    return [sample(problem, i, verdict=v) for i, v in enumerate(verdicts)]


def test_the_published_numbers() -> None:
    assert pass_at_k(2, 8, 4) == pytest.approx(0.785714, abs=1e-6)
    assert wilson(3, 8) == pytest.approx((0.136844, 0.694258), abs=1e-6)
    assert [learnability(p) for p in (0, 1 / 8, 1 / 2, 1)] == [0, 0.109375, 0.25, 0]
    with pytest.raises(ValueError, match="5 draws of 4"):
        pass_at_k(1, 4, 5)


@pytest.mark.parametrize(
    ("n", "kept"), [(4, [1, 2, 3]), (5, [1, 2, 3, 4]), (8, [2, 3, 4, 5, 6]), (10, [2, 3, 4, 5, 6, 7, 8])]
)
def test_both_ends_of_a_band_are_in_it(n: int, kept: list[int]) -> None:
    rows = [s for c in range(n + 1) for s in of(f"c{c:02}", *[RIGHT] * c, *[WRONG] * (n - c))]
    made = out(Band(), samples(*rows))
    assert made["problem_id"].unique(maintain_order=True).to_list() == [f"c{c:02}" for c in kept]
    assert set(rejected(Band(), samples(*rows)).values()) >= {
        "band: the problem is never solved",
        "band: the problem is always solved",
    }


def test_an_undecided_sample_is_neither_right_nor_wrong() -> None:
    rows = samples(*of("a", RIGHT, WRONG, TIMEOUT, None), *of("b", TIMEOUT))
    made = out(PassRate(pass_at=(1, 2, 3)), rows)
    assert made.select("id", "right", "decided", "undecided", "rate").rows() == [
        ("a", 1, 2, 2, 0.5),
        ("b", 0, 0, 1, None),
    ]
    assert made.row(0, named=True)["low"] == pytest.approx(wilson(1, 2)[0])
    assert made.select("pass_at_1", "pass_at_2", "pass_at_3").rows() == [(0.5, 1.0, None), (None, None, None)]
    assert made["high"].to_list()[1] is None and made["problem"].to_list() == ["What is a?", "What is b?"]
    assert rejected(Band(), rows) == {"b/0": "band: fewer than 1 samples of the problem are decided"}


def test_a_cut_off_sample_can_cost_its_group() -> None:
    cut = replace(sample("a", 2, verdict=Verdict(Outcome.UNPARSEABLE)), finish_reason="length")
    rows = samples(*of("a", RIGHT, WRONG), cut, *of("b", RIGHT, WRONG))
    assert rejected(Band(), rows) == {}
    assert rejected(Band(truncated="reject_group"), rows) == dict.fromkeys(
        ["a/0", "a/1", "a/2"], "band: a sample of the problem was cut off"
    )


def test_the_rows_are_problems_that_can_be_sampled_again() -> None:
    assert schema(Problem).items() <= dict(dry_run("rates", PassRate(), Sampled)).items()
    rows = samples(*of("a", RIGHT), *of("b", WRONG))
    made = out(PassRate(), rows)
    assert from_frame(made.select(list(schema(Problem))), Problem)[1] == Problem("b", "What is b?", "3")


def test_the_verdict_of_a_score_counts_where_it_is_named() -> None:
    rows = samples(
        sample("a", 0, verdict=WRONG, scores=(Score("judge", None, RIGHT),)), sample("a", 1, verdict=WRONG)
    )
    assert out(PassRate(verdict="judge"), rows).select("right", "decided", "undecided").rows() == [(1, 1, 1)]
    assert out(PassRate(), rows).select("right", "decided", "undecided").rows() == [(0, 2, 0)]


def test_a_band_upside_down_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"low \(0.8\) is above high"):
        Band(low=0.8, high=0.2)


@settings(max_examples=15, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from("abc"), VERDICTS), max_size=24),
    low=st.sampled_from([0.0, 0.2, 0.5]),
    random=st.randoms(use_true_random=False),
)
def test_as_in_plain_python(rows: list[tuple[str, Verdict | None]], low: float, random: object) -> None:
    made = [sample(p, i, verdict=v) for i, (p, v) in enumerate(rows)]
    counts: dict[str, list[bool]] = defaultdict(list)
    for s in made:
        counts[s.problem_id] += [s.verdict.correct] if s.verdict is not None and s.verdict.decided else []
    table = out(PassRate(), samples(*made))
    assert {r["id"]: (r["right"], r["decided"]) for r in table.iter_rows(named=True)} == {
        p: (sum(v), len(v)) for p, v in counts.items()
    }
    assert table["undecided"].sum() + table["decided"].sum() == len(made)
    stage = Band(low=low, high=0.8)
    kept = {p for p, v in counts.items() if v and low <= round(sum(v) / len(v), 12) <= 0.8}
    stays = out(stage, samples(*made))
    assert stays["id"].to_list() == [s.id for s in made if s.problem_id in kept]
    assert len(stays) + len(rejected(stage, samples(*made))) == len(made)  # nothing is lost
    assert rejected(stage, stays.lazy()) == {}  # twice is once
    mixed = random.sample(made, len(made))  # type: ignore[attr-defined]
    assert set(out(stage, samples(*mixed))["id"]) == set(stays["id"])
    again = out(PassRate(), samples(*mixed)).sort("id")
    assert again.select(pl.exclude("answer")).equals(table.sort("id").select(pl.exclude("answer")))
