"""Model verifiers for synchronous callers: an event loop, an engine and a log in a thread."""

from __future__ import annotations

import asyncio
import inspect
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from gristmill.core.contracts import check_opened
from gristmill.core.engine import Engine
from gristmill.core.errors import EngineError, RecipeError, RowRejected
from gristmill.core.stages import derive_seed
from gristmill.core.verdicts import Verdict
from gristmill.verifiers.guard import failure
from gristmill.verifiers.judges.base import ModelVerifier

if TYPE_CHECKING:
    from gristmill.engines.options import EngineOptions
    from gristmill.engines.session import Session


def asks_a_model(verifier: Any) -> bool:
    """Whether a verifier is called with an engine and awaited."""
    return inspect.iscoroutinefunction(type(verifier).__call__)


class Host:
    """A model verifier with an engine, opened at the first call; ``submit`` can be called from any thread.

    Completions are kept in the log at ``log`` (``None``: a temporary one), so that the same texts are paid
    for once. A request that is refused, or that fails on every try, results in an ``error`` verdict; errors
    that end a run (``RunStopped``, ``LogError``) are raised to every caller.
    """

    def __init__(
        self, verifier: ModelVerifier, engine: EngineOptions, *, log: str | Path | None = None, seed: int = 0
    ) -> None:
        """Raises ``RecipeError`` for an engine without an ability that the verifier needs."""
        self._verifier = verifier
        self._options = engine
        self._log_path = log
        self._seed = seed
        self._engine = engine.open()
        check_opened(type(engine).__name__, self._engine)
        missing = verifier.needs - self._engine.abilities
        if missing:
            raise RecipeError(
                f"the verifier needs an engine that can {' and '.join(sorted(missing))}; "
                f"{self._engine.model!r} cannot.",
                remedy="Use another engine, or change the verifier's options.",
            )
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: Engine = self._engine
        self._opened = ExitStack()

    def submit(self, *texts: str) -> Future[Verdict]:
        """The future verdict on a completion, given a reference and optionally a problem.

        The same texts are judged with the same seed.
        """
        loop = self._open()
        return asyncio.run_coroutine_threadsafe(self._judge(*texts), loop)

    def verdicts(self, calls: Sequence[tuple[str, ...]]) -> list[Verdict]:
        """The verdicts on many calls, in order, with as many at a time as the engine allows."""
        return [verdict.result() for verdict in [self.submit(*texts) for texts in calls]]

    async def _judge(self, completion: str, reference: str, problem: str) -> Verdict:
        seed = derive_seed(self._seed, f"{problem}\x1f{reference}\x1f{completion}")
        try:
            return await self._verifier(
                completion, reference, problem=problem, engine=self._session, seed=seed
            )
        except RowRejected as error:
            return failure(error.reason, error.message)
        except EngineError as error:
            return failure("engine error", str(error))

    def _open(self) -> asyncio.AbstractEventLoop:
        from gristmill.engines.log.store import CompletionLog
        from gristmill.engines.session import Session

        with self._lock:
            if self._loop is not None:
                return self._loop
            with ExitStack() as stack:
                path = self._log_path
                if path is None:
                    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gristmill-"))
                    path = Path(folder) / "completions.sqlite"
                log = stack.enter_context(CompletionLog(path))
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=loop.run_forever, name="gristmill-judge", daemon=True)
                thread.start()
                stack.callback(_stop, loop, thread)
                session = Session(self._engine, self._options, log)
                asyncio.run_coroutine_threadsafe(session.__aenter__(), loop).result()
                stack.callback(lambda: asyncio.run_coroutine_threadsafe(_end(session), loop).result())
                self._opened = stack.pop_all()
            self._loop, self._session = loop, session
            return loop

    def close(self) -> None:
        """Close the engine. Unfinished calls are cancelled; further calls open it again."""
        with self._lock:
            self._loop = None
            self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def _end(session: Session) -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await session.__aexit__(None, None, None)


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
