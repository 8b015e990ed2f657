"""Reward models and process reward models, trained from a tiny random Llama and read back.

python tiny_rewards.py FOLDER      makes everything there and writes found.json: what came out
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import tiny

from gristmill.core.engine import Message, score_request
from gristmill.core.errors import GristmillError
from gristmill.engines.transformers import Transformers, TransformersReward
from gristmill.train import process_reward, reward, reward_losses
from gristmill.train.base import compared, stepwise

ASK = [{"role": "user", "content": "What is the colour of grass?"}]
TAG = "<extra_0>"


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def pair(number: int, good: str = "green.", bad: str = "blue red", **more: Any) -> dict[str, Any]:
    prompt = [{"role": "user", "content": f"{number} What is the colour of grass?"}]
    return {"id": str(number), "prompt": prompt, "chosen": said(good), "rejected": said(bad), **more}


def tie(number: int) -> dict[str, Any]:
    return {"id": f"t{number}", "prompt": ASK, "first": said("blue."), "second": said("red."), "weight": 1.0}


def scored(number: int, text: str, **scores: float) -> dict[str, Any]:
    named = [{"name": name, "value": value} for name, value in scores.items()]
    return {"id": str(number), "prompt": ASK, "completion": said(text), "scores": named}


def solution(*steps: str, values: list[float], kind: str = "soft") -> dict[str, Any]:
    return {"id": "s", "prompt": ASK, "steps": steps, "values": values, "kind": kind}


FILES = {
    "pairs": [pair(i) for i in range(8)],
    "weighted": [pair(i, weight=2.0, flip=0.25, margin=0.5) for i in range(3)] + [tie(0)],
    "scored": [scored(i, "green." if i % 2 else "blue red", help=i % 2, length=0.5) for i in range(8)],
    "values": [
        row
        for i in range(6)
        for row in (
            solution(f"The grass is green. {i}\n", " I am sure. ", values=[0.875, 0.75]),
            solution(f"blue {i}", values=[0.125]),
            solution("blue", values=[1.0], kind="hard"),
        )
    ]
    + [solution("0 1 2 3 " * 40, values=[0.5])],
    "labels": [
        {
            "id": "l",
            "prompt": "What is the sky?\n",
            "completions": ["blue", "", "red"],
            "labels": [True, True, False],
        }
    ]
    * 4,
    "answers": [
        {
            "id": str(i),
            "prompt": ASK,
            "completion": said("green." if i % 2 else "blue red"),
            "label": bool(i % 2),
        }
        for i in range(8)
    ],
}


def write(folder: Path) -> None:
    for name, rows in FILES.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def closed_forms() -> dict[str, list[float]]:
    from torch import tensor

    nan = float("nan")
    vectors = tensor([[1.0, 0.0]]), tensor([[3.0, 4.0]]), tensor([[-1.0, 1.0]])
    found = {
        "margin": reward_losses.bradley_terry(tensor([1.5]), tensor([0.7]), tensor([0.0])),
        "flip": reward_losses.bradley_terry(tensor([1.5]), tensor([0.0]), tensor([0.1])),
        "preference": reward_losses.bradley_terry(tensor([2.0]), tensor([0.0]), tensor([0.0])),
        "ties": reward_losses.no_preference(tensor([0.0, 1.0])),
        "centred": reward_losses.centred(tensor([1.0]), tensor([0.5])),
        "regression": reward_losses.regression(
            tensor([[1.0, 2.0], [3.0, 1.0]]), tensor([[0.0, 4.0], [nan, 2.0]])
        ),
        "goal": reward_losses.goal_conditioned(*vectors),
        "soft": reward_losses.two_class(tensor([[-0.3, 1.2]]), tensor([0.620115])),
        "huge": reward_losses.two_class(tensor([[-500.0, 500.0]]), tensor([0.0])),
        "outcome": reward_losses.outcome(tensor([-0.2, -0.2]), tensor([1.0, 0.0]), 0.05),
    }
    return {name: value.tolist() for name, value in found.items()}


class Trials:
    """Trainings in one folder that differ in a thing each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = {"model": str(folder / "model"), "gpu": False, "log_every": 1, "max_length": 120}
        self.base |= {"learning_rate": 0.02, "batch": 4, "epochs": 6, "save_every": 2}

    def options(self, kind: Any, name: str, data: str, /, **changes: Any) -> Any:
        given = {**self.base, "data": str(self.folder / f"{data}.jsonl"), "output": str(self.folder / name)}
        return msgspec.convert({**given, **changes}, kind.OPTIONS)

    def train(self, kind: Any, name: str, data: str, **changes: Any) -> dict[str, Any]:
        metrics = kind.train(self.options(kind, name, data, **changes))
        return {**msgspec.to_builtins(metrics), "weights": tiny.digest(self.folder / name / "model")}

    def error(self, kind: Any, name: str, data: str, /, **changes: Any) -> str:
        try:
            kind.train(self.options(kind, name, data, **changes))
        except GristmillError as error:
            return str(error)
        return ""

    def losses(self, name: str) -> list[float]:
        lines = map(json.loads, (self.folder / name / "log.jsonl").read_text().splitlines())
        return [line["loss"] for line in lines if "loss" in line]


