"""A real entailment model of a few thousand numbers, made, trained for a moment, saved and used.

python tiny_entailment.py FOLDER    prints, as JSON, what the grounding verifier says with it
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gristmill.core.errors import RecipeError
from gristmill.verifiers.grounding.entailment import load_entailment
from gristmill.verifiers.grounding.verifier import Grounding

WORDS = "[PAD] [UNK] [CLS] [SEP] . the tower is tall high low museum shut closed open"
PREMISE = "the tower is tall ."
CLAIMS = ("the tower is high .", "the tower is shut .", "the tower is low .")
LABELS = ("entailment", "neutral", "contradiction")


def make(folder: Path) -> None:
    """A BERT of one layer that knows by heart what ``PREMISE`` says of ``CLAIMS``; once with labels that say
    nothing."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(WORDS.split())}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **special)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.3,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)},
    )
    model = BertForSequenceClassification(config).train()
    batch = tokenizer([[PREMISE, claim] for claim in CLAIMS], padding=True, return_tensors="pt")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        model(**batch, labels=torch.arange(3)).loss.backward()
        optimizer.step()
    tokenizer.save_pretrained(folder / "good")
    model.save_pretrained(folder / "good")
    tokenizer.save_pretrained(folder / "nameless")
    model.config.id2label = {number: f"LABEL_{number}" for number in range(3)}
    model.save_pretrained(folder / "nameless")


def main(folder: Path) -> None:
    """Make the models, and print what comes of them."""
    make(folder)
    grounding = Grounding(encoder=str(folder / "good"))
    claims = ("The tower is high.", "The tower is low.", "The tower is shut.")
    verdicts = [grounding(claim, json.dumps([PREMISE])) for claim in claims]
    long = load_entailment(str(folder / "good"))([f"{PREMISE} " * 50], "the tower is high .")
    try:
        load_entailment(str(folder / "nameless"))
        refused = ""
    except RecipeError as error:
        refused = str(error)
    found = [[v.outcome.value, json.loads(v.detail)["sentences"][0]["by"]] for v in verdicts]
    print(json.dumps({"found": found, "long": long, "refused": refused}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
