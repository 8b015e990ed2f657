"""Preference training of a tiny random Llama, run by the Python of ``GRISTMILL_TRAINER_PYTHON``.

python tiny_preference.py FOLDER    several trainings on the rows of the folder; writes what came out
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import torch
from datasets import Dataset
from tiny import digest, make
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from gristmill.core.errors import GristmillError
from gristmill.train import losses, preference
from gristmill.train.base import comparing
from gristmill.train.base.sides import ComparedRow, answers
from gristmill.train.base.turns import IGNORED

LOSSES = ("dpo", "ipo", "copg", "simpo", "cpo", "orpo", "kto", "bco")
SCALES = {"ipo": 0.5, "simpo": 2.0}


def values() -> dict[str, float]:
    """The losses of numbers that papers and references give results for."""

    def t(x: float) -> Any:
        return torch.tensor([x], dtype=torch.float64)

    yes, no = torch.tensor([True]), torch.tensor([False])
    found = {
        "dpo": losses.dpo(t(0.6), t(-0.4), 0.1),
        "m-dpo 0.1": losses.dpo(t(-0.2 + 0.4), t(-0.5 - 0.1), 0.1),
        "m-dpo 0.5": losses.dpo(t(-0.2 + 0.4), t(-0.5 - 0.1), 0.5),
        "simpo": losses.simpo(t(-0.8), t(-1.5), 2.0, 0.5),
        "kto wanted": losses.kto(t(0.6), yes, t(0.2), 0.1),
        "kto unwanted": losses.kto(t(-0.4), no, t(0.2), 0.1),
        "bco wanted": losses.bco(t(0.6), yes, 0.01, 0.1),
        "bco unwanted": losses.bco(t(-0.4), no, 0.01, 0.1),
        "mcts (6, 2)": losses.dpo(t(2), t(0), 0.1, flip=0.25),
        "mcts (5, 5)": losses.dpo(t(2), t(0), 0.1, flip=0.5),
        "mcts (6, 0)": losses.dpo(t(2), t(0), 0.1, flip=0.0),
        "ipo": losses.ipo(t(0.6), t(-0.4), 0.1),
        "cpo": losses.cpo(t(-8), t(-15), 0.1),
        "orpo": losses.orpo(t(-0.8), t(-1.5), 0.1),
        "offset": losses.dpo(t(0.6), t(-0.4), 0.1, offset=0.5),
        "copg": losses.copg(t(0.6), t(-0.4), t(0.7), 0.1),
        "copg at its least": losses.copg(t(4), t(-3), t(0.7), 0.1),
        "optimism": losses.optimism(t(0.5), 0.1, 0.2),
        "selm": optimistic(),
        "no divergence below 0": losses.divergence_of(torch.tensor([-0.5, 0.1])),
    }
    return {name: float(value) for name, value in found.items()}


class Noting:
    """What a trainer is to ``row_losses``."""

    def note(self, **measures: Any) -> None:
        """Nothing is kept."""


def optimistic() -> Any:
    """SELM's loss of a pair whose log-ratios are 0.6 and -0.4."""
    given = preference.PreferenceTraining(model="m", data="d", output="o", optimism=0.2)
    zero = torch.zeros(2, 1)
    batch = {"reference": zero, "flip": zero[0], "wanted": zero[0] == 0, "offset": zero[0]}
    return preference.row_losses(given, Noting(), torch.tensor([[0.6], [-0.4]]), zero + 1, batch)


def options(folder: Path, name: str, **changes: Any) -> preference.PreferenceTraining:
    given = {"model": str(folder / "model"), "data": str(folder / "pairs.jsonl"), "gpu": False}
    given |= {"output": str(folder / name), "batch": 8, "epochs": 12, "learning_rate": 3e-3, "log_every": 1}
    return msgspec.convert({**given, "warmup": 0.0, **changes}, preference.PreferenceTraining)


def logged(out: Path) -> list[float]:
    lines = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def first_loss(folder: Path, name: str, **changes: Any) -> float:
    return preference.train(options(folder, name, max_steps=1, **changes)).first_loss


