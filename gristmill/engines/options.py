"""The options that every kind of engine has in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from gristmill.core.engine import Engine

NONE = "none"
"""The kind of the engine of a recipe that names none; see ``gristmill.engines.none``."""


class EngineOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many requests an engine gets at a time, and how failed requests are retried.

    Each kind of engine is a subclass that adds its own options and ``open``. The subclass is what a plug-in
    registers in the entry point group ``gristmill.engines``. All times are in seconds.
    """

    pacing: ClassVar[frozenset[str]] = frozenset()
    """Options of a subclass that change how fast it answers but never what it answers, as all options of
    this class do."""

    concurrency: Annotated[int, Meta(ge=1)] = 64
    """The largest number of requests in flight at one time; at least 1."""
    initial_concurrency: Annotated[int, Meta(ge=1)] | None = None
    """The number of requests in flight at the start; ``null`` starts at ``concurrency``."""
    tries: Annotated[int, Meta(ge=1)] = 6
    """How many times a request is sent before its row is rejected; at least 1."""
    request_timeout: Annotated[float, Meta(gt=0)] = 600.0
    """Seconds that one try may take. A server that asks for a longer wait stops the run, as does one that
    answers nothing for twice this time."""
    backoff: Annotated[float, Meta(ge=0)] = 0.5
    """Seconds to wait after the first failed try; the wait doubles after each further failure. The actual
    wait is drawn from the upper half of this time, so that clients do not retry together."""
    max_backoff: Annotated[float, Meta(ge=0)] = 30.0
    """The longest wait in seconds between two tries, before the server's own ``Retry-After`` is added."""
    requests_per_minute: Annotated[float, Meta(gt=0)] | None = None
    """The most requests to send in a minute, spread evenly; ``null`` for no limit. What the server itself
    says of its limits is kept to in any case."""
    tokens_per_minute: Annotated[float, Meta(gt=0)] | None = None
    """The most tokens of prompts and answers together in a minute; ``null`` for no limit."""
    max_error_rate: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """A share in (0, 1]: the run stops when more than this share of the last 200 tries failed."""

    @property
    def self_paced(self) -> bool:
        """Whether the engine itself decides how many requests run at a time, up to ``concurrency``."""
        return False

    @abstractmethod
    def open(self) -> Engine:
        """The engine that these options describe, to be used as ``async with``. No request is sent yet."""
        raise NotImplementedError
