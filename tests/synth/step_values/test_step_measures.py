"""Measures of step labels and ways to choose among solutions, against vectors and brute force."""

from __future__ import annotations

import math
import random
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.synth.step_values.aggregate import RULES, aggregate
from gristmill.synth.step_values.measures import (
    Place,
    auc,
    auc_within,
    by_position,
    first_wrong,
    grouped,
    interval,
    label_error,
    locations,
    process_bench,
    read_location,
    report,
    vote,
)
from gristmill.synth.step_values.selection import Candidate, best_of, majority, pass_at


def bench(error: tuple[int, int], correct: tuple[int, int]) -> Any:
    """The score where so many of so many wrong and right solutions are judged rightly."""
    wrong = [(3, 3)] * error[0] + [(3, 2)] * (error[1] - error[0])
    right = [(-1, -1)] * correct[0] + [(-1, 0)] * (correct[1] - correct[0])
    return process_bench(wrong + right)


def test_f1_of_the_reference() -> None:
    found = bench((6, 10), (9, 10))
    assert (found.error, found.correct) == (0.6, 0.9)
    assert found.f1 == pytest.approx(0.72)
    assert (found.wrong, found.right, found.unread) == (10, 10, 0)


def test_empty_subsets_and_nothing_found_are_no_nan() -> None:
    assert (bench((3, 4), (0, 0)).f1, bench((3, 4), (0, 0)).correct) == (None, None)
    assert (bench((0, 0), (3, 4)).f1, bench((0, 0), (3, 4)).error) == (None, None)
    assert process_bench([]).f1 is None
    assert bench((0, 4), (0, 4)).f1 == 0.0
    assert bench((0, 4), (4, 4)).f1 == 0.0


def test_what_could_not_be_read_matches_nothing() -> None:
    found = process_bench([(2, None), (-1, None), (2, 2), (-1, -1), (-1, -7)])
    assert (found.error, found.correct, found.unread) == (0.5, 2 / 3, 2)


@pytest.mark.parametrize(
    ("predicted", "location"),
    [
        (2, 2),
        ("2", 2),
        (" 02 ", 2),
        ("-1", -1),
        ("None", -1),
        ("I say \\boxed{1}, no, \\boxed{3}.", 3),
        ("\\boxed{\\text{4}}", 4),  # a box that nests braces, which the authors' expression misses
        ("\\boxed{none}", -1),
        ("\\boxed{step 3}", None),
        ("\\boxed{3", None),
        ("paragraph 3", None),
        ("9" * 5000, None),
        ("٣", None),
        ("", None),
        (None, None),
        (True, None),
    ],
)
def test_reading_a_prediction(predicted: Any, location: int | None) -> None:
    assert read_location(predicted) == location


def test_votes_are_of_numbers_and_the_first_seen_wins_a_tie() -> None:
    assert vote(["2", "02", "5", "5", "\\boxed{2}"]) == 2  # as strings, "5" would win
    assert vote([None, "?", None, 4]) == 4
    assert vote(["7", 3, "3", 7]) == 7
    assert vote([None, "?"]) is None
    assert vote([]) is None


def test_the_first_wrong_step() -> None:
    assert first_wrong([1, 0.5, 0.0, 0.3]) == 2
    assert first_wrong([0.9, 0.4], threshold=0.5) == 1
    assert first_wrong([0.1]) == -1 and first_wrong([]) == -1


def test_the_precision_report() -> None:
    pairs = [(-1, -1), (-1, -1), (-1, 2), (2, 2), (2, -1), (0, None), (None, 2), (None, None)]
    found = locations(pairs)
    assert found.places == (Place(-1, 3, 3, 2), Place(2, 2, 2, 1))
    assert (found.read, found.unread, found.unknown) == (5, 1, 2)
    assert [(p.precision, p.recall) for p in found.places] == [(2 / 3, 2 / 3), (0.5, 0.5)]
    assert report(locations([(-1, 0)]))[1:] == [
        ("none", "1", "0", "0", "-", "0.000"),
        ("step 0", "0", "1", "0", "0.000", "-"),
    ]


