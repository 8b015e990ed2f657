"""Weights of samples in a vote: the vectors of the methods, degenerate cases, and no say of the order."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.synth.agreement import borda_weights, fit, model_weights, path_weights, pruned
from gristmill.synth.agreement.mixture import Mixture, WeibullPart, mixture_of
from gristmill.verifiers.rules.votes import Totalling, Votes, group_texts, vote

FIXED = mixture_of(0.5, WeibullPart(1.5, 0.3), WeibullPart(4.0, 0.8))
PATHS = [("7", -0.4), ("7", -0.9), ("9", -0.2), ("9", -1.5), ("3", -2.0)]


def by_label(answers: list[str], votes: Votes) -> dict[str, float]:
    return {answers[one[0]]: total for one, total in zip(votes.classes, votes.totals, strict=True)}


def test_four_rules_have_three_winners() -> None:
    answers, weights = ["7", "9", "9", "7", "3"], [0.9, 0.5, 0.3, 0.1, 0.7]
    expected: dict[Totalling, dict[str, float]] = {
        "count": {"7": 2, "9": 2, "3": 1},
        "sum": {"7": 1.0, "9": 0.8, "3": 0.7},
        "mean": {"7": 0.5, "9": 0.4, "3": 0.7},
        "log_odds": {"7": 0.0, "9": -0.847298, "3": 0.847298},
    }
    for tally, totals in expected.items():
        votes = vote(answers, weights, tally=tally)
        assert by_label(answers, votes) == pytest.approx(totals, abs=1e-6), tally
    assert vote(answers, weights, tally="count").tied == (0, 1)
    winners = [vote(answers, weights, tally=tally).winner for tally in ("sum", "mean", "log_odds")]
    assert winners == [0, 2, 2]


def test_log_odds_of_certain_weights_are_finite_and_of_others_refused() -> None:
    votes = vote(["1", "2"], [1.0, 0.0], tally="log_odds")
    assert votes.winner == 0 and all(map(math.isfinite, votes.totals))
    with pytest.raises(ValueError, match="not a probability"):
        vote(["1"], [1.5], tally="log_odds")


def test_a_rounding_error_breaks_no_tie_and_a_tie_has_fractional_credit() -> None:
    votes = vote(["1", "1", "2"], [0.1, 0.2, 0.3])
    assert votes.tied == (0, 1)
    assert votes.credit([True, False]) == 0.5
    assert votes.credit([True, None]) is None
    assert vote(["1", "1", "2"]).credit([False, True]) == 0
    assert vote([None]).credit([]) is None


@pytest.mark.parametrize(("power", "a", "b"), [(0, 3, 1), (0.5, 4.146264, 2), (1, 6, 4), (2, 14, 16)])
def test_borda_votes(power: float, a: float, b: float) -> None:
    answers = ["b", "a", "a", "a"]
    weights = borda_weights(answers, [0.9, 0.7, 0.8, 0.6], power)
    assert by_label(answers, vote(answers, weights, group=group_texts)) == pytest.approx({"a": a, "b": b})


def test_only_samples_with_answer_and_score_are_ranked_and_equal_scores_share() -> None:
    assert borda_weights(["a", None, "b", "c"], [0.1, 0.9, 0.5, math.nan], 1) == [1, 0, 2, 0]
    assert borda_weights(["a", "b", "c"], [0.5, 0.5, 0.1], 1) == [2.5, 2.5, 1]
    with pytest.raises(ValueError, match="give one for each"):
        borda_weights(["a"], [])
    with pytest.raises(ValueError, match="at least 0"):
        borda_weights(["a"], [1.0], -1)


def test_models_count_as_much_as_they_agree_with_themselves() -> None:
    answers = ["a", "a", "a", "b", "b", "b", "a", "c"]
    weights = model_weights(answers, ["1"] * 4 + ["2"] * 4, group=group_texts)
    votes = vote(answers, weights, group=group_texts)
    assert by_label(answers, votes) == {"a": 2.75, "b": 1.75, "c": 0.5}
    assert votes.winner == 0


def test_a_model_that_rarely_answers_counts_little() -> None:
    weights = model_weights(["a", None, None, None, "b", "b"], ["1"] * 4 + ["2"] * 2, group=group_texts)
    assert weights == [0.25, 0, 0, 0, 1, 1]


def paths_of(*, prune: bool = False, mixture: Mixture | None = None) -> dict[str, float]:
    answers, logprobs = [a for a, _ in PATHS], [p for _, p in PATHS]
    weights = path_weights(answers, logprobs, list("vwxyz"), prune=prune, mixture=mixture)
    return by_label(answers, vote(answers, weights))


def test_perplexity_consistency() -> None:
    found = paths_of()
    assert found == pytest.approx({"7": 1.07689, "9": 1.041861, "3": 0.135335}, abs=1e-6)
    shares = [total / sum(found.values()) for total in found.values()]
    assert shares == pytest.approx([0.47775, 0.46221, 0.06004], abs=1e-5)


def test_pruning_changes_the_winner() -> None:
    assert (FIXED.high.mean, FIXED.low.mean) == pytest.approx((0.725122, 0.270824), abs=1e-6)
    posteriors = {
        0.135335: 0.009657,
        0.22313: 0.04534,
        0.40657: 0.338144,
        0.67032: 0.871523,
        0.818731: 0.951613,
    }
    for p, expected in posteriors.items():
        assert FIXED.posterior(p) == pytest.approx(expected, abs=2e-6)
    paths = [math.exp(p) for _, p in PATHS]
    assert sum(paths) / 5 == pytest.approx(0.450817, abs=1e-6)
    assert pruned(paths, FIXED) == [1, 3, 4]
    found = paths_of(prune=True, mixture=FIXED)
    assert found["7"] / (found["7"] + found["9"]) == pytest.approx(0.450166, abs=1e-6)
    assert found["3"] == 0


def test_a_path_counts_once_and_what_is_no_probability_never() -> None:
    answers = ["7", "7", "9", "9", None]
    texts = ["same", "same", "other", "third", "fourth"]
    weights = path_weights(answers, [-0.5, -0.5, -math.inf, math.nan, -0.1], texts)
    assert weights == pytest.approx([math.exp(-0.5), 0, 0, 0, 0])
    with pytest.raises(ValueError, match="above 0"):
        path_weights(["7"], [0.5], ["x"])


@pytest.mark.parametrize(
    "paths",
    [[], [0.5], [0.5] * 20, [0.2, 0.5, 0.8], [0.5 + 1e-12 * i for i in range(20)], [0.3] * 10 + [0.7] * 10],
)
def test_a_fit_to_too_little_prunes_nothing(paths: list[float]) -> None:
    assert fit(paths) is None
    assert pruned(paths, fit(paths)) == []


def test_the_fit_finds_two_groups_of_paths() -> None:
    draws = random.Random(3)
    paths = [min(1.0, draws.weibullvariate(0.2, 3)) for _ in range(60)]
    paths += [min(1.0, draws.weibullvariate(0.8, 12)) for _ in range(60)]
    found = fit(paths)
    assert found is not None
    assert found.high.mean == pytest.approx(0.77, abs=0.05) and found.low.mean == pytest.approx(
        0.18, abs=0.05
    )
    kept = set(range(120)) - set(pruned(paths, found))
    assert len(kept & set(range(60))) <= 3 and len(kept & set(range(60, 120))) >= 57
    with pytest.raises(ValueError, match=r"not in \(0, 1\]"):
        fit([0.5, 0.0])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1e-300, 1.0), max_size=30))
def test_the_fit_never_fails_and_the_best_path_stays(paths: list[float]) -> None:
    gone = pruned(paths, fit(paths))
    assert not paths or paths.index(max(paths)) not in gone


CASTS = st.lists(
    st.tuples(
        st.sampled_from(["1", "2", "3", None]),
        st.floats(-5, 0),
        st.sampled_from("xyz"),
        st.integers(0, 10**6),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda cast: cast[3],
)


@settings(max_examples=60, deadline=None)
@given(CASTS, st.randoms(use_true_random=False))
def test_the_order_of_samples_decides_nothing(
    casts: list[tuple[str | None, float, str, int]], draws: random.Random
) -> None:
    def totals(order: list[tuple[str | None, float, str, int]]) -> list[dict[str, float]]:
        answers, scores = [c[0] for c in order], [c[1] for c in order]
        models, texts = [c[2] for c in order], [str(c[3]) for c in order]
        weighed = [
            borda_weights(answers, scores, 0.7),
            model_weights(answers, models, group=group_texts),
            path_weights(answers, scores, texts),
            path_weights(answers, scores, texts, prune=True, mixture=FIXED),
        ]
        return [by_label([a or "" for a in answers], vote(answers, w, group=group_texts)) for w in weighed]

    other = list(casts)
    draws.shuffle(other)
    for one, two in zip(totals(casts), totals(other), strict=True):
        assert one == pytest.approx(two, abs=1e-12)