def theirs(folder: Path) -> list[float]:
    """The losses of TRL's own trainer on the same pairs."""
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    rows = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    config = DPOConfig(
        output_dir=str(folder / "trl"), beta=0.1, per_device_train_batch_size=8, max_steps=3, seed=0,
        learning_rate=3e-3, warmup_steps=0, logging_steps=1, use_cpu=True, report_to="none", bf16=False,
        gradient_checkpointing=False, save_strategy="no", max_length=None, dataloader_pin_memory=False,
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    trainer = DPOTrainer(
        model=model, args=config, processing_class=tokenizer, train_dataset=Dataset.from_list(rows)
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def likelihood(folder: Path) -> float:
    """The mean over rows of the chosen side's negative log-likelihood per token, a row at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    found = []
    for line in (folder / "pairs.jsonl").read_text().splitlines():
        [chosen, _] = answers(msgspec.json.decode(line, type=ComparedRow), tokenizer)
        ids, labels = (torch.tensor([one]) for one in chosen.tokens)
        with torch.no_grad():
            found.append(float(model(input_ids=ids, labels=labels).loss))
    return sum(found) / len(found)


def masks(folder: Path) -> dict[str, Any]:
    """The pieces of both sides that carry loss."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")

    def said(*texts: str) -> list[dict[str, str]]:
        return [{"role": "user" if i % 2 else "assistant", "content": text} for i, text in enumerate(texts)]

    ask = [{"role": "user", "content": "What is the colour?"}]
    cases = {
        "shared first turn": (said("red", "sure?", "no. blue"), said("red", "sure?", "no. red"), False),
        "different first turns": (said("red", "sure?", "no. blue"), said("red sure."), False),
        "from the difference": (said("red", "sure?", "no. blue"), said("red", "sure?", "no. red"), True),
    }
    found = {}
    for name, (chosen, rejected, cut) in cases.items():
        row = msgspec.convert({"prompt": ask, "chosen": chosen, "rejected": rejected}, ComparedRow)
        made = answers(row, tokenizer, from_difference=cut)
        found[name] = [pieces(tokenizer, *answer.tokens) for answer in made]
    return found


def pieces(tokenizer: Any, input_ids: list[int], labels: list[int]) -> list[str]:
    """Each run of tokens that carries loss, as text."""
    runs: list[list[int]] = [[]]
    for token, label in zip(input_ids, labels, strict=True):
        if label == IGNORED:
            runs.append([])
        else:
            assert label == token
            runs[-1].append(token)
    return [tokenizer.decode(run) for run in runs if run]


def killed(folder: Path, loss: str) -> dict[str, Any]:
    """A training that was killed in its sixth step, and went on from the fourth."""
    given = options(folder, f"killed-{loss}", loss=loss, save_every=2, **numbers(loss))
    child = os.fork()
    if child == 0:
        real, taken = comparing.ComparingTrainer.compute_loss, []

        def compute_loss(*args: Any, **kwargs: Any) -> Any:
            taken.append(1)
            if len(taken) > 5:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        comparing.ComparingTrainer.compute_loss = compute_loss
        preference.train(given)
    _, status = os.waitpid(child, 0)
    out = Path(given.output)
    checkpoint = max(int(path.name.split("-")[1]) for path in (out / "checkpoints").iterdir())
    preference.train(given)
    return {
        "signal": os.WTERMSIG(status),
        "checkpoint": checkpoint,
        "losses": logged(out),
        "weights": digest(out / "model"),
    }


def numbers(loss: str) -> dict[str, Any]:
    """What makes 12 steps of a loss: one with labels has two rows for each pair."""
    return {"epochs": 6 if loss in ("kto", "bco") else 12, "beta": SCALES.get(loss, 0.1)}


def errors(folder: Path) -> dict[str, str]:
    """What is said where a training cannot be."""
    bare = folder / "bare"
    make(bare)
    (bare / "chat_template.jinja").unlink()
    rows = (folder / "pairs.jsonl").read_text().splitlines()
    (folder / "one.jsonl").write_text(rows[0] + "\n")
    same = json.loads(rows[0])
    (folder / "same.jsonl").write_text(json.dumps({**same, "rejected": same["chosen"]}) + "\n")
    cases: dict[str, dict[str, Any]] = {
        "labelled": {"data": str(folder / "labelled.jsonl")},
        "flip": {"data": str(folder / "flipped.jsonl"), "loss": "ipo"},
        "prompts": {"data": str(folder / "one.jsonl"), "loss": "kto"},
        "same": {"data": str(folder / "same.jsonl")},
        "margin": {"loss": "copg"},
        "template": {"model": str(bare)},
        "hub": {"model": "hf:nobody/nothing"},
        "memory": {},
        "processes": {},
    }
    found = {}
    for name, changes in cases.items():
        real = comparing.ComparingTrainer.compute_loss
        if name == "memory":
            comparing.ComparingTrainer.compute_loss = no_memory
        if name == "processes":
            os.environ["WORLD_SIZE"] = "3"
        try:
            preference.train(options(folder, f"error-{name}", **changes))
        except GristmillError as error:
            found[name] = str(error)
        comparing.ComparingTrainer.compute_loss = real
        os.environ.pop("WORLD_SIZE", None)
    return found


def no_memory(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory")


def trials(folder: Path) -> dict[str, Any]:
    make(folder / "model")
    found: dict[str, Any] = {"values": values(), "masks": masks(folder), "killed": {}, "trained": {}}
    for loss in LOSSES:
        data = {"data": str(folder / "margins.jsonl")} if loss == "copg" else {}
        metrics = preference.train(options(folder, loss, loss=loss, **numbers(loss), **data))
        found["trained"][loss] = msgspec.to_builtins(metrics)
    for loss in ("bco", "dpo"):
        found["killed"][loss] = killed(folder, loss)
    found["losses"] = {loss: logged(folder / loss) for loss in ("bco", "dpo")}
    found["weights"] = {loss: digest(folder / loss / "model") for loss in ("bco", "dpo")}
    preference.train(options(folder, "three", max_steps=3))
    found["ours"], found["trl"] = logged(folder / "three"), theirs(folder)
    found["accumulated"] = preference.train(options(folder, "parts", accumulate=4)).last_loss
    found["first"] = {
        "plain": first_loss(folder, "f1"),
        "weighted": first_loss(folder, "f2", data=str(folder / "weighted.jsonl")),
        "flipped": first_loss(folder, "f3", data=str(folder / "flipped.jsonl")),
        "offset": first_loss(folder, "f4", data=str(folder / "flipped.jsonl"), offset=0.5),
        "nll": first_loss(folder, "f5", nll=0.5),
        "optimism": preference.train(options(folder, "f7", optimism=2.0)).measures,
        "reference": first_loss(folder, "f6", reference=str(folder / "dpo" / "model")),
    }
    found["likelihood"] = likelihood(folder)
    found["errors"] = errors(folder)
    return found


if __name__ == "__main__":
    where = Path(sys.argv[1])
    (where / "found.json").write_text(json.dumps(trials(where)))
