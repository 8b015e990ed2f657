"""Where things are, for tests in any folder."""

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
SHARED = ROOT.parent / "shared"
"""Material of the project that is not part of it; tests that use it say so and are skipped without it."""


def needs_time(otherwise: str) -> None:
    """Skip a test that takes minutes of a real server, unless ``GRISTMILL_LONG`` is set; ``otherwise`` says
    what looks at the same without it."""
    if not os.environ.get("GRISTMILL_LONG"):
        pytest.skip(f"it takes minutes, and GRISTMILL_LONG is not set; without it {otherwise}")
