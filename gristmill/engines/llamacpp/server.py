"""The process in which llama.cpp runs: ``python -m gristmill.engines.llamacpp.server``.

It reads one JSON object of settings from standard input, writes one line ``{"address": URL}`` (or
``{"error": TEXT}``) to standard output, and serves until standard input ends, which also happens when the
parent is killed. llama.cpp's own output goes to standard error.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import msgspec
from msgspec import Struct


class ServerSettings(Struct, forbid_unknown_fields=True):
    """The settings from the parent. ``context`` is in tokens for each of the ``slots``."""

    path: str
    slots: int
    context: int
    threads: int
    batch: int
    cache_mb: int
    api_key: str
    gpu_layers: int = -1


class Ready(Struct, omit_defaults=True):
    """The child's only line: the address at which it listens, or why it cannot start."""

    address: str = ""
    error: str = ""


def serve(settings: ServerSettings, say: Callable[[Ready], None]) -> None:
    """Load the model, say where it listens, and wait for the parent to go."""
    try:
        import xllamacpp
    except ImportError as error:
        return say(Ready(error=f"xllamacpp cannot be imported: {error}"))
    params = xllamacpp.CommonParams()
    params.model.path = settings.path
    params.n_parallel = settings.slots
    params.n_ctx = settings.slots * settings.context
    params.n_batch = settings.batch
    params.n_ubatch = min(settings.batch, params.n_ubatch)
    params.n_gpu_layers = settings.gpu_layers
    params.cpuparams.n_threads = settings.threads
    params.cpuparams_batch.n_threads = settings.threads
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [settings.api_key]
    params.n_threads_http = settings.slots + 4
    params.ui = False
    # An option that a request leaves out means "no filter" in Gristmill; llama.cpp's own defaults would
    # silently apply top-k 40 and min-p 0.05.
    params.sampling.top_k = 0
    params.sampling.top_p = 1.0
    params.sampling.min_p = 0.0
    # Prompts that leave a slot are kept in memory and copied back when needed: 4.5 requests/s instead of
    # 0.8 with three long prompts taking turns on eight slots (measured on two cores).
    params.cache_ram_mib = settings.cache_mb
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        return say(Ready(error=str(error) or type(error).__name__))
    say(Ready(address=server.listening_address))
    while os.read(0, 4096):
        pass
    return None


def _first_line() -> bytes:
    """The first line of standard input, byte by byte, so that what follows is not lost in a buffer."""
    line = b""
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    return line


def main() -> None:
    """Entry point of the child process."""
    # The terminal's Ctrl-C goes to the whole foreground group; the parent decides when this ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A library that prints must not get between us and the parent.
    wire = os.dup(1)
    os.dup2(2, 1)

    def say(ready: Ready) -> None:
        os.write(wire, msgspec.json.encode(ready) + b"\n")

    serve(msgspec.json.decode(_first_line(), type=ServerSettings), say)
    # Slots may be computing a batch whose reader is gone, so nothing is shut down in order.
    os._exit(0)


if __name__ == "__main__":
    main()
