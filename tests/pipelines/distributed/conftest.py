"""A folder with problems and a recipe's parts, for tests that really kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from distributed_parts import install
from killed_tasks import ROWS


@pytest.fixture
def place(workspace: Any, tmp_path: Path) -> Any:
    workspace.environment |= install(tmp_path / "plug")
    workspace.write_problems(ROWS)
    return workspace
