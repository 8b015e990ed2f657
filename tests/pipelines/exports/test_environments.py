"""Problems as environments: the packages and servers that are written give the verdicts of a run.

Against verifiers itself with ``GRISTMILL_ENVIRONMENTS_PYTHON``: a Python with ``pip install verifiers``.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from gristmill.core.records import Problem, Sampled
from gristmill.core.schema import to_frame
from gristmill.core.stages import Rejection
from gristmill.pipelines.exports import NemoGym, VerifiersTasks, write
from gristmill.pipelines.sources.options import Source
from gristmill.pipelines.sources.source import read
from gristmill.verifiers import as_verl_reward, reward_app

ROOT = Path(__file__).parents[3]
GSM8K = ROOT.parent / "shared" / "data"
PROBLEMS = [Problem("a", "2 + 3?", "5"), Problem("b", "Half of 1?", "1/2"), Problem("c", "Write a poem.")]
SAID = [
    ("a", "It is \\boxed{5}."),
    ("a", "It is \\boxed{6}."),
    ("b", "\\boxed{0.5}"),
    ("b", "I do not know."),
]


def _write(tmp_path: Path, export: Any, name: str, problems: list[Problem]) -> Path:
    part = tmp_path / "part.parquet"
    to_frame(problems, Problem).write_parquet(part)
    out = tmp_path / name
    write(export, [part], out)
    return out


def test_the_package_names_its_tasks_and_its_verifier(tmp_path: Path) -> None:
    out = _write(tmp_path, VerifiersTasks(system="Be brief."), "my tasks.jsonl", PROBLEMS)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["id"], row["answer"], row["verifier"]) for row in rows] == [
        ("a", "5", "math"),
        ("b", "1/2", "math"),
    ]
    assert [m["role"] for m in rows[0]["prompt"]] == ["system", "user"]
    project = tomllib.loads((tmp_path / "my_tasks_env" / "pyproject.toml").read_text())
    assert project["project"]["name"] == "my-tasks-env"
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"] == {
        "../my tasks.jsonl": "my_tasks_env/my tasks.jsonl"
    }
    module = (tmp_path / "my_tasks_env" / "my_tasks_env" / "__init__.py").read_text()
    compile(module, "module", "exec")
    assert 'as_verl_reward("math")' in module and "@" not in module.replace("@vf", "")


def test_a_server_answers_as_nemo_gym_asks(tmp_path: Path) -> None:
    out = _write(tmp_path, NemoGym(), "rows.jsonl", PROBLEMS)
    compile((tmp_path / "rows_server.py").read_text(), "server", "exec")
    rows = {row["id"]: row for row in map(json.loads, out.read_text().splitlines())}
    assert rows["a"]["responses_create_params"] == {"input": [{"role": "user", "content": "2 + 3?"}]}

    async def ask() -> list[Any]:
        async with TestClient(TestServer(reward_app("math"))) as client:
            assert (await client.post("/seed_session", json=rows["a"])).status == 200
            found: list[Any] = []
            for row_id, said in SAID:
                part = {"type": "output_text", "text": said}
                message = {"type": "message", "role": "assistant", "content": [part]}
                body = rows[row_id] | {"response": {"output": [{"type": "reasoning"}, message]}}
                answer = await (await client.post("/verify", json=body)).json()
                assert answer["response"] == body["response"]
                found.append(answer["reward"])
            empty = rows["a"] | {"response": {"output": []}}
            found.append((await (await client.post("/verify", json=empty)).json())["reward"])
            bad = await client.post("/verify", json={"response": 1})
            found.append((bad.status, (await bad.json())["error"][:14]))
            return found

    assert asyncio.run(ask()) == [1.0, 0.0, 1.0, 0.0, 0.0, (422, "not a row with")]


def _trace(**changes: Any) -> dict[str, Any]:
    nodes = [
        {"parent": None, "message": {"role": "system", "content": "Be brief."}},
        {"parent": 0, "message": {"role": "user", "content": [{"type": "text", "text": "2 + 3?"}]}},
        {"parent": 1, "message": {"role": "assistant", "content": "A dead end."}, "sampled": True},
        {"parent": 1, "message": {"role": "assistant", "content": "5"}, "sampled": True},
    ]
    data = {"id": "a", "problem": "2 + 3?", "answer": "5"}
    calls = [{"node": 3, "model": "m", "finish_reason": "stop"}]
    rewards = {"correct": {"score": 1.0, "weight": 2.0}, "late": None}
    given = {"id": "t1", "task": {"type": "Solve", "data": data}, "nodes": nodes, "calls": calls, "ok": True}
    return given | {"rewards": rewards, "metrics": {}} | changes


def test_traces_come_back_as_samples(tmp_path: Path) -> None:
    asks = {"id": "c1", "type": "function", "name": "add", "arguments": "{}"}
    told = [
        {"role": "user", "content": "2 + 3?"},
        {"role": "assistant", "content": None, "tool_calls": [asks]},
        {"role": "tool", "tool_call_id": "c1", "content": "5"},
        {"role": "assistant", "content": "It is 5."},
    ]
    tool = [
        {"parent": i - 1 if i else None, "message": one, "sampled": one["role"] == "assistant"}
        for i, one in enumerate(told)
    ]
    lines = [
        _trace(),
        _trace(id="t2", ok=False, errors=[{"message": "no connection"}]),
        _trace(id="t3", nodes=[]),
        _trace(id="t4", nodes=tool),
        _trace(id="t5", task=None),
    ]
    path = tmp_path / "traces.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    first, *others = read(Source(path=str(path), reads="samples"))
    called = others.pop(2)
    assert isinstance(first, Sampled) and isinstance(called, Sampled)
    assert called.completion == "It is 5." and [m.role for m in called.messages] == [
        "user",
        "assistant",
        "tool",
    ]
    assert called.messages[1].tool_calls and called.messages[1].tool_calls[0].function.name == "add"
    assert (first.id, first.problem_id, first.answer, first.completion) == ("t1", "a", "5", "5")
    assert [(m.role, m.content) for m in first.messages] == [("system", "Be brief."), ("user", "2 + 3?")]
    assert first.model == "m" and json.loads(first.meta)["reward"] == 2.0
    reasons = [one.reason for one in others if isinstance(one, Rejection)]
    assert reasons == ["the rollout failed", "no completion", "not a trace"]


def _python() -> str:
    if (python := os.environ.get("GRISTMILL_ENVIRONMENTS_PYTHON")) is None:
        pytest.skip("GRISTMILL_ENVIRONMENTS_PYTHON names no Python with verifiers")
    return python


def _ask(*arguments: str) -> list[list[Any]]:
    program = str(ROOT / "tests" / "real" / "ask_environments.py")
    done = subprocess.run([_python(), program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[list[Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _await(port: int) -> None:
    for _ in range(300):
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the server did not start")


def _thousand(tmp_path: Path) -> tuple[list[Problem], Path, list[tuple[str, str, str]]]:
    """Problems of GSM8K where it is at hand, with its own solutions as answers, and those of others."""
    files = sorted(GSM8K.rglob("*gsm8k*test*.jsonl")) or sorted(GSM8K.rglob("*gsm8k*.jsonl"))
    if not files:
        pytest.skip("../shared/data has no GSM8K: its solutions are the answers of this test")
    rows = [json.loads(line) for line in files[0].read_text().splitlines()][:500]
    solved = [(row["question"], row["answer"]) for row in rows]
    golds = [answer.rpartition("####")[2].strip() for _, answer in solved]
    problems = [Problem(f"g{i}", question, golds[i]) for i, (question, _) in enumerate(solved)]
    said = [(f"g{i}", solved[i][1], golds[i]) for i in range(len(solved))]
    said += [(f"g{i}", solved[i - 1][1], golds[i]) for i in range(len(solved))]
    given = tmp_path / "answers.jsonl"
    given.write_text("".join(json.dumps({"id": i, "completion": text}) + "\n" for i, text, _ in said))
    return problems, given, said


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_thousand_rows_have_the_verdicts_of_a_run_there(tmp_path: Path) -> None:
    _python()
    problems, given, said = _thousand(tmp_path)
    price = as_verl_reward("math")
    ours = sorted([i, text, price("", text, gold)] for i, text, gold in said)
    assert {reward for *_, reward in ours} == {0.0, 1.0}
    out = _write(tmp_path, VerifiersTasks(system="Be brief."), "tasks.jsonl", problems)
    traces = tmp_path / "traces.jsonl"
    assert sorted(_ask("verifiers", str(out.parent / "tasks_env"), str(given), str(traces))) == ours
    back = list(read(Source(path=str(traces), reads="samples")))
    assert all(isinstance(one, Sampled) for one in back) and len(back) == len(ours)
    assert sorted([one.problem_id, one.completion, json.loads(one.meta)["reward"]] for one in back) == ours

    rows = _write(tmp_path, NemoGym(), "rows.jsonl", problems)
    port = _free_port()
    server = subprocess.Popen([sys.executable, str(tmp_path / "rows_server.py"), "--port", str(port)])
    try:
        _await(port)
        assert sorted(_ask("nemo-gym", str(rows), f"http://127.0.0.1:{port}", str(given))) == ours
    finally:
        server.terminate()
        server.wait()
