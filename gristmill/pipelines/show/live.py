"""``gristmill view``: the report of a run as a page that follows it, served to this machine alone.

Own code on the standard library's server: three answers to one reader need no framework. It listens on
127.0.0.1, answers only requests that name it as their host (a page of another site could otherwise reach it
by a name that it points here), and gives nothing away except the report.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from gristmill.core.errors import GristmillError, RunError
from gristmill.pipelines.show.picked import ROWS
from gristmill.pipelines.show.report import data_of, page_of
from gristmill.pipelines.show.subject import open_subject

ADDRESS = "127.0.0.1"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class LiveReport:
    """The data of a report, made anew whenever the files that it is of have changed."""

    def __init__(self, what: Sequence[str], runs: Path = Path("runs"), rows: int = ROWS) -> None:
        """Raises what ``open_subject`` raises where there is nothing to show."""
        self._what, self._runs, self._rows = what, runs, rows
        self._data: dict[str, Any] = {}
        self._lock = Lock()
        for one in what:
            open_subject(one, runs)

    def data(self) -> dict[str, Any]:
        """What the page says now, with its ``version`` and the time (``changed``) at which that was read.

        Raises ``GristmillError`` while it cannot be read, as between two files of a stage.
        """
        from polars.exceptions import PolarsError

        with self._lock:
            version = self._version()
            if self._data.get("version") != version:
                try:
                    subjects = [open_subject(one, self._runs) for one in self._what]
                    made = data_of(subjects, rows=self._rows, live=True)
                except (OSError, PolarsError) as error:  # a stage was put in place meanwhile
                    raise RunError("the run is writing its files.", remedy="Ask again.") from error
                self._data = made | {"version": version, "changed": time.strftime("%H:%M:%S")}
            return self._data

    def _version(self) -> str:
        """A hash of the names, sizes and times of all files that the report reads."""
        digest = blake2b(digest_size=12)
        for what in self._what:
            place = Path(what) if Path(what).exists() else self._runs / what
            for path in [place] if place.is_file() else sorted(place.rglob("*")):
                try:
                    stat = path.stat()
                except FileNotFoundError:  # gone since it was listed
                    continue
                digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
        return digest.hexdigest()


class LiveServer(ThreadingHTTPServer):
    """Serves the page of ``live`` at ``url``; ``port`` 0 is any that is free."""

    daemon_threads = True

    def __init__(self, live: LiveReport, port: int = 0) -> None:
        """``RunError`` where the port is taken."""
        self.live = live
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            raise RunError(
                f"port {port} of {ADDRESS} cannot be used: {error.strerror or error}.",
                remedy="Choose another with --port, or leave it out for one that is free.",
            ) from error
        self.url = f"http://{ADDRESS}:{self.server_port}/"
        self.hosts = {f"{name}:{self.server_port}" for name in (ADDRESS, "localhost")}


class _Handler(BaseHTTPRequestHandler):
    server: LiveServer
    server_version, sys_version = "gristmill", ""

    def do_GET(self) -> None:
        """The page, its data where they are newer than what the reader has, or a reason in plain text."""
        if self.headers.get("Host") not in self.server.hosts:
            return self._answer(403, b"This server answers only at its own address.")
        asked = urlsplit(self.path)
        answers: dict[str, Callable[[dict[str, Any]], tuple[int, bytes, str]]] = {
            "/": lambda data: (200, page_of(data, live=True).encode(), "text/html; charset=utf-8"),
            "/data": lambda data: (
                (204, b"", "")
                if parse_qs(asked.query).get("have") == [data["version"]]
                else (200, msgspec.json.encode(data), "application/json")
            ),
            "/favicon.ico": lambda data: (204, b"", ""),
        }
        if asked.path not in answers:
            return self._answer(404, b"There is only the report, at /.")
        try:
            return self._answer(*answers[asked.path](self.server.live.data()))
        except GristmillError as error:
            return self._answer(503, str(error).encode())

    def _answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if kind:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what others send does not reach the terminal."""
