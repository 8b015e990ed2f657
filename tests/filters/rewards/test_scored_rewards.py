"""Rewards from numbers that were given, and of steps: the numbers of the papers."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shaped import answer, grouped, groups

from gristmill.core.shaping import Attempt, Shape
from gristmill.filters.rewards import (
    Component,
    Composite,
    Copo,
    DifficultyScaled,
    Hypervolume,
    LogSigmoid,
    Noisy,
    Oreal,
    Par,
    Patterns,
    PhaseEntropy,
    PolicyFiltration,
    Scored,
    TwoTurn,
    answer_entropy,
    centred,
    clip_steps,
    delta_steps,
    difficulty_scale,
    filtration_fit,
    gate_steps,
    hypervolume,
    hypervolume_weights,
    log_sigmoid,
    normal_percentile,
    pareto_front,
    phase_penalty,
    quantile,
    r_squared,
    rank_weights,
)

SHAPES: list[Shape] = [
    Scored(of="r"),
    Par(of="r"),
    LogSigmoid(of=("r", "s")),
    Composite(of={"r": Component(threshold=0.5), "s": Component(threshold=0.0, weight=2.0)}),
    PolicyFiltration(of="r"),
    Hypervolume(of={"r": -2.0, "s": -2.0}),
    Copo(),
    Oreal(),
    TwoTurn(first="first"),
    Patterns(phrases=("so so",)),
    PhaseEntropy(thinking="r", answer="s"),
    Noisy(rate=0.4),
    DifficultyScaled(),
]


@settings(max_examples=60, deadline=None)
@given(rows=groups(), shape=st.sampled_from(SHAPES), random=st.randoms(use_true_random=False))
def test_order_does_not_matter_and_the_bound_holds(
    rows: list[list[Attempt]], shape: Shape, random: object
) -> None:
    mixed = [random.sample(g, len(g)) for g in rows][::-1]  # type: ignore[attr-defined]
    made = grouped(shape, rows)
    assert grouped(shape, mixed) == pytest.approx(made)
    if shape.lowest is not None:
        assert all(reward >= shape.lowest - 1e-12 for reward in made.values() if reward is not None)


@settings(max_examples=30, deadline=None)
@given(rows=groups(), shape=st.sampled_from([s for s in SHAPES if not s.grouped]))
def test_what_is_not_grouped_can_be_given_one_by_one(rows: list[list[Attempt]], shape: Shape) -> None:
    assert grouped(shape, [[a] for g in rows for a in g]) == grouped(shape, rows)


@settings(max_examples=30, deadline=None)
@given(rows=groups())
def test_by_verdict_the_undecided_get_nothing(rows: list[list[Attempt]]) -> None:
    for shape in (Copo(), TwoTurn(first="first"), Noisy(rate=0.4), DifficultyScaled()):
        assert all((grouped(shape, rows)[a.id] is None) == (a.right is None) for g in rows for a in g)


def test_clip_and_delta_bound_the_sum_of_a_trajectory() -> None:
    steps = [0.9, 0.8, 0.95, 0.6]
    assert clip_steps(steps, 0.8) == pytest.approx([0, 0, 0, -0.2])
    assert delta_steps(steps) == pytest.approx([0.1, -0.15, 0.35, 0.6])
    assert delta_steps(steps, last=False) == pytest.approx([0.1, -0.15, 0.95, 0])
    assert sum(delta_steps(steps)) == pytest.approx(0.9) == sum(delta_steps(steps, last=False))
    assert quantile([4, 1, 3, 2], 0.5) == 2.5 and quantile([7], 0.9) == 7
    with pytest.raises(ValueError, match="quantile"):
        quantile([], 0.5)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.data())
def test_repeating_a_step_raises_neither_sum(steps: list[float], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(steps) - 1))
    longer = [*steps[: at + 1], steps[at], *steps[at + 1 :]]
    level = quantile(steps, 0.5)
    assert sum(clip_steps(longer, level)) <= sum(clip_steps(steps, level)) + 1e-9
    assert sum(delta_steps(longer)) == pytest.approx(sum(delta_steps(steps)))
    # Without the last, a trajectory of one step has no reward at all, and gets one of its first.
    assert len(steps) == 1 or sum(delta_steps(longer, last=False)) == pytest.approx(steps[0])
    assert delta_steps([]) == delta_steps([], last=False) == []


@given(st.lists(st.floats(0, 1), max_size=5))
def test_the_outcome_gates_the_steps(steps: list[float]) -> None:
    assert gate_steps(steps, 1.0) == pytest.approx(steps)
    assert all(-1 <= r <= 0 for r in gate_steps(steps, 0.0))
    with pytest.raises(ValueError, match=r"must be in \[0, 1\]"):
        gate_steps([2.0], 1.0)


def test_par() -> None:
    assert centred(2, [0.5, 1, 1.5]) == pytest.approx(0.723697, abs=1e-6)
    assert centred(1, [0.5, 1, 1.5]) == pytest.approx(0.5)
    rows = [Attempt(f"r{i}", None, values={"rm": v}, model="sft") for i, v in enumerate((0.5, 1, 1.5))]
    mine = Attempt("a", None, values={"rm": 2.0}, model="policy")
    made = Par(of="rm", reference="sft")([[mine, *rows, Attempt("b", None, model="policy")]])[0]
    assert made == [pytest.approx(0.723697, abs=1e-6), None, None, None, None]
    assert Par(of="rm")([[mine]]) == [[None]]  # nothing to compare with
    assert Par(of="rm")([[mine, rows[1]]])[0][0] == pytest.approx(1 / (1 + math.exp(-1)))
    with pytest.raises(ValueError, match="no references"):
        centred(1, [])


@pytest.mark.parametrize(
    ("deviation", "level", "value"), [("population", 1.423133, -0.445746), ("sample", 1.518227, -0.480998)]
)
def test_log_sigmoid_and_its_percentile(deviation: str, level: float, value: float) -> None:
    got = normal_percentile([0.5, 1, 1.5], 0.85, deviation)  # type: ignore[arg-type]
    # The published numbers have 1.03646 for the 85th percentile of a normal distribution: it is 1.036433.
    assert got == pytest.approx(level, abs=1.2e-5)
    assert log_sigmoid(2 - got) == pytest.approx(value, abs=1e-5)


def test_log_sigmoid_of_one_answer_and_of_large_numbers() -> None:
    assert LogSigmoid(of=("r",))([[answer(None, r=3.0)]])[0] == [pytest.approx(math.log(0.5))]  # no 0/0
    assert log_sigmoid(-1e6) == -1e6 and log_sigmoid(1e6) == 0
    assert LogSigmoid(of=("r", "s"))([[answer(True, r=3.0), answer(True)]]) == [[None, None]]


def test_conjunction_wants_all_of_them() -> None:
    even, lopsided, low = answer(None, a=1, b=1), answer(None, a=4, b=-2), answer(None, a=0, b=0)
    made = LogSigmoid(of=("a", "b"))([[even, lopsided, low]])[0]
    assert made[0] > made[1]  # type: ignore[operator]


def test_a_component_beyond_its_threshold_earns_nothing_more() -> None:
    shape = Composite(of={"a": Component(threshold=1.0, weight=2.0), "b": Component(threshold=0.5)})
    rows = [answer(None, a=1, b=0.5), answer(None, a=9, b=0.5), answer(None, a=0.5, b=-1), answer(None, a=1)]
    assert shape([rows]) == [[2.5, 2.5, 0.0, None]]


def test_policy_filtration() -> None:
    assert rank_weights(5, "br") == [0.5, 0.125, 0.125, 0.125, 0.125]
    assert rank_weights(5, "bw") == [0.5, 0, 0, 0, 0.5]
    assert rank_weights(3, "bon") == [1, 0, 0]
    for rule in ("bon", "br", "bw"):
        assert rank_weights(1, rule) == [1.0] and rank_weights(0, rule) == []
    assert r_squared([-1, -0.5, 0, 0.5, 1], [0.05, 0.3, 0.45, 0.5, 0.95]) == pytest.approx(0.91954, abs=1e-5)
    assert r_squared([1, 1], [0, 1]) == 0.0
    with pytest.raises(ValueError, match="1 rewards"):
        r_squared([1], [1])


def test_equal_rewards_share_the_weights_of_their_ranks() -> None:
    rows = [answer(None, r=1), answer(None, r=1), answer(None, r=0), answer(None), answer(None, r=-1)]
    assert PolicyFiltration(of="r")([rows]) == [[1.0, 1.0, 0.0, None, 2.0]]
    assert PolicyFiltration(of="r")([rows[:1]]) == [[1.0]]


def test_a_rule_is_chosen_by_how_well_rewards_tell_scores_where_it_keeps_answers() -> None:
    # The reward tells best and worst apart and nothing in between.
    groups = [[(1.0, 1.0), (0.2, 0.0), (0.1, 1.0), (0.0, 0.0), (-1.0, 0.0)]] * 20
    fits = {rule: filtration_fit(groups, rule) for rule in (None, "bon", "br", "bw")}
    assert max(fits, key=lambda rule: fits[rule]) == "bw" and fits["bw"] == pytest.approx(1.0)
    assert fits["bon"] == 0.0  # one reward for all: it tells nothing


def _brute(points: list[tuple[int, ...]], size: int) -> int:
    return sum(
        any(all(cell[i] < p[i] for i in range(size)) for p in points)
        for cell in product(range(4), repeat=size)
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(-1, 4)] * n), max_size=6))
    )
)
def test_hypervolume_is_the_number_of_cells_below(given: tuple[int, list[tuple[int, ...]]]) -> None:
    size, points = given
    assert hypervolume([tuple(map(float, p)) for p in points], (0.0,) * size) == _brute(points, size)


def test_weights_go_to_the_objective_that_would_add_most() -> None:
    assert pareto_front([(1.0, 1.0), (2.0, 0.0), (1.0, 0.0)]) == [(2.0, 0.0), (1.0, 1.0)]
    weights = hypervolume_weights((0.5, 0.9), [], (0.0, 0.0))
    assert sum(weights) == pytest.approx(1) and weights[0] > weights[1]
    assert hypervolume_weights((0.0, 0.0), [(1.0, 1.0)], (0.0, 0.0)) == [0.5, 0.5]
    rows = [[answer(None, a=0.5, b=0.9)], [answer(None, a=0.5)]]
    made = Hypervolume(of={"a": 0.0, "b": 0.0})(rows)
    assert made[0][0] == pytest.approx(weights[0] * 0.5 + weights[1] * 0.9) and made[1] == [None]


def test_copo_gives_a_signal_where_all_answers_are_alike() -> None:
    right, wrong = [answer(True), answer(True)], [answer(False), answer(False)]
    made = Copo()([right, wrong])
    assert made[0][0] > 0 > made[1][0]  # type: ignore[operator]
    mixed = Copo()([[answer(True), answer(False)]])[0]
    assert mixed[0] == pytest.approx(1, abs=1e-2) == -mixed[1]  # type: ignore[operator]
    assert Copo()([right]) == [[0.0, 0.0]] and Copo()([[answer(None)]]) == [[None]] and Copo()([]) == []
    assert [answer_entropy(x) for x in ("", "a", "aa", "ab")] == [0, 0, 0, pytest.approx(1)]


def test_oreal_imitates_one_and_weighs_wrong_answers_by_the_others() -> None:
    rows = [answer(True), answer(True), answer(False), answer(None), answer(False)]
    made = Oreal()([rows], 3)[0]
    assert sorted(made[:2], key=str) == [1.0, None] and made[2:] == [-2 / 3, None, -2 / 3]
    assert Oreal()([[answer(False), answer(False)]]) == [[0.0, 0.0]]
    assert Oreal()([[answer(True)]]) == [[1.0]]
    assert len({str(Oreal()([rows], seed)[0][:2]) for seed in range(20)}) == 2  # the seed chooses


def test_score_pays_progress() -> None:
    rows = [answer(r2, first=r1) for r1, r2 in ((0, True), (1, True), (0, False), (1, False))]
    assert TwoTurn(first="first")([rows]) == [[11.0, 1.0, 0.0, -10.0]]
    assert TwoTurn(first="first")([[answer(True), answer(None, first=1.0)]]) == [[None, None]]


def test_a_phrase_counts_once() -> None:
    shape = Patterns(phrases=("first, I need to", "wait"), each=0.25)
    said = Attempt("a", None, text="First,  I need\nto add. Wait. Wait! wait")
    assert shape([[said, Attempt("b", True, text="7")]]) == [[0.5, 0.0]]
    assert Patterns(phrases=("a", "b", "c"), each=1.0, most=2)([[Attempt("a", None, text="abc")]]) == [[2.0]]


def test_entropy_of_the_thinking_costs_and_that_of_the_answer_does_not() -> None:
    assert [phase_penalty(0.8, 0.3), phase_penalty(0.8, 0.3, 2), phase_penalty(0.2, 0.3)] == pytest.approx(
        [0.5, 0.2, 0]
    )
    shape = PhaseEntropy(alpha=1.0)
    seen = [(True, 0.8, 0.3), (True, 0.2, 0.9), (True, 4.0, 0.0), (False, 0.0, 0.0), (None, 0.8, 0.3)]
    rows = [answer(right, thinking_entropy=t, entropy=a) for right, t, a in seen]
    # A right answer is never below a wrong one, however unsure the thinking was.
    assert shape([rows]) == [[pytest.approx(0.5), 1.0, 0.0, 0.0, None]]
    assert shape([[answer(True, entropy=0.3), answer(False)]]) == [[None, 0.0]]


def test_patterns_raise_only_scores_that_are_low() -> None:
    shape = Patterns(phrases=("wait",), each=0.25, of="rm", threshold=0.5)
    rows = [Attempt(str(v), None, values={"rm": v}, text="wait") for v in (0.25, 0.5)]
    assert shape([[*rows, Attempt("x", None, text="wait")]]) == [[0.5, 0.5, None]]


def test_noise_is_seeded_and_grows_with_its_rate() -> None:
    rows = [[Attempt(f"{g}/{i}", True) for i in range(4)] for g in range(100)]
    flips = [{k for k, v in grouped(Noisy(rate=rate), rows).items() if v == 0} for rate in (0, 0.2, 0.4, 1)]
    assert flips[0] == set() and flips[0] < flips[1] < flips[2] < flips[3] and len(flips[3]) == 400
    assert 120 < len(flips[2]) < 200
    whole = Noisy(rate=0.4, per="problem")
    assert whole.grouped and all(len(set(r)) == 1 for r in whole(rows))
    assert grouped(Noisy(rate=0.4), rows, 1) != grouped(Noisy(rate=0.4), rows, 2)


def test_hard_problems_count_more() -> None:
    easy = [answer(True), answer(True), answer(True), answer(False)]
    hard = [answer(True), answer(False), answer(False), answer(False)]
    made = DifficultyScaled()([easy, hard])
    assert made[1][0] > made[0][0] > 1 and made[0][3] == made[1][3] == 0  # type: ignore[operator]
    assert DifficultyScaled(of="rm")([[answer(True), answer(None, rm=1.0)]]) == [[None, None]]
    assert difficulty_scale(0.0, 5.0) == 1.0 and difficulty_scale(1.0, 0.0) == 1.5
