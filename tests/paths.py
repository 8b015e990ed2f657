"""Where things are, for tests in any folder, and for plug-ins of theirs in Pythons without pytest."""

from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
SHARED = ROOT.parent / "shared"
"""Material of the project that is not part of it; tests that use it say so and are skipped without it."""
