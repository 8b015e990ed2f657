"""A limit on threads and processes: an error that says so, and never one row's."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from gristmill.core.errors import RunStopped


def out_of_threads(error: BaseException) -> bool:
    """Whether the system has refused a thread or a process for a limit on their number."""
    if isinstance(error, RuntimeError):
        return "can't start new thread" in str(error)
    return isinstance(error, OSError) and error.errno == errno.EAGAIN


def stopped_by_limit(error: BaseException) -> RunStopped:
    """The error that a user is told."""
    return RunStopped(
        f"no further thread or process can be started ({error}): a limit on their number is reached.",
        remedy="Raise the limit (ulimit -u, or the container's limit on processes) or end other programs, "
        "then run the same command again.",
    )


@contextmanager
def threads_limited() -> Iterator[None]:
    """Turn a refused thread or process into ``RunStopped``."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        if not out_of_threads(error):
            raise
        raise stopped_by_limit(error) from error
