"""Real training of a tiny random Llama, run by the Python of ``GRISTMILL_TRAINER_PYTHON``.

python tiny.py make FOLDER            a model of a few thousand parameters with its own tokenizer
python tiny.py trials FOLDER          labels of some rows and several trainings; prints what came out
python tiny.py train CONFIG [STEP]    one training; with STEP, killed after that step
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec

from gristmill.core.errors import GristmillError
from gristmill.train import sft
from gristmill.train.base import rows as rows_of

TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Like some real ones, it drops what an assistant thought in all turns but the last.
FORGETFUL = TEMPLATE.replace("m['content']", "(m['content'] if loop.last else m['content'][:3])")
TEXT = "What is the colour of grass and of the sky? The grass is green. I am sure. I am unsure. blue red 0123"


def make(folder: Path) -> None:
    """Two layers of sixteen numbers, and a byte-level tokenizer of 300 tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    inner.train_from_iterator([TEXT], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token="<|endoftext|>"
    )
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        num_key_value_heads=2,
        tie_word_embeddings=True,
        max_position_embeddings=256,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **shape,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def labels(folder: Path) -> list[dict[str, Any]]:
    """For each row of ``rows.jsonl`` its text as the model sees it, and the pieces that carry loss."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    found = []
    for _, row in rows_of.read_rows(folder / "rows.jsonl"):
        tokens = rows_of.encode(row, tokenizer)
        runs: list[list[int]] = []
        before = rows_of.IGNORED
        for token, label in zip(tokens.input_ids, tokens.labels, strict=True):
            if label != rows_of.IGNORED:
                assert label == token
                if before == rows_of.IGNORED:
                    runs.append([])
                runs[-1].append(token)
            before = label
        found.append(
            {"all": tokenizer.decode(tokens.input_ids), "trained": [tokenizer.decode(run) for run in runs]}
        )
    return found


def digest(model: Path) -> str:
    """Of the weights alone."""
    return hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()


def trials(folder: Path) -> dict[str, Any]:
    """Trainings that differ in one thing each, and the errors of some that cannot be."""
    base = {"model": str(folder / "model"), "data": str(folder / "data.jsonl"), "gpu": False}
    base |= {"epochs": 4, "learning_rate": 0.01, "batch": 4, "log_every": 1, "max_length": 60}
    from real_templates import masks  # beside this program, which others import from elsewhere

    found: dict[str, Any] = {"labels": labels(folder), "templates": masks(folder)}
    found["together"] = together(folder, base)
    runs = {
        "full": {},
        "again": {},
        "seed": {"seed": 1},
        "accumulated": {"accumulate": 2},
        "lora": {"lora": {"r": 4, "last_layers": 1}, "learning_rate": 0.05},
        "narrow": {"lora": {"r": 4}, "dtype": "bfloat16", "learning_rate": 0.05},
    }
    for name, changes in runs.items():
        out = folder / name
        options = msgspec.convert({**base, "output": str(out), **changes}, sft.Sft)
        metrics = msgspec.to_builtins(sft.train(options))
        found[name] = {"metrics": metrics, "weights": digest(out / "model"), "loss": losses(folder, out)}
    found["repeated"] = msgspec.to_builtins(
        sft.train(msgspec.convert({**base, "output": str(folder / "full")}, sft.Sft))
    )
    found["packed"] = packed(folder, base)
    found["mixed"] = mixed(folder, base)
    found["errors"] = errors(folder, base)
    return found


def fine_tuned(base: dict[str, Any], out: Path, **changes: Any) -> dict[str, Any]:
    """One training: its losses and what it did."""
    metrics = sft.train(msgspec.convert({**base, "output": str(out), **changes}, sft.Sft))
    lines = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    losses = [line["loss"] for line in lines if "loss" in line]
    return {
        "losses": losses,
        "metrics": msgspec.to_builtins(metrics),
        "files": sorted(file.name for file in out.iterdir()),
    }


def packed(folder: Path, base: dict[str, Any]) -> dict[str, Any]:
    """All rows in one step, each for itself and put together."""
    same = {"batch": 12, "epochs": 3}
    return {
        "apart": fine_tuned(base, folder / "apart", **same),
        "packed": fine_tuned(base, folder / "packed", packing=True, batch=12, max_length=60, epochs=3),
    }


def mixed(folder: Path, base: dict[str, Any]) -> list[dict[str, Any]]:
    """Twelve rows with a quarter as many of another set, and with three times as many as that set has."""
    old = folder / "old.jsonl"
    old.write_text("".join(json.dumps({"text": f"The sky is {i}."}) + "\n" for i in range(4)))
    weights = (0.25, 1.0)
    return [
        fine_tuned(base, folder / f"mix-{w}", epochs=1, mix=[{"data": str(old), "weight": w}])
        for w in weights
    ]


def together(folder: Path, base: dict[str, Any]) -> dict[str, Any]:
    """Two processes, started as a launcher does, train what one does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launched = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    children = []
    for rank in range(2):
        child = os.fork()
        if child == 0:
            os.environ |= {**launched, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            sft.train(msgspec.convert({**base, "output": str(folder / "two"), "epochs": 2}, sft.Sft))
            os._exit(0)
        children.append(child)
    ends = [os.waitpid(child, 0)[1] for child in children]
    lines = map(json.loads, (folder / "two" / "log.jsonl").read_text().splitlines())
    two = [line["loss"] for line in lines if "loss" in line]
    one = fine_tuned(base, folder / "one", epochs=2)
    files = sorted(file.name for file in (folder / "two").iterdir())
    return {"ends": ends, "one": one, "two": two, "files": files}


def losses(folder: Path, out: Path) -> float:
    """The loss of the saved model on the first row, loaded anew by Transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(out / "model")
    _, row = next(rows_of.read_rows(folder / "data.jsonl"))
    tokens = rows_of.encode(row, AutoTokenizer.from_pretrained(out / "model"))
    with torch.no_grad():
        ids, wanted = torch.tensor([tokens.input_ids]), torch.tensor([tokens.labels])
        return float(model(input_ids=ids, labels=wanted).loss)


def errors(folder: Path, base: dict[str, Any]) -> dict[str, str]:
    """What is said where a training cannot be."""
    forgetful = folder / "forgetful"
    make(forgetful)
    (forgetful / "chat_template.jinja").write_text(FORGETFUL)
    found = {}
    for name, changes in {
        "other": {"output": str(folder / "full"), "seed": 2},
        "targets": {"output": str(folder / "e1"), "lora": {"targets": ["q_prj"]}},
        "layers": {"output": str(folder / "e2"), "lora": {"last_layers": 3}},
        "short": {"output": str(folder / "e3"), "max_length": 5},
        "forgetful": {"output": str(folder / "e4"), "model": str(forgetful)},
        "model": {"output": str(folder / "e5"), "model": str(folder)},
    }.items():
        try:
            sft.train(msgspec.convert({**base, **changes}, sft.Sft))
        except GristmillError as error:
            found[name] = str(error)
    return found


def train(config: Path, step: int | None) -> None:
    """One training, which may be killed, as by the kernel, in the midst of a step."""
    if step is not None:
        from trl import SFTTrainer

        real = SFTTrainer.training_step
        taken = []

        def training_step(*args: Any, **kwargs: Any) -> Any:
            taken.append(1)
            if len(taken) > step:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        SFTTrainer.training_step = training_step
    options = msgspec.json.decode(config.read_bytes(), type=sft.Sft)
    metrics = sft.train(options)
    print(json.dumps({**msgspec.to_builtins(metrics), "weights": digest(Path(options.output) / "model")}))


if __name__ == "__main__":
    what, path, *rest = sys.argv[1:]
    if what == "make":
        make(Path(path))
    elif what == "trials":
        (Path(path) / "found.json").write_text(json.dumps(trials(Path(path))))
    else:
        train(Path(path), int(rest[0]) if rest else None)
