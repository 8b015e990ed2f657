"""Cohen's kappa, Krippendorff's alpha and circles, against published and hand-made examples."""

from __future__ import annotations

from itertools import product

import pytest

from gristmill.pipelines.report.agreement import Level, cohen, krippendorff
from gristmill.pipelines.report.circles import circles, reversed_pairs

FOUR = (
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)
"""Four observers of twelve units, some missing (Krippendorff, Computing Alpha-Reliability, 2011)."""
UNITS = list(zip(*([None if v == "." else float(v) for v in row.split()] for row in FOUR), strict=True))


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_krippendorffs_own_example(level: Level, alpha: float) -> None:
    assert krippendorff(UNITS, level) == pytest.approx(alpha, abs=5e-4)


def test_alpha_by_hand() -> None:
    # Two raters, units (0,0) (1,1) (0,1): six values, three 0 and three 1. Observed 2/6, expected 18/30.
    assert krippendorff([(0, 0), (1, 1), (0, 1)]) == pytest.approx(1 - (2 / 6) / (18 / 30))
    assert krippendorff([(0, 0), (1, 1)]) == 1.0
    assert krippendorff([(0, 0), (0, None)]) is None and krippendorff([]) is None
    assert krippendorff({(0, 1): 2, (1, 0): 2}) == pytest.approx(1 - 1 / (4 / 7))
    # A unit that one rater alone has seen changes nothing.
    assert krippendorff([*UNITS, (5.0, None, None, None)]) == krippendorff(UNITS)


def test_kappa_by_hand() -> None:
    # 20 both yes, 5 and 10 apart, 15 both no: observed 0.7, by chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5.
    table = {(1, 1): 20, (1, 0): 5, (0, 1): 10, (0, 0): 15}
    assert cohen(table) == pytest.approx(0.4)
    assert cohen({**table, (1, None): 100}) == pytest.approx(0.4)
    assert cohen([(1, 1), (0, 0)]) == 1.0 and cohen([(1, 0), (0, 1)]) == -1.0
    assert cohen([(1, 1)]) is None and cohen([]) is None


def orderable(edges: set[tuple[int, int]]) -> bool:
    """Whether an order fits all edges: nodes that nothing beats are taken away until none is left."""
    left = {n for edge in edges for n in edge}
    while top := {n for n in left if not any(a in left and b == n for a, b in edges)}:
        left -= top
    return not left


def test_circles() -> None:
    assert reversed_pairs([(1, 2), (2, 1), (2, 3)]) == {(1, 2)}
    assert circles([(1, 2), (2, 1)]) == [] and circles([(1, 2), (2, 3), (1, 3)]) == []
    assert circles([(1, 2), (2, 3), (3, 1), (3, 4)]) == [{1, 2, 3}]
    assert circles([(1, 2), (2, 3), (3, 1), (4, 5), (5, 6), (6, 4), (1, 4)]) == [{1, 2, 3}, {4, 5, 6}]


def test_every_small_graph_has_a_contradiction_exactly_if_no_order_fits() -> None:
    all_edges = [(0, 1), (1, 2), (2, 0), (1, 0), (2, 3), (3, 0)]
    for chosen in product((False, True), repeat=len(all_edges)):
        edges = {e for e, there in zip(all_edges, chosen, strict=True) if there}
        assert bool(circles(edges) or reversed_pairs(edges)) != orderable(edges), edges
