"""Decoding aids on the tiny models of ``tiny_engines.py``: what came of each question, as plain data."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from gristmill.core.engine import Message, Request, Sampling, score_request
from gristmill.core.errors import GristmillError
from gristmill.engines.transformers import Cautious, Guide, Transformers
from gristmill.engines.transformers.cautious import entropy_of, likeliest
from gristmill.engines.transformers.drawing import DrawnToken
from gristmill.engines.transformers.guiding import guided_by_tokens, guided_by_values

ASK = (Message("user", "What is the colour of grass?"),)
LONG = (Message("system", "red blue"), Message("user", "What is the colour of the sky? I am unsure."))


def closed_forms() -> dict[str, Any]:
    """Toy logits of four tokens; what they must be is worked out in the test."""
    import torch

    base = torch.tensor([[0.5, 1.5, -1.0, 0.0]])
    padded = torch.tensor([[1.0, 0.0, 2.0, -1.0, 3.0, 3.0]])
    places = torch.tensor([[1, 0]])
    drawn = [DrawnToken(0, math.log(p), ()) for p in (0.5, 0.1, 0.3, 0.3)]
    return {
        "tokens": guided_by_tokens(base, padded[:, :4], 0.5).softmax(-1)[0].tolist(),
        "a longer head": guided_by_tokens(base, padded, 0.5).shape[-1],
        "a shorter head": guided_by_tokens(base, padded[:, :3], 0.5)[0].tolist(),
        "values": guided_by_values(base, places, torch.tensor([[0.2, 0.9]]), 2.0).softmax(-1)[0].tolist(),
        "entropy": [entropy_of(base[0]), entropy_of(torch.tensor([0.0, float("-inf")]))],
        "likeliest": [likeliest([drawn[:2], drawn[2:]]), likeliest([drawn[2:], drawn[2:]])],
    }


async def drawn(folder: Path, n: int = 3, ask: tuple[Message, ...] = ASK, **how: Any) -> list[Any]:
    """Completions of one question, as (text, tokens, log-probabilities)."""
    sampling = Sampling(**{"max_tokens": 12, "temperature": 1.5, "logprobs": 1, **how.pop("sampling", {})})
    async with Transformers(model=str(folder / "causal"), dtype="float32", batch=4, **how).open() as engine:
        made = await engine.generate(Request(ask, sampling, 7), n=n)
        return [[one.text, one.completion_tokens, [t.logprob for t in one.logprobs or ()]] for one in made]


async def refused(folder: Path, request: Request, **how: Any) -> str:
    try:
        async with Transformers(model=str(folder / "causal"), dtype="float32", **how).open() as engine:
            await engine.generate(request)
    except GristmillError as error:
        return str(error)
    return ""


async def guided(folder: Path) -> dict[str, Any]:
    causal, reward = str(folder / "causal"), str(folder / "reward")
    cold = {"sampling": {"temperature": 0.75}}
    return {
        "plain": await drawn(folder),
        # A model that is guided by itself with weight 1 has twice its own log-probabilities.
        "by itself": await drawn(folder, guide=Guide(model=causal, weight=1.0)),
        "colder": await drawn(folder, **cold),
        "values": await drawn(folder, guide=Guide(model=reward, by="values", weight=3.0, top_k=3)),
        "again": await drawn(folder, guide=Guide(model=reward, by="values", weight=3.0, top_k=3)),
        "alone": await drawn(folder, n=1, guide=Guide(model=reward, by="values", weight=3.0, top_k=3)),
        "one candidate": await drawn(folder, guide=Guide(model=reward, by="values", top_k=1)),
        "greedy": await drawn(folder, sampling={"temperature": 0.0}),
        "value of each": await stepwise(folder, weight=3.0, count=3),
        "no value": await refused(
            folder, Request(ASK, Sampling()), guide=Guide(model=str(folder / "process"), by="values")
        ),
        "scores": await refused(folder, score_request(ASK, "green."), guide=Guide(model=causal)),
    }


async def stepwise(folder: Path, weight: float, count: int) -> list[int]:
    """The greedy tokens under values, each text read anew as a whole and without padding."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "causal")
    base = AutoModelForCausalLM.from_pretrained(folder / "causal").eval()
    valuer = AutoModelForSequenceClassification.from_pretrained(folder / "reward").eval()
    valuer.config.pad_token_id = tokenizer.pad_token_id
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": ASK[0].content}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    first = ids.shape[1]
    with torch.inference_mode():
        for _ in range(6):
            chances = torch.log_softmax(base(input_ids=ids).logits[0, -1], dim=-1)
            best = chances.topk(count)
            scores = [
                float(chance) + weight * float(valuer(input_ids=torch.cat([ids, token.view(1, 1)], 1)).logits)
                for chance, token in zip(best.values, best.indices, strict=True)
            ]
            chosen = best.indices[max(range(count), key=scores.__getitem__)]
            ids = torch.cat([ids, chosen.view(1, 1)], dim=1)
    guide = Guide(model=str(folder / "reward"), by="values", weight=weight, top_k=count)
    how = {"sampling": {"temperature": 0.0, "max_tokens": 6}}
    [[text, _, _]] = await drawn(folder, n=1, guide=guide, **how)
    return [tokenizer.decode(ids[0, first:], skip_special_tokens=True), text]


async def cautious(folder: Path) -> dict[str, Any]:
    never = Cautious(low=99.0, high=100.0)
    always = Cautious(low=0.0, high=0.001, most=4, longest=3)
    return {
        "never": await drawn(folder, cautious=never),
        "always": await drawn(folder, cautious=always),
        "again": await drawn(folder, cautious=always),
        "alone": await drawn(folder, n=1, cautious=always),
        "long": await drawn(folder, ask=LONG, cautious=always, sampling={"max_tokens": 30, "stop": ("e",)}),
        "greedy": await refused(folder, Request(ASK, Sampling(temperature=0.0)), cautious=always),
    }


async def aided(folder: Path) -> dict[str, Any]:
    """All of it."""
    return {"forms": closed_forms(), "guided": await guided(folder), "cautious": await cautious(folder)}
