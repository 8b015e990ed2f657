"""The shares of models: the vectors of the published method, exact projections, closed forms."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.core.errors import RecipeError
from gristmill.train.merging import (
    distance_weight,
    group_of,
    group_shares,
    kept_share,
    layer_of,
    metric_shares,
    moving_average_shares,
    normalised,
    on_the_simplex,
    released_shares,
)

RELEASED = [0.2, 0.266017, 0.133983]


def test_the_released_parameters_give_the_published_vector() -> None:
    shares = released_shares([0, 1, -1], mean=0.2)
    assert shares == pytest.approx(RELEASED, abs=1e-6)
    assert sum(shares) / 3 == pytest.approx(0.2)
    # There the letter is the share of the base model: base 1.0, aligned 3.0.
    merged = [share * 1.0 + (1 - share) * 3.0 for share in shares]
    assert merged == pytest.approx([2.6, 2.467967, 2.732033], abs=1e-6)


def test_ours_are_the_aligned_models_shares() -> None:
    shares = group_shares(RELEASED, 26)
    names = [f"model.layers.{layer}.mlp.up_proj.weight" for layer in (4, 13, 22)]
    assert [shares(name) for name in names] == [[a, 1 - a] for a in RELEASED]
    aligned, base = 3.0, 1.0
    merged = [a * aligned + b * base for a, b in map(shares, names)]
    assert merged == pytest.approx([1.4, 1.532034, 1.267966], abs=1e-6)


def test_the_price_of_a_layer_is_the_published_vector_and_counts_each_layer_once() -> None:
    found = [
        distance_weight(n, 26) * abs(a - 0.2)
        for n, a in zip((4, 13, 22), released_shares([0, 1, -1], 0.2), strict=True)
    ]
    assert found == pytest.approx([0, 1.650418, 0.165042], abs=1e-6)


def test_a_released_share_may_leave_the_box_and_a_projected_one_may_not() -> None:
    assert max(released_shares([9, -9, -9], mean=0.6)) > 1
    assert on_the_simplex([1.4, 0.2, 0.2], 0.6) == pytest.approx([1, 0.4, 0.4])
    # The floor keeps a released share off 0; the projection reaches it.
    assert min(released_shares([9, 9, -99], mean=0.2)) > 0.04
    assert on_the_simplex([0.5, 0.5, -1], 0.2) == pytest.approx([0.3, 0.3, 0])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=1, max_size=9), st.floats(0, 1))
def test_the_projection_is_exact_and_no_other_point_is_nearer(values: list[float], mean: float) -> None:
    found = on_the_simplex(values, mean)
    assert all(0 <= share <= 1 for share in found)
    assert sum(found) / len(found) == pytest.approx(mean, abs=1e-9)
    # The condition of the nearest point: one shift for all that is inside, more at 0, less at 1.
    shifts = [v - f for v, f in zip(values, found, strict=True)]
    inside = [s for s, f in zip(shifts, found, strict=True) if 1e-9 < f < 1 - 1e-9]
    at_zero = [s for s, f in zip(shifts, found, strict=True) if f <= 1e-9]
    at_one = [s for s, f in zip(shifts, found, strict=True) if f >= 1 - 1e-9]
    low = max([*inside, *at_zero], default=math.inf) if not inside else max(inside)
    assert not inside or max(inside) - min(inside) < 1e-6
    assert all(s <= low + 1e-6 for s in at_zero) and (not inside or all(s >= low - 1e-6 for s in at_one))


def test_layers_are_cut_as_in_the_paper_and_named_in_several_ways() -> None:
    cut = [[n + 1 for n in range(26) if group_of(n, 26, 3) == g] for g in range(3)]
    assert [(c[0], c[-1]) for c in cut] == [(1, 8), (9, 17), (18, 26)]
    assert [
        layer_of(f"{n}.7.x.weight") for n in ("model.layers", "transformer.h", "h", "gpt_neox.layers")
    ] == [7] * 4
    assert layer_of("model.embed_tokens.weight") is None and layer_of("lm_head.weight") is None


def test_what_is_in_no_layer_has_the_mean_so_a_tied_head_stays_tied() -> None:
    shares = group_shares([0.1, 0.6, 0.2], 3)
    outside = [shares(n) for n in ("model.embed_tokens.weight", "lm_head.weight", "model.norm.weight")]
    assert outside == [pytest.approx([0.3, 0.7])] * 3
    assert shares("model.layers.1.input_layernorm.weight") == [0.6, 0.4]
    with pytest.raises(RecipeError, match="4 groups"):
        group_shares([0.1] * 4, 3)


def test_metrics_weigh_by_a_power() -> None:
    assert metric_shares([1.0, 2.0], better="lower") == pytest.approx([2 / 3, 1 / 3])
    assert metric_shares([100, 300], better="higher") == pytest.approx([0.25, 0.75])
    assert metric_shares([1.0, 2.0], better="lower", penalty=3) == pytest.approx([8 / 9, 1 / 9])
    assert metric_shares([5, 1, 2], better="lower", penalty=0) == pytest.approx([1 / 3] * 3)
    with pytest.raises(RecipeError, match="above 0"):
        metric_shares([0.0, 1.0], better="lower")


def test_a_moving_average_is_its_recursion() -> None:
    kept, models = [0.9, 0.5, 0.25], [1.0, 2.0, 7.0, -3.0]
    average = models[0]
    for share, model in zip(kept, models[1:], strict=True):
        average = share * average + (1 - share) * model
    shares = moving_average_shares(kept)
    assert sum(s * m for s, m in zip(shares, models, strict=True)) == pytest.approx(average)
    assert sum(shares) == pytest.approx(1)
    with pytest.raises(RecipeError, match="between 0 and 1"):
        moving_average_shares([1.2])


def test_the_kept_share_is_the_least_loss_of_a_parabola() -> None:
    # loss(x) = (x - 2)^2 with the old average at 0 and the new model at 3: best is 2, a third kept.
    old, new, best = 0.0, 3.0, 2.0
    slopes = [2 * (x - best) * (new - old) for x in (new, old)]
    kept = kept_share(*slopes)
    assert kept * old + (1 - kept) * new == pytest.approx(best)
    assert kept < kept_share(*slopes, stability=3.0) < kept_share(*slopes, stability=100.0) == 1.0
    assert kept_share(-1.0, -5.0) == 0.0  # still falling at the new model
    assert kept_share(-5.0, -1.0) == 0.0 and kept_share(5.0, 9.0) == 1.0  # bends downwards


def test_weights_are_shares_of_their_sum() -> None:
    assert normalised([1, 3]) == [0.25, 0.75]
    for bad in ([1.0, -1.0], [math.nan, 1.0]):
        with pytest.raises(RecipeError, match="sum to"):
            normalised(bad)
