"""Policies trained for real on a tiny random Llama, run by the Python of ``GRISTMILL_TRAINER_PYTHON``.

python tiny_policy.py FOLDER    makes a model, trains it in several ways, writes what came out to found.json
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import tiny
from msgspec.structs import replace

from gristmill.core.errors import GristmillError
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.train import policy
from gristmill.train.online import process
from gristmill.train.online.process import ProcessModel

OWN = {"function": "tiny_policy:letters"}
CALLS: list[dict[str, Any]] = []


class Killed(BaseException):
    """What ends a training in the midst of a step; nothing catches it."""


def number(text: str) -> int:
    return hashlib.sha256(text.encode()).digest()[0]


def judge(completion: str, reference: str) -> Verdict:
    """Right, wrong or undecided, by a hash of what was said."""
    if number(completion) % 5 == 0:
        return Verdict(Outcome.UNPARSEABLE)
    return Verdict(Outcome.CORRECT if number(completion) % 2 else Outcome.INCORRECT)


def letters(completions: Sequence[Any], **columns: Any) -> list[float | None]:
    """A user's reward, as TRL calls it; keeps what it is called with."""
    said = [
        completion if isinstance(completion, str) else completion[-1]["content"] for completion in completions
    ]
    CALLS.append({"said": said, **{key: columns[key] for key in ("level", "solution", "completion_ids")}})
    return [number(text) / 256 for text in said]


def options(folder: Path, name: str, **changes: Any) -> policy.Policy:
    base = {"model": str(folder / "model"), "data": str(folder / "data.jsonl"), "gpu": False, "log_every": 1}
    base |= {"output": str(folder / name), "batch": 2, "generations": 4, "max_tokens": 6, "epochs": 2}
    base |= {"learning_rate": 0.01, "warmup": 0.0, "max_length": 60}
    return msgspec.convert({**base, "rewards": [OWN], **changes}, policy.Policy)


def entries(folder: Path) -> list[dict[str, Any]]:
    """What ``log.jsonl`` says of each step, without times."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    keys = ("step", "loss", "reward", "entropy", "process_loss", "grad_norm")
    return [{key: line[key] for key in keys if key in line} for line in lines if "loss" in line]


@contextmanager
def killed(after: int) -> Iterator[None]:
    """Trainings end in step ``after`` + 1."""
    from transformers import Trainer

    real, taken = Trainer.training_step, []

    def training_step(*given: Any, **named: Any) -> Any:
        taken.append(1)
        if len(taken) > after:
            raise Killed
        return real(*given, **named)

    Trainer.training_step = training_step
    try:
        yield
    finally:
        Trainer.training_step = real


@contextmanager
def watched(kept: list[dict[str, Any]]) -> Iterator[None]:
    """TRL's batches, with the rewards that their advantages are of."""
    from trl import GRPOTrainer, RLOOTrainer

    real = {kind: kind._generate_and_score_completions for kind in (GRPOTrainer, RLOOTrainer)}

    def watching(kind: Any) -> Any:
        def generate(trainer: Any, inputs: Any) -> Any:
            batch = real[kind](trainer, inputs)
            lists = {key: value.tolist() for key, value in batch.items() if getattr(value, "ndim", 0) > 0}
            rewards = [[None if v != v else v for v in row] for row in trainer.outcomes.tolist()]
            kept.append({**lists, "rewards": rewards})
            return batch

        return generate

    for kind in real:
        kind._generate_and_score_completions = watching(kind)
    try:
        yield
    finally:
        for kind, method in real.items():
            kind._generate_and_score_completions = method


@contextmanager
def weighed(kept: list[dict[str, Any]]) -> Iterator[None]:
    """What the process model makes of a batch."""
    import torch  # not above: the verifiers' processes load this file too

    real = ProcessModel.advantages

    def advantages(self: ProcessModel, batch: Any, outcomes: Any, size: int) -> Any:
        with torch.no_grad():  # of what the model is before it learns from this batch
            ours, theirs = (
                process._chances(model, batch, slice(None)) for model in (self.model, self.reference)
            )
        ratios = ((ours - theirs) * batch["completion_mask"]).sum(-1).tolist()
        made, loss = real(self, batch, outcomes, size)
        kept.append({"outcomes": outcomes, "advantages": made.tolist(), "loss": loss, "ratios": ratios})
        kept[-1]["mask"] = batch["completion_mask"].tolist()
        return made, loss

    ProcessModel.advantages = advantages  # type: ignore[method-assign]
    try:
        yield
    finally:
        ProcessModel.advantages = real  # type: ignore[method-assign]


