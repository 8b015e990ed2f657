"""Sessions in processes of their own: killed, started again, and run for long."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any


def test_killed_and_started_again_repeats_no_more_than_was_in_flight(wire: Any, log_path: Path) -> None:
    code = """
        import asyncio, sys
        from gristmill.core.engine import *
        from gristmill.engines.log.store import CompletionLog
        from gristmill.engines.openai import OpenAI
        from gristmill.engines.session import Session
        async def main():
            options = OpenAI(base_url=sys.argv[2], model="m", concurrency=8)
            log = CompletionLog(sys.argv[1])
            async with Session(options.open(), options, log) as session:
                async def one(i):
                    await session.generate(Request((Message("user", str(i)),), Sampling()))
                await asyncio.gather(*(one(i) for i in range(300)))
            log.close()
        asyncio.run(main())
    """
    seen: dict[str, int] = {}

    async def main() -> None:
        reached = asyncio.Event()

        async def handler(body: dict[str, Any], count: int) -> bytes:
            text = body["messages"][0]["content"]
            seen[text] = seen.get(text, 0) + 1
            if count >= 120:
                reached.set()
            await asyncio.sleep(0.005)
            answer: bytes = wire.http(wire.chat(text))
            return answer

        async with wire.server(handler) as server:
            command = [sys.executable, "-c", textwrap.dedent(code), str(log_path), server.url]
            child = await asyncio.create_subprocess_exec(*command)
            await asyncio.wait_for(reached.wait(), 30)
            child.send_signal(signal.SIGKILL)
            assert await child.wait() == -signal.SIGKILL
            again = await asyncio.create_subprocess_exec(*command)
            assert await asyncio.wait_for(again.wait(), 60) == 0
            assert server.most_in_flight <= 8

    asyncio.run(main())
    assert len(seen) == 300
    assert sum(count - 1 for count in seen.values()) <= 8 and max(seen.values()) <= 2


def test_memory_does_not_grow_with_the_number_of_rows() -> None:
    code = """
        import asyncio, resource, sys, tempfile, pathlib
        from gristmill.core.engine import *
        from gristmill.engines.log.store import CompletionLog
        from gristmill.engines.options import EngineOptions
        from gristmill.engines.scripted import ScriptedEngine
        from gristmill.engines.session import Session
        async def main(path):
            with CompletionLog(path) as log:
                session = Session(ScriptedEngine(lambda r, i: "x" * 1000), EngineOptions(), log)
                rows = iter(range(12000))
                async def worker():
                    for i in rows:
                        await session.generate(Request((Message("user", str(i)),), Sampling()))
                        if i == 2000:
                            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
                await asyncio.gather(*(worker() for _ in range(64)))
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        with tempfile.TemporaryDirectory() as directory:
            asyncio.run(main(pathlib.Path(directory) / "log.sqlite"))
    """
    output = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    early, late = map(int, output.stdout.split())
    assert late - early < 5000, "12 MB of text went through; SQLite's caches grow by some"
