"""What engines say while a run goes on: into the run's log, and warnings to standard error as well."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from gristmill.core.errors import RunError


class _Notes(logging.Handler):
    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._note = note

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno >= logging.WARNING and not logging.getLogger().handlers:
            print(text, file=sys.stderr, flush=True)  # else the program has said where warnings go
        with suppress(RunError):  # a disk that is full stops the run where it writes its rows
            self._note(text)


@contextmanager
def noted(note: Callable[[str], None]) -> Iterator[None]:
    """Hand the messages of Gristmill's loggers, from level INFO, to ``note``."""
    logger, handler = logging.getLogger("gristmill"), _Notes(note)
    level = logger.level
    logger.setLevel(min(logger.getEffectiveLevel(), logging.INFO))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
