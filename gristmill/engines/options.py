"""The options that every kind of engine has in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from gristmill.core.engine import Engine


class EngineOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How hard to drive an engine, and how patient to be with it.

    Each kind of engine is a subclass that adds its own options and ``open``; the subclass is what the
    entry point group ``gristmill.engines`` names. Times are in seconds.
    """

    pacing: ClassVar[frozenset[str]] = frozenset()
    """A subclass's own options that, like all of these, change how fast it answers and never what."""

    concurrency: Annotated[int, Meta(ge=1)] = 64
    """The most requests in flight."""
    initial_concurrency: Annotated[int, Meta(ge=1)] | None = None
    """Requests in flight at the start; ``None`` starts at ``concurrency``."""
    tries: Annotated[int, Meta(ge=1)] = 6
    """How often a request is sent before its row is rejected."""
    request_timeout: Annotated[float, Meta(gt=0)] = 600.0
    """The longest one try may take, and the longest ``Retry-After`` that is waited for."""
    backoff: Annotated[float, Meta(ge=0)] = 0.5
    """The wait after the first failed try; it doubles with every further one."""
    max_backoff: Annotated[float, Meta(ge=0)] = 30.0
    max_error_rate: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """The share of failures among the last 200 tries above which the run stops itself."""

    @property
    def self_paced(self) -> bool:
        """Whether the engine itself decides how many requests are at work, below ``concurrency``."""
        return False

    @abstractmethod
    def open(self) -> Engine:
        """The engine that these options describe, to be used as ``async with``. No request is sent yet."""
        raise NotImplementedError
