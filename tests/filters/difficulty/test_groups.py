"""Groups, budgets, settings and domains."""

from __future__ import annotations

import random
from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_rows import RIGHT, WRONG, called, counted, out, problems, rejected, sample, samples

from gristmill.core.errors import GristmillError, RecipeError
from gristmill.core.records import Sampled, Score, score_of
from gristmill.core.schema import from_frame
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.filters import BalancedGroups, BalanceDomains, BalanceScore, SamplingBudget
from gristmill.filters.difficulty import (
    balance_score,
    budgets,
    excess_weights,
    measured_weights,
    replay_weights,
    spread,
)

ODD = Verdict(Outcome.ERROR)


def test_a_group_carries_the_pool_that_it_is_from() -> None:
    rows = samples(*(sample("a", i, verdict=v) for i, v in enumerate([RIGHT] * 2 + [WRONG] * 10 + [ODD])))
    made = from_frame(out(BalancedGroups(size=6), rows), Sampled)
    assert Counter(s.verdict.outcome for s in made if s.verdict) == {"correct": 2, "incorrect": 4}
    means, counts = ([score_of(s, name) for s in made] for name in ("pool_mean", "pool_count"))
    assert {s.value for s in means if s} == {2 / 12} and {s.value for s in counts if s} == {12.0}
    assert rejected(BalancedGroups(size=6), rows)["a/12"] == "balanced_groups: the verdict is not decided"


def test_a_group_of_one_kind_teaches_nothing() -> None:
    rows = samples(
        *(sample("a", i) for i in range(4)),
        *(sample("b", i, verdict=(RIGHT, WRONG)[i % 2]) for i in range(3)),
    )
    assert set(out(BalancedGroups(size=2), rows)["problem_id"]) == {"b"}
    assert len(out(BalancedGroups(size=4, alike="keep", short="reject"), rows)) == 4
    assert "fewer than 4 decided" in rejected(BalancedGroups(size=4, short="reject"), rows)["b/0"]


@settings(max_examples=15, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([RIGHT, WRONG, ODD, None])), max_size=24),
    size=st.integers(2, 7),
    seed=st.integers(0, 3),
)
def test_groups_are_as_even_as_the_pool_admits(
    rows: list[tuple[str, Verdict | None]], size: int, seed: int
) -> None:
    made = [sample(p, i, verdict=v) for i, (p, v) in enumerate(rows)]
    stage = BalancedGroups(size=size)
    kept = out(stage, samples(*made), seed=seed)
    assert len(kept) + len(rejected(stage, samples(*made), seed=seed)) == len(made)
    for problem in "ab":
        right, wrong = (sum(p == problem and v is kind for p, v in rows) for kind in (RIGHT, WRONG))
        mine = [s for s in from_frame(kept, Sampled) if s.problem_id == problem]
        got = Counter(s.verdict.correct for s in mine if s.verdict)
        if not right or not wrong:
            assert not mine
            continue
        assert len(mine) == min(size, right + wrong)
        assert got[True] >= min(right, size - size // 2) and got[False] >= min(wrong, size // 2)
    mixed = random.Random(seed).sample(made, len(made))
    assert set(out(stage, samples(*mixed), seed=seed)["id"]) == set(kept["id"])


@settings(max_examples=80, deadline=None)
@given(
    weights=st.lists(st.floats(0, 10), min_size=1, max_size=8),
    least=st.integers(0, 2),
    room=st.integers(0, 10),
    share=st.floats(0, 1),
)
def test_budgets_spend_all_within_their_bounds(
    weights: list[float], least: int, room: int, share: float
) -> None:
    most = least + room
    total = len(weights) * least + round(share * len(weights) * room)
    made = budgets(weights, total, least=least, most=most)
    assert sum(made) == total and all(least <= n <= most for n in made)
    for (w, n), (v, m) in (
        (a, b) for a in zip(weights, made, strict=True) for b in zip(weights, made, strict=True)
    ):
        assert w <= v or n >= m - 1, (weights, made)  # a larger weight gets no less, to a rounding
        assert v >= w or n >= m - 1


def test_budgets_are_the_best_that_whole_numbers_can_do() -> None:
    """Against all ways to divide 9 draws: the variance is the least, to a rounding."""
    weights = [0.5, 0.3, 0.1]
    made = budgets(weights, 9, least=1)

    def variance(ns: tuple[int, ...] | list[int]) -> float:
        return sum(w * w / n for w, n in zip(weights, ns, strict=True))

    best = min(((a, b, 9 - a - b) for a in range(1, 8) for b in range(1, 9 - a)), key=variance)
    assert variance(made) == pytest.approx(variance(best)) and variance(made) < variance([3, 3, 3])
    assert budgets([0.0, 0.0], 4) == [2, 2]
    with pytest.raises(ValueError, match="9 draws for 2 problems"):
        budgets([1.0, 1.0], 9, most=4)


def test_sampling_budget_gives_most_to_what_is_least_certain() -> None:
    rows = pl.LazyFrame({"id": ["a", "b", "c"], "right": [8, 4, 0], "decided": [8, 8, 8]})
    made = out(SamplingBudget(mean=8, most=32), rows)["budget"].to_list()
    assert made[1] > made[0] == made[2] > 1 and sum(made) == 24
    assert spread(0, 8) > 0 and spread(0, 0) == 0.5
    with pytest.raises(RecipeError, match="no column 'right'"):
        called(SamplingBudget(), problems("a"))
    with pytest.raises(RecipeError, match="not between least"):
        SamplingBudget(mean=100)


def test_b_star() -> None:
    given = [(6, 8), (3, 4), (8, 16), (0, 5)]
    scores = [balance_score(right, selected) for right, selected in given]
    assert scores == [0.75, 0.375, 0.5, 0.0] and sum(scores) / 4 == 0.40625
    assert balance_score(6, 8, 8) == 0.5625 and balance_score(0, 0) == 0.0
    with pytest.raises(ValueError, match="3 right of 2"):
        balance_score(3, 2)


def test_b_star_chooses_the_setting_and_the_threshold() -> None:
    def drawn(model: str, problem: str, right: int, wrong: int) -> list[Sampled]:
        made = [RIGHT] * right + [WRONG] * wrong + [ODD]
        return [
            sample(
                f"{model}-{problem}",
                i,
                verdict=v,
                model=model,
                scores=(Score("prm", 0.5 if v is RIGHT else -0.5),),
            )
            for i, v in enumerate(made)
        ]

    rows = samples(
        *drawn("cold", "p", 6, 2),
        *drawn("cold", "q", 0, 5),
        *drawn("hot", "p", 3, 1),
        *drawn("hot", "q", 8, 8),
    )
    made = out(BalanceScore(thresholds=(-1.0, 0.0), score="prm"), rows)
    assert made.select("id", "problems", "balance", "best").rows() == [
        ("cold/-1.0", 2, 0.375, False),
        ("cold/0.0", 2, 0.5, False),
        ("hot/-1.0", 2, pytest.approx((0.375 + 0.5) / 2), False),
        ("hot/0.0", 2, pytest.approx((0.5 + 1) / 2), True),
    ]


def test_domains_get_their_shares() -> None:
    rows = counted(*[(None, None, "math")] * 8, *[(None, None, "code")] * 4, (None, None, None))
    made = out(BalanceDomains(by="word"), rows)
    assert Counter(made["word"].to_list()) == {"math": 4, "code": 4}
    assert rejected(BalanceDomains(by="word"), rows)["r12"] == "balance_domains: the domain is null"
    weighted = BalanceDomains(by="word", weights={"math": 3, "code": 1})
    assert Counter(out(weighted, rows)["word"].to_list()) == {"math": 8, "code": 3}
    assert "code has no share" in str(rejected(BalanceDomains(by="word", weights={"math": 1}), rows))
    with pytest.raises(GristmillError, match="no row is of maths"):
        called(BalanceDomains(by="word", weights={"maths": 1}), rows)
    with pytest.raises(RecipeError, match="these rows have no verdict"):
        called(BalanceDomains(by="word", rule="failure"), rows)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.none() | st.sampled_from("abc"), max_size=16), st.integers(0, 3))
