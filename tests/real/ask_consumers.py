"""Gives files to the trainers' own code, and prints for each whether it is taken, refused or loses rows.

Run by a Python with torch, transformers, trl and axolotl, which imports nothing of Gristmill:

    python ask_consumers.py FOLDER [PACKAGES] > found.json

``FOLDER`` holds a folder for each format, with its files. ``PACKAGES`` holds the unpacked wheels of
llamafactory, openrlhf and verl, whose data code is imported without the rest: what else they import (ray,
deepspeed, torchaudio, ...) is replaced by empty modules. Formats whose trainer is not there are left out.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

TEMPLATE = (
    "{% if tools %}{{ '<|im_start|>system\n' }}{% for t in tools %}{{ t['function'] | tojson }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}"
    "{% for c in m['tool_calls'] or [] %}{{ '<tool_call>' + c['function']['name'] }}"
    "{% if c['function']['arguments'] is string %}{{ c['function']['arguments'] }}"
    "{% else %}{{ c['function']['arguments'] | tojson }}{% endif %}{{ '</tool_call>' }}{% endfor %}"
    "{{ '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
Ask = Callable[[Any], int]
"""Reads the rows as a trainer does, and gives the number that are left. Raises what the trainer raises."""


class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Empty modules in the place of packages that no data code uses."""

    NAMES = frozenset(
        [
            "ray",
            "pylatexenc",
            "torchaudio",
            "deepspeed",
            "codetiming",
            "tensordict",
            "cachetools",
            "av",
            "vllm",
            "librosa",
            "peft",
            "flash_attn",
            "fire",
            "gradio",
            "torchdata",
            "modelscope",
            "qwen_vl_utils",
        ]
    )

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname.split(".")[0] in self.NAMES:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> Any:
        module = MagicMock(name=spec.name)
        module.__path__, module.__spec__, module.__version__ = [], spec, "0"
        return module

    def exec_module(self, module: Any) -> None:
        pass


def tokenizer() -> Any:
    """A tokenizer of bytes with the usual chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    words = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(special)
    found = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=4096
    )
    found.chat_template = TEMPLATE
    return found


def model(tokens: Any, kind: str = "LlamaForCausalLM") -> Any:
    """One random layer of sixteen numbers."""
    import transformers

    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.LlamaConfig(
        vocab_size=len(tokens), pad_token_id=tokens.pad_token_id, num_labels=1, **shape
    )
    return getattr(transformers, kind)(config)


def trl(name: str, tokens: Any, first: Any, step: bool) -> Ask:
    """The preparation and the collator of one of TRL's trainers, which has trained a step on clean rows."""
    import trl as package

    of = {"trl-dpo": "DPO", "trl-kto": "KTO", "trl-reward": "Reward"}.get(name, "SFT")
    quiet = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True, "bf16": False}
    own = {"assistant_only_loss": True} if name == "trl-sft" else {}
    out = tempfile.mkdtemp()
    config = getattr(package, f"{of}Config")(
        output_dir=out, max_steps=1, per_device_train_batch_size=2, max_length=None, **quiet, **own
    )
    kind = "LlamaForSequenceClassification" if of == "Reward" else "LlamaForCausalLM"
    other = {"ref_model": model(tokens)} if of in ("DPO", "KTO") else {}
    trainer = getattr(package, f"{of}Trainer")(
        model(tokens, kind), args=config, train_dataset=first, processing_class=tokens, **other
    )
    if step:
        trainer.train()
    more = (False, None) if of == "SFT" else ()

    def ask(rows: Any) -> int:
        from datasets import Dataset

        if of == "SFT":  # the constructor looks at the first row for what kind of rows they are
            trainer._is_vision_dataset = "image" in rows.column_names or "images" in rows.column_names
        made = trainer._prepare_dataset(rows, tokens, config, *more, "train")
        made = made if isinstance(made, Dataset) else Dataset.from_list(list(made))
        trainer.data_collator([made[i] for i in range(len(made))])
        return len(made)

    return ask


def grpo(tokens: Any) -> Ask:
    """What GRPO makes of a prompt, and the reward for ``solution``."""
    from trl.data_utils import is_conversational, maybe_apply_chat_template
    from trl.rewards import accuracy_reward

    reserved = {"completion", "completion_ids", "trainer_state", "log_extra", "log_metric", "environments"}

    def ask(rows: Any) -> int:
        if found := reserved & set(rows.column_names):
            raise ValueError(f"reserved: {found}")
        for row in rows:
            assert is_conversational({"prompt": row["prompt"]})
            maybe_apply_chat_template({"prompt": row["prompt"]}, tokens)
        answers = [[{"role": "assistant", "content": "It is 2."}]] * len(rows)
        accuracy_reward(answers, list(rows["solution"]))
        return len(rows)

    return ask


