"""The metrics of arXiv 2502.19613, with the vector of the reference notes (section A.5)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.synth.self_correction import measure

C, W = True, False
TEN = [
    (True, C, None),
    (True, C, None),
    (True, W, True),
    (True, W, False),
    (False, W, True),
    (False, W, True),
    (False, W, False),
    (False, C, None),
    (False, W, False),
    (True, C, None),
]


def test_vector() -> None:
    m = measure(TEN)
    assert (m.problems, m.turn1, m.final, m.i_to_c, m.c_to_i) == (10, 0.5, 0.6, 0.2, 0.1)
    assert m.delta == pytest.approx(0.1)
    assert (m.p_c_to_i, m.rm_right, m.rm_wrong, m.no_verdict) == (0.5, 0.6, 0.8, 0.0)


def test_without_a_verdict_the_first_answer_is_final() -> None:
    m = measure([(True, None, False), (False, None, True)])
    assert (m.final, m.i_to_c, m.c_to_i, m.no_verdict) == (0.5, 0.0, 0.0, 1.0)
    assert (m.rm_right, m.rm_wrong) == (0.0, 0.0)


def test_an_answer_judged_correct_is_not_replaced() -> None:
    assert measure([(True, True, False)]).final == 1.0


def test_empty_denominators_are_none_not_zero() -> None:
    m = measure([])
    assert (m.problems, m.turn1, m.delta, m.p_c_to_i) == (0, None, None, None)
    only_wrong = measure([(False, True, None)])
    assert (only_wrong.rm_right, only_wrong.rm_wrong, only_wrong.p_c_to_i) == (None, 0.0, None)


@given(st.lists(st.tuples(st.booleans(), st.none() | st.booleans(), st.none() | st.booleans()), min_size=1))
def test_delta_is_gain_less_loss(trials: list[tuple[bool, bool | None, bool | None]]) -> None:
    m = measure(trials)
    assert None not in (m.final, m.turn1, m.delta, m.i_to_c, m.c_to_i)
    assert m.delta == pytest.approx(m.final - m.turn1)  # type: ignore[operator]
    assert m.delta == pytest.approx(m.i_to_c - m.c_to_i)  # type: ignore[operator]