def trained(one: policy.Policy) -> dict[str, Any]:
    """A training as it goes, and what it leaves."""
    batches: list[dict[str, Any]] = []
    weighings: list[dict[str, Any]] = []
    CALLS.clear()
    with watched(batches), weighed(weighings):
        metrics = msgspec.to_builtins(policy.train(one))
    out = Path(one.output)
    return {
        "metrics": metrics,
        "log": entries(out),
        "weights": tiny.digest(out / "model"),
        "batches": batches,
        "process": weighings,
        "calls": list(CALLS),
    }


def resumed(one: policy.Policy, after: int) -> dict[str, Any]:
    """The same training, killed after so many steps and started again."""
    one = replace(one, output=f"{one.output}-killed")
    try:
        with killed(after):
            policy.train(one)
    except Killed:
        left = sorted(path.name for path in (Path(one.output) / "checkpoints").iterdir())
        return {**trained(one), "left": left}
    raise AssertionError("it was not killed")


def trials(folder: Path) -> dict[str, Any]:
    judged = {"rewards": [], "verifier": {"kind": "tiny_policy:judge"}}
    made = {
        "grpo": options(folder, "grpo", save_every=1, iterations=2),
        "none": options(folder, "none", scale="none", epochs=1, **judged),
        "rloo": options(folder, "rloo", algorithm="rloo", save_every=3, **judged),
        "prime": options(folder, "prime", save_every=1, process_reward={"learning_rate": 0.01}, **judged),
        "turns": options(folder, "turns", epochs=1, self_correction={"instruction": "sure?"}),
        "bonus": options(
            folder, "bonus", epochs=1, self_correction={"instruction": "sure?", "reward": "bonus"}, **judged
        ),
        "plain": options(folder, "plain", max_steps=1, rewards=[], lora={"r": 2}),
        "shaped": options(
            folder, "shaped", max_steps=1, beta=0.1, verifier={"kind": "tiny_policy:judge"},
            rewards=[{"shape": {"kind": "laser", "target": 5}}, {**OWN, "weight": 0.5}],
        ),
    }  # fmt: skip
    found: dict[str, Any] = {name: trained(one) for name, one in made.items()}
    for name, after in (("grpo", 5), ("rloo", 4), ("prime", 4)):
        found[f"{name}-killed"] = resumed(made[name], after)
    found["errors"] = errors(folder)
    return found


def errors(folder: Path) -> dict[str, str]:
    """What is said where a training cannot be."""
    silent, endless = folder / "silent", folder / "endless"
    for where, template in ((silent, None), (endless, tiny.TEMPLATE.replace("<|im_end|>", ""))):
        tiny.make(where)
        (where / "chat_template.jinja").unlink()
        if template is not None:
            (where / "chat_template.jinja").write_text(template)
    (folder / "pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    (folder / "texts.jsonl").write_text('{"prompt": "a", "solution": "b"}\n' * 2)
    two = [{"prompt": "a", "solution": "1", "verifier": name} for name in ("math", "bleu")]
    (folder / "two.jsonl").write_text("".join(json.dumps(row) + "\n" for row in two))
    again = {"self_correction": {"instruction": "sure?"}}
    found = {}
    for name, changes in {
        "few": {"batch": 40},
        "long": {"max_length": 5},
        "silent": {"model": str(silent)},
        "endless": {"model": str(endless), **again},
        "pairs": {"data": str(folder / "pairs.jsonl")},
        "texts": {"data": str(folder / "texts.jsonl"), **again},
        "two": {"data": str(folder / "two.jsonl")},
        "prm": {"rewards": [], "process_reward": {"model": str(folder)}},
        "pays": {"rewards": [{"undecided": 0.5}]},
    }.items():
        try:
            policy.train(options(folder, f"e-{name}", **changes))
        except GristmillError as error:
            found[name] = str(error)
    return found


def main(folder: Path) -> None:
    """The model, the trainings, and what came of them."""
    tiny.make(folder / "model")
    (folder / "found.json").write_text(json.dumps(trials(folder)))


if __name__ == "__main__":
    import tiny_policy  # what rewards and verifiers of this name are loaded from

    tiny_policy.main(Path(sys.argv[1]))
