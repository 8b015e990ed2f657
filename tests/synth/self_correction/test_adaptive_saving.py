"""The saving of adaptive sampling that the docs state, on the benchmark's own simulation, made small."""

import importlib.util
import sys
from types import ModuleType

import pytest
from paths import ROOT

BENCHMARK = ROOT / "benchmarks" / "adaptive_sampling.py"


@pytest.fixture(scope="module")
def benchmark_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("adaptive_sampling", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["adaptive_sampling"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("world", [0, 1])
@pytest.mark.parametrize("wanted", ["4 of each subset a problem", "1 of each subset a problem"])
def test_adaptive_needs_at_most_30_percent_of_the_tokens(
    benchmark_module: ModuleType, world: int, wanted: str
) -> None:
    m = benchmark_module
    fixed, adaptive = m.compare(m.WORLDS[world], m.WANTS[wanted], 12, 0)
    assert adaptive.kept >= fixed.kept > 2 * 12
    assert min(adaptive.d1, adaptive.d2, adaptive.d3) > 0
    assert adaptive.generated <= 0.30 * fixed.generated
    assert adaptive.generated + adaptive.prompted <= 0.30 * (fixed.generated + fixed.prompted)
