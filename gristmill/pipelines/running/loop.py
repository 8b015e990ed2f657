"""The one event loop of a run: uvloop where it is installed, beside a notebook's own if need be."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

_LOOK = 0.1
"""Seconds between two looks for an interrupt."""


def in_own_loop(main: Coroutine[Any, Any, None], interrupt: Callable[[], object] | None = None) -> None:
    """Run ``main`` in a loop of its own; beside a running one (a notebook's) in a thread of its own.

    Ctrl-C during the latter calls ``interrupt``, and ``main`` is waited for until it has ended.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        _run_loop(main)
        return
    failed: list[BaseException] = []
    ended = threading.Event()

    def target() -> None:
        try:
            _run_loop(main)
        except BaseException as error:  # noqa: BLE001 handed to the caller below
            failed.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=target, name="gristmill-run")
    thread.start()
    while not ended.is_set():
        try:
            # Not thread.join, which after a KeyboardInterrupt takes the thread for ended. And not without a
            # time-out: importing Polars installs a handler of its own in front of Python's, and from then on
            # an interrupt ends no wait for a lock (seen with Polars 2.1 on Python 3.11).
            ended.wait(_LOOK)
        except KeyboardInterrupt:
            if interrupt is None:
                raise
            interrupt()
    if failed:
        raise failed[0]


def _run_loop(main: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)
