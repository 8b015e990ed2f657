"""Reasons to skip a test."""

import os

import pytest


def needs_time(otherwise: str) -> None:
    """Skip a test that takes minutes of a real server, unless ``GRISTMILL_LONG`` is set; ``otherwise`` says
    what looks at the same without it."""
    if not os.environ.get("GRISTMILL_LONG"):
        pytest.skip(f"it takes minutes, and GRISTMILL_LONG is not set; without it {otherwise}")
