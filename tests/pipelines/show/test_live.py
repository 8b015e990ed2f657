"""The report that follows a run: what is served to whom, and what becomes of the reader's place."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import Chromium, needs_browser
from pages_of import a_run
from typer.testing import CliRunner

from gristmill.cli.main import app
from gristmill.core.errors import RunError
from gristmill.pipelines.show.live import LiveReport, LiveServer

if TYPE_CHECKING:
    from playwright.sync_api import Page


@contextmanager
def served(*what: str) -> Iterator[LiveServer]:
    with LiveServer(LiveReport(what)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server: LiveServer, path: str, host: str | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request("GET", path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def test_only_its_own_address_is_answered_and_only_with_the_report(tmp_path: Path) -> None:
    with served(str(a_run(tmp_path / "r"))) as server:
        port = server.server_port
        assert [ask(server, "/", host)[0] for host in (None, f"localhost:{port}")] == [200, 200]
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", ""):
            assert ask(server, "/", host)[0] == 403, host
        assert ask(server, "/../../etc/passwd")[0] == 404
        assert server.server_address[0] == "127.0.0.1"


def test_data_are_sent_where_they_are_newer(tmp_path: Path) -> None:
    path = a_run(tmp_path / "r")
    with served(str(path)) as server:
        first = json.loads(ask(server, "/data?have=")[1])
        assert ask(server, f"/data?have={first['version']}") == (204, b"")
        (path / "log.txt").write_text("more")
        status, body = ask(server, f"/data?have={first['version']}")
        assert status == 200 and json.loads(body)["version"] != first["version"]


def test_a_run_that_cannot_be_read_is_told_and_is_there_again_afterwards(tmp_path: Path) -> None:
    path = a_run(tmp_path / "r")
    with served(str(path)) as server:
        part = path / "00-sample" / "part-00000.parquet"
        whole = part.read_bytes()
        part.write_bytes(whole[:9])
        status, body = ask(server, "/data")
        assert status == 503 and b"writing its files" in body
        part.write_bytes(whole)
        assert ask(server, "/data")[0] == 200


def test_a_port_that_is_taken_and_a_run_that_is_not_there(tmp_path: Path) -> None:
    path = str(a_run(tmp_path / "r"))
    with served(path) as server, pytest.raises(RunError, match="cannot be used"):
        LiveServer(LiveReport([path]), server.server_port)
    result = CliRunner().invoke(app, ["view", "gone", "--runs", str(tmp_path)])
    assert "holds no complete run" in str(result.exception)


@needs_browser
def test_the_page_follows_the_run_and_the_reader_keeps_the_place(browser: Chromium, tmp_path: Path) -> None:
    path = a_run(tmp_path / "r")
    with served(str(path)) as server:

        def act(page: Page) -> None:
            page.click("#to-rows")
            page.click("#clear")
            page.fill("#search", "it is 6")
            page.keyboard.press("Escape")
            page.keyboard.press("j")
            here = page.inner_text("#row h2")
            before = page.inner_text("#matching")
            texts = ("It is 5.", "It is 66.", "It is 6.")
            later = threading.Thread(target=a_run, args=(path, texts))  # this thread has a loop at work
            later.start()
            later.join()
            page.wait_for_function(
                "before => document.getElementById('matching').textContent !== before", arg=before
            )
            assert page.inner_text("#row h2") == here
            assert page.input_value("#search") == "it is 6" and page.is_visible("#rows")
            assert "kept up to date" in page.inner_text("#fresh")

        browser.look(server.url, act)
