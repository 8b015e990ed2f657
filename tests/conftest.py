"""What tests of several folders use: a workspace in which ``gristmill`` is a process, and fake servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeServer, FakeServers
from hypothesis import settings
from odd_server import Odd

# A first example may import what it needs, on a machine that does other things too.
settings.register_profile("gristmill", deadline=None)
settings.load_profile("gristmill")


class Workspace:
    """A directory in which ``gristmill`` is run as a user would."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = {k: v for k, v in os.environ.items() if k not in ("CI", "GRISTMILL_LOG")}

    def write_problems(self, n: int, answer: str | None = None) -> None:
        extra = {} if answer is None else {"answer": answer}
        rows = ({"id": f"p{i}", "problem": f"problem {i}"} | extra for i in range(n))
        (self.path / "problems.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))

    def write_recipe(self, engine: dict[str, Any], *, name: str = "test", **keys: Any) -> Path:
        recipe: dict[str, Any] = {
            "name": name,
            "source": {"path": "problems.jsonl"},
            "engine": engine,
            "stages": [{"stage": "sample", "verify": False}],
        }
        path = self.path / f"{name}.yaml"
        path.write_text(json.dumps(recipe | keys))
        return path

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "gristmill.cli.main", *arguments],
            cwd=self.path,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def gristmill(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=100)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def rows(self, stage: str, name: str = "test") -> Any:
        import polars as pl

        return pl.concat(
            [pl.read_parquet(p) for p in sorted((self.path / "runs" / name / stage).glob("part-*"))]
        )


@pytest.fixture(scope="session")
def fake_servers() -> Iterator[FakeServers]:
    with FakeServers() as servers:
        yield servers


@pytest.fixture
def server(fake_servers: FakeServers) -> FakeServer:
    return fake_servers.take(1)[0]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def odd() -> Iterator[Odd]:
    """A server with a behaviour per path; see ``odd_server``."""
    with Odd() as server:
        yield server