def axolotl(name: str, tokens: Any) -> Ask:
    """axolotl's strategies; a row without a trained token is dropped by its loader."""
    from axolotl.utils.dict import DictDefault

    if name in ("axolotl-dpo", "axolotl-kto"):
        from axolotl.prompt_strategies.dpo.chat_template import default
        from axolotl.prompt_strategies.kto.chatml import argilla_chat

        config = DictDefault({"datasets": [{"type": "x"}], "chat_template": "tokenizer_default"})
        transform = default(config)[0] if name == "axolotl-dpo" else argilla_chat(config)

        def pairs(rows: Any) -> int:
            for row in rows:
                made = transform(row, tokenizer=tokens) if name == "axolotl-dpo" else transform(row)
                if name == "axolotl-kto":
                    made["label"] = bool(row["label"]) if isinstance(row["label"], bool) else 1 / 0
                for part in ("prompt", "chosen", "rejected", "completion"):
                    if part in made:
                        tokens(made[part])
            return len(rows)

        return pairs
    if name == "axolotl-stepwise":
        from axolotl.prompt_strategies.stepwise_supervised import load as stepwise

        strategy = stepwise(tokens, DictDefault({"sequence_len": 4096}), DictDefault({}))

        def steps(rows: Any) -> int:
            left = 0
            for row in rows:
                made = strategy.tokenize_prompt(row)
                known = sum(label != -100 for label in made["labels"])
                # Steps and labels are zipped: what is longer loses its end without a word.
                left += known == len(row["completions"]) == len(row["labels"]) and known > 0
            return left

        return steps
    from axolotl.prompt_strategies.chat_template import load

    config = {
        "type": "chat_template",
        "field_messages": "messages",
        "message_field_training": "train",
        "message_field_training_detail": "train_detail",
    }
    general = {"sequence_len": 4096, "train_on_inputs": False, "chat_template": "tokenizer_default"}
    chat = load(tokens, DictDefault(general), config)
    return lambda rows: sum(any(x != -100 for x in chat.tokenize_prompt(row)["labels"]) for row in rows)


def llama_factory(name: str) -> Ask:
    """LLaMA-Factory's converters, and the conditions under which its processors drop what they gave."""
    from llamafactory.data import converter
    from llamafactory.data.parser import DatasetAttr
    from llamafactory.data.processor import feedback, pairwise, supervised

    entry: dict[str, Any] = {"columns": {"messages": "conversations"}}
    if name == "llamafactory-openai":
        tags = {f"{role}_tag": role for role in ("user", "assistant", "system")}
        entry = {
            "columns": {"messages": "messages"},
            "tags": tags | {"role_tag": "role", "content_tag": "content"},
        }
        entry["formatting"] = "openai"
    elif name == "alpaca":
        keys = {"prompt": "instruction", "query": "input", "response": "output"}
        entry = {"columns": keys | {"system": "system", "history": "history"}, "formatting": "alpaca"}
    elif name == "llamafactory-ranking":
        entry["columns"] |= {"chosen": "chosen", "rejected": "rejected"}
        entry["ranking"] = True
    elif name == "llamafactory-kto":
        entry["columns"] |= {"kto_tag": "kto_tag"}
    entry.setdefault("formatting", "sharegpt")
    about = DatasetAttr("file", dataset_name="x")
    about.join(entry)
    convert = converter.get_dataset_converter(about.formatting, about, MagicMock())
    kind: Any = supervised.SupervisedDatasetProcessor
    if name == "llamafactory-ranking":
        kind = pairwise.PairwiseDatasetProcessor
    elif name == "llamafactory-kto":
        kind = feedback.FeedbackDatasetProcessor

    def ask(rows: Any) -> int:
        about.tools = "tools" if "tools" in rows.column_names else None  # as dataset_info.json names it
        made = rows.map(convert, remove_columns=rows.column_names)
        processor = kind(MagicMock(), MagicMock(), MagicMock(), MagicMock(cutoff_len=4096))
        processor._encode_data_example = lambda **parts: encoded(parts, kind)
        return len(processor.preprocess_dataset(made[:]).popitem()[1]) if len(made) else 0

    return ask


def encoded(parts: dict[str, Any], kind: Any) -> Any:
    """Lists of tokens, of as many as the processors want: texts are joined, as a template does."""
    text = "".join(m["role"] + m["content"] for m in parts["prompt"] + parts["response"]) + (
        parts["system"] or ""
    )
    one: list[int] = [len(text)]
    return {"SupervisedDatasetProcessor": (one, one), "PairwiseDatasetProcessor": (one,) * 4}.get(
        kind.__name__, (one, one, one, one, parts["response"][0]["content"] != "")
    )


