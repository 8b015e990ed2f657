"""What is behind a row, by its id in a stage, in an export and in a file loaded back from the Hub."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import polars as pl
import pytest
import yaml
from hub_server import HubServer

from gristmill.core.errors import RunError
from gristmill.pipelines.publishing import push, trace
from gristmill.pipelines.publishing.tracing import as_json, text
from gristmill.pipelines.rundir.results import Run, open_run


@pytest.fixture
def log(sums: Run) -> Path:
    return sums.path.parent.parent / "log.sqlite"


def test_a_published_row_leads_to_its_requests_and_verdicts(sums: Run, log: Path, server: HubServer) -> None:
    push(sums, "sums")
    files = server.main("miller/sums")
    parquet = next(data for path, data in files.items() if path.startswith("data/trl-"))
    row = pl.read_parquet(io.BytesIO(parquet)).row(0, named=True)
    found = trace(sums, row["id"], log=log)
    (exchange,) = found.exchanges
    assert (exchange.stage, exchange.model, exchange.record) == ("sample", "scripted", found.problem)
    said = row["completion"][0]["content"]
    assert said in [c.text for c in exchange.completions] and len(exchange.completions) == 4
    assert exchange.request.messages[-1].content == row["prompt"][-1]["content"]
    sampled = next(p for p in found.passed if p.stage == "sample")
    assert {r["verdict"]["outcome"] for r in sampled.rows if r["id"] == row["id"]} == {"correct"}
    assert found.exports == ("axolotl-chat.jsonl", "trl-prompt-completion.jsonl")
    source = next(p for p in found.passed if p.stage == "source")
    assert source.rows[0]["problem"] == row["prompt"][-1]["content"]
    assert not found.notes


def test_a_rejected_row_too(sums: Run, log: Path) -> None:
    found = trace(sums, "s2/3", log=log)
    assert (found.problem, found.exports) == ("s2", ())
    where = next(p for p in found.passed if p.stage == "right")
    assert [(r.id, r.reason) for r in where.rejected] == [("s2/3", "where: verdict = 'correct'")]
    assert ">> rejected s2/3: where: verdict = 'correct'" in text(found)
    assert ">> kept s2/3: unparseable (no answer)" in text(found)
    assert "sample 0, seed " in text(found)
    assert json.loads(as_json(found))["exchanges"][0]["completions"][3]["text"] in text(found)


def test_an_unknown_id_and_a_lost_log(sums: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no row with the id 'nobody'"):
        trace(sums, "nobody")
    found = trace(sums, "s1/0#2", log=tmp_path / "none.sqlite")
    assert (found.record, found.problem) == ("s1/0", "s1")  # of a format that makes rows of turns
    assert trace(sums, "s3", log=tmp_path / "none.sqlite").problem == "s3"
    assert not found.exchanges and "no completion log" in found.notes[0]


SECRET = "sk-" + "q9W8e7R6" * 4


class _Echo(BaseHTTPRequestHandler):
    """A model server that says every header that it was sent."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        told = " ".join(f"{name}={value}" for name, value in self.headers.items())
        message = {"role": "assistant", "content": f"{told} \\boxed{{5}}"}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        usage = {"prompt_tokens": 5, "completion_tokens": 5}
        self._say({"object": "chat.completion", "choices": [choice], "usage": usage})

    def do_GET(self) -> None:
        self._say({"data": [{"id": "echo"}]})

    def _say(self, body: dict) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_planted_secrets_are_in_no_artefact(
    echo: str, server: HubServer, tmp_path: Path, monkeypatch
) -> None:
    from gristmill.pipelines.running import runner

    monkeypatch.setenv("ECHO_KEY", SECRET)
    source = tmp_path / "one.jsonl"
    source.write_text(json.dumps({"id": "s1", "problem": "What is 2 + 3?", "answer": "5"}) + "\n")
    recipe = {
        "name": "echo",
        "engine": {"kind": "openai", "base_url": echo, "model": "echo", "api_key_env": "ECHO_KEY"},
        "source": {"path": str(source)},
        "stages": [{"stage": "sample", "samples": 1}, {"stage": "demonstrations"}],
        "exports": [{"format": "trl-sft"}],
    }
    (tmp_path / "echo.yaml").write_text(yaml.safe_dump(recipe))
    runner.run(tmp_path / "echo.yaml", runs=tmp_path / "runs", log=tmp_path / "log.sqlite", quiet=True)
    run = open_run(tmp_path / "runs" / "echo")
    push(run, "sums")
    told = trace(run, run.rows().select("id").collect().item(), log=tmp_path / "log.sqlite")
    assert "authorization=" in text(told).lower()  # the server did say it
    held = {
        "trace": text(told).encode() + as_json(told).encode(),
        **server.main("miller/sums"),
        **{str(p): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()},
    }
    for path, data in list(held.items()):
        if path.endswith(".parquet"):
            held[path] = pl.read_parquet(io.BytesIO(data)).write_ndjson().encode()
    assert len(held) > 12
    assert not [path for path, data in held.items() if SECRET.encode() in data]