def killed(trials: Trials) -> int:
    """A training in a process of its own, which is killed in the midst of the sixth step."""
    child = os.fork()
    if child == 0:
        from transformers import Trainer

        real, taken = Trainer.training_step, []

        def training_step(*args: Any, **kwargs: Any) -> Any:
            taken.append(1)
            if len(taken) > 5:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        Trainer.training_step = training_step
        trials.train(process_reward, "resumed", "values")
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def tokens(trials: Trials) -> dict[str, Any]:
    """Where the loss is, in the tokens of the first rows."""
    from gristmill.train.base.models import tokenizer_of

    options = trials.options(process_reward, "t", "values")
    tokenizer = tokenizer_of(options)
    stepwise.one_token(tokenizer, TAG, "tag", add=True)
    found: dict[str, Any] = {}
    rows = [row for _, row in stepwise.read_steps(options, tokenizer, TAG, None)]
    found["text"] = tokenizer.decode(rows[0].tokens)
    found["before each tag"] = [tokenizer.decode(rows[0].tokens[: place + 1]) for place in rows[0].places]
    found["kinds"] = [row.values for row in rows[:4]]
    labels = trials.options(process_reward, "t", "labels")
    [(_, first), *_] = stepwise.read_steps(labels, tokenizer, TAG, None)
    found["labels"] = [tokenizer.decode(first.tokens), first.values]
    answers = trials.options(process_reward, "t", "answers")
    [(_, one), *_] = stepwise.read_outcomes(answers, tokenizer)
    kept = [t for t, label in zip(*one.tokens, strict=True) if label >= 0]
    found["answer"] = [tokenizer.decode(kept), one.right]
    pairs = trials.options(reward, "t", "weighted")
    read = [row for _, row in compared.read_compared(pairs, tokenizer, Path(pairs.data))]
    found["sides"] = [tokenizer.decode(read[0].first), tokenizer.decode(read[0].second)]
    found["places"] = [[row.places, len(row.first), len(row.second)] for row in read]
    return found


def batches(trials: Trials) -> dict[str, Any]:
    """The loss of a batch, by the trainer's own function, beside what a model gives row by row."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = trials.folder / "pairs" / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    options = trials.options(reward, "t", "weighted", tie_weight=0.5, centre=0.01, goal_weight=0.2)
    rows = [row for _, row in compared.read_compared(options, tokenizer, Path(options.data))]
    with torch.no_grad():
        total, _ = reward._comparison(options)(model, reward._pairs(tokenizer)(rows))
        single = [[float(model(torch.tensor([side])).logits) for side in (r.first, r.second)] for r in rows]
        states = [
            [
                model(torch.tensor([side]), output_hidden_states=True).hidden_states[-1][0].tolist()
                for side in (r.first, r.second)
            ]
            for r in rows
        ]
    picked = [
        [s[0][r.places[0]], s[0][r.places[1]], s[1][r.places[2]]]
        for r, s in zip(rows, states, strict=True)
        if r.places
    ]
    return {"total": float(total), "rewards": single, "states": picked}


def values(trials: Trials) -> dict[str, Any]:
    """What the value model says after each token of an answer, as a guide reads it and as it was trained."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = trials.folder / "begun" / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    options = trials.options(reward, "t", "scored", attributes=["help"], begun=True)
    found = []
    rows = [row for _, row in compared.read_scored(options, tokenizer, Path(options.data), ("help",))]
    with torch.no_grad():
        total, _ = reward._values(model, reward._answers(tokenizer)(rows))
        for row in rows:
            begun = [row.tokens[: end + 1] for end in range(row.prompt, len(row.tokens))]
            found.append([float(model(torch.tensor([ids])).logits) for ids in begun])
    return {"total": float(total), "read": found, "targets": [row.targets[0] for row in rows]}


