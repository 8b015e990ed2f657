"""A verifier called in this process: for a class of a notebook or script, which no worker can import."""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from operator import attrgetter
from types import TracebackType
from typing import Any, Self

import msgspec
from msgspec import Struct

from gristmill.core.contracts import place_of
from gristmill.core.errors import RecipeError
from gristmill.core.verdicts import Verdict, Verifier
from gristmill.verifiers.guard import guarded
from gristmill.verifiers.pool.pool import Pool


class InProcess:
    """A verifier in one thread of this process, with the interface of ``Pool``.

    Calls are answered one after another. What it raises becomes an ``error`` verdict, but a call that hangs
    cannot be ended: there is no deadline and no memory limit.
    """

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gristmill-verifier")

    def verify(self, completion: str, reference: str) -> Verdict:
        """Judge ``completion`` against ``reference``; blocks until the verdict is there."""
        return self.submit(completion, reference).result()

    async def averify(self, completion: str, reference: str) -> Verdict:
        """Like ``verify``, without blocking the event loop. It may be cancelled at any moment."""
        return await asyncio.wrap_future(self.submit(completion, reference))

    def submit(self, *args: Any) -> Future[Verdict]:
        """Queue a call of the verifier with ``args``."""
        return self._thread.submit(guarded, self._verifier, *args)

    def verdicts(self, calls: Iterable[Sequence[Any]]) -> list[Verdict]:
        """The verdicts on many calls, in order; blocks until all are there."""
        return [future.result() for future in [self.submit(*args) for args in calls]]

    def close(self) -> None:
        """End the thread once the call that is running has returned; queued ones are cancelled."""
        self._thread.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def pool_for(verifier: str | Verifier, **settings: Any) -> Pool | InProcess:
    """Where a verifier runs: in worker processes, or in this one where they cannot import it.

    ``verifier`` is a registered name, ``MODULE:OBJECT``, a function, or a Struct that is called. ``settings``
    are those of ``Pool``; in this process they have no effect, which a warning says. Raises ``RecipeError``
    for what is not a verifier, or has options that cannot be sent to a worker.
    """
    return pool_maker(verifier, **settings)()


def pool_maker(verifier: str | Verifier, **settings: Any) -> Callable[[], Pool | InProcess]:
    """``pool_for`` in two steps: it says now what it has to say, and opens the pool when it is called."""
    if isinstance(verifier, str):
        return lambda: Pool(verifier, **settings)
    if isinstance(verifier, type) or not callable(verifier):
        raise RecipeError(
            f"{verifier!r} is not a verifier.",
            remedy="Give a registered name, a function of two texts, or an object with options: Math().",
        )
    place = place_of(verifier)
    reason = _unreachable(verifier, place)
    if reason:
        warnings.warn(
            f"{place} runs in this process, without a deadline: a worker process cannot import it "
            f"({reason}). Put it into a module of its own to have one.",
            stacklevel=3,
        )
        return lambda: InProcess(verifier)
    if isinstance(verifier, Struct):
        settings = {**settings, "options": _plain(verifier)}
    return lambda: Pool(place, **settings)


def _unreachable(verifier: Any, place: str) -> str:
    """Why a worker process cannot import what is at ``place``; empty where it can."""
    module, _, name = place.partition(":")
    if module == "__main__":
        return "it is defined in a script or notebook"
    if "<locals>" in name or "<lambda>" in name:
        return "it is defined inside a function"
    home = sys.modules.get(module)
    if home is None or home.__spec__ is None:
        return f"the module {module} has no file"
    wanted = verifier if hasattr(verifier, "__qualname__") else type(verifier)
    if wanted is not verifier and not isinstance(verifier, Struct):
        return "it is an object of a class that is not a msgspec.Struct"
    try:
        found = attrgetter(name)(home)
    except AttributeError:
        return f"{module} has no {name}"
    return "" if found is wanted else f"{name} in {module} is another object"


def _plain(verifier: Struct) -> Mapping[str, Any]:
    """A verifier's options as a worker process is sent them."""
    try:
        plain: Mapping[str, Any] = msgspec.to_builtins(verifier)
    except TypeError as error:
        raise RecipeError(
            f"{type(verifier).__name__.lower()} cannot be sent to a worker process: {error}.",
            remedy="Give its parts as {kind: NAME, ...options}.",
        ) from error
    return plain