def test_equal_domains_have_as_many_rows_whatever_the_order(words: list[str | None], seed: int) -> None:
    rows = counted(*((None, None, word) for word in words))
    stage = BalanceDomains(by="word")
    kept = out(stage, rows, seed=seed)
    counts = Counter(word for word in words if word is not None)
    assert Counter(kept["word"].to_list()) == dict.fromkeys(counts, min(counts.values(), default=0))
    assert len(kept) + len(rejected(stage, rows, seed=seed)) == len(words)
    assert rejected(stage, kept.lazy(), seed=seed) == {}  # twice is once
    assert set(out(stage, rows.reverse(), seed=seed)["id"]) == set(kept["id"])


def test_domains_by_what_was_measured() -> None:
    def drawn(subject: str, right: int, wrong: int) -> list[Sampled]:
        made = [RIGHT] * right + [WRONG] * wrong
        return [sample(subject, i, verdict=v, meta=f'{{"s": "{subject}"}}') for i, v in enumerate(made)]

    rows = samples(*drawn("easy", 36, 4), *drawn("hard", 10, 30))
    made = out(BalanceDomains(by="meta.s", rule="failure", floor=0.0), rows)
    # Failure of .1 and .75: 40 of the hard one, and two fifteenths as many of the easy one.
    assert Counter(made["problem_id"].to_list()) == {"hard": 40, "easy": 5}
    counts = {"a": (0, 0), "b": (4, 4)}
    assert measured_weights(counts, "learnability", 0.0) == {"a": 1.0, "b": 0.0}
    assert measured_weights({"a": (4, 4)}, "failure") == {"a": 1.0}


def test_a_domain_that_is_being_forgotten_comes_back() -> None:
    before = {"old": 0.2, "new": 0.8}
    after = excess_weights(before, {"old": 2.0, "new": 1.0}, {"old": 1.0, "new": 1.5})
    assert after["old"] > 0.2 and sum(after.values()) == pytest.approx(1)
    same = excess_weights(before, {"old": 1.0, "new": 1.0}, {"old": 1.0, "new": 1.0}, floor=0.0)
    assert same == pytest.approx(before)
    assert excess_weights({"a": 0.0, "b": 1.0}, {"a": 9, "b": 0}, {"a": 0, "b": 0}, floor=0.1)["a"] == 0.05
    with pytest.raises(ValueError, match="domains differ"):
        excess_weights(before, {"old": 1.0}, before)


def test_replay_turns_to_what_lags_or_swings() -> None:
    made = replay_weights({"done": [2.0, 1.0, 0.5, 0.25], "stuck": [1.0] * 4, "wild": [1.0, 2.0, 1.0, 2.0]})
    assert made["wild"] > made["stuck"] > made["done"] and sum(made.values()) == pytest.approx(1)
    assert replay_weights({}) == {}
    with pytest.raises(ValueError, match="two or more losses above 0"):
        replay_weights({"a": [1.0]})
