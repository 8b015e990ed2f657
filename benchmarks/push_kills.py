"""A push that is killed, and given again: what readers see at every moment.

    python benchmarks/push_kills.py [--kills 200] [--seed 0]

A process pushes eight files to a server on this machine (``tests/hub_server.py``), through the client of
the Hub as it is, and is killed with SIGKILL at a moment drawn from a seed: so many milliseconds after its
first request, or as the server takes its request number k, before or after it is done. Then the push is given
again, to its end. Readers of ``main`` must have seen nothing or all of it at the kill, and after it exactly
one whole revision: one commit, one tag, no branch left. Prints how often which of both was seen.

The processes are forked from one that has imported the client and hashed the files: what is killed is all
that a push does on the Hub (``gristmill.pipelines.publishing.hub``), not the making of shards before it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from hub_server import TOKEN, HubServer

REPO = "miller/killed"
_REQUESTS = 26
"""About as many as a push has: a kill at a later one never comes, and the push ends by itself."""
FILES = {f"data/rows/train-{at}.parquet": b"PAR1" * (5_000 + at) for at in range(5)}
FILES |= {"README.md": b"# Rows\n", "pushes.json": b"{}\n", "croissant.json": b"{}\n"}
_PUSHER = """
import os, sys, traceback
import huggingface_hub, huggingface_hub.hf_api
sys.path.insert(0, sys.argv[1])
from push_kills import FILES, REPO
from gristmill.pipelines.publishing.hub import Hub, PushedFile
files = [PushedFile.of(path, data) for path, data in FILES.items()]
for line in sys.stdin:
    if (pid := os.fork()) == 0:
        try:
            hub = Hub(REPO)
            hub.create(private=True)
            head = hub.refs()[0]["main"]
            hub.land(files, head=head, before=hub.files(head), message="Publish")
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Pusher:
    """Starts pushes, one after the other."""

    def __init__(self, server: HubServer) -> None:
        env = os.environ | {
            "HF_ENDPOINT": server.url,
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _PUSHER, str(Path(__file__).parent)],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._pid = self.number = 0
        self._begun = threading.Event()

    def begin(self) -> None:
        """Push now."""
        self._begun.clear()
        self.number += 1
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("push\n")
        self._process.stdin.flush()
        self._pid = int(self._process.stdout.readline())
        self._begun.set()

    def kill(self, number: int) -> None:
        """SIGKILL to the push of that number, if it is still at work."""
        self._begun.wait(30)
        if number == self.number:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def end(self) -> int:
        """Wait for it; its exit status."""
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


def once(server: HubServer, pusher: Pusher, chance: random.Random) -> str:
    """One kill and the push after it; what readers saw at the kill. ``AssertionError`` for half a set."""
    server.repos.clear()
    server.objects.clear()
    server.asked.clear()
    by_time = chance.random() < 0.5
    at, late = chance.randrange(1, _REQUESTS), chance.random() < 0.5
    after, push = chance.random() * 1.5, pusher.number + 1

    def fault(number: int, method: str, path: str) -> str | None:
        if by_time:
            if number == 1:
                threading.Timer(after, pusher.kill, (push,)).start()
            return None
        if number != at:
            return None
        if late:  # what is asked is done first; the one that asked never knows
            threading.Timer(0.0, pusher.kill, (push,)).start()
            return "late"
        pusher.kill(push)
        return "cut"

    server.fault = fault
    pusher.begin()
    status = pusher.end()
    server.fault = lambda number, method, path: None
    seen = server.main(REPO) if REPO in server.repos else {}
    pusher.begin()
    assert pusher.end() == 0, "the push after the kill failed"
    repo, whole = server.repos[REPO], server.main(REPO)
    assert whole == FILES, "the push after the kill left another set"
    assert seen in ({}, whole), f"readers saw {sorted(seen)}"
    assert len(repo.history()) == 2 and set(repo.branches) == {"main"}
    assert list(repo.tags.values()) == [repo.branches["main"]]
    if status == 0:
        return "not killed in time"
    return "killed before the commit" if not seen else "killed after the commit"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chance, found, begun = random.Random(given.seed), Counter[str](), time.monotonic()
    with HubServer() as server:
        pusher = Pusher(server)
        while sum(n for what, n in found.items() if what.startswith("killed")) < given.kills:
            found[once(server, pusher, chance)] += 1
            print(dict(found), end="\r", file=sys.stderr, flush=True)
    killed = sum(n for what, n in found.items() if what.startswith("killed"))
    print(f"{killed} kills, {killed} times one whole revision after it, half a set never seen")
    for what, n in sorted(found.items()):
        print(f"{n:>6}  {what}")
    print(f"{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
