"""``curriculum``, ``best_of`` and ``recompose``: which rows come when."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_rows import RIGHT, WRONG, called, out, problems, rejected, sample, samples

from gristmill.core.errors import RecipeError
from gristmill.core.records import Score
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.filters import BestOf, Curriculum, Recompose
from gristmill.filters.difficulty import recomposed

RATES = pl.LazyFrame({"id": list("abcde"), "rate": [0.9, 0.2, 0.5, 0.0, 0.2]})


def test_drive_keeps_the_hardest_and_decides_the_unsolved_apart() -> None:
    kept = Curriculum(hardest=3, order="hard_first", unsolved="keep")
    assert out(kept, RATES)["id"].to_list() == ["d", "b", "e"]
    assert rejected(kept, RATES) == dict.fromkeys("ac", "curriculum: not of the hardest 3")
    apart = out(Curriculum(hardest=3, order="hard_first"), RATES)
    assert apart.select("id", "phase").rows() == [
        ("b", "all"),
        ("e", "all"),
        ("c", "all"),
        ("d", "unsolved"),
    ]
    assert rejected(Curriculum(unsolved="reject"), RATES) == {"d": "curriculum: never solved"}


def test_light_r1_stages_by_pass_rate() -> None:
    stage = Curriculum(phases={"all": 0.5, "hardest": 0.8}, copies={"hardest": 2})
    made = out(stage, RATES)
    assert made.select("id", "phase").rows() == [
        ("a", "all"),
        ("c", "all"),
        ("b", "hardest"),
        ("b#2", "hardest"),
        ("e", "hardest"),
        ("e#2", "hardest"),
        ("d", "unsolved"),
    ]
    assert rejected(Curriculum(phases={"easy": 0.1}), RATES) == dict.fromkeys(
        "bce", "curriculum: harder than all phases"
    )
    assert stage.rows_max([5]) == 10


def test_easy_to_hard_by_level() -> None:
    rows = pl.concat([problems("x", level=5), problems("y", level=2), problems("z")])
    stage = Curriculum(by="level", phases={"easy": 3, "hard": float("inf")})
    assert out(stage, rows).select("id", "phase").rows() == [("y", "easy"), ("x", "hard")]
    assert rejected(stage, rows) == {"z": "curriculum: level is not a number"}


def test_wrong_options_are_refused() -> None:
    with pytest.raises(RecipeError, match="do not rise"):
        Curriculum(phases={"hard": 0.8, "easy": 0.2})
    with pytest.raises(RecipeError, match="copies names 'hrd'") as caught:
        Curriculum(phases={"hard": 0.8}, copies={"hrd": 2})
    assert "hard" in str(caught.value.remedy)


@settings(max_examples=12, deadline=None)
@given(
    rates=st.lists(st.none() | st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=9),
    unsolved=st.sampled_from(["apart", "keep", "reject"]),
    hardest=st.none() | st.integers(1, 4),
    order=st.sampled_from(["easy_first", "hard_first"]),
)
def test_nothing_is_lost_and_the_order_of_rows_has_no_say(
    rates: list[float | None], unsolved: str, hardest: int | None, order: str
) -> None:
    stage = Curriculum(unsolved=unsolved, hardest=hardest, order=order)  # type: ignore[arg-type]
    frame = pl.LazyFrame(
        {"id": [str(i) for i in range(len(rates))], "rate": pl.Series(rates, dtype=pl.Float64)}
    )
    made = out(stage, frame)
    assert len(made) + len(rejected(stage, frame)) == len(rates)
    assert out(stage, frame.reverse()).equals(made)
    solved = made.filter(pl.col("phase") != "unsolved")["rate"].to_list()
    assert solved == sorted(solved, reverse=order == "easy_first")


def test_ro_recomp() -> None:
    right = [True] * 4 + [False] * 4 + [None]
    lengths = [100, 200, 300, 120, 150, 400, 250, 500, 1]
    batches = recomposed(right, lengths)
    assert [n for n, b in zip(lengths, batches, strict=True) if b == "priority"] == [100, 120, 400, 500]
    assert [n for n, b in zip(lengths, batches, strict=True) if b == "compensation"] == [200, 300, 150, 250]
    assert batches[-1] is None
    assert recomposed([True] * 3, [1, 2, 3]) == ["priority", "priority", "compensation"]  # rounded up


@settings(max_examples=12, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from([True, False, None]), st.integers(0, 3)), max_size=14
    ),
    share=st.sampled_from([0.3, 0.5, 0.75]),
)
def test_the_stage_says_what_the_function_says(
    rows: list[tuple[str, bool | None, int]], share: float
) -> None:
    verdicts = {True: RIGHT, False: WRONG, None: Verdict(Outcome.ERROR)}
    made = [
        sample(p, i, verdict=verdicts[r], completion="x" * length) for i, (p, r, length) in enumerate(rows)
    ]
    wanted = {}
    for problem in "ab":
        mine = [(s.id, r, n) for s, (p, r, n) in zip(made, rows, strict=True) if p == problem]
        batches = recomposed([r for _, r, _ in mine], [n for _, _, n in mine], share)
        wanted |= {i: b for (i, _, _), b in zip(mine, batches, strict=True)}
    stage = Recompose(share=share)
    found = called(stage, samples(*made))
    assert dict(found.select("id", "batch").drop_nulls().iter_rows()) == {
        i: b for i, b in wanted.items() if b is not None
    }
    assert set(rejected(stage, samples(*made))) == {i for i, b in wanted.items() if b is None}


def test_the_best_of_a_few_by_an_external_reward() -> None:
    values = [0.1, 0.7, None, 0.7, 9.0]
    rows = samples(
        *(sample("a", i, scores=() if v is None else (Score("rm", v),)) for i, v in enumerate(values)),
        sample("b", 0, scores=(Score("rm", -3.0),)),
    )
    assert out(BestOf(score="rm"), rows)["id"].to_list() == ["a/1", "b/0"]
    assert rejected(BestOf(score="rm"), rows) == {
        "a/0": "best_of: below the best",
        "a/2": "best_of: no score 'rm'",
        "a/3": "best_of: as good as an earlier one",
        "a/4": "best_of: not among the first 4",
    }
    assert out(BestOf(score="rm", draws=None), rows)["id"].to_list() == ["a/4", "b/0"]


def test_the_best_can_be_by_a_verdict_which_is_a_number_only_if_it_is_decided() -> None:
    rows = samples(
        sample("a", 0, verdict=None), sample("a", 1, verdict=WRONG), sample("a", 2, verdict=RIGHT),
        sample("b", 0, verdict=WRONG, scores=(Score("judge", None, RIGHT),)), sample("b", 1, verdict=RIGHT),
    )  # fmt: skip
    assert out(BestOf(score="verdict"), rows)["id"].to_list() == ["a/2", "b/1"]
    assert rejected(BestOf(score="verdict"), rows)["a/0"] == "best_of: no score 'verdict'"
    assert out(BestOf(score="judge"), rows)["id"].to_list() == ["b/0"]


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.none() | st.integers(-2, 2)), max_size=10))
def test_one_of_each_problem_that_has_a_score(rows: list[tuple[str, int | None]]) -> None:
    made = [
        sample(p, i, scores=() if v is None else (Score("rm", float(v)),)) for i, (p, v) in enumerate(rows)
    ]
    stage = BestOf(score="rm", draws=None)
    kept = out(stage, samples(*made))
    best = {p: max(v for q, v in rows if q == p and v is not None) for p, v in rows if v is not None}
    assert {r["problem_id"]: r["scores"][0]["value"] for r in kept.iter_rows(named=True)} == best
    assert rejected(stage, kept.lazy()) == {} and len(kept) == len(best)
