"""What verifiers makes of our environment packages: run by a Python that has verifiers and gristmill.

    python tests/real/ask_environments.py verifiers FOLDER ANSWERS.jsonl TRACES.jsonl
    python tests/real/ask_environments.py nemo-gym ROWS.jsonl URL ANSWERS.jsonl

Reads answers by task id, gives each to its task as a finished rollout, and prints the rewards as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

# By name: an import of "verifiers" in this repository would be the link to our own folder.
vf: Any = import_module("verifiers.v1")
gym: Any = import_module("verifiers.v1.tasksets.nemo_gym")
toolset: Any = import_module("verifiers.v1.tasksets.nemo_gym.toolset")


def answers(path: str) -> dict[str, list[str]]:
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["id"], []).append(row["completion"])
    return found


def finished(task: Any, said: str) -> Any:
    """A trace as a rollout leaves it: the task's prompt, and one answer of a model."""
    prompt = task.data.prompt
    asked = [vf.UserMessage(content=prompt)] if isinstance(prompt, str) else list(prompt)
    if task.data.system_prompt:
        asked = [vf.SystemMessage(content=task.data.system_prompt), *asked]
    messages = [*asked, vf.AssistantMessage(content=said)]
    nodes = [
        vf.MessageNode(parent=i - 1 if i else None, message=one, sampled=i == len(messages) - 1)
        for i, one in enumerate(messages)
    ]
    state = {"state": toolset.NeMoGymState()} if isinstance(task, gym.NeMoGymTask) else {}
    trace = vf.Trace(
        agent=vf.AgentInfo(config=vf.AgentConfig()),
        task=vf.TraceTask(type=type(task).__name__, data=task.data),
        nodes=nodes,
        **state,
    )
    trace.ok = trace.is_completed = True
    return trace


async def rewards(taskset: Any, given: dict[str, list[str]], name: str, out: Path | None) -> list[list[Any]]:
    found, lines = [], []
    for task in taskset:
        key = task.data.id or task.data.row["id"]
        for said in given.get(key, ()):
            trace = finished(task, said)
            if name == "nemo_gym":
                trace.state.resources_url = task.config.resources_url
                trace.state.request_timeout = 60.0
            reward = await getattr(task, name)(trace)
            trace.record_reward(name, reward)
            found.append([key, said, reward])
            lines.append(trace.model_dump_json() + "\n")
    if out is not None:
        out.write_text("".join(lines))
    return found


def main() -> None:
    kind, *rest = sys.argv[1:]
    if kind == "verifiers":
        folder, given, out = rest
        sys.path.insert(0, folder)
        loaders: Any = import_module("verifiers.v1.utils.loaders")
        ident = Path(folder).name
        taskset = loaders.load_taskset(loaders.taskset_config_type(ident)(id=ident))
        print(json.dumps(asyncio.run(rewards(taskset, answers(given), "correct", Path(out)))))
        return
    rows, url, given = rest
    config = gym.NeMoGymConfig(
        id="nemo_gym", dataset=Path(rows), task=gym.NeMoGymTaskConfig(resources_url=url)
    )
    print(json.dumps(asyncio.run(rewards(gym.NeMoGymTaskset(config), answers(given), "nemo_gym", None))))


if __name__ == "__main__":
    main()
