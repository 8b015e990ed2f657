from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.core.engine import TokenLogprob
from gristmill.synth.tree_search.backup import (
    add_to_mean,
    from_children,
    mix,
    q_from_children,
    weighted_mean,
)
from gristmill.synth.tree_search.grow import Live
from gristmill.synth.tree_search.pairs import confidence, conservative_loss, epsilon
from gristmill.synth.tree_search.select import first_best, prior, puct, uct

values = st.floats(-1, 1)


def live(value: float | None = None, visits: int = 0, reward: float | None = None) -> Live:
    return Live(index=0, parent=-1, text="", depth=0, value=value, visits=visits, reward=reward)


def test_uct_of_rest_mcts_and_of_rstar() -> None:
    assert uct(0.6, 10, 3, c=0.7) == pytest.approx(1.467282, abs=1e-6)
    assert uct(0.4, 12, 3, c=2, inner=1) == pytest.approx(2.220222, abs=1e-6)


def test_an_unvisited_node_counts_as_the_algorithm_says() -> None:
    assert uct(0.6, 10, 0, c=0.7, unvisited="one") == 1.6
    assert uct(-0.4, 12, 0, c=2, unvisited="zero") == 0
    assert uct(0.6, 10, 0, c=0.7) == math.inf


def test_prior_and_puct_of_mcts_dpo() -> None:
    p = prior([TokenLogprob("a", -0.75)] * 8)
    assert p == pytest.approx(0.640214, abs=1e-6)
    assert puct(0.5, p, 9, 2, c=1) == pytest.approx(1.140214, abs=1e-6)
    assert prior([]) == 1


def test_the_first_of_equal_scores_is_chosen() -> None:
    assert first_best([0.5, 1.0, 1.0]) == 1
    assert first_best([math.inf, math.inf]) == 0


def test_the_mix_of_a_value_and_a_simulation() -> None:
    assert mix(0.4, 0.9, 0.5) == pytest.approx(0.65)


def test_mcts_dpo_counts_every_child_at_least_once() -> None:
    children = [live(0.5, 3), live(-0.2, 0)]
    assert weighted_mean([(3, 0.5), (0, -0.2)], least=1) == pytest.approx(0.325)
    root = live()
    q_from_children([root], [children], gamma=1.0)
    assert root.value == pytest.approx(0.325)
    assert root.visits == 1
    inner = live(reward=0.2)
    q_from_children([inner], [children], gamma=0.5)
    assert inner.value == pytest.approx(0.2 + 0.5 * 0.325)


def test_rest_mcts_weights_by_visits_and_leaves_unvisited_children_out() -> None:
    root, child = live(0.1), live(0.4, 1)
    from_children([root, child], [[child, live(0.9, 0)], []])
    assert (root.value, root.visits, child.visits) == (0.4, 1, 2)
    assert weighted_mean([(0, 0.9)]) is None


def test_rstar_backs_up_the_mean_of_its_ends() -> None:
    node = live()
    for reward in (1.0, 1.0, -1.0):
        add_to_mean([node], reward)
    assert node.value == pytest.approx(1 / 3)
    assert node.visits == 3


@pytest.mark.parametrize(
    ("best", "rejected", "conf", "eps", "loss"),
    [
        (6, 2, 0.75, 0.25, 0.648139),
        (5, 5, 0.5, 0.5, 0.698139),
        (2, 6, 0.25, 0.5, 0.698139),
        (6, 0, 1.0, 0.0, 0.598139),
    ],
)
def test_conservative_labels(best: int, rejected: int, conf: float, eps: float, loss: float) -> None:
    assert confidence(best, rejected) == conf
    assert epsilon(best, rejected) == eps
    # The reference's difference of 2 is that of the log-ratios; beta 0.1.
    assert conservative_loss(2.0, eps) == pytest.approx(loss, abs=1e-6)
    assert conservative_loss(-1e5, eps) == pytest.approx((1 - eps) * 1e4)  # exp(1e4) would overflow


@settings(max_examples=100, deadline=None)
@given(st.lists(values, min_size=1, max_size=30))
def test_the_running_mean_is_the_mean(rewards: list[float]) -> None:
    node = live()
    for reward in rewards:
        add_to_mean([node], reward)
    assert node.value == pytest.approx(sum(rewards) / len(rewards))


@settings(max_examples=100, deadline=None)
@given(values, st.integers(1, 100), st.integers(1, 100), st.floats(0, 5))
def test_more_visits_never_raise_a_score(value: float, parent: int, visits: int, c: float) -> None:
    assert uct(value, parent, visits + 1, c=c) <= uct(value, parent, visits, c=c)
    assert puct(value, 0.5, parent, visits + 1, c=c) <= puct(value, 0.5, parent, visits, c=c)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), values), min_size=1, max_size=9))
def test_a_backed_up_value_lies_among_its_childrens(pairs: list[tuple[int, float]]) -> None:
    found = weighted_mean(pairs, least=1)
    assert found is not None
    assert min(v for _, v in pairs) - 1e-9 <= found <= max(v for _, v in pairs) + 1e-9
