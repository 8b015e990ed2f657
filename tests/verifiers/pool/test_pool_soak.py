"""The pool under fire for a while: workers, descriptors and memory stay as they were."""

from __future__ import annotations

import subprocess
import sys

import pytest
from paths import ROOT

SCRIPT = ROOT / "benchmarks" / "pool_soak.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
def test_a_soak_leaves_nothing_behind() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--seconds", "8"], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "kills: 0" not in done.stdout and "stops: 0" not in done.stdout
