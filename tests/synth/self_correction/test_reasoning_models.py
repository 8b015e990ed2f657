"""Self-correction with a model that reasons: the rows are those of a plain one, and hold what it thought."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from odd_server import Odd

import gristmill
from gristmill.core.records import Exploration, Problem, Turn
from gristmill.core.schema import schema
from gristmill.core.stages import Context
from gristmill.core.verdicts import Verdict
from gristmill.engines.openai import OpenAI
from gristmill.synth.self_correction import Explore
from gristmill.verifiers.math import Math

RECIPE = {
    "name": "sums",
    "source": {"path": "sums.jsonl"},
    "verifier": {"kind": "math"},
    "stages": [
        {"stage": "explore_self_correction"},
        {"stage": "self_correction_trajectories"},
        {"stage": "self_correction_pairs", "as": "pairs", "from": "explore_self_correction"},
    ],
    "exports": [{"format": "axolotl-chat", "from": "self_correction_trajectories"}],
}


def run(odd: Odd, name: str, folder: Path) -> Any:
    """The default recipe on two sums."""
    folder.mkdir()
    rows = [{"id": f"s{i}", "problem": f"What is {i} + 4?", "answer": str(i + 4)} for i in range(2)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    recipe = RECIPE | {
        "source": {"path": str(folder / "sums.jsonl")},
        "engine": {"kind": "openai", "base_url": odd.url(name), "model": "m", "abilities": ["chat", "seed"]},
    }
    (folder / "sums.yaml").write_text(json.dumps(recipe))
    return gristmill.run(folder / "sums.yaml", runs=folder / "runs", log=folder / "log.sqlite", quiet=True)


def explored(odd: Odd, name: str, keep: bool = False, **options: Any) -> Exploration:
    """One problem through the exploration alone."""
    engine = OpenAI(base_url=odd.url(name), model="m", **options).open()
    math = Math()

    async def verify(completion: str, reference: str) -> Verdict:
        return math(completion, reference)

    async def explore() -> Exploration:
        async with engine:
            stage = Explore(keep_reasoning=keep, attempts=4)
            [found] = await stage(Problem("p", "What is 5 + 4?", "9"), Context(engine, verify, 0))
        return found

    return asyncio.run(explore())


def plain(value: Any) -> Any:
    """A row without what was thought."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k not in ("reasoning", "reasoning_tokens")}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def rows(found: Any, stage: str) -> list[dict[str, Any]]:
    return list(found.rows(stage).collect().to_dicts())


def export(found: Any) -> bytes:
    return (found.path / "exports" / "axolotl-chat.jsonl").read_bytes()


def test_a_thinking_model_gives_the_rows_of_a_plain_one(odd: Odd, tmp_path: Path) -> None:
    expected, found = (run(odd, name, tmp_path / name) for name in ("solves", "solves-in-tags"))
    trajectories = "self_correction_trajectories"
    assert len(rows(expected, trajectories)) > 3
    for stage in ("explore_self_correction", trajectories, "pairs"):
        assert [plain(r) for r in rows(found, stage)] == [plain(r) for r in rows(expected, stage)]
    assert export(found) == export(expected)
    assert found.summary.stages[1].verdicts == expected.summary.stages[1].verdicts
    said = [t for row in rows(found, trajectories) for t in row["turns"] if t["role"] == "assistant"]
    assert all(turn["reasoning"] for turn in said)
    sides = [m for row in rows(found, "pairs") for m in (*row["chosen"], *row["rejected"])]
    assert all(bool(m["reasoning"]) == (m["role"] == "assistant") for m in sides)
    notes = {"turns without the reasoning that was before them": len(said)}
    assert found.summary.notes == {"axolotl-chat.jsonl": notes}
    assert not expected.summary.notes


@pytest.mark.parametrize("name", ["solves-with-reasoning", "solves-in-parts"])
def test_wherever_its_reasoning_is(odd: Odd, name: str) -> None:
    assert plain(msgspec.to_builtins(explored(odd, name))) == plain(
        msgspec.to_builtins(explored(odd, "solves"))
    )


@pytest.mark.parametrize(
    ("how", "keep", "told"),
    [
        ("reasoning_content", False, None),
        ("reasoning_content", True, "reasoning_content"),
        ("reasoning", True, "reasoning"),
        ("tags", True, None),
    ],
)
def test_earlier_reasoning_is_sent_along_only_where_it_is_kept(
    odd: Odd, how: Any, keep: bool, told: str | None
) -> None:
    explored(odd, "solves-in-tags", keep, reasoning_as=how)
    later = [v.body["messages"] for v in odd.visits if len(v.body["messages"]) > 2]
    assert any(len(messages) > 4 for messages in later)
    for message in (m for messages in later for m in messages if m["role"] == "assistant"):
        assert set(message) == {"role", "content"} | ({told} if told else set())
        assert message["content"].startswith("<think>\n") == (how == "tags")
    assert all(set(m) == {"role", "content"} for ms in later for m in ms if m["role"] != "assistant")


def test_what_was_written_without_reasoning_reads_as_before() -> None:
    """Records and requests of before are records and requests of now, and are written in the same bytes."""
    before = b'{"role":"assistant","content":"4"}'
    message = msgspec.json.decode(before, type=gristmill.core.Message)
    assert msgspec.json.encode(message) == before
    completion = b'{"text":"4","prompt_tokens":3}'
    assert msgspec.json.encode(msgspec.json.decode(completion, type=gristmill.core.Completion)) == completion
    assert msgspec.convert({"role": "user", "content": "q", "train": False}, Turn).reasoning == ""
    assert schema(Turn)["reasoning"] == schema(Turn)["content"]
