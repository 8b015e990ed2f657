"""What the tests of the log share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gristmill.core.engine import Completion, Request
from gristmill.engines.log.store import CompletionLog, request_key


@pytest.fixture
def put() -> Callable[..., list[Completion]]:
    """Put completions (or texts) into a log for the model ``m``."""

    def put(
        log: CompletionLog, request: Request, *answers: str | Completion, first: int = 0
    ) -> list[Completion]:
        completions = [a if isinstance(a, Completion) else Completion(a) for a in answers]
        return asyncio.run(log.put(request_key("m", request), first, completions))

    return put


@pytest.fixture
def get() -> Callable[..., dict[int, str]]:
    """The texts that a log has for the model ``m``, by sample."""

    def get(log: CompletionLog, request: Request, first: int = 0, n: int = 9) -> dict[int, str]:
        return {i: c.text for i, c in log.get(request_key("m", request), first, n).items()}

    return get
