"""Measures the stage ``refusal_split`` on questions whose samples came through a recipe and a server.

    python benchmarks/refusal_split.py [--questions 25000] [--samples 10] [--bench DIR]

The yardstick's server gives every sample of a question the same text, which would make one class of them.
So it runs here with texts of our own, drawn by question and number of the sample; its protocol,
connections and counters stay as they are (latency 5 ms). Questions are made of templates and names; every
tenth nearly repeats the one before it. A recipe (``probe_knowledge``, then ``refusal_split``) draws the
samples over HTTP. Then the split alone is run on the probe's Parquet, in a process of its own for each
setting: seconds of the stage, peak RSS of the process, and of that how much it had before the stage.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from gristmill.core.registry import register
from gristmill.pipelines.recipe.recipe import from_dict
from gristmill.pipelines.running.runner import run

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = (
    "In which country is {} located?",
    "What is the native language of {}?",
    "Where was {} born?",
    "What is the occupation of {}?",
    "Who is the author of {}?",
)
SYLLABLES = ("ba", "do", "ker", "lin", "mo", "na", "pel", "ra", "sta", "tor", "ul", "vi", "wen", "xa", "zi")
LIMITS = {"seconds": 10.0, "MB": 500.0}
"""What the project promises of the split stage alone."""
WORDS = ("Paris", "the city of Paris", "Rome", "New York", "Vienna", "1,000", "1000", "Oslo")


def questions(count: int) -> list[dict[str, str]]:
    """So many questions; every tenth repeats the one before it in other words."""
    rng = random.Random(5)
    rows: list[dict[str, str]] = []
    for i in range(count):
        relation = (i - (i % 10 == 9)) % len(TEMPLATES)
        if i % 10 == 9:
            text = rows[-1]["question"].replace("?", ", please?")
        else:
            name = " ".join("".join(rng.choices(SYLLABLES, k=3)).title() for _ in range(2))
            text = TEMPLATES[relation].format(name)
        row = {"id": f"q{i}", "question": text, "answer": WORDS[i % 4]}
        row |= {"relation": f"P{relation}", "key": f"q{i}"}
        rows.append(row)
    return rows


def serve(script: Path, port: int) -> None:
    """The yardstick's server with texts of our own; never returns."""
    spec = importlib.util.spec_from_file_location("yardstick_server", script)
    assert spec is not None
    assert spec.loader is not None
    server: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(server)
    plain = server.orjson.dumps

    def dumps(body: Any) -> bytes:
        for choice in body.get("choices", ()) if isinstance(body, dict) else ():
            number = int(body["id"].split("-q")[1].split("/")[0])
            choice["message"]["content"] = answer(number, choice["index"])
        return bytes(plain(body))

    server.orjson = type(
        "orjson", (), {"dumps": staticmethod(dumps), "loads": staticmethod(server.orjson.loads)}
    )
    server.S.cfg.update(latency_ms=5.0)
    server.uvloop.run(server.main(argparse.Namespace(port=port, max_s=3600)))


def answer(number: int, index: int) -> str:
    """Sample ``index`` of a question: right as often as the question is known, else any word."""
    rng = random.Random(number * 1000 + index)
    known = (number * 7919 % 1000) / 1000
    return WORDS[number % 4] if rng.random() < known else rng.choice(WORDS)


SPLITS: dict[str, dict[str, Any]] = {
    "votes, classes, entropies, intervals": {"partition": {"near_duplicates": None}},
    "and parts, equal questions together": {
        "partition": {"near_duplicates": None, "domain": "relation", "out_share": 0.4, "test": 0.2}
    },
    "and near-duplicates together": {"partition": {"domain": "relation", "out_share": 0.4, "test": 0.2}},
}
MEASURE = """
import json, sys, time
from pathlib import Path
import msgspec, polars
from gristmill.core.knowledge import Knowledge
from gristmill.core.stages import REJECTED_REASON
from gristmill.pipelines.rundir.parts import scan
from gristmill.synth.refusal.split import RefusalSplit
status = Path("/proc/self/status")  # of this program alone: ru_maxrss begins with the peak of who started it
peak = lambda: int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
stage = msgspec.convert(json.loads(sys.argv[2]), RefusalSplit)
before, start = peak(), time.perf_counter()
made = stage(scan(Path(sys.argv[1]), Knowledge), 0).collect()
seconds = time.perf_counter() - start
counts = made.group_by("part", "certain").len().sort("part", "certain").rows()
print(json.dumps({"seconds": seconds, "MB": peak(), "MB before": before, "rows": made.height,
                  "parts": {f"{p} {c}": n for p, c, n in counts}}))
"""


def probe(folder: Path, bench: Path, count: int, samples: int) -> Path:
    """Draw the samples by a recipe; the folder of the probe's Parquet."""
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions(count)))
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, __file__, "--serve", str(port), "--bench", str(bench)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        if not server.stdout.readline().startswith("listening"):
            raise SystemExit("the server did not start; it needs orjson and uvloop")
        run(from_dict(recipe(folder, port, samples)), runs=folder / "runs", log=folder / "log.sqlite")
    finally:
        server.kill()
        server.wait()
    return folder / "runs" / "probe" / "01-probe_knowledge"


def recipe(folder: Path, port: int, samples: int) -> dict[str, Any]:
    base = f"http://127.0.0.1:{port}/v1"
    question = "[[id={key}]] Question: {problem} Answer:"
    return {
        "name": "probe",
        "source": {"path": str(folder / "questions.jsonl")},
        "engine": {"kind": "openai", "base_url": base, "model": "fake", "concurrency": 64},
        "verifier": {"kind": "short_answer"},
        "stages": [
            {
                "stage": "probe_knowledge",
                "samples": samples,
                "form": {"kind": "plain", "question": question},
            },
            {"stage": "refusal_split"},
        ],
    }


def measure(samples: Path, options: dict[str, Any]) -> dict[str, Any]:
    """The stage in a process of its own."""
    command = [sys.executable, "-c", MEASURE, str(samples), json.dumps(options)]
    return dict(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))


def main() -> None:
    """Draw, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", type=int, default=25_000)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--bench", type=Path, default=ROOT.parent / "shared" / "bench")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    script = args.bench / "fake_server.py"
    if not script.exists():
        raise SystemExit(f"skipped: the yardstick's server is not at {args.bench} (give --bench DIR)")
    if args.serve is not None:
        return serve(script, args.serve)
    register("stages", "probe_knowledge", "gristmill.synth.refusal.probe:ProbeKnowledge")
    register("stages", "refusal_split", "gristmill.synth.refusal.split:RefusalSplit")
    with tempfile.TemporaryDirectory() as name:
        start = time.perf_counter()
        samples = probe(Path(name), args.bench, args.questions, args.samples)
        print(f"recipe: {time.perf_counter() - start:.1f} s for {args.questions} questions\n")
        print("| the split alone | seconds | peak MB | before it |\n|---|---|---|---|")
        for what, options in SPLITS.items():
            found = measure(samples, options)
            print(f"| {what} | {found['seconds']:.2f} | {found['MB']:.0f} | {found['MB before']:.0f} |")
            broken = [k for k, limit in LIMITS.items() if found[k] > limit]
            print(f"{'LIMITS BROKEN: ' + ', '.join(broken) if broken else 'limits hold'}; {found['parts']}")
    return None


if __name__ == "__main__":
    main()
