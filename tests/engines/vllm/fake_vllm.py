"""Stands in for ``vllm serve``: a server with a process below it that dies or hangs when asked to.

It answers every chat with its text and the number of the start. ``die`` ends it once, ``hang`` stops it once
(what happened is remembered in the file $FAKE_STATE), ``wait ...`` waits for the second start, and a model
named ``broken`` never starts.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != f"Bearer {os.environ['VLLM_API_KEY']}":
            return self._answer({"error": "no key"}, 401)
        text = body["messages"][-1]["content"]
        with lock:
            state["bodies"].append(body)
            accident = text in ("die", "hang") and text not in state["done"]
            if accident:
                state["done"].append(text)
            save()
        while text.startswith("wait") and len(state["starts"]) == 1:
            time.sleep(0.05)
        if accident:
            os.kill(os.getpid(), signal.SIGKILL if text == "die" else signal.SIGSTOP)
            time.sleep(600)  # this thread may go on for a moment
        choice = {
            "index": 0,
            "message": {"content": f"{text} {len(state['starts'])}"},
            "finish_reason": "stop",
        }
        return self._answer({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 2}})

    def _answer(self, body: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        return None


def save() -> None:
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(state))
    beside.replace(path)


lock = threading.Lock()
path = Path(os.environ["FAKE_STATE"])
state: dict[str, Any] = (
    json.loads(path.read_text()) if path.exists() else {"starts": [], "done": [], "bodies": []}
)
state["starts"].append(sys.argv)
save()
if "broken" in sys.argv[2]:
    sys.exit("ValueError: No supported config format found")
# Like vLLM's engine, it does not notice the end of the server.
core = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
port = int(sys.argv[sys.argv.index("--port") + 1])
ThreadingHTTPServer.request_queue_size = 512
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
