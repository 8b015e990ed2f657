"""Compare a trained process reward model on a vLLM server with the same model in Transformers.

python benchmarks/process_reward_serving.py MODEL URL [--head words] [--rows FILE]

MODEL is the folder ``OUT/model`` of ``gristmill train process-reward``, served at URL under the name ``prm``
as docs/training-process-reward.md says. FILE holds rows of ``prm-rows``; by default two short solutions are
asked. Prints each step's chance of being right by both, and the greatest difference.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import msgspec

from gristmill.core.engine import Ability, Engine, Message
from gristmill.core.stages import Context
from gristmill.engines import RewardServer
from gristmill.engines.transformers import TransformersReward
from gristmill.synth.scorers import ProcessReward
from gristmill.testing import context

TAG = "<extra_0>"


class Solved(msgspec.Struct, frozen=True):
    """What is read of a row."""

    prompt: tuple[Message, ...]
    steps: tuple[str, ...]


TWO = (
    Solved((Message("user", "What is 7 + 15 - 4?"),), ("7 + 15 = 22.", "22 - 4 = 18.", "The answer is 18.")),
    Solved((Message("user", "What is 7 + 15 - 4?"),), ("7 + 15 = 23.", "So the answer is 4.")),
)


async def values(engine: Engine, rows: list[Solved], read: str) -> list[list[float]]:
    scorer = msgspec.convert({"read": read, "tag": TAG}, ProcessReward)
    where: Context = context(engine)
    assert Ability.REWARD in engine.abilities
    return [await scorer.values(engine, where, row.prompt, row.steps) for row in rows]


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("url")
    parser.add_argument("--head", choices=("token", "words"), default="token")
    parser.add_argument("--rows", type=Path)
    given = parser.parse_args()
    rows = list(TWO)
    if given.rows:
        rows = [msgspec.json.decode(line, type=Solved) for line in given.rows.read_bytes().splitlines()]
    local = TransformersReward(model=given.model, head=given.head, tag=TAG, dtype="float32")
    async with local.open() as engine:
        here = await values(engine, rows, "logits")
    async with RewardServer(base_url=given.url, model="prm").open() as engine:
        there = await values(engine, rows, "probabilities")
    worst = 0.0
    for a, b in zip(here, there, strict=True):
        print("Transformers", [round(v, 5) for v in a], "server", [round(v, 5) for v in b])
        worst = max(worst, *(abs(x - y) for x, y in zip(a, b, strict=True)))
    print(f"greatest difference {worst:.2g}")


if __name__ == "__main__":
    asyncio.run(main())