async def read_back(trials: Trials) -> dict[str, Any]:
    """What the engines give for the saved models, beside what Transformers gives for the same text."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer

    asked = tuple(Message(**m) for m in ASK)
    request = score_request(asked, f"The grass is green.{TAG}blue{TAG}")
    found: dict[str, Any] = {}

    def folder(name: str) -> str:
        return str(trials.folder / name / "model")

    async def rows(**options: Any) -> Any:
        async with TransformersReward(dtype="float32", **options).open() as engine:
            return json.loads((await engine.generate(request))[0].text)

    found["token"] = await rows(model=folder("classes"), head="token", tag=TAG)
    found["words"] = await rows(model=folder("words"), head="words", tag=TAG, good="0", bad="1")
    found["outputs"] = await rows(model=folder("scored"))
    for name, kind in (("token", AutoModelForTokenClassification), ("words", AutoModelForCausalLM)):
        where = folder("classes" if name == "token" else "words")
        tokenizer, model = AutoTokenizer.from_pretrained(where), kind.from_pretrained(where).eval()
        turns = [*ASK, {"role": "assistant", "content": request.prefix}]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = model(ids).logits[0][ids[0] == tokenizer.convert_tokens_to_ids(TAG)]
        marks = [tokenizer.convert_tokens_to_ids(word) for word in ("1", "0")]
        found[f"{name} of Transformers"] = (logits if name == "token" else logits[:, marks]).tolist()
    ratios = []
    for text in ("green.", "blue red"):
        sums = []
        for where in (folder("implicit"), str(trials.folder / "model")):
            async with Transformers(model=where, dtype="float32").open() as engine:
                [scored] = await engine.generate(score_request(asked, text))
                sums.append(sum(token.logprob for token in scored.logprobs or ()))
        ratios.append(sums[0] - sums[1])
    found["ratios"] = ratios
    return found


def errors(trials: Trials) -> dict[str, str]:
    bare = trials.folder / "bare"
    tiny.make(bare)
    (bare / "chat_template.jinja").unlink()
    return {
        "tag": trials.error(process_reward, "e1", "values", tag="grass sky"),
        "word": trials.error(process_reward, "e2", "values", head="words", good="excellent"),
        "same": trials.error(process_reward, "e3", "values", head="words", good="0", bad="0"),
        "template": trials.error(process_reward, "e4", "values", model=str(bare)),
        "reward template": trials.error(reward, "e5", "pairs", model=str(bare)),
        "form": trials.error(process_reward, "e6", "pairs"),
        "answers": trials.error(process_reward, "e7", "answers"),
        "steps": trials.error(process_reward, "e8", "values", head="implicit"),
        "in the prompt": trials.error(process_reward, "e9", "values", tag="?"),
        "attributes": trials.error(reward, "e10", "scored"),
        "no attribute": trials.error(reward, "e11", "scored", attributes=["truth"]),
        "short": trials.error(reward, "e12", "pairs", max_length=5),
        "kind": trials.error(process_reward, "e13", "values", kind="er-prm(1)"),
    }


def main(folder: Path) -> dict[str, Any]:
    tiny.make(folder / "model")
    write(folder)
    trials = Trials(folder)
    found: dict[str, Any] = {"killed": killed(trials)}
    found["resumed"] = trials.train(process_reward, "resumed", "values")
    found["classes"] = trials.train(process_reward, "classes", "values")
    found["losses"] = {name: trials.losses(name) for name in ("resumed", "classes")}
    short = {"epochs": 2, "learning_rate": 0.01}
    found["whole"] = trials.train(process_reward, "whole", "values", **short)
    found["parts"] = trials.train(process_reward, "parts", "values", accumulate=4, **short)
    found["losses"] |= {name: trials.losses(name) for name in ("whole", "parts")}
    words = {"head": "words", "good": "0", "bad": "1"}
    found["words"] = trials.train(process_reward, "words", "values", **words)
    found["labels"] = trials.train(process_reward, "labels", "labels", lora={"r": 4}, tag="<|endoftext|>")
    found["implicit"] = trials.train(process_reward, "implicit", "answers", head="implicit", beta=0.5)
    found["pairs"] = trials.train(reward, "pairs", "pairs", centre=0.01, goal_weight=0.1)
    found["scored"] = trials.train(reward, "scored", "scored", attributes=["help", "length"], epochs=10)
    begun = {"attributes": ["help"], "begun": True, "epochs": 10}
    found["begun"] = trials.train(reward, "begun", "scored", **begun)
    found["values"] = values(trials)
    found |= {"forms": closed_forms(), "tokens": tokens(trials), "batches": batches(trials)}
    found |= {"read": asyncio.run(read_back(trials)), "errors": errors(trials)}
    return found


if __name__ == "__main__":
    where = Path(sys.argv[1])
    (where / "found.json").write_text(json.dumps(main(where)))
