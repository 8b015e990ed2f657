from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
from paths import TESTS
from tree_adder import PROBLEM, adder, verdict_of

from gristmill.core.engine import Completion, Request
from gristmill.core.errors import TransientError
from gristmill.core.stages import Context
from gristmill.core.steps import Tree
from gristmill.engines.log.store import CompletionLog
from gristmill.engines.options import EngineOptions
from gristmill.engines.scripted import ScriptedEngine
from gristmill.engines.session import Session
from gristmill.synth.tree_search.mcts import TreeSearch

PARALLEL, KILLED_AT = 4, 20

# Says each request as it begins, and the tree at the end.
CHILD = """
import sys
sys.path[:0] = sys.argv[2:]
from test_tree_resume import search
def said(line):
    print(line, flush=True)
print("tree", search(sys.argv[1], said).hex(), flush=True)
"""


class Telling(ScriptedEngine):
    """Tells of each request that reaches the engine."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        super().__init__(adder(), latency=0.002)
        self.tell = tell

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        self.tell(f"request {hash_of(request, first, n)}")
        return await super().generate(request, first=first, n=n)


def hash_of(*parts: object) -> str:
    return msgspec.json.encode(parts).hex()


def search(path: str, tell: Callable[[str], object]) -> bytes:
    """The tree of one search over the log at ``path``."""

    async def run() -> bytes:
        with CompletionLog(path) as log:
            async with Session(Telling(tell), EngineOptions(concurrency=64), log) as session:
                stage = TreeSearch(branch=3, c=3.0, iterations=60, parallel=PARALLEL)
                [tree] = await stage(PROBLEM, Context(session, verdict_of, 7))
        return msgspec.json.encode(tree)

    return asyncio.run(run())


def test_a_killed_search_run_again_repeats_only_the_requests_in_flight(tmp_path: Path) -> None:
    whole: list[str] = []
    expected = search(str(tmp_path / "other.sqlite"), whole.append)
    assert len(whole) == len(set(whole)) > KILLED_AT + 10

    path = str(tmp_path / "log.sqlite")
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, path, str(TESTS), str(TESTS / "synth" / "tree_search")],
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        before = [child.stdout.readline().strip() for _ in range(KILLED_AT)]
        child.kill()
        before += [line.strip() for line in child.stdout if line.endswith("\n")]
    assert not any(line.startswith("tree") for line in before)

    after: list[str] = []
    assert search(path, after.append) == expected
    assert set(before) | set(after) == set(whole)
    # A round has at most four leaves, with three children each to value at a time.
    assert len(set(before) & set(after)) <= PARALLEL * 3

    nothing: list[str] = []
    assert search(path, nothing.append) == expected
    assert nothing == []


def test_tries_that_fail_leave_the_tree_as_it_is(tmp_path: Path) -> None:
    tries: dict[tuple[str, int], int] = {}

    class Failing(ScriptedEngine):
        async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
            key = (hash_of(request), first)
            tries[key] = tries.get(key, 0) + 1
            if tries[key] == 1 and len(tries) % 3 == 0:
                raise TransientError("busy")
            return await super().generate(request, first=first, n=n)

    async def run() -> Tree:
        options = EngineOptions(concurrency=64, backoff=0.0)
        with CompletionLog(tmp_path / "log.sqlite") as log:
            async with Session(Failing(adder()), options, log) as session:
                stage = TreeSearch(branch=3, c=3.0, iterations=60, parallel=PARALLEL)
                [tree] = await stage(PROBLEM, Context(session, verdict_of, 7))
                return tree

    found = asyncio.run(run())
    assert msgspec.json.encode(found) == search(str(tmp_path / "other.sqlite"), len)
    assert max(tries.values()) > 1
