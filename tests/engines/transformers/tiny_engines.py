"""Engines of Transformers on tiny random models, run by the Python of ``GRISTMILL_TRAINER_PYTHON``.

python tiny_engines.py FOLDER      makes the models there and writes found.json: what came of each question
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))
from tiny_aids import aided
from train import tiny

from gristmill.core.engine import Message, Request, Sampling, score_request
from gristmill.core.errors import GristmillError
from gristmill.engines.transformers import Transformers, TransformersReward

ASK = (Message("user", "What is the colour of grass?"),)
OTHER = (Message("system", "red blue"), Message("user", "What is the colour of the sky? I am unsure."))


def ask(messages: tuple[Message, ...] = ASK, seed: int | None = 7, prefix: str = "", **how: Any) -> Request:
    return Request(messages, Sampling(**{"max_tokens": 12, **how}), seed, prefix)


async def sampling(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    async with Transformers(model=str(folder / "causal"), dtype="float32", batch=4).open() as engine:

        async def texts(request: Request, **which: int) -> list[str]:
            return [c.text for c in await engine.generate(request, **which)]

        request = ask(temperature=1.5)
        found["together"] = await texts(request, n=3)
        found["alone"] = [(await texts(request, first=i))[0] for i in range(3)]
        crowd = [ask(OTHER, seed=i, temperature=1.5, max_tokens=12) for i in range(5)]
        [own], *_ = await asyncio.gather(texts(request), *(texts(one) for one in crowd))
        found["in a crowd"] = own
        penalised = ask(temperature=1.0, repetition_penalty=1.3)
        [apart], _ = await asyncio.gather(texts(penalised), texts(ask(OTHER, repetition_penalty=1.3)))
        found["penalised"] = [apart, (await texts(penalised))[0]]
        found["greedy"] = await texts(ask(temperature=0.0), n=2)
        found["narrow"] = [(await texts(ask(top_k=1, seed=i)))[0] for i in range(2)]
        [seen] = await engine.generate(ask(temperature=0.0, max_tokens=6, logprobs=3))
        found["logprobs"] = msgspec.to_builtins(seen)
        [scored, copy] = await engine.generate(score_request(ASK, seen.text), n=2)
        found["scored"] = [msgspec.to_builtins(scored), msgspec.to_builtins(copy)]
        long = score_request(OTHER, "The grass is green. " * 5)
        both = await asyncio.gather(engine.generate(score_request(ASK, seen.text)), engine.generate(long))
        found["scored in a crowd"] = [token.logprob for token in both[0][0].logprobs or ()]
        free = (await texts(ask(temperature=0.0, max_tokens=12)))[0]
        [stopped] = await engine.generate(ask(temperature=0.0, stop=(free[3:5],), logprobs=0))
        found["stopped"] = [free, msgspec.to_builtins(stopped)]
        [continued] = await engine.generate(ask(prefix="The grass", temperature=0.0, max_tokens=3))
        found["continued"] = msgspec.to_builtins(continued)
        found["errors"] = [
            await error(engine.generate, ask((Message("user", "blue " * 300),))),
            await error(engine.generate, ask(schema="{}")),
            await error(engine.generate, ask(max_tokens=5)),
        ]
        [near] = await engine.generate(ask((Message("user", "x" * 225),), max_tokens=400, temperature=1.0))
        found["near the end"] = [near.finish_reason, near.prompt_tokens + near.completion_tokens]
    return found


async def error(asked: Callable[[Request], Awaitable[Any]], request: Request) -> str:
    try:
        await asked(request)
    except GristmillError as failure:
        return f"{type(failure).__name__}: {failure}"
    return ""


async def rewarding(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    texts = ["green.", "The grass is green, I am sure.", "blue red"]
    for batch in (1, 4):
        options = TransformersReward(model=str(folder / "reward"), dtype="float32", batch=batch)
        async with options.open() as engine:
            asked = (engine.generate(score_request(ASK, text)) for text in texts)
            found[f"batch {batch}"] = [json.loads(c.text) for [c] in await asyncio.gather(*asked)]
            found["error"] = await error(engine.generate, ask())
    options = TransformersReward(
        model=str(folder / "process"), dtype="float32", head="token", tag="<|endoftext|>"
    )
    async with options.open() as engine:
        tagged = "The grass<|endoftext|> is green.<|endoftext|>"
        [steps] = await engine.generate(score_request(ASK, tagged))
        found["steps"] = json.loads(steps.text)
    return found


def make(folder: Path) -> None:
    """A causal model, and two with heads on the same tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaForSequenceClassification
    from transformers import LlamaForTokenClassification as Tokens

    tiny.make(folder / "causal")
    model = AutoModelForCausalLM.from_pretrained(folder / "causal")
    with torch.no_grad():  # as they are made, every token is as likely as any other
        for weights in model.parameters():
            weights.mul_(8.0 if weights.dim() > 1 else 1.0)
    model.save_pretrained(folder / "causal")
    tokenizer = AutoTokenizer.from_pretrained(folder / "causal")
    heads = (("reward", LlamaForSequenceClassification, 1), ("process", Tokens, 2))
    for name, kind, outputs in heads:
        torch.manual_seed(1)
        kind(AutoConfig.from_pretrained(folder / "causal", num_labels=outputs)).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)


if __name__ == "__main__":
    where = Path(sys.argv[1])
    make(where)
    found = {"sampling": asyncio.run(sampling(where)), "rewards": asyncio.run(rewarding(where))}
    found["aids"] = asyncio.run(aided(where))
    (where / "found.json").write_text(json.dumps(found))
