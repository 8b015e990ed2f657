"""Units by their dimension and size."""

from __future__ import annotations

from fractions import Fraction

import pytest

from gristmill.core.verdicts import Outcome
from gristmill.verifiers.math import verify
from gristmill.verifiers.math.units import measure, unit_ratio


@pytest.mark.parametrize(
    ("ours", "theirs", "ratio"),
    [
        ("km/h", "m/s", Fraction(5, 18)),
        ("L", "mL", 1000),
        ("cm^2", "square centimeters", 1),
        ("cm", "cm^2", 0),
        ("pounds", "lb", 1),
        ("dollars", "cents", 100),
        ("$", "£", 0),
        (r"kg\cdot m/s^2", "N", 1),
        ("m s^{-1}", "m/s", 1),
        (r"\mu m", "mm", Fraction(1, 1000)),
        ("miles per hour", "mph", 1),
        ("hours", "min", 60),
        ("apples", "cm", None),
        ("", "cm", 1),
    ],
)
def test_ratio(ours: str, theirs: str, ratio: Fraction | int | None) -> None:
    assert unit_ratio(ours, theirs) == ratio


def test_what_is_no_unit_measures_nothing() -> None:
    assert measure("apples") is None
    assert measure("") is None
    assert measure("cm of rope") is None


@pytest.mark.parametrize(
    ("answer", "reference", "outcome"),
    [
        (r"1000\text{ mL}", r"1\text{ L}", "correct"),
        (r"5\text{ m/s}", r"5\text{ km/h}", "incorrect"),
        (r"5\,\mathrm{m\,s^{-1}}", r"5\text{ m/s}", "correct"),
        (r"\cos 60^\circ", r"\frac12", "correct"),
        (r"60^\circ", r"\frac{\pi}{3}", "correct"),
        ("5 m", "5", "unparseable"),
    ],
)
def test_in_answers(answer: str, reference: str, outcome: str) -> None:
    assert verify(rf"\boxed{{{answer}}}", reference).outcome is Outcome(outcome)
