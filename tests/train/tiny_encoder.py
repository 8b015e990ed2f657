"""Real training of a tiny random encoder, run by the Python of ``GRISTMILL_TRAINER_PYTHON``.

python tiny_encoder.py trials FOLDER     trainings that differ in one thing each, one of them killed before
python tiny_encoder.py killed FOLDER     the same training as "whole", killed in the midst of a step
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from gristmill.core.errors import GristmillError
from gristmill.train import encoder
from gristmill.verifiers.grounding import Grounding

WORDS = "the tower mill gate barn is was tall red open old not shut . low blue new"


def make(folder: Path, labels: dict[int, str] | None, dropout: float = 0.1) -> None:
    """A BERT of one layer; with ``labels`` it has a head for them already."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    vocabulary = {word: place for place, word in enumerate([*special.values(), *WORDS.split()])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    PreTrainedTokenizerFast(tokenizer_object=inner, **special).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.3,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        **({"id2label": labels, "label2id": {v: k for k, v in labels.items()}} if labels else {}),
    )
    (BertForSequenceClassification if labels else BertModel)(config).save_pretrained(folder)


def digest(model: Path) -> str:
    return hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()


def options(folder: Path, out: str, **changes: Any) -> encoder.Encoder:
    given = {"model": str(folder / "plain"), "data": str(folder / "rows.jsonl"), "output": str(folder / out)}
    given |= {"epochs": 10, "learning_rate": 0.01, "batch": 8, "log_every": 1, "save_every": 4, "gpu": False}
    return msgspec.convert(given | changes, encoder.Encoder)


def trials(folder: Path) -> dict[str, Any]:
    """What came of each training, by name."""
    from transformers import AutoConfig

    found: dict[str, Any] = {}
    test = str(folder / "test.jsonl")
    for name, changes in {
        "whole": {"test": test},
        "killed": {},
        "halved": {"model": str(folder / "still"), "accumulate": 2, "max_steps": 1},
        "not halved": {"model": str(folder / "still"), "max_steps": 1},
        "own head": {"model": str(folder / "nli")},
        "uneven": {"balance": False},
    }.items():
        metrics = encoder.train(options(folder, name, **changes))
        log = [json.loads(line) for line in (folder / name / "log.jsonl").read_text().splitlines()]
        found[name] = {
            "metrics": msgspec.to_builtins(metrics),
            "weights": digest(folder / name / "model"),
            "losses": [entry["loss"] for entry in log if "loss" in entry],
            "labels": AutoConfig.from_pretrained(folder / name / "model").id2label,
        }
    found["test"] = json.loads((folder / "whole" / "test.json").read_text())
    again = options(folder, "whole", test=str(folder / "rows.jsonl"))
    found["tested again"] = msgspec.to_builtins(encoder.train(again))["measures"]
    found["verdicts"] = []
    grounding = Grounding(encoder=str(folder / "whole" / "model"), entailed=0.6)
    for claim in ("The tower is tall and old.", "The tower is low."):
        verdict = grounding(claim, json.dumps(["The tower was old. The tower is tall."]))
        found["verdicts"].append([verdict.outcome.value, json.loads(verdict.detail)["sentences"][0]["by"]])
    found["errors"] = {}
    for name, changes in {"short": {"max_length": 5}, "alike": {"data": str(folder / "alike.jsonl")}}.items():
        try:
            encoder.train(options(folder, f"error-{name}", **changes))
        except GristmillError as error:
            found["errors"][name] = str(error)
    found["loss"] = weighted_loss()
    return found


def weighted_loss() -> list[float]:
    """The loss of toy logits, whole and as a part of a batch of eight."""
    import torch
    from transformers.modeling_outputs import SequenceClassifierOutput

    loss = encoder.cross_entropy([0.5, 2.0, 1.0])
    outputs = SequenceClassifierOutput(logits=torch.tensor([[1.0, 0.0, -1.0], [0.5, 0.5, 2.0]]))
    labels = torch.tensor([0, 1])
    return [float(loss(outputs, labels)), float(loss(outputs, labels, 8))]


if __name__ == "__main__":
    what, path = sys.argv[1], Path(sys.argv[2])
    if what == "trials":
        (path / "found.json").write_text(json.dumps(trials(path)))
    else:
        make(path / "plain", None)
        make(path / "still", None, dropout=0.0)
        make(path / "nli", {0: "CONTRADICTION", 1: "ENTAILMENT", 2: "NEUTRAL"})
        from transformers import Trainer

        real, taken = Trainer.training_step, []

        def training_step(*args: Any, **kwargs: Any) -> Any:
            taken.append(1)
            if len(taken) > 6:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        Trainer.training_step = training_step
        encoder.train(options(path, "killed"))
