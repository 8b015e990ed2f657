"""The child process of ``gristmill.verifiers.pool.pool``, and the framing that both ends speak.

Run as ``python -m gristmill.verifiers.pool.worker MODULE:OBJECT DEADLINE ALARM MEMORY_MB OPTIONS`` (seconds
of processor time, seconds, MiB, a JSON object) with a stream socket as standard input. Each message is an
8-byte big-endian length and so many bytes. The worker sends one empty message when it is ready; then each
request is a MessagePack array of the verifier's arguments and each reply the MessagePack of its ``Verdict``.
It ends when the socket does.

A module may define ``prepare_worker()``, and a verifier ``prepare()``: they are called before the worker
is ready, so that imports and caches are paid for outside any deadline.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import msgspec

from gristmill.verifiers.guard import guarded
from gristmill.verifiers.loading import load

OUT_OF_MEMORY = 77
"""Exit status of a worker that met its memory limit."""

_HEADER = struct.Struct("!Q")
_CHUNK = 1 << 20
_SMALL = 1 << 14
"""Most messages come whole in one read of this size."""


def send(channel: socket.socket, message: bytes, until: float | None = None) -> None:
    """Send one message; ``TimeoutError`` if it has not gone out by ``until`` (``time.monotonic``)."""
    channel.settimeout(_left(until))
    channel.sendall(_HEADER.pack(len(message)) + message)


def receive(channel: socket.socket, until: float | None = None) -> bytes | None:
    """The next message, ``None`` if the other end is gone; ``TimeoutError`` if none by ``until``.

    Nothing follows a message before it is answered, so a read may ask for more than is left of it.
    """
    data = bytearray()
    size = _HEADER.size
    while len(data) < size:
        channel.settimeout(_left(until))
        try:
            chunk = channel.recv(max(min(size - len(data), _CHUNK), _SMALL))
        except ConnectionResetError:
            return None
        if not chunk:
            return None
        if len(data) < _HEADER.size <= len(data) + len(chunk):
            size += _HEADER.unpack_from(data + chunk)[0]
        data += chunk
    return bytes(memoryview(data)[_HEADER.size :])


def _left(until: float | None) -> float | None:
    # Zero would mean "do not block" and raise BlockingIOError even where the data are there already.
    return None if until is None else max(until - time.monotonic(), 1e-6)


def _take_channel() -> socket.socket:
    """The socket, moved off standard input so that nothing the verifier reads or starts can touch it."""
    channel = socket.socket(fileno=os.dup(0))
    _to_null(0, os.O_RDONLY)
    return channel


def _to_null(descriptor: int, mode: int) -> None:
    null = os.open(os.devnull, mode)
    os.dup2(null, descriptor)
    os.close(null)


def _load(target: str, options: str) -> Callable[..., Any]:
    function = load(target, msgspec.json.decode(options))
    for prepare in (
        getattr(import_module(target.partition(":")[0]), "prepare_worker", None),
        getattr(function, "prepare", None),
    ):
        if prepare is not None:
            prepare()
    return function


def serve(channel: socket.socket, function: Callable[..., Any], deadline: float, alarm: float) -> None:
    """Answer requests until the channel closes.

    The kernel keeps the deadline: it ends this process once it has used so much processor time on a request,
    however long that took. The parent enforces the wall limit. The kernel's ``alarm`` is for the case that
    the parent itself was killed: no worker stays behind in a call that waits forever.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    while (request := receive(channel)) is not None:
        signal.setitimer(signal.ITIMER_REAL, alarm)
        signal.setitimer(signal.ITIMER_PROF, deadline)
        try:
            reply = msgspec.msgpack.encode(guarded(function, *msgspec.msgpack.decode(request)))
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            send(channel, reply)
        except BrokenPipeError:  # the parent is gone, and with it whoever asked
            return


def main(target: str, deadline: str, alarm: str, memory_mb: str, options: str) -> None:
    """Load the verifier under the limits, say so, and serve."""
    channel = _take_channel()
    limit = int(memory_mb) << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    function = _load(target, options)
    # Up to here standard error tells the parent why a start failed; from here on it is libraries' noise.
    _to_null(2, os.O_WRONLY)
    send(channel, b"")
    serve(channel, function, float(deadline), float(alarm))


if __name__ == "__main__":
    main(*sys.argv[1:])