def open_rlhf(name: str, tokens: Any) -> Ask:
    """OpenRLHF's functions for a row."""
    from openrlhf.datasets import prompts_dataset, reward_dataset, sft_dataset

    def listed(chat: Any, **options: Any) -> str:
        # Texts with places for images become lists of parts, which only templates of such models take.
        return str(tokens.apply_chat_template(chat, **options))

    def ask(rows: Any) -> int:
        left = 0
        for row in rows:
            chat = tokens.apply_chat_template
            if name == "openrlhf-sft":
                prompt, response = sft_dataset.preprocess_data(row, None, "input", "output", chat)
                # The dataset drops a row without a prompt or a response.
                left += bool(prompt and response)
            elif name == "openrlhf-dpo":
                parts = reward_dataset.preprocess_data(row, None, "prompt", "chosen", "rejected", chat, True)
                left += all(isinstance(p, str) and p for p in parts[:3])
            else:
                prompt, label = prompts_dataset.preprocess_data(row, None, "input", "label", listed)
                left += isinstance(label, str) and bool(prompt)
        return left

    return ask


def verl(name: str, tokens: Any, folder: Path) -> Ask:
    """verl's data sets, read from Parquet."""
    from omegaconf import OmegaConf

    if name == "verl-sft":
        from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset as DataSet

        own = {"max_length": 4096, "truncation": "error", "pad_mode": "no_padding"}
    else:
        from verl.utils.dataset.rl_dataset import RLHFDataset as DataSet

        own = {"cache_dir": str(folder), "max_prompt_length": 4096, "filter_overlong_prompts_workers": None}

    def ask(rows: Any) -> int:
        path = str(folder / "rows.parquet")
        rows.to_parquet(path)
        found = DataSet(path, tokens, OmegaConf.create(own))
        if name == "verl-sft":
            return sum(bool(found[i]["loss_mask"].any()) for i in range(len(found)))
        for i in range(len(found)):
            row = found[i]
            # The reward manager's keys (verl.workers.reward_manager.naive).
            assert isinstance(row["reward_model"]["ground_truth"], str)
            assert isinstance(row["data_source"], str)
        return len(found)

    return ask


def asker(name: str, tokens: Any, first: Path, work: Path, step: bool) -> Ask:
    if name == "trl-prompts":
        return grpo(tokens)
    if name.startswith(("trl", "text")):
        return trl(name, tokens, loaded(first), step)
    if name.startswith("axolotl"):
        return axolotl(name, tokens)
    if name.startswith("openrlhf"):
        return open_rlhf(name, tokens)
    return verl(name, tokens, work) if name.startswith("verl") else llama_factory(name)


def loaded(path: Path) -> Any:
    from datasets import load_dataset

    with tempfile.TemporaryDirectory() as cache:
        return load_dataset("json", data_files=str(path), split="train", cache_dir=cache, keep_in_memory=True)


def answers(folder: Path, only: list[str]) -> Iterator[tuple[str, dict[str, str]]]:
    tokens = tokenizer()
    for place in sorted(folder.iterdir()):
        if only and place.name not in only:
            continue
        found: dict[str, str] = {}
        with tempfile.TemporaryDirectory() as work:
            try:
                ask = asker(place.name, tokens, place / "clean.jsonl", Path(work), step=True)
            except ImportError as error:  # a trainer that is not there
                print(f"{place.name}: {error}", file=sys.stderr)
                continue
            for path in sorted(place.glob("*.jsonl")):
                found[path.stem] = answer(ask, path)
        print(json.dumps({place.name: found}), file=sys.stderr, flush=True)
        if found.get("clean", "takes") != "takes":
            raise AssertionError(f"{place.name}: clean rows are not taken: {found['clean']}")
        yield place.name, found


def answer(ask: Ask, path: Path) -> str:
    """``takes``, or in how many rows it loses, or its error."""
    try:
        rows = loaded(path)
        left = ask(rows)
    except Exception as error:  # noqa: BLE001 - whatever a trainer raises is its answer
        return f"refuses: {type(error).__name__}: {str(error)[:100]}"
    return "takes" if left == len(rows) else f"loses {len(rows) - left}"


if __name__ == "__main__":
    os.environ |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"}
    logging.disable(logging.CRITICAL)
    if len(sys.argv) > 2:
        wheels = Path(sys.argv[2])
        sys.path += [
            str(p.parent.parent)
            for n in ("llamafactory", "openrlhf", "verl")
            for p in wheels.rglob(f"{n}/__init__.py")
        ]
        sys.meta_path.append(Absent())
    with contextlib.redirect_stdout(sys.stderr):
        import datasets

        datasets.disable_caching()
        datasets.disable_progress_bars()
        result = dict(answers(Path(sys.argv[1]), sys.argv[3:]))
    print(json.dumps(result))
