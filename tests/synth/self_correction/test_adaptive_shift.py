"""Adaptive sampling keeps attempts that are judged well at once, ``unbiased`` those of the fixed scheme."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest
from paths import ROOT


@pytest.fixture(scope="module")
def benchmark_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("adaptive_shift", ROOT / "benchmarks" / "adaptive_shift.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_order_of_evaluations_shifts_what_is_kept_unless_each_attempt_gets_all_of_its_own(
    benchmark_module: ModuleType,
) -> None:
    # A few attempts only, so that fixed sampling is quick: which of them are kept does not hang on how many.
    found = {
        name: benchmark_module.kept({"attempts": 6, **options}, 150, 0.9, 0.3)
        for name, options in benchmark_module.SCHEMES.items()
    }
    fixed, adaptive, unbiased = (found[name] for name in benchmark_module.SCHEMES)
    assert abs(unbiased[0] - fixed[0]) < 0.06
    assert adaptive[0] < fixed[0] - 0.08
    assert adaptive[1] < unbiased[1] < fixed[1]
    # The run's summary shows it: the attempts kept are shorter than the first that were drawn.
    assert adaptive.kept < adaptive.drawn - 2
    assert abs(unbiased.kept - unbiased.drawn) < abs(adaptive.kept - adaptive.drawn)
