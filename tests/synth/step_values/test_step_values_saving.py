"""What the docs state of binary search and adaptive rollouts, on the benchmark's simulation, made small."""

import importlib.util
import statistics
import sys
from types import ModuleType

import pytest
from paths import ROOT

from gristmill.synth.step_values.allocation import Allocation

BENCHMARK = ROOT / "benchmarks" / "step_values.py"
PROBLEMS = 150


@pytest.fixture(scope="module")
def benchmark_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("step_values_benchmark", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["step_values_benchmark"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("world", ["clean", "hard"])
@pytest.mark.parametrize(
    ("name", "steps", "share"),
    [("binary K=16", 8, 0.45), ("adaptive .95", 8, 0.5), ("binary K=16", 20, 0.3), ("adaptive .95", 20, 0.3)],
)
def test_the_saving_against_fixed_16_at_no_less_label_accuracy(
    benchmark_module: ModuleType, world: str, name: str, steps: int, share: float
) -> None:
    m = benchmark_module
    fixed = m.measure(m.FIXED, world, steps, PROBLEMS, 0)
    cheap = m.measure(m.METHODS[name], world, steps, PROBLEMS, 0)
    assert fixed.rollouts == 16 * (steps - 1), "the last step is not sampled by any scheme"
    assert cheap.rollouts <= share * fixed.rollouts
    change, margin = m.difference(cheap, fixed)
    assert change + margin >= 0, "not below fixed's accuracy within noise"
    assert cheap.located >= fixed.located
    assert fixed.wrong_kept == cheap.wrong_kept == 0


def test_under_noise_the_check_and_a_threshold_lower_the_error_of_binary_search(
    benchmark_module: ModuleType,
) -> None:
    m = benchmark_module
    names = ("binary K=16", "binary K=16, above .125", "binary K=16, above .125, repeat 16")
    methods = m.METHODS | m.NOISY
    plain, above, checked = (m.measure(methods[n], "noisy", 20, PROBLEMS, 0) for n in names)
    errors = [1 - statistics.fmean(r.accuracy) for r in (plain, above, checked)]
    assert errors[1] < 0.7 * errors[0]
    assert errors[2] < 0.8 * errors[1]
    assert plain.rollouts < above.rollouts < checked.rollouts < 0.4 * 16 * 19


@pytest.mark.parametrize("scheme", ["fixed", "binary", "adaptive"])
def test_the_stage_draws_exactly_what_the_fast_path_counts(benchmark_module: ModuleType, scheme: str) -> None:
    m = benchmark_module
    cases = [m.problem("noisy", 8, i, 3) for i in range(10)]
    assert m.agreement(Allocation(scheme=scheme, repeat=4), cases, 3) == 10  # type: ignore[arg-type]


def test_auc_counts_ties_half(benchmark_module: ModuleType) -> None:
    assert benchmark_module.auc([(0.1, False), (0.5, True), (0.5, False), (0.9, True)]) == 0.875
