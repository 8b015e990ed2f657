"""Problems as environments of other programs: tasks for ``verifiers``, rows and a server for NeMo Gym."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from msgspec import Struct

from gristmill.core.exports import Contents
from gristmill.core.records import Problem
from gristmill.pipelines.exports.problems import Verifiable, reference_of
from gristmill.pipelines.exports.reasoning import ChatMessage


class EnvironmentTask(Struct, frozen=True):
    """A task of an environment package for ``verifiers``."""

    id: str
    prompt: tuple[ChatMessage, ...]
    problem: str
    answer: str
    verifier: str


class ResponsesRequest(Struct, frozen=True):
    """What NeMo Gym asks a model, in the form of OpenAI's Responses API."""

    input: tuple[ChatMessage, ...]


class GymRow(Struct, frozen=True):
    """A row of NeMo Gym: what the model is asked, and what its resources server judges by."""

    id: str
    responses_create_params: ResponsesRequest
    question: str
    expected_answer: str
    verifier: str


class VerifiersTasks(Verifiable, frozen=True, forbid_unknown_fields=True):
    """Tasks, and beside them a package that makes them an environment of ``verifiers`` (0.4).

    The folder is named after the file: ``tasks.jsonl`` has ``tasks_env``. ``pip install -e`` it, or build a
    wheel, which holds the tasks. The reward is the verdict of ``verifier``: the same as in a run.
    """

    writes: ClassVar[type[Struct]] = EnvironmentTask
    contents: ClassVar[Contents] = Contents(prompts=("prompt",), filled=("problem",))

    def rows(self, record: Problem, /) -> Sequence[Struct]:
        """One row."""
        asked = self.messages(record)
        return [EnvironmentTask(record.id, asked, record.problem, reference_of(record), self.verifier)]

    def beside(self, out: Path) -> dict[str, bytes]:
        """The package: its project file and its module."""
        name = _identifier(f"{out.stem}_env")
        filled = {
            "DATA": out.name,
            "MODULE": name,
            "PROJECT": name.replace("_", "-"),
            "VERIFIER": self.verifier,
        }
        files = {f"{name}/pyproject.toml": _PROJECT, f"{name}/{name}/__init__.py": _MODULE}
        return {path: _filled(text, filled) for path, text in files.items()}


class NemoGym(Verifiable, frozen=True, forbid_unknown_fields=True):
    """Rows of NeMo Gym, and beside them a resources server that judges answers by ``verifier``.

    ``python rows_server.py --port 8000`` answers ``/seed_session`` and ``/verify``.
    """

    writes: ClassVar[type[Struct]] = GymRow
    contents: ClassVar[Contents] = Contents(filled=("question",))

    def rows(self, record: Problem, /) -> Sequence[Struct]:
        """One row."""
        asked = ResponsesRequest(self.messages(record))
        return [GymRow(record.id, asked, record.problem, reference_of(record), self.verifier)]

    def beside(self, out: Path) -> dict[str, bytes]:
        """The server's program."""
        filled = {"DATA": out.name, "VERIFIER": self.verifier}
        return {f"{_identifier(out.stem)}_server.py": _filled(_SERVER, filled)}


def _identifier(text: str) -> str:
    name = re.sub(r"\W", "_", text).lower()
    return name if name[:1].isalpha() else f"env_{name}"


def _filled(text: str, values: dict[str, str]) -> bytes:
    for place, value in values.items():
        text = text.replace(f"@{place}@", value)
    return text.encode()


_PROJECT = """\
[project]
name = "@PROJECT@"
version = "0.1.0"
description = "Problems of @DATA@, judged by Gristmill's verifier @VERIFIER@."
requires-python = ">=3.11"
dependencies = ["gristmill", "verifiers>=0.4,<0.5"]

[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[tool.hatch.build.targets.wheel]
packages = ["@MODULE@"]

[tool.hatch.build.targets.wheel.force-include]
"../@DATA@" = "@MODULE@/@DATA@"
"""

_MODULE = '''\
"""The problems of @DATA@ as an environment of verifiers; the reward is Gristmill's verdict."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import verifiers.v1 as vf

from gristmill.verifiers import as_verl_reward

__all__ = ["Problems"]

_HERE = Path(__file__).parent
# In a wheel the file is in the package; beside an installation with -e it is where it was exported.
_FILE = next(p for p in (_HERE / "@DATA@", _HERE.parents[1] / "@DATA@") if p.exists())
_reward = as_verl_reward("@VERIFIER@")


class Row(vf.TaskData):
    """A problem with its reference answer."""

    problem: str
    answer: str


class Solve(vf.Task[Row]):
    """Solve a problem; right is 1, wrong and undecided are 0."""

    @vf.reward(weight=1.0)
    async def correct(self, trace: vf.Trace) -> float:
        """What the verdict on the last answer is worth."""
        row = self.data
        known = {"problem": row.problem}
        return await asyncio.to_thread(_reward, "", trace.last_reply, row.answer, known)


class Problems(vf.Taskset[Solve]):
    """The problems of the file, in its order."""

    def load(self) -> Iterator[Solve]:
        """One task for each row."""
        with _FILE.open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                *before, last = row["prompt"]
                system = before[0]["content"] if before else None
                data = Row(
                    id=row["id"],
                    prompt=last["content"],
                    system_prompt=system,
                    problem=row["problem"],
                    answer=row["answer"],
                )
                yield Solve(data, self.config.task)
'''

_SERVER = '''\
"""A resources server for the rows of @DATA@: the reward is the verdict of Gristmill's verifier."""

import argparse

from gristmill.verifiers import serve_rewards

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    serve_rewards("@VERIFIER@", given.host, given.port)
'''
