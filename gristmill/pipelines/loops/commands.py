"""Steps as processes of their own, which give their memory back and may use another Python."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from gristmill.core.errors import RunError

PYTHON = "GRISTMILL_TRAINER_PYTHON"
"""Names the Python that has torch and TRL, where that is not the one at work."""
_ROOT = Path(__file__).parents[3]
_TOLD = 15
_OF_TORCH = ("transformers", "transformers-reward", "vllm")
"""The kinds of engines that need torch in their own process."""
RAN = (0, 3, 4)
"""What ``gristmill run`` ends with where it ran to its end: all rows made, some, none."""


def needs_torch(recipe: Mapping[str, Any]) -> bool:
    """Whether an engine of a recipe, as plain data, is one of torch."""
    engines = [recipe.get("engine"), *(recipe.get("engines") or {}).values()]
    return any(isinstance(e, Mapping) and e.get("kind") in _OF_TORCH for e in engines)


def gristmill(words: Sequence[str], log: Path, *, fine: Collection[int] = (0,)) -> None:
    """Run a command of Gristmill's own, with what it says in the file ``log``.

    Raises ``RunError`` with the last lines that it said where it ends with another status than ``fine``.
    """
    python = os.environ.get(PYTHON) or sys.executable
    code = "from gristmill.cli.main import main; main()"
    paths = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with log.open("ab") as said:
        done = subprocess.run(
            [python, "-c", code, *words],
            stdout=said,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            # As for llama.cpp: threads that spin long at barriers stall when anything else needs a core.
            env={"GOMP_SPINCOUNT": "3000", **os.environ, "PYTHONPATH": paths},
            check=False,
        )
    if done.returncode not in fine:
        ended = f"gristmill {' '.join(words[:2])} ended with status {done.returncode}:"
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        raise RunError(
            "\n".join([ended, *lines[-_TOLD:]]),
            remedy=f"All that it said is in {log}. Once that is put right, give the same command again: the "
            "loop continues at this step.",
        )
