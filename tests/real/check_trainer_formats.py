"""Loads exported files with the real data preparation of TRL and axolotl, and prints what they would train.

Run by the Python that ``GRISTMILL_TRAINER_PYTHON`` names (with torch and trl, and for axolotl
``pip install --no-deps axolotl colorama addict``); it imports nothing of Gristmill:

    python check_trainer_formats.py FOLDER GGUF [--reasoning] > found.json

``FOLDER`` holds ``trl-sft.jsonl``, ``trl-prompt-completion.jsonl``, ``trl-dpo.jsonl`` and
``axolotl-chat.jsonl``; with ``--reasoning`` ``trl-keep.jsonl``, ``axolotl-keep.jsonl`` and
``axolotl-mask.jsonl``, read with a chat template that renders ``reasoning_content``. ``GGUF`` gives the
tokenizer and its chat template; the model is a tiny random one, trained for one step so that the collator and
the loss are met too.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

REASONING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def main(folder: Path, gguf: Path, *options: str) -> dict[str, list[dict[str, Any]]]:
    """For every file the rows as the trainer sees them: what is given, and what is trained."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    tokenizer.pad_token = tokenizer.eos_token
    if options == ("--reasoning",):
        tokenizer.chat_template = REASONING
        found = {"trl-keep": sft(folder / "trl-keep.jsonl", tokenizer)}
        if importlib.util.find_spec("axolotl"):
            for name in ("axolotl-keep", "axolotl-mask"):
                found[name] = axolotl(folder / f"{name}.jsonl", tokenizer, reasoning="reasoning_content")
        return found
    found = {name: sft(folder / f"{name}.jsonl", tokenizer) for name in ("trl-sft", "trl-prompt-completion")}
    found["trl-dpo"] = dpo(folder / "trl-dpo.jsonl", tokenizer)
    if importlib.util.find_spec("axolotl"):
        found["axolotl-chat"] = axolotl(folder / "axolotl-chat.jsonl", tokenizer)
    return found


def model(tokenizer: Any) -> Any:
    """Two random layers of sixteen numbers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape))


def settings(folder: str) -> dict[str, Any]:
    """One step on the CPU, nothing saved, nothing reported."""
    quiet = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    return {"output_dir": folder, "max_steps": 1, "per_device_train_batch_size": 2, "bf16": False, **quiet}


def split(tokenizer: Any, ids: list[int], labels: list[int]) -> dict[str, Any]:
    """The tokens as text: all of them, and each run of trained ones."""
    runs: list[list[int]] = []
    before = -100
    for token, label in zip(ids, labels, strict=True):
        if label != -100:
            if before == -100:
                runs.append([])
            runs[-1].append(token)
        before = label
    return {"all": tokenizer.decode(ids), "trained": [tokenizer.decode(run) for run in runs]}


def sft(path: Path, tokenizer: Any) -> list[dict[str, Any]]:
    """TRL's SFT trainer."""
    from datasets import load_dataset
    from trl import SFTConfig, SFTTrainer

    rows = load_dataset("json", data_files=str(path), split="train")
    with tempfile.TemporaryDirectory() as out:
        trainer = SFTTrainer(
            model(tokenizer),
            SFTConfig(**settings(out), max_length=None),
            train_dataset=rows,
            processing_class=tokenizer,
        )
        trainer.train()
    prepared = list(trainer.train_dataset)
    assert len(prepared) == len(rows)
    batch = trainer.data_collator(prepared)
    found = []
    for row, ids, labels in zip(rows, batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True):
        length = len(prepared[len(found)]["input_ids"])
        found.append({"id": row["id"], **split(tokenizer, ids[:length], labels[:length])})
    return found


def dpo(path: Path, tokenizer: Any) -> list[dict[str, Any]]:
    """TRL's DPO trainer."""
    from datasets import load_dataset
    from trl import DPOConfig, DPOTrainer

    rows = load_dataset("json", data_files=str(path), split="train")
    with tempfile.TemporaryDirectory() as out:
        trainer = DPOTrainer(
            model(tokenizer),
            ref_model=model(tokenizer),
            args=DPOConfig(**settings(out), max_length=None),
            train_dataset=rows,
            processing_class=tokenizer,
        )
        trainer.train()
    prepared = list(trainer.train_dataset)
    assert len(prepared) == len(rows)
    decoded = [
        {part: tokenizer.decode(row[f"{part}_ids"]) for part in ("prompt", "chosen", "rejected")}
        for row in prepared
    ]
    return [{"id": row["id"], **parts} for row, parts in zip(rows, decoded, strict=True)]


def axolotl(path: Path, tokenizer: Any, **fields: str) -> list[dict[str, Any]]:
    """axolotl's ``chat_template`` strategy, made as its own loader makes it from a configuration.

    ``fields``: what further fields of a message are called."""
    from axolotl.prompt_strategies.chat_template import load
    from axolotl.utils.dict import DictDefault
    from datasets import load_dataset

    config = {
        "type": "chat_template",
        "field_messages": "messages",
        "message_property_mappings": {"role": "role", "content": "content"}
        | {f"{name}_content": field for name, field in fields.items()},
        "message_field_training": "train",
        "message_field_training_detail": "train_detail",
        "roles_to_train": [],
        "train_on_eos": "turn",
    }
    settings = DictDefault(
        {"sequence_len": 4096, "train_on_inputs": False, "chat_template": "tokenizer_default"}
    )
    strategy = load(tokenizer, settings, config)
    rows = load_dataset("json", data_files=str(path), split="train")
    found = []
    for row in rows:
        prepared = strategy.tokenize_prompt(row)
        found.append({"id": row["id"], **split(tokenizer, prepared["input_ids"], prepared["labels"])})
    return found


if __name__ == "__main__":
    os.environ |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"}
    with contextlib.redirect_stdout(sys.stderr):
        result = main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
    print(json.dumps(result))
