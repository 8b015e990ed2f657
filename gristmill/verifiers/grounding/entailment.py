"""Whether a passage entails a claim, read by a model that was trained for that question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from gristmill.core.errors import MissingExtraError, RecipeError

INSTALL = "pip install torch transformers"
_TOKENS = 512
"""The longest pair of premise and claim that is read, unless the model allows less; the premise is cut."""


class EntailmentReading(NamedTuple):
    """The probabilities, in [0, 1], that a premise entails a claim and that it contradicts it."""

    entailed: float
    contradicted: float


Entails = Callable[[Sequence[str], str], Sequence[EntailmentReading]]
"""Any function from premises and a claim to a reading of each premise."""


def need() -> None:
    """Raise ``MissingExtraError`` if torch or transformers is not installed. Imports nothing."""
    for package in ("torch", "transformers"):
        if find_spec(package) is None:
            raise MissingExtraError(f"{package} (for an entailment model)", install=INSTALL)


@cache
def load_entailment(name: str) -> Entails:
    """The model of that name or folder, a sequence classifier in Transformers trained on entailment.

    Its labels must say which one means entailment: "entailment", "supported", "consistent". One that means
    contradiction is used too, if there is one. Raises ``RecipeError`` where no label means entailment, and
    what Transformers raises where there is no such model.
    """
    need()
    torch: Any = import_module("torch")
    transformers: Any = import_module("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(name).eval()
    yes, no = read_labels(name, model.config.id2label)
    longest = min(
        _TOKENS, tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", _TOKENS)
    )

    def entails(premises: Sequence[str], claim: str) -> Sequence[EntailmentReading]:
        if not premises:
            return []
        pairs = [[premise, claim] for premise in premises]
        batch = tokenizer(
            pairs, truncation="only_first", max_length=longest, padding=True, return_tensors="pt"
        )
        with torch.inference_mode():
            rows = model(**batch).logits.float().softmax(-1).tolist()
        return [EntailmentReading(row[yes], 0.0 if no is None else row[no]) for row in rows]

    return entails


def read_labels(name: str, labels: Mapping[int, str]) -> tuple[int, int | None]:
    """The number of the label that means entailment, and of the one that means contradiction, if any."""
    plain = {int(number): label.lower() for number, label in labels.items()}

    def find(*begins: str) -> int | None:
        return next((n for n, label in plain.items() if label.startswith(begins)), None)

    yes = find("entail", "support", "consistent")
    if yes is None:
        raise RecipeError(
            f"encoder {name!r}: none of its labels means entailment ({', '.join(labels.values())}).",
            remedy="Name a model that was trained on entailment (natural language inference), and whose "
            "config.json names its labels, such as entailment, neutral and contradiction.",
        )
    return yes, find("contradict", "refut", "inconsistent")