def test_auc_counts_ties_for_one_half() -> None:
    assert auc([0.9, 0.5], [0.5, 0.1]) == 3.5 / 4
    assert auc([1], [0]) == 1.0 and auc([0], [1]) == 0.0 and auc([1, 1], [1]) == 0.5
    assert auc([], [1]) is None and auc([1], []) is None


@settings(max_examples=100)
@given(st.lists(st.integers(0, 4), min_size=1), st.lists(st.integers(0, 4), min_size=1))
def test_auc_is_the_share_of_pairs(right: list[int], wrong: list[int]) -> None:
    pairs = [(r > w) + (r == w) / 2 for r in right for w in wrong]
    assert auc(right, wrong) == pytest.approx(sum(pairs) / len(pairs))


def test_auc_within_a_problem_ignores_its_difficulty() -> None:
    easy, hard = ([0.9], [0.95]), ([0.1], [0.2])
    assert auc([0.9, 0.1], [0.95, 0.2]) == 0.25
    assert auc_within([easy, hard]) == 0.0
    assert auc_within([([0.5], []), ([], [0.5])]) is None
    rows = [("a", True, [0.9]), ("b", True, [0.1]), ("a", False, [0.95]), ("a", True, [0.7])]
    assert grouped(rows) == {"a": ([0.9, 0.7], [0.95]), "b": ([0.1], [])}


def test_label_error_is_of_the_steps_that_are_labelled() -> None:
    assert label_error([((1, 1, 0, 0), 2)]) == 0
    assert label_error([((1, 0, 0, 0), 2), ((1, 1), -1)]) == 1 / 6
    assert label_error([((1, 0), 2)]) == 1 / 2  # cut behind its error: two steps are labelled
    assert label_error([((0.6, 0.4), -1)], threshold=0.5) == 0.5
    assert label_error([]) is None


def test_labels_by_position() -> None:
    assert by_position([(1, 1, 0), (0,), (1, 0.5)]) == [(2, 1), (2, 0), (0, 1)]
    assert by_position([]) == []


def test_an_interval_of_a_mean_is_wilsons_of_the_trials_that_its_variance_amounts_to() -> None:
    binary = [1.0] * 70 + [0.0] * 30
    trials = 100 * (0.3 * 0.7) / (0.3 * 0.7 * 100 / 99)  # 99: the sample variance divides by n - 1
    low, high = interval(binary) or (1, 0)
    assert (low, high) == pytest.approx(wilson_of(0.7, trials, 1.98422), abs=1e-5)
    assert interval([0.5, 0.5, 0.5, 0.5]) == pytest.approx(wilson_of(0.5, 4, 3.18), abs=1e-2)
    ends = interval([1.0] * 20)
    assert ends is not None and ends[1] == 1 and ends[0] == pytest.approx(0.82, abs=0.01)
    assert interval([]) is None
    assert interval([0.2]) is not None


def wilson_of(mean: float, trials: float, z: float) -> tuple[float, float]:
    spread = z * z / trials
    half = math.sqrt(mean * (1 - mean) * spread + spread**2 / 4)
    return (mean + spread / 2 - half) / (1 + spread), (mean + spread / 2 + half) / (1 + spread)


@pytest.mark.parametrize(("rate", "size"), [(0.7, 40), (0.95, 60)])
def test_an_interval_of_a_mean_holds_it_as_often_as_it_says(rate: float, size: int) -> None:
    rng = random.Random(3)
    held = 0
    for _ in range(2000):
        low, high = interval([float(rng.random() < rate) for _ in range(size)]) or (1, 0)
        held += low <= rate <= high
    assert 0.93 <= held / 2000 <= 0.975


def candidates(*given: tuple[float, bool, Any]) -> list[Candidate]:
    return [Candidate((score,), right, answer) for score, right, answer in given]


def made_up(count: int, seed: int) -> list[Candidate]:
    rng = random.Random(seed)
    answers = [rng.randrange(3) for _ in range(count)]
    return [
        Candidate(tuple(rng.choice((0.1, 0.5, 0.9)) for _ in range(rng.randrange(4))), a == 0, a or "a")
        for a in answers
    ]


