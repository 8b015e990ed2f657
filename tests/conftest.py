"""A workspace with a recipe, the fake server in its own process, and ``gristmill`` as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paths import TESTS

SERVER = TESTS / "fake_server.py"


class FakeServer:
    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, str(SERVER)], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def stats(self) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.address}/stats", timeout=30) as answer:
            return dict(json.load(answer))

    def set_latency(self, milliseconds: float) -> None:
        url = f"{self.address}/latency"
        request = urllib.request.Request(url, str(milliseconds).encode(), method="POST")
        urllib.request.urlopen(request, timeout=30).close()

    def wait_for(self, answered: int, seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while self.stats()["answered"] < answered:
            assert time.monotonic() < until, f"the server saw only {self.stats()}"
            time.sleep(0.005)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


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


@pytest.fixture
def server() -> Iterator[FakeServer]:
    server = FakeServer()
    yield server
    server.close()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)
