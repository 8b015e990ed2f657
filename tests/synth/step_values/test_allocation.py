"""The schemes on oracles whose every outcome is known, the posterior against its definition."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.core.errors import RecipeError
from gristmill.core.steps import Tally
from gristmill.synth.step_values.allocation import Allocation, Decision, Outcomes, exceeds
from gristmill.synth.step_values.posterior import alone, evidence, gain, one_error, share_below

Oracle = Callable[[int, int], bool | None]
"""What comes of rollout ``i`` of prefix ``index``."""
UNIFORM = (1.0, 1.0)


def run(
    allocation: Allocation, prefixes: int, oracle: Oracle, solved: bool = False
) -> tuple[Decision, list[list[bool | None]], list[int]]:
    """The end, all outcomes, and the prefixes in the order in which they were first drawn from (in steps)."""
    seen: list[list[bool | None]] = [[] for _ in range(prefixes)]
    order: list[int] = []
    while (decision := allocation.decide(seen, solved)).draws:
        assert not decision.stopped
        for index, n in decision.draws:
            assert n > 0
            if not seen[index]:
                order.append(index + 1)
            seen[index] += [oracle(index, len(seen[index]) + i) for i in range(n)]
    assert decision.stopped
    return decision, seen, order


def first_error_at(step: int) -> Oracle:
    """Every rollout from a prefix that ends before ``step`` (from 1) is right, every other one wrong."""
    return lambda index, i: index + 1 < step


def total(seen: Sequence[Outcomes]) -> int:
    return sum(map(len, seen))


@pytest.mark.parametrize(
    ("error", "looked"), [(1, [4, 2, 1]), (4, [4, 2, 3]), (7, [4, 6, 7]), (8, [4, 6, 7])]
)
def test_binary_search_evaluates_the_prefixes_of_the_vector(error: int, looked: list[int]) -> None:
    """C.1: M = 8, known wrong at the end, 3 evaluations of 8 rollouts each."""
    decision, seen, order = run(Allocation(scheme="binary", k=8, batch=8), 7, first_error_at(error))
    assert order == looked
    assert decision == Decision(stopped="located", first_error=error - 1)
    assert total(seen) == 24


def test_binary_search_over_20_steps_takes_4_4_evaluations() -> None:
    """C.1: 4.4 evaluations, 35.2 rollouts on average, where every step is as likely to be the first error."""
    runs = [run(Allocation(scheme="binary", k=8, batch=8), 19, first_error_at(e)) for e in range(1, 21)]
    assert sum(len(order) for _, _, order in runs) / 20 == 4.4
    assert sum(total(seen) for _, seen, _ in runs) / 20 == 35.2
    assert [d.first_error for d, _, _ in runs] == list(range(20))


@pytest.mark.parametrize(("steps", "cost"), [(8, 64), (20, 160)])
def test_fixed_costs_k_for_every_step_but_the_last_whose_verdict_is_known(steps: int, cost: int) -> None:
    decision, seen, _ = run(Allocation(k=8), steps - 1, first_error_at(3))
    assert total(seen) == cost - 8
    assert decision == Decision(stopped="drawn", first_error=2)


def test_one_right_rollout_ends_a_look_at_threshold_0() -> None:
    """Draws of 1, 1, 2, 4, 8: a right prefix is left after one, a wrong one after all 16."""
    _, seen, _ = run(Allocation(scheme="binary", batch=1), 7, first_error_at(7))
    assert [len(o) for o in seen] == [0, 0, 0, 1, 0, 1, 16]
    late = run(Allocation(scheme="binary", batch=1), 1, lambda index, i: i == 2)
    assert total(late[1]) == 4


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from([True, False, None]), min_size=16, max_size=16),
    st.sampled_from([0.0, 0.1, 0.125, 0.3, 0.5]),
    st.integers(1, 20),
)
def test_leaving_early_never_changes_a_label(
    outcomes: list[bool | None], threshold: float, batch: int
) -> None:
    full, _, _ = run(Allocation(threshold=threshold), 1, lambda index, i: outcomes[i])
    early, seen, _ = run(
        Allocation(scheme="binary", batch=batch, threshold=threshold), 1, lambda index, i: outcomes[i]
    )
    assert early.first_error == full.first_error
    assert total(seen) <= 16


def test_a_share_at_the_threshold_does_not_exceed_it() -> None:
    assert not exceeds(3, 10, 0.3)
    assert exceeds(4, 10, 0.3)
    assert not exceeds(0, 8, 0)
    assert exceeds(1, 8, 0)


def _allocations(least_k: int, *names: str) -> st.SearchStrategy[Allocation]:
    return st.builds(
        Allocation,
        scheme=st.sampled_from(names),
        k=st.integers(least_k, 40),
        batch=st.integers(1, 8),
        threshold=st.sampled_from([0.0, 0.125, 0.4]),
        monotone=st.booleans(),
        repeat=st.sampled_from([0, 4, 16]),
        max_rollouts=st.sampled_from([None, 5, 100]),
    )


# Fewer than 18 rollouts cannot decide at the default confidence.
schemes = _allocations(1, "fixed", "binary") | _allocations(18, "adaptive")


@settings(max_examples=100)
@given(schemes, st.integers(0, 12), st.booleans(), st.integers(0, 1 << 30), st.floats(0, 1))
def test_every_scheme_ends_within_its_bounds_on_any_outcomes(
    allocation: Allocation, prefixes: int, solved: bool, seed: int, chance: float
) -> None:
    rng = random.Random(seed)
    drawn = {(j, i): rng.random() < chance for j in range(prefixes) for i in range(60)}
    decision, seen, _ = run(allocation, prefixes, lambda index, i: drawn[index, i], solved)
    least, most = allocation.bounds(prefixes, solved)
    assert least <= total(seen) <= most
    assert all(len(o) <= allocation.cap + allocation.repeat for o in seen)
    assert decision.first_error is None or -1 <= decision.first_error <= prefixes


@settings(max_examples=100)
@given(schemes, st.integers(1, 12), st.data())
def test_every_scheme_finds_a_clear_first_error(
    allocation: Allocation, steps: int, data: st.DataObject
) -> None:
    error = data.draw(st.integers(1, steps))
    decision, _, _ = run(allocation, steps - 1, first_error_at(error))
    found = {"fixed": "drawn", "binary": "located", "adaptive": "decided"}[allocation.scheme]
    if decision.stopped == found:
        assert decision.first_error == error - 1
    else:
        assert decision.stopped in ("budget", "k")


def test_a_decision_depends_on_the_outcomes_alone() -> None:
    """A run that is broken off and resumed asks for what the unbroken one would have asked for."""
    allocation = Allocation(scheme="binary", repeat=8)
    _, seen, _ = run(allocation, 7, first_error_at(5))
    for kept in range(len(seen[4])):
        broken = [*seen[:4], seen[4][:kept], *seen[5:]]
        decision = allocation.decide(broken, False)
        assert {index for index, _ in decision.draws} == {4}


def test_the_budget_cuts_the_last_draw_and_leaves_the_error_undecided() -> None:
    decision, seen, _ = run(Allocation(k=8, max_rollouts=20), 7, first_error_at(5))
    assert [len(o) for o in seen] == [8, 8, 4, 0, 0, 0, 0]
    assert decision == Decision(stopped="budget", first_error=None)


@pytest.mark.parametrize("scheme", ["fixed", "binary", "adaptive"])
def test_rollouts_without_a_verdict_decide_nothing(scheme: str) -> None:
    allocation = msgspec.convert({"scheme": scheme, "k": 4, "confidence": 0.8}, Allocation)
    decision, seen, _ = run(allocation, 3, lambda index, i: None)
    assert decision.first_error is None
    assert total(seen) <= 12


def test_a_solution_that_ends_right_holds_no_error_to_search_for() -> None:
    for allocation in (Allocation(scheme="binary"), Allocation(scheme="adaptive")):
        assert allocation.decide([[]] * 7, True) == Decision(stopped="solved", first_error=-1)
    decision, seen, _ = run(Allocation(), 7, first_error_at(9), solved=True)
    assert (decision.first_error, total(seen)) == (-1, 112)


def test_a_check_overturns_a_lucky_prefix_and_the_search_goes_back() -> None:
    """First error at 3; prefixes 4 and 6 each succeed once by luck, in their first rollout."""
    lucky: Oracle = lambda index, i: index + 1 < 3 or (index + 1 in (4, 6) and i == 0)  # noqa: E731
    plain, _, _ = run(Allocation(scheme="binary"), 7, lucky)
    checked, _, _ = run(Allocation(scheme="binary", repeat=8), 7, lucky)
    assert plain.first_error == 6
    assert checked == Decision(stopped="located", first_error=2)


def test_a_check_overturns_an_unlucky_prefix_and_the_search_goes_on() -> None:
    """First error at 7; prefix 4 fails 16 times and then succeeds."""
    unlucky: Oracle = lambda index, i: index + 1 < 7 and (index + 1 != 4 or i >= 16)  # noqa: E731
    assert run(Allocation(scheme="binary"), 7, unlucky)[0].first_error == 3
    assert run(Allocation(scheme="binary", repeat=8), 7, unlucky)[0].first_error == 6


def test_a_right_prefix_behind_a_dip_shows_the_dip_to_be_right() -> None:
    """First error at 7; prefix 4 never succeeds, but 5 always does."""
    dip: Oracle = lambda index, i: index + 1 < 7 and index + 1 != 4  # noqa: E731
    assert run(Allocation(scheme="binary"), 7, dip)[0].first_error == 3
    assert run(Allocation(scheme="binary", repeat=8), 7, dip)[0].first_error == 6


def test_adaptive_begins_in_the_middle_and_draws_from_no_prefix_that_is_decided() -> None:
    decision, seen, order = run(Allocation(scheme="adaptive"), 7, first_error_at(6))
    assert order[0] in (3, 4, 5)
    assert decision == Decision(stopped="decided", first_error=5)
    before = [len(o) for o in seen[: order[0] - 1]]
    assert not any(before), "a right rollout proves what is before it"
    assert total(seen) < 56


def test_adaptive_without_structure_draws_all_undecided_prefixes_at_once() -> None:
    allocation = Allocation(scheme="adaptive", monotone=False)
    first = allocation.decide([[]] * 3, False)
    assert first.draws == ((0, 4), (1, 4), (2, 4))
    decision, seen, _ = run(allocation, 3, first_error_at(3))
    # 18 failures bring 1 / (18 + 2) = 5 %, not below; so five draws of four.
    assert [len(o) for o in seen] == [4, 4, 20]
    assert decision == Decision(stopped="decided", first_error=2)


def test_adaptive_says_none_where_k_rollouts_did_not_decide() -> None:
    # One right rollout in four: neither above a quarter for certain nor below it.
    allocation = Allocation(scheme="adaptive", k=8, threshold=0.25, confidence=0.9)
    decision, seen, _ = run(allocation, 1, lambda index, i: i % 4 == 0)
    assert (decision.stopped, decision.first_error) == ("k", None)
    assert max(map(len, seen)) == 8


@pytest.mark.parametrize(
    ("options", "k"),
    [
        ({"confidence": 0.99}, 99),
        ({"k": 4}, 18),
        ({"confidence": 0.999, "monotone": False}, 999),
        ({"k": 2, "threshold": 0.25, "confidence": 0.9}, 4),
    ],
)
def test_a_confidence_that_k_cannot_decide_is_refused_with_the_k_it_needs(
    options: dict[str, object], k: int
) -> None:
    with pytest.raises(RecipeError, match=f"Set k to at least {k},"):
        msgspec.convert({"scheme": "adaptive", **options}, Allocation)
    fits = msgspec.convert({"scheme": "adaptive", **options, "k": k}, Allocation)
    for right in (False, True):  # all rollouts alike end decided, and one fewer does not
        assert run(fits, 1, lambda index, i, right=right: right)[0].stopped == "decided"  # type: ignore[misc]
    for scheme in ("fixed", "binary"):
        msgspec.convert({**options, "scheme": scheme}, Allocation)


def test_share_below_is_the_incomplete_beta_function() -> None:
    for x in (0.0, 0.05, 0.3, 0.5, 0.97, 1.0):
        assert share_below(x, 1, 1) == pytest.approx(x, abs=1e-14)
        assert share_below(x, 2, 2) == pytest.approx(3 * x**2 - 2 * x**3, abs=1e-14)
        # I_x(a, b) = P(Binomial(a + b - 1, x) >= a) for whole a and b.
        a, b = 7, 58
        exact = sum(math.comb(a + b - 1, i) * x**i * (1 - x) ** (a + b - 1 - i) for i in range(a, a + b))
        assert share_below(x, a, b) == pytest.approx(exact, rel=1e-11)
        assert share_below(x, 0.6, 1.2) + share_below(1 - x, 1.2, 0.6) == pytest.approx(1)


def test_evidence_is_the_mean_likelihood_over_each_side_of_the_threshold() -> None:
    none = evidence(Tally(0, 5), 0.0, UNIFORM)
    assert none.wrong == 0.0
    assert none.right == pytest.approx(math.log(1 / 6))
    assert evidence(Tally(1, 5), 0.0, UNIFORM).wrong == -math.inf
    theta, n = 0.25, 20_000
    for c, k in ((0, 6), (2, 8), (8, 8)):
        points = [(i + 0.5) / n for i in range(n)]
        each = [p**c * (1 - p) ** (k - c) for p in points]
        wrong, right = each[: int(theta * n)], each[int(theta * n) :]
        found = evidence(Tally(c, k), theta, UNIFORM)
        assert math.exp(found.wrong) == pytest.approx(sum(wrong) / len(wrong), rel=1e-5)
        assert math.exp(found.right) == pytest.approx(sum(right) / len(right), rel=1e-5)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=6))
def test_one_error_equals_the_sum_over_all_places(counts: list[tuple[int, int]]) -> None:
    tallies = [Tally(c, c + f) for c, f in counts]
    seen = [evidence(t, 0.0, UNIFORM) for t in tallies]

    def likelihood(error: int) -> Fraction:
        product = Fraction(1)
        for j, t in enumerate(tallies):
            if j < error:  # the mean of p^c (1 - p)^(n - c) over p in (0, 1)
                product *= Fraction(1, (t.decided + 1) * math.comb(t.decided, t.correct))
            elif t.correct:
                return Fraction(0)
        return product

    places = [likelihood(e) for e in range(len(tallies) + 1)]
    exact = [sum(places[j + 1 :]) / sum(places) for j in range(len(tallies))]
    assert one_error(seen) == pytest.approx([float(x) for x in exact], abs=1e-9)


def test_a_rollout_tells_nothing_of_a_label_that_is_known() -> None:
    assert gain(1.0, Tally(1, 2), 0.0, UNIFORM) == pytest.approx(0)
    assert gain(0.5, Tally(0, 0), 0.0, UNIFORM) > gain(0.5, Tally(0, 9), 0.0, UNIFORM) > 0
    assert alone(evidence(Tally(0, 18), 0.0, UNIFORM)) == pytest.approx(1 / 20)


@pytest.mark.parametrize(("threshold", "monotone"), [(0.0, True), (0.0, False), (0.2, True), (0.2, False)])
def test_labels_decided_at_a_confidence_are_right_that_often_however_often_one_looks(
    threshold: float, monotone: bool
) -> None:
    """Problems drawn from the prior; labels are looked at after every rollout, and kept once decided."""
    rng = random.Random(1)
    allocation = Allocation(
        scheme="adaptive", k=200, batch=1, threshold=threshold, confidence=0.9, monotone=monotone
    )
    wrong = decided = 0
    for _ in range(400):
        error = rng.randrange(5)
        truth = [j < error if monotone else rng.random() < 0.5 for j in range(4)]
        rates = [rng.uniform(threshold, 1) if t else rng.uniform(0, threshold) for t in truth]
        _, seen, _ = run(allocation, 4, lambda index, i, rates=rates: rng.random() < rates[index])  # type: ignore[misc]
        for chance, label in zip(allocation.chances(seen, False), truth, strict=True):
            if not 0.1 < chance < 0.9:
                decided += 1
                wrong += (chance > 0.5) != label
    assert decided > 1400
    assert wrong / decided < 0.1
    assert wrong > 0, "the confidence is spent, not far exceeded by drawing for ever"