def test_pass_at_n_is_unbiased() -> None:
    found = candidates((0, True, 1), (0, False, 2), (0, False, 3), (0, False, 4))
    assert [pass_at(found, n) for n in (1, 2, 3, 4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert pass_at(found[1:], 3) == 0
    with pytest.raises(ValueError, match="5 of 4"):
        pass_at(found, 5)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n", [1, 2, 4, 6])
def test_best_of_n_is_the_mean_over_all_subsets(rule: Any, n: int) -> None:
    found = made_up(6, seed=n)
    hits = []
    for subset in combinations(found, n):
        scores = [aggregate(c.values, rule) for c in subset]
        hits.append(subset[scores.index(max(scores))].right)
    assert best_of(found, rule, n) == pytest.approx(sum(hits) / len(hits))
    assert 0 <= best_of(found, rule, n) <= pass_at(found, n) <= 1


def test_the_first_of_equal_scores_is_chosen() -> None:
    assert best_of(candidates((0.5, True, 1), (0.5, False, 2)), "min", 2) == 1
    assert best_of(candidates((0.5, False, 2), (0.5, True, 1)), "min", 2) == 0


def test_the_rules_of_the_vote_vector_name_different_winners() -> None:
    # (answer, weight): (7, .9) (9, .5) (9, .3) (7, .1) (3, .7): by count a tie, by sum 7.
    votes = [(0.9, 7), (0.5, 9), (0.3, 9), (0.1, 7), (0.7, 3)]
    for truth, plain, weighted in ((7, 0.5, 1.0), (9, 0.5, 0.0), (3, 0.0, 0.0)):
        found = candidates(*((w, answer == truth, answer) for w, answer in votes))
        assert majority(found, 5, seed=0) == plain
        assert majority(found, 5, seed=0, rule="product") == weighted


@pytest.mark.parametrize("rule", ["product", "geometric"])
def test_long_solutions_are_told_apart_though_their_product_is_0_as_a_float(rule: Any) -> None:
    worse, better = (Candidate((v,) * 5000, right, right) for v, right in ((0.1, False), (0.2, True)))
    assert best_of([worse, better], rule, 2) == 1
    assert majority([worse, better], 2, seed=0, rule=rule) == 1


def test_tiny_weights_are_no_tie() -> None:
    worse, better = (Candidate((v,) * 20, right, right) for v, right in ((0.1, False), (0.2, True)))
    assert majority([worse, better], 2, seed=0, rule="product") == 1
    never = [Candidate((0.0,), right, right) for right in (False, True)]
    assert majority(never, 2, seed=0, rule="product") == 0.5


def test_unreadable_answers_have_no_vote() -> None:
    found = candidates((1, False, None), (1, False, None), (1, True, "4"))
    assert majority(found, 3, seed=0) == 1
    assert majority(found[:2], 2, seed=0) == 0


def test_an_equal_sum_of_weights_is_a_tie_whatever_the_order() -> None:
    found = candidates((0.1, True, 1), (0.2, True, 1), (0.3, False, 2))  # 0.1 + 0.2 != 0.3 in floats
    assert majority(found, 3, seed=0, rule="mean") == 0.5


@pytest.mark.parametrize("rule", [None, *RULES])
def test_a_vote_of_fewer_is_the_mean_over_their_subsets(rule: Any) -> None:
    found = made_up(8, seed=5)
    exact = majority(found, 4, seed=0, rule=rule, draws=70)
    assert exact == majority(found, 4, seed=99, rule=rule, draws=70)  # all 70 subsets: no draw is made
    sampled = majority(found, 4, seed=0, rule=rule, draws=60)
    assert sampled == majority(found, 4, seed=0, rule=rule, draws=60)
    assert sampled == pytest.approx(exact, abs=0.2)
    assert majority(found, 1, seed=0, rule=rule) == pytest.approx(pass_at(found, 1))


def test_log_odds_weigh_a_vote_by_their_probability() -> None:
    sure = Candidate((1.0,) * 200, True, 1)
    doubtful = Candidate((0.0,) * 200, False, 2)
    assert majority([doubtful, doubtful, sure], 3, seed=0, rule="logits") == 1
    assert math.isfinite(majority([doubtful], 1, seed=0, rule="logits"))
