"""``fake_server.py`` in processes that all tests of a session share, one test after the other."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from typing import Any, Self

from paths import TESTS

from gristmill.engines.vllm.server import free_port


class FakeServer:
    """A fake server that can be killed and started again on its port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.launch()

    def launch(self) -> None:
        """Start it, and do not wait."""
        command = [sys.executable, str(TESTS / "fake_server.py"), "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._greeted = False

    def reset(self, latency_ms: float) -> None:
        """As if it had just been started."""
        if self.process.poll() is not None:
            self.launch()
        self.process.send_signal(signal.SIGCONT)
        if not self._greeted:
            assert self.process.stdout is not None and self.process.stdout.readline()
            self._greeted = True
        self.post("reset", latency_ms)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def engine(self, concurrency: int) -> dict[str, Any]:
        """A recipe's engine that asks this server."""
        return {
            "kind": "openai",
            "base_url": f"{self.address}/v1",
            "model": "fake",
            "concurrency": concurrency,
            "abilities": ["chat", "seed"],
        }

    @property
    def url(self) -> str:
        return f"{self.address}/v1"

    def post(self, what: str, value: object) -> None:
        request = urllib.request.Request(f"{self.address}/{what}", str(value).encode(), method="POST")
        urllib.request.urlopen(request, timeout=30).close()

    def stats(self) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.address}/stats", timeout=30) as answer:
            return dict(json.load(answer))

    def wait_for(self, answered: int, seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while self.stats()["answered"] < answered:
            assert time.monotonic() < until, f"the server saw only {self.stats()}"
            time.sleep(0.005)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


class FakeServers:
    """As many as were needed at once."""

    def __init__(self) -> None:
        self._made: list[FakeServer] = []

    def take(self, n: int, latency_ms: float = 20) -> list[FakeServer]:
        """``n`` servers that remember nothing."""
        self._made += [FakeServer() for _ in range(n - len(self._made))]
        for server in self._made[:n]:
            server.reset(latency_ms)
        return self._made[:n]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for server in self._made:
            server.close()
